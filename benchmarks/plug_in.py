"""FairPlugInClassifier beside the other methods that decide without the attribute, on unseen rows.

Run ``python benchmarks/plug_in.py``, ``--quick`` for a smoke test, ``--rows`` and ``--asked`` for a
part, which goes into a table of its own. Every method gets the same rows and its own bound; ours
are given all of them, so nothing is picked on the validation rows. ``noise`` is the standard error
of a gap on the test rows: no method can be nearer to its bound, in the mean, than that.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: ratios are for one thread
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script

import numpy as np
from benchmarks.protocol import (
    RESULTS,
    Fitted,
    Method,
    MissingDataError,
    Part,
    Row,
    aligned,
    load,
    run,
    table,
    timed,
    write_csv,
)
from sklearn.linear_model import LogisticRegression
from xgboost import XGBClassifier

from fairtrain import FairPlugInClassifier, LagrangianBoostingClassifier, ReductionsWrapper

COMPARISONS = (
    ("adult", "sex"),
    ("adult", "race"),
    ("law_school", "race"),
    ("compas", "race"),
    ("credit_default", "SEX"),
    ("acs_income_ca", "RAC1P"),
)
ASKED = (
    ("demographic_parity", 0.02),
    ("demographic_parity", 0.05),
    ("equalized_odds", 0.05),
    ("equal_opportunity", 0.05),
)
SIZES = (1_430, 4_300, 14_300)  # of which 1,000, 3,000 and 10,000 train: 70 %


def booster(seed: int) -> Any:
    """Trees as one would set them without a search."""
    return XGBClassifier(
        n_estimators=100, max_depth=4, learning_rate=0.1, subsample=0.8, random_state=seed, n_jobs=1
    )


def linear() -> Any:
    """Logistic regression."""
    return LogisticRegression(max_iter=1000)


def fair(make: Callable[[int], Any]) -> Method:
    """A method of ours, by a factory of unfitted estimators."""

    def method(train: Part, validation: Part, bound: float, seed: int) -> Fitted:
        rows = train.with_rows(validation)
        model = make(seed).set_params(difference_bound=bound)
        fitted, seconds = timed(lambda: model.fit(rows.X, rows.y, sensitive_features=rows.groups))
        randomised = isinstance(fitted, ReductionsWrapper) or getattr(fitted, "lottery_", False)
        return Fitted(lambda X: fitted.decision_proba(X)[:, 1], seconds, randomised)

    return method


def unconstrained(train: Part, validation: Part, bound: float, seed: int) -> Fitted:
    """The booster alone."""
    rows = train.with_rows(validation)
    model, seconds = timed(lambda: booster(seed).fit(rows.X, rows.y))
    return Fitted(lambda X: model.predict(X).astype(np.float64), seconds)


def methods(constraint: str) -> dict[str, Method]:
    """What is compared."""
    split: dict[str, Any] = {"validation_fraction": 0.2}

    def plug_in(make: Callable[[int], Any], cv: int) -> Callable[[int], Any]:
        return lambda seed: FairPlugInClassifier(
            make(seed), constraint, group_estimator=make(seed), cv=cv, random_state=seed
        )

    return {
        "XGBoost": unconstrained,
        "plug-in, XGBoost": fair(plug_in(booster, 5)),
        "plug-in, XGBoost, cv=2": fair(plug_in(booster, 2)),
        "plug-in, logistic": fair(plug_in(lambda seed: linear(), 5)),
        "LagrangianBoosting": fair(
            lambda seed: LagrangianBoostingClassifier(constraint, random_state=seed, **split)
        ),
        "Reductions, logistic": fair(
            lambda seed: ReductionsWrapper(linear(), constraint, random_state=seed, **split)
        ),
    }


def summary(rows: Sequence[Row]) -> str:
    """One line a question and method: means over sets and seeds, rms of gap - bound."""
    lines = [
        ("asked", "method", "accuracy", "gap", "worst", "rms gap - bound", "test noise", "CPU s")
    ]
    keys = list(dict.fromkeys((r.constraint, r.bound, r.method) for r in rows))
    for key in sorted(keys, key=lambda k: (k[0], k[1])):
        some = [r for r in rows if (r.constraint, r.bound, r.method) == key]
        gaps = np.array([r.found.gap for r in some])
        lines.append(
            (
                f"{key[0]} {key[1]:g}",
                key[2],
                f"{np.mean([r.found.accuracy for r in some]):.3f}",
                f"{gaps.mean():.3f}",
                f"{gaps.max():.3f}",
                f"{np.sqrt(np.mean((gaps - key[1]) ** 2)):.3f}",
                f"{np.sqrt(np.mean([_noise(r) ** 2 for r in some])):.3f}",
                f"{np.median([r.seconds for r in some]):.1f}",
            )
        )
    return aligned(lines)


def _noise(row: Row) -> float:
    """Standard error of the gap on the test rows, by its interval."""
    return (row.found.upper - row.found.lower) / (2 * 1.96)


def main() -> None:
    """Run and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one set, one seed")
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES)
    parser.add_argument("--asked", nargs="+", default=[name for name, _ in ASKED])
    options = parser.parse_args()
    quick = options.quick
    of_rows = [] if tuple(options.rows) == SIZES else map(str, options.rows)
    of_asked = [] if len(options.asked) == len(ASKED) else options.asked
    part = "".join(f"_{word}" for word in [*of_rows, *of_asked])
    warnings.filterwarnings("ignore", category=UserWarning)
    rows: list[Row] = []
    try:
        for n in options.rows[:1] if quick else options.rows:
            before = len(rows)
            for name, over in COMPARISONS[:1] if quick else COMPARISONS:
                data = load(name).sample(n)
                for constraint, bound in [a for a in ASKED if a[0] in options.asked]:
                    some = run(
                        data,
                        over,
                        methods(constraint),
                        bound=bound,
                        constraint=constraint,
                        seeds=(0,) if quick else (0, 1, 2),
                    )
                    rows += [replace(r, data=f"{r.data} {constraint} {bound:g}") for r in some]
                    print(table(rows[-len(some) :]), flush=True)
            print(f"\nmeans over sets and seeds, {n:,} rows\n")
            print(summary(rows[before:]), flush=True)
    except MissingDataError as error:
        sys.exit(str(error))
    if not quick:
        write_csv(rows, RESULTS / f"plug_in{part}.csv")


if __name__ == "__main__":
    main()
