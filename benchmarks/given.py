"""Parity within strata, its average over strata, and parity over everybody, where they disagree.

Run ``python benchmarks/given.py [--seeds 5]``; what the table has already is not run again. Men are
more often in the high income band, which earns its due; a proxy tells sex besides, and sex counts
once more by itself, which it may not. All decisions are judged on fresh rows: ``widest`` is the
largest gap of a band, ``averaged`` the gap averaged over bands (``pooled=True``), ``overall`` the
gap over everybody. fairlearn has no average over strata; its bound is the distance to the rate of
all, so it gets half of ours.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script

import fairlearn.reductions as fl
import numpy as np
import pandas as pd
from benchmarks.protocol import RESULTS
from numpy.typing import NDArray
from scipy import special
from sklearn.linear_model import LogisticRegression

import fairtrain
from fairtrain import DemographicParity, fairness_report

Labels = NDArray[np.int64]
Floats = NDArray[np.float64]
ROWS, FRESH, BOUND, FIRST_SEED = 10_000, 200_000, 0.02, 90_000
ASKED = {
    "within": DemographicParity(over="sex", given="band", difference_bound=BOUND),
    "averaged": DemographicParity(over="sex", given="band", pooled=True, difference_bound=BOUND),
    "overall": DemographicParity(over="sex", difference_bound=BOUND),
}


def people(n: int, seed: int) -> tuple[pd.DataFrame, Labels, pd.DataFrame]:
    """Features, labels, and who."""
    rng = np.random.default_rng(seed)
    man = rng.random(n) < 0.5
    high = rng.random(n) < np.where(man, 0.75, 0.25)
    merit = rng.normal(size=n)
    X = pd.DataFrame(
        {"high": high.astype(float), "proxy": man + rng.normal(0, 0.7, n), "merit": merit}
    )
    y = rng.random(n) < special.expit(2.2 * high - 1.6 + man + 0.8 * merit)
    who = pd.DataFrame({"sex": np.where(man, "m", "f"), "band": np.where(high, "high", "low")})
    return X, y.astype(np.int64), who


# Methods: chance of the favourable decision for fresh rows ----------------------------------------

Decide = Callable[[pd.DataFrame], Floats]


def ours(make: Callable[..., Any], **settings: Any) -> Callable[..., Decide]:
    """A method of this library."""

    def fit(asked: str, X: pd.DataFrame, y: Labels, who: pd.DataFrame, seed: int) -> Decide:
        model = make(constraints=ASKED[asked], random_state=seed, **settings)
        model.fit(X, y, sensitive_features=who)
        return lambda rows: np.asarray(model.decision_proba(rows))[:, 1]

    return fit


def theirs(asked: str, X: pd.DataFrame, y: Labels, who: pd.DataFrame, seed: int) -> Decide:
    """fairlearn's exponentiated gradient, strata as its control features."""
    moment = fl.DemographicParity(difference_bound=BOUND / 2)
    model = fl.ExponentiatedGradient(LogisticRegression(), moment)
    strata = {"control_features": who["band"]} if asked == "within" else {}
    model.fit(X, y, sensitive_features=who["sex"], **strata)
    return lambda rows: np.clip(model._pmf_predict(rows)[:, 1], 0, 1)


def plain(asked: str, X: pd.DataFrame, y: Labels, who: pd.DataFrame, seed: int) -> Decide:
    """Logistic regression that is asked for nothing."""
    model = LogisticRegression().fit(X, y)
    return lambda rows: np.asarray(model.predict(rows), dtype=np.float64)


LINEAR = LogisticRegression()
METHODS: dict[str, Callable[..., Decide]] = {
    "plug-in": ours(fairtrain.FairPlugInClassifier, estimator=LINEAR, group_estimator=LINEAR),
    "reductions": ours(fairtrain.ReductionsWrapper, estimator=LINEAR),
    "boosting": ours(fairtrain.LagrangianBoostingClassifier, n_estimators=100),
    "network": ours(fairtrain.LagrangianFairnessTrainer, max_epochs=15),
    "fairlearn": theirs,
}
WORK = [
    ("nothing", "logistic"),
    *((a, m) for a, m in product(ASKED, METHODS) if (a, m) != ("averaged", "fairlearn")),
]


def judged(decided: Floats, y: Labels, who: pd.DataFrame) -> dict[str, float]:
    """Accuracy and the three gaps."""
    report = fairness_report(y, decided, who, list(ASKED.values()))
    gaps = dict(zip(("widest", "averaged", "overall"), report.results, strict=True))
    return {
        "accuracy": float((decided * y + (1 - decided) * (1 - y)).mean()),
        **{name: float(result.achieved) for name, result in gaps.items()},
    }


def main() -> None:
    """Train, judge, write the table as it grows, print means over seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    path = RESULTS / "given.csv"
    rows = pd.read_csv(path).to_dict("records") if path.is_file() else []
    for seed in range(options.seeds):
        X, y, who = people(ROWS, FIRST_SEED + seed)
        fresh, target, others = people(FRESH, FIRST_SEED + 1000 + seed)
        done = {(row["asked"], row["method"]) for row in rows if row["seed"] == seed}
        for asked, method in WORK:
            if (asked, method) not in done:
                fit = METHODS.get(method, plain)
                found = judged(fit(asked, X, y, who, seed)(fresh), target, others)
                rows.append({"asked": asked, "method": method, "seed": seed, **found})
                pd.DataFrame(rows).round(4).to_csv(path, index=False, lineterminator="\n")
    gaps = ["accuracy", "widest", "averaged", "overall"]
    by = pd.DataFrame(rows).groupby(["asked", "method"], sort=False)[gaps]
    print(by.mean().round(3).to_string())


if __name__ == "__main__":
    main()
