"""LagrangianFairnessTrainer beside fairret: the same network, rows, epochs and validation rows.

Both train a 64-64 MLP under a pairwise demographic-parity bound. fairret's strength is picked on
the validation rows (the most accurate one that keeps the bound there); the trainer's multipliers
move on the same rows, in one run. What is reported was measured on test rows that neither saw.

    OMP_NUM_THREADS=1 python benchmarks/lagrangian.py [--seeds 5] [--epochs 30] [--data adult,...]
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

os.environ.setdefault("OMP_NUM_THREADS", "1")

import fairret.loss
import fairret.statistic
import numpy as np
import torch
from benchmarks.protocol import (
    RESULTS,
    Fitted,
    MissingDataError,
    Part,
    Row,
    aligned,
    load,
    pick,
    run,
    table,
    timed,
    write_csv,
)
from torch import nn

from fairtrain import LagrangianFairnessTrainer
from fairtrain.exceptions import FairtrainWarning

DATA = {
    "adult": "sex",
    "compas": "race",
    "law_school": "race",
    "credit_default": "SEX",
    "acs_income_ca": "RAC1P",
}
BOUNDS = (0.02, 0.05)
STRENGTHS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
BATCH = 512
ENOUGH_ROWS = 1000


def mlp(features: int, outputs: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Linear(features, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, outputs)
    )


@torch.no_grad()
def decide(module: nn.Module, X: np.ndarray) -> np.ndarray:
    return (module(torch.tensor(X, dtype=torch.float32)).squeeze(1) > 0).numpy()


def lagrangian(epochs: int, **settings: object):
    def method(train: Part, validation: Part, bound: float, seed: int) -> Fitted:
        both = train.with_rows(validation)
        trainer = LagrangianFairnessTrainer(
            mlp,
            "demographic_parity",
            difference_bound=bound,
            validation_fraction=len(validation) / len(both),
            max_epochs=epochs,
            batch_size=BATCH if epochs else None,
            random_state=seed,
            **settings,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FairtrainWarning)
            _, seconds = timed(lambda: trainer.fit(both.X, both.y, sensitive_features=both.groups))
        return Fitted(trainer.predict, seconds)

    return method


def fairret_mlp(epochs: int):
    def fit(train: Part, strength: float, seed: int) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        x = torch.tensor(train.X, dtype=torch.float32)
        y = torch.tensor(train.y, dtype=torch.float32).unsqueeze(1)
        names, codes = np.unique(train.groups, return_inverse=True)
        groups = nn.functional.one_hot(torch.tensor(codes), len(names)).float()
        module = mlp(x.shape[1])
        penalty = fairret.loss.NormLoss(fairret.statistic.PositiveRate())
        optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3, weight_decay=1e-3)
        steps = epochs * -(-len(x) // BATCH)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(epochs):
            for rows in torch.randperm(len(x), generator=generator).split(BATCH):
                logits = module(x[rows])
                loss = nn.functional.binary_cross_entropy_with_logits(logits, y[rows])
                if strength:
                    loss = loss + strength * penalty(logits, groups[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        return module.eval()

    # A strength's network does not depend on the bound: it is trained once for all of them.
    trained: dict[tuple[int, int, float], tuple[nn.Module, float]] = {}

    def method(train: Part, validation: Part, bound: float, seed: int) -> Fitted:
        def candidate(strength: float) -> Fitted:
            key = (hash(train.X[:50].tobytes()), seed, strength)
            if key not in trained:
                trained[key] = timed(lambda: fit(train, strength, seed))
            module, seconds = trained[key]
            return Fitted(lambda X: decide(module, X), seconds, note=f"strength {strength:g}")

        return pick([lambda s=s: candidate(s) for s in STRENGTHS], validation, bound)

    return method


def summary(rows: Sequence[Row]) -> str:
    """Per data set and bound: both methods' accuracy, gap, and how often the bound held."""
    lines = [("data", "bound", "method", "accuracy", "gap", "raw", "not broken", "rows/group")]
    keys = dict.fromkeys((r.data, r.bound, r.method) for r in rows)
    for data, bound, method in keys:
        some = [r.found for r in rows if (r.data, r.bound, r.method) == (data, bound, method)]
        n = len(some)
        lines.append(
            (
                data,
                f"{bound:g}",
                method,
                f"{np.mean([m.accuracy for m in some]):.4f}",
                f"{np.mean([m.gap for m in some]):.4f}",
                f"{sum(m.raw for m in some)}/{n}",
                f"{sum(m.not_broken for m in some)}/{n}",
                f">={min(m.smallest_group for m in some)}",
            )
        )
    return aligned(lines)


def verdict(rows: Sequence[Row]) -> str:
    """The two targets."""
    said = []
    for method in dict.fromkeys(r.method for r in rows):
        large = [
            r.found for r in rows if r.method == method and r.found.smallest_group >= ENOUGH_ROWS
        ]
        if large:
            held, raw = np.mean([m.not_broken for m in large]), np.mean([m.raw for m in large])
            said.append(
                f"{method}: not significantly broken in {held:.0%}, raw in {raw:.0%} of "
                f"{len(large)} runs whose groups have >= {ENOUGH_ROWS} test rows"
            )
    return "\n".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--data", default=",".join(DATA))
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    for name in options.data.split(","):
        try:
            data = load(name)
        except MissingDataError as error:
            sys.exit(str(error))
        methods = {
            "Lagrangian": lagrangian(options.epochs),
            "Lagrangian, confidence .95": lagrangian(options.epochs, confidence=0.95),
            "fairret, strength picked": fairret_mlp(options.epochs),
        }
        for bound in BOUNDS:
            found = run(
                data,
                DATA[name],
                methods,
                bound=bound,
                seeds=range(options.first_seed, options.first_seed + options.seeds),
                say=lambda line: print(line, file=sys.stderr, flush=True),
            )
            rows += found
            print(f"\nbound {bound}\n{table(found)}", flush=True)
    write_csv(rows, RESULTS / "lagrangian.csv")
    print(f"\n{summary(rows)}\n\n{verdict(rows)}")


if __name__ == "__main__":
    main()
