"""``pareto_frontier``: many strengths at once against one by one, and the frontiers of all methods.

Speed: the same etas, rows and settings, stacked and one after another, in one run on one thread;
both times hold everything that a sweep does (training, reports, scoring). Frontiers: every method
trains on the same rows and is scored on the same validation rows; the best model under each of
three gaps is then measured on test rows.

    OMP_NUM_THREADS=1 python benchmarks/sweep.py [--part speed,frontiers] [--pictures FOLDER]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import torch
from benchmarks.protocol import RESULTS, MissingDataError, load, measure, split
from sklearn.linear_model import LogisticRegression
from torch import nn
from xgboost import XGBClassifier

from fairtrain import (
    LagrangianBoostingClassifier,
    LagrangianFairnessTrainer,
    ParetoFrontier,
    ReductionsWrapper,
    pareto_frontier,
)
from fairtrain.exceptions import FairtrainError
from fairtrain.plotting import plot_frontier

NETS = {"30-32-32": (30, 32), "100-64-64": (100, 64)}
ROWS = {"adult": "sex", "acs_income_ca": "RAC1P"}
BOUNDS = (0.01, 0.02, 0.05, 0.1, 0.15)
ETAS = (0, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32)
MOST_ROWS = 10_000


def rows(features: int, n: int = 8000) -> tuple[Any, Any, Any]:
    random = np.random.default_rng(0)
    who = random.integers(0, 4, n)
    X = random.normal(size=(n, features)) + 0.2 * who[:, None]
    y = (X[:, :5].sum(axis=1) + random.normal(size=n) > 1.5).astype(int)
    return X, y, who


def speed() -> pd.DataFrame:
    found = []
    for net, (features, width) in NETS.items():
        X, y, who = rows(features)

        def make(d: int, o: int, width: int = width) -> nn.Module:
            return nn.Sequential(
                nn.Linear(d, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
                nn.Linear(width, o),
            )  # fmt: skip

        for batch in (128, 256, 512):
            for models in (16, 64):
                given: dict[str, Any] = {
                    "sensitive_features": who, "etas": np.linspace(0, 10, models).tolist(),
                    "max_epochs": 5, "batch_size": batch, "random_state": 0,
                }  # fmt: skip
                start = time.perf_counter()
                one = pareto_frontier(make, X, y, vectorize=False, **given)
                middle = time.perf_counter()
                all_ = pareto_frontier(make, X, y, vectorize=True, **given)
                end = time.perf_counter()
                apart = max(
                    np.abs(a.decision_function(X) - b.decision_function(X)).max()
                    for a, b in zip(one.models, all_.models, strict=True)
                )
                row = {
                    "net": net, "batch": batch, "models": models,
                    "one by one s": middle - start, "at once s": end - middle,
                    "ratio": (middle - start) / (end - middle), "largest logit difference": apart,
                }  # fmt: skip
                found.append(row)
                print(row, file=sys.stderr, flush=True)
    return pd.DataFrame(found)


def frontiers(name: str, over: str, folder: Path | None) -> pd.DataFrame:
    parts = split(load(name), over, 0)
    random = np.random.default_rng(0)
    train = parts.train
    kept = random.permutation(len(train))[:MOST_ROWS]
    X, y, who = train.X[kept], train.y[kept], train.groups[kept]
    held = parts.validation
    given: dict[str, Any] = {
        "sensitive_features": who, "validation_data": (held.X, held.y, held.groups),
        "bound": 0.05, "random_state": 0,
    }  # fmt: skip
    moving: dict[str, Any] = {"param": "difference_bound", "values": BOUNDS}
    trees = XGBClassifier(n_estimators=100, max_depth=5, n_jobs=1)
    made: dict[str, tuple[Any, dict[str, Any]]] = {
        "regularizer (MLP)": (None, {"etas": ETAS, "max_epochs": 30}),
        "Lagrangian (MLP)": (LagrangianFairnessTrainer(max_epochs=30), moving),
        "boosting (XGBoost)": (LagrangianBoostingClassifier(n_estimators=100), moving),
        "reductions (XGBoost)": (ReductionsWrapper(trees, validation_fraction=0.25), moving),
        "reductions (logistic)": (ReductionsWrapper(LogisticRegression(max_iter=1000)), moving),
    }
    drawn: list[ParetoFrontier] = []
    found = []
    for method, (model, options) in made.items():
        start = time.perf_counter()
        frontier = pareto_frontier(model, X, y, name=method, **given, **options)
        seconds = time.perf_counter() - start
        drawn.append(frontier)
        for limit in (0.02, 0.05, 0.1):
            row: dict[str, Any] = {
                "data": name, "over": over, "method": method, "max_gap": limit,
                "sweep s": seconds, "hypervolume": frontier.hypervolume((0.4, 0.5)),
            }  # fmt: skip
            try:
                chosen = frontier.select(limit)
            except FairtrainError:
                found.append(row)
                continue
            test = measure(
                parts.test.y, decide(chosen.model, parts.test.X), parts.test.groups, limit
            )
            found.append(
                {
                    **row, "value": chosen.value, "validation accuracy": chosen.performance,
                    "validation gap": chosen.gap, "test accuracy": test.accuracy,
                    "test gap": test.gap,
                }
            )  # fmt: skip
            print(found[-1], file=sys.stderr, flush=True)
    if folder is not None:
        from matplotlib.figure import Figure

        folder.mkdir(parents=True, exist_ok=True)
        figure = Figure(figsize=(9, 6.5), layout="constrained")
        plot_frontier(drawn, figure.subplots()).set_title(f"{name}, {over}")
        figure.savefig(folder / f"{name}.png", dpi=110)
    return pd.DataFrame(found)


def decide(model: Any, X: Any) -> Any:
    """Favourable decisions; their probabilities where the model decides by lot."""
    if isinstance(model, ReductionsWrapper):
        return model.predict_proba(X)[:, 1]
    return model.predict(X)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", default="speed,frontiers")
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    RESULTS.mkdir(parents=True, exist_ok=True)
    asked = options.part.split(",")
    if "speed" in asked:
        table = speed()
        table.round(6).to_csv(RESULTS / "sweep_speed.csv", index=False)
        print(table.round(3).to_string())
    if "frontiers" in asked:
        try:
            parts = [frontiers(name, over, options.pictures) for name, over in ROWS.items()]
        except MissingDataError as error:
            sys.exit(str(error))
        table = pd.concat(parts)
        table.round(4).to_csv(RESULTS / "sweep_frontiers.csv", index=False)
        print(table.round(3).to_string())


if __name__ == "__main__":
    main()
