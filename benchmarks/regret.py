"""Regret: how far each method stays below the best decisions of a population that is known.

Run ``python benchmarks/regret.py [--rows 1000 10000] [--seeds 3]``, ``--methods`` and ``--groups``
for a part: what the table has already is not run again. Populations are mixtures of Gaussians whose
P(g, y | x) is known; decisions are judged on the population itself, not on a sample. ``regret`` is
the accuracy of the best blind rule of the same gap less the method's; ``own`` that of the method's
own scores without any bound (plain logistic regression or XGBoost), which no choice of prices can
mend; ``beyond`` is the difference.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: seconds are for one thread
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script

import numpy as np
import pandas as pd
from benchmarks.protocol import RESULTS
from sklearn.linear_model import LogisticRegression
from xgboost import XGBClassifier

import fairtrain
from fairtrain.datasets import BiasedPopulation, make_biased

POPULATIONS: dict[str, dict[str, Any]] = {
    "two groups": {"base_rates": (0.65, 0.4)},
    "four groups": {
        "levels": {"sex": {"f": 0.5, "m": 0.5}, "race": {"a": 0.8, "b": 0.2}},
        "base_rates": (0.65, 0.35),
    },
    "biased labels": {"base_rates": (0.6, 0.5), "label_bias": 0.3},
}
BOUNDS = {"demographic_parity": 0.05, "equalized_odds": 0.02}


def booster() -> XGBClassifier:
    return XGBClassifier(n_estimators=100, max_depth=4, n_jobs=1, random_state=0)


def fair(method: Callable[..., Any], **settings: Any) -> Callable[[str, int], Any]:
    """Make unfitted models of a notion, at its bound, from a seed."""
    return lambda notion, seed: method(
        constraints=notion, difference_bound=BOUNDS[notion], random_state=seed, **settings
    )


SPLIT = {"validation_fraction": 0.2}
METHODS: dict[str, tuple[Callable[[str, int], Any], Callable[[], Any]]] = {
    "plug-in, logistic": (
        fair(fairtrain.FairPlugInClassifier, estimator=LogisticRegression()),
        LogisticRegression,
    ),
    "plug-in, XGBoost": (fair(fairtrain.FairPlugInClassifier, estimator=booster()), booster),
    "reduction, logistic": (
        fair(fairtrain.ReductionsWrapper, estimator=LogisticRegression()),
        LogisticRegression,
    ),
    "boosting": (fair(fairtrain.LagrangianBoostingClassifier, **SPLIT), booster),
    "network": (fair(fairtrain.LagrangianFairnessTrainer, **SPLIT), LogisticRegression),
}


def regret(population: BiasedPopulation, decide: Callable[[Any], Any], notion: str) -> pd.Series:
    """Accuracy, gap, and how far below the best rule of that gap."""
    judged = population.judge(decide, notion)
    best = population.frontier(notion, [judged["gap"]])["accuracy"].iloc[0]
    return pd.Series({**judged, "regret": best - judged["accuracy"]})


def measure(
    population: str, n: int, seed: int, notion: str, methods: Sequence[str]
) -> list[dict[str, Any]]:
    """Some methods on one draw."""
    data = make_biased(n, **POPULATIONS[population], random_state=seed)
    truth, found, own = data.population, [], {}
    for name in methods:
        make, plain = METHODS[name]
        if plain not in own:
            base = plain().fit(data.X, data.y)
            own[plain] = regret(truth, lambda X, b=base: b.predict(X), notion)["regret"]
        began = time.perf_counter()
        model = make(notion, seed).fit(data.X, data.y, sensitive_features=data.sensitive_features)
        seconds = time.perf_counter() - began
        judged = regret(truth, lambda X, m=model: m.decision_proba(X)[:, 1], notion)
        found.append(
            {
                "population": population,
                "notion": notion,
                "rows": n,
                "seed": seed,
                "method": name,
                **judged.round(4),
                "own": round(own[plain], 4),
                "beyond": round(judged["regret"] - own[plain], 4),
                "seconds": round(seconds, 2),
            }
        )
    return found


def _done(table: pd.DataFrame, draw: tuple[Any, ...]) -> set[str]:
    """Methods that the table has on a draw."""
    if not len(table):
        return set()
    same = (table[["population", "rows", "seed", "notion"]] == list(draw)).all(axis=1)
    return set(table["method"][same])


def write(table: pd.DataFrame) -> None:
    """One line a model; seconds stay out because they belong to a machine."""
    path = RESULTS / "regret.csv"
    table.drop(columns="seconds", errors="ignore").to_csv(path, index=False, lineterminator="\n")


def main() -> None:
    """Run, print means over seeds, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--groups", nargs="+", choices=POPULATIONS, default=list(POPULATIONS))
    asked = parser.parse_args()
    warnings.simplefilter("ignore", fairtrain.exceptions.FairtrainWarning)
    path = RESULTS / "regret.csv"
    table = pd.read_csv(path) if path.is_file() else pd.DataFrame()
    for draw in product(asked.groups, asked.rows, range(asked.seeds), BOUNDS):
        done = _done(table, draw)
        if missing := [name for name in asked.methods if name not in done]:
            table = pd.concat([table, pd.DataFrame(measure(*draw, missing))], ignore_index=True)
            write(table)  # what is there so far, for it takes a while
    keys = ["population", "notion", "rows", "method"]
    means = table.groupby(keys, sort=False)[["accuracy", "gap", "regret", "own", "beyond"]].mean()
    off = table["gap"] - table["notion"].map(BOUNDS)
    rms = table.assign(miss=off**2).groupby(keys, sort=False)["miss"].mean()
    print(means.assign(rms_gap=np.sqrt(rms)).round(4).to_string())


if __name__ == "__main__":
    main()
