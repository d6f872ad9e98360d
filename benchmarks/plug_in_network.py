"""One network for every bound beside a network trained for each, and beside tabular scores.

``python benchmarks/plug_in_network.py``; ``--quick`` for a smoke test, ``--rows``, ``--data`` and
``--seeds`` for a part: what the table has already is not run again. ``FairPlugInTrainer`` and
``FairPlugInClassifier`` are fitted once a split and priced for every question, the Lagrangian
network and the penalty (the strength of five whose gap on validation rows keeps the bound at the
best accuracy) are trained for each. All are left as they come (``module=None``), trained on
``--rows`` rows and judged on 30 % of the whole set, so that gaps are those of models and not of few
people. ``ahead``: accuracy of the priced network at the gap which the method reached, by
straight lines between its own bounds, less the method's; ``narrower``: than any of these, which
flatters it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: times are for one thread
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script

import numpy as np
import pandas as pd
from benchmarks.plug_in import ASKED, _gap
from benchmarks.protocol import RESULTS, MissingDataError, Part, Split, load, split
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from fairtrain import (
    FairPlugInClassifier,
    FairPlugInTrainer,
    LagrangianFairnessTrainer,
    RegularizedFairnessTrainer,
)
from fairtrain.training.stacked import fit_stacked

COMPARISONS = (
    ("adult", "sex"),
    ("adult", "race"),
    ("acs_income_ca", "RAC1P"),
    ("student_portuguese", "sex"),
)
CURVE = (0.0, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 1.0)
STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)
FILE = "plug_in_network.csv"
NETWORK = "priced network"
PLACE = ["rows", "data", "seed", "constraint", "bound"]

Share = NDArray[np.float64]


def judged(test: Part, share: Share, constraint: str) -> dict[str, float]:
    """Accuracy and widest gap on unseen rows."""
    right = np.where(test.y == 1, share, 1 - share)
    return {"accuracy": float(np.mean(right)), "gap": _gap(test, share, constraint)}


def priced(make: Callable[[], Any], parts: Split) -> Iterator[tuple[str, float, dict[str, float]]]:
    """One fit at every question, and at the bounds of the curve."""
    rows, start = parts.train.with_rows(parts.validation), time.perf_counter()
    model = make().fit(rows.X, rows.y, sensitive_features=rows.groups)
    seconds = time.perf_counter() - start
    proba = model.outcome_proba(parts.test.X)[:, 1]
    more = {"seconds": seconds, "auc": roc_auc_score(parts.test.y, proba)}
    for constraint in dict.fromkeys(name for name, _ in ASKED):
        asked = {bound for name, bound in ASKED if name == constraint}
        for bound in sorted(asked.union(CURVE)):
            own = model.with_constraints(constraint, difference_bound=bound, warm_start=False)
            share = own.decision_proba(parts.test.X)[:, 1]
            yield constraint, bound, judged(parts.test, share, constraint) | more


def lagrangian(parts: Split, constraint: str, bound: float, seed: int) -> tuple[Any, float]:
    """The Lagrangian network; it divides the rows itself."""
    rows, start = parts.train.with_rows(parts.validation), time.perf_counter()
    model = LagrangianFairnessTrainer(
        None, constraint, difference_bound=bound, random_state=seed
    ).fit(rows.X, rows.y, sensitive_features=rows.groups)
    return model, time.perf_counter() - start


@lru_cache(maxsize=1)  # the same for every bound
def penalties(parts: Split, constraint: str, seed: int) -> tuple[list[Any], float]:
    """Networks of all strengths."""
    start = time.perf_counter()
    models = [
        RegularizedFairnessTrainer(
            None, constraint, eta=eta, validation_fraction=0.0, random_state=seed
        )
        for eta in STRENGTHS
    ]
    train = parts.train
    fit_stacked(models, train.X, train.y, sensitive_features=train.groups)
    return models, time.perf_counter() - start


def penalty(parts: Split, constraint: str, bound: float, seed: int) -> tuple[Any, float]:
    """The penalty of the strength that validation rows choose."""
    models, seconds = penalties(parts, constraint, seed)
    held = parts.validation
    found = [judged(held, m.decision_proba(held.X)[:, 1], constraint) for m in models]
    kept = [f["gap"] <= bound for f in found]
    worth = [
        (k, f["accuracy"] if any(kept) else -f["gap"]) for k, f in zip(kept, found, strict=True)
    ]
    best = max(range(len(models)), key=lambda i: worth[i])
    return models[best], seconds


def compare(parts: Split, where: dict[str, Any], quick: bool) -> Iterator[dict[str, Any]]:
    """All methods on one split."""
    seed = where["seed"]
    once: dict[str, Callable[[], Any]] = {
        NETWORK: lambda: FairPlugInTrainer(random_state=seed),
        "plug-in, tabular": lambda: FairPlugInClassifier(random_state=seed),
    }
    for method, make in once.items():
        for constraint, bound, found in priced(make, parts):
            yield where | {"constraint": constraint, "bound": bound, "method": method} | found
    for constraint, bound in ASKED[:1] if quick else ASKED:
        for method, train in {"Lagrangian network": lagrangian, "penalty": penalty}.items():
            model, seconds = train(parts, constraint, bound, seed)
            share = model.decision_proba(parts.test.X)[:, 1]
            auc = roc_auc_score(parts.test.y, model.predict_proba(parts.test.X)[:, 1])
            asked = {"constraint": constraint, "bound": bound, "method": method}
            more = {"seconds": seconds, "auc": auc}
            yield where | asked | judged(parts.test, share, constraint) | more


def at_equal_gap(found: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of the priced network at the gap that each method reached, less the method's."""
    means = found.groupby(["rows", "data", "constraint", "bound", "method"], sort=False)
    table = means[["accuracy", "gap", "auc", "seconds"]].mean().reset_index()
    curves = table[table["method"] == NETWORK]
    lines = []
    for row in table.itertuples():
        if (row.constraint, row.bound) not in ASKED or row.method == NETWORK:
            continue
        same = (curves[["rows", "data", "constraint"]] == [row.rows, row.data, row.constraint]).all(
            axis=1
        )
        line = curves[same].sort_values("gap")
        ahead = np.interp(row.gap, line["gap"], line["accuracy"]) - row.accuracy
        narrower = row.gap < line["gap"].iloc[0]
        lines.append((row.rows, row.data, row.constraint, row.bound, row.method, row.accuracy,
                      row.gap, ahead, narrower))  # fmt: skip
    names = ["rows", "data", "constraint", "bound", "method", "accuracy", "gap", "ahead"]
    return pd.DataFrame(lines, columns=[*names, "narrower"])


