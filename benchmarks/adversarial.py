"""AdversarialDebiasingTrainer beside fairlearn's AdversarialFairnessClassifier on the same rows.

All train a 64-64 MLP with an adversary under demographic parity, on the same training and
validation rows together, for the same number of epochs in batches of the same size; nothing is
picked, every method has one setting. fairlearn's runs with its torch back end, its defaults for
alpha (1) and the learning rates (0.001), and its adversary on the same network. What is reported
was measured on test rows; leakage is the better of two fresh probes of the test rows' logits,
cross-validated (balanced accuracy, chance .5). Seconds are of one fit on one thread, without probes
and baseline.

    OMP_NUM_THREADS=1 python benchmarks/adversarial.py [--seeds 5] [--epochs 15]
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import torch
from benchmarks.protocol import RESULTS, MissingDataError, Part, load, measure, split, timed
from fairlearn.adversarial import AdversarialFairnessClassifier
from torch import nn

from fairtrain import AdversarialDebiasingTrainer
from fairtrain.exceptions import FairtrainWarning
from fairtrain.training.adversarial.leakage import PROBES, leakage_of

DATA = {"adult": ("sex", 512, 1), "compas": ("race", 128, 3)}
"""Column, rows of a batch, and times as many epochs: compas has a tenth of the rows."""

METHODS = {
    "unconstrained": {"strength": 0.0},
    "reversal, strength 3": {"strength": 3.0},
    "reversal, strength 5": {"strength": 5.0},
    "projection, strength 5": {"strength": 5.0, "method": "projection"},
}
PEER = "fairlearn, torch"


def mlp(features: int, outputs: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Linear(features, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, outputs)
    )


def leakage(scores: np.ndarray, groups: np.ndarray) -> float:
    codes = np.unique(groups, return_inverse=True)[1]
    return max(leakage_of(scores.reshape(-1, 1), codes, p).balanced_accuracy for p in PROBES)


def one(method: str, both: Part, seed: int, epochs: int, batch: int, held: float):
    """Decisions, scores, seconds."""
    if method == PEER:
        torch.manual_seed(seed)  # it draws its networks from the global generator
        peer = AdversarialFairnessClassifier(
            backend="torch", predictor_model=[64, "relu", 64, "relu"],
            adversary_model=[32, "leaky_relu", 32, "leaky_relu"], epochs=epochs, batch_size=batch,
            shuffle=True, random_state=seed,
        )  # fmt: skip
        X = both.X.astype(np.float32)
        _, seconds = timed(lambda: peer.fit(X, both.y, sensitive_features=both.groups))
        as_rows = lambda X: X.astype(np.float32)  # noqa: E731
        return (
            lambda X: np.asarray(peer.predict(as_rows(X))).ravel().astype(float),
            lambda X: np.asarray(peer.backendEngine_.evaluate(as_rows(X))).ravel(),
            seconds,
        )
    trainer = AdversarialDebiasingTrainer(
        mlp, max_epochs=epochs, batch_size=batch, validation_fraction=held, leakage="none",
        random_state=seed, **METHODS[method],
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FairtrainWarning)
        _, seconds = timed(lambda: trainer.fit(both.X, both.y, sensitive_features=both.groups))
    return trainer.predict, trainer.decision_function, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for name, (over, batch, times) in DATA.items():
        try:
            data = load(name)
        except MissingDataError as error:
            sys.exit(str(error))
        for seed in range(options.seeds):
            parts = split(data, over, seed)
            both = parts.train.with_rows(parts.validation)
            held = len(parts.validation) / len(both)
            for method in (*METHODS, PEER):
                decide, score, seconds = one(
                    method, both, seed, options.epochs * times, batch, held
                )
                test = measure(parts.test.y, decide(parts.test.X), parts.test.groups, 0.05)
                row = {
                    "data": name, "over": over, "seed": seed, "method": method,
                    "accuracy": test.accuracy, "gap": test.gap,
                    "leakage": leakage(score(parts.test.X), parts.test.groups),
                    "seconds": seconds,
                }  # fmt: skip
                found.append(row)
                print({k: v if isinstance(v, str) else round(v, 3) for k, v in row.items()},
                      file=sys.stderr, flush=True)  # fmt: skip
    table = pd.DataFrame(found)
    RESULTS.mkdir(parents=True, exist_ok=True)
    table.round(4).to_csv(RESULTS / "adversarial.csv", index=False)
    means = table.groupby(["data", "method"], sort=False)[
        ["accuracy", "gap", "leakage", "seconds"]
    ].mean()
    free = means.xs("unconstrained", level="method")
    means["points lost"] = 100 * (free["accuracy"] - means["accuracy"])
    means["share of gap"] = means["gap"] / free["gap"]
    print(means.round(3).to_string())


if __name__ == "__main__":
    main()