def show(found: pd.DataFrame) -> None:
    """Print means over seeds at the bounds that were asked, and who is ahead at equal gap."""
    asked = [pair in ASKED for pair in zip(found["constraint"], found["bound"], strict=True)]
    by = found[asked].groupby(["rows", "data", "constraint", "bound", "method"], sort=False)
    print(by[["accuracy", "gap", "auc", "seconds"]].mean().round(3).to_string())
    cells = at_equal_gap(found)
    print(cells.groupby(["method", "rows"])["ahead"].agg(["mean", "min", "size"]).round(4))
    print(cells[cells["ahead"] < -0.005].round(3).to_string())


def main() -> None:
    """Run and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one set, one seed, nothing written")
    parser.add_argument("--show", action="store_true", help="only print what the table has")
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 3_000, 10_000, 30_000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--data", nargs="+", default=[name for name, _ in COMPARISONS])
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    path = RESULTS / FILE
    found = pd.read_csv(path) if path.is_file() and not options.quick else pd.DataFrame()
    try:
        for rows in [] if options.show else options.rows:
            for name, over in COMPARISONS:
                for seed in options.seeds:
                    where = {"rows": rows, "data": f"{name}, {over}", "seed": seed}
                    small = name == "student_portuguese" and rows != min(options.rows)
                    known = len(found) and (found[list(where)] == list(where.values())).all(1).any()
                    if name not in options.data or small or known:
                        continue
                    parts = split(load(name), over, seed, rows=rows)
                    new = pd.DataFrame(list(compare(parts, where, options.quick)))
                    found = pd.concat([found, new], ignore_index=True)
                    seconds = new.groupby("method")["seconds"].max().round(1)
                    print(where, seconds.to_dict(), flush=True)
                    if options.quick:
                        show(found)
                        return
                    found.to_csv(path, index=False, float_format="%.4f", lineterminator="\n")
    except MissingDataError as error:
        sys.exit(str(error))
    show(found)


if __name__ == "__main__":
    main()
