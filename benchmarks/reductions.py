"""ReductionsWrapper beside fairlearn's ExponentiatedGradient: seconds, and bounds on unseen rows.

Run ``python benchmarks/reductions.py``, ``--quick`` for a smoke test. The speed part needs no data.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: ratios are for one thread
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script

import numpy as np
import pandas as pd
from benchmarks.protocol import (
    RESULTS,
    Fitted,
    Method,
    MissingDataError,
    Part,
    aligned,
    data_folder,
    load,
    pick,
    run,
    table,
    timed,
    write_csv,
)
from fairlearn.reductions import DemographicParity, EqualizedOdds, ExponentiatedGradient
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from fairtrain.reductions import ReductionsWrapper

BOUND = 0.02
COMPARISONS = (
    ("adult", "sex"),
    ("law_school", "race"),
    ("compas", "race"),
    ("acs_income_ca", "RAC1P"),
)
MOST_ROWS = 10_000  # of adult, law_school and acs_income: keeps the whole run within minutes

ABOUT_SPEED = """\
ReductionsWrapper.fit and ExponentiatedGradient.fit, given the same fairlearn constraint, on the
same made-up rows (10 features), in turns; medians of processor time. Ours includes the input
checks, a plain fit up front (cached for deterministic estimators), the history of the iterations,
and the report on training rows with its intervals. "In plain fits": time of one unconstrained fit.
"""
ABOUT_BOUNDS = f"""\
Demographic parity, pairwise bound {BOUND}, on test rows, mean over seeds. fairlearn's parameter is
picked from b, b/2, b/4 on validation rows; processor seconds (median) count every fit. Not broken:
the lower limit is within the bound, which few rows a group make easy; certified: the upper limit
is. By lot: accuracy and rates of the mixture's probabilities, without a draw.
"""


def logistic() -> Any:
    """Logistic regression."""
    return LogisticRegression(max_iter=1000)


def boosted(trees: int = 100, depth: int = 5) -> Any:
    """Boosted trees, one thread."""
    from xgboost import XGBClassifier

    return XGBClassifier(n_estimators=trees, max_depth=depth, n_jobs=1)


# Speed ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SpeedCase:
    """One fit that both do."""

    name: str
    base: Callable[[], Any]
    rows: int
    max_iter: int
    groups: int = 8
    repeats: int = 3


SPEED = (
    SpeedCase("LR", LogisticRegression, 50_000, 50, repeats=5),
    SpeedCase("LR", LogisticRegression, 500_000, 20),
    SpeedCase("XGB, 50 trees", lambda: boosted(50, 4), 50_000, 15),
)
QUICK_SPEED = (
    SpeedCase("LR", LogisticRegression, 20_000, 10, repeats=1),
    SpeedCase("XGB, 20 trees", lambda: boosted(20, 3), 5_000, 5, repeats=1),
)


def made_up_rows(n: int, groups: int, seed: int = 0) -> tuple[Any, ...]:
    """Ten features, some of which depend on the group, as the label does."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, groups, n)
    X = rng.normal(size=(n, 10))
    X[:, :4] += 0.15 * (group[:, None] % 4)
    y = (X[:, :6].sum(axis=1) + 0.3 * group + 2 * rng.normal(size=n) > 2).astype(int)
    return X, y, group


def speed(case: SpeedCase) -> dict[str, Any]:
    """Time both in turns on the same made-up rows, with the same fairlearn constraint."""
    X, y, group = made_up_rows(case.rows, case.groups)
    ours_s, theirs_s = [], []
    for _ in range(case.repeats):
        ours = ReductionsWrapper(
            case.base(),
            EqualizedOdds(difference_bound=BOUND),
            max_iter=case.max_iter,
            random_state=0,
        )
        theirs = ExponentiatedGradient(
            case.base(), EqualizedOdds(difference_bound=BOUND), max_iter=case.max_iter
        )
        ours_s.append(timed(lambda m=ours: m.fit(X, y, sensitive_features=group))[1])
        theirs_s.append(timed(lambda m=theirs: m.fit(X, y, sensitive_features=group))[1])
    _, one_fit = timed(lambda: case.base().fit(X, y))
    difference = np.abs(ours.predict_proba(X)[:, 1] - theirs._pmf_predict(X)[:, 1]).max()
    return {
        "base": case.name,
        "rows": case.rows,
        "groups": case.groups,
        "constraint": "equalized_odds",
        "max_iter": case.max_iter,
        "repeats": case.repeats,
        "times_faster": median(theirs_s) / median(ours_s),
        "lowest": min(b / a for a, b in zip(ours_s, theirs_s, strict=True)),
        "highest": max(b / a for a, b in zip(ours_s, theirs_s, strict=True)),
        "largest_difference": float(difference),
        "fits": ours.n_fits_,
        "fits_fairlearn": int(theirs.n_oracle_calls_),
        "iterations": ours.n_iter_,
        "ours_in_plain_fits": median(ours_s) / one_fit,
        "fairlearn_in_plain_fits": median(theirs_s) / one_fit,
    }


def speed_table(found: Sequence[dict[str, Any]]) -> str:
    """Text table of the ratios."""
    head = ("base", "rows x groups", "times faster", "range", "max difference", "fits", "fairlearn")
    lines = [(*head, "in plain fits", "fairlearn")]
    lines += [
        (
            f["base"],
            f"{f['rows']:,} x {f['groups']}",
            f"{f['times_faster']:.2f}",
            f"{f['lowest']:.2f}-{f['highest']:.2f}",
            f"{f['largest_difference']:.0e}",
            str(f["fits"]),
            str(f["fits_fairlearn"]),
            f"{f['ours_in_plain_fits']:.0f}",
            f"{f['fairlearn_in_plain_fits']:.0f}",
        )
        for f in found
    ]
    return aligned(lines)


# Bounds on unseen rows --------------------------------------------------------------------------


def methods(name: str, base: Callable[[], Any]) -> dict[str, Method]:
    """The base alone, fairlearn's reduction with its parameter picked, and ours twice.

    fairlearn fits the training rows and picks on the validation rows. Base and wrapper get both
    parts, from which the steered wrapper takes its own quarter.
    """

    def unconstrained(train: Part, validation: Part, bound: float, seed: int) -> Fitted:
        rows = train.with_rows(validation)
        model, seconds = timed(lambda: base().fit(rows.X, rows.y))
        return Fitted(model.predict, seconds)

    def fairlearn(train: Part, validation: Part, bound: float, seed: int) -> Fitted:
        def candidate(parameter: float) -> Fitted:
            model = ExponentiatedGradient(base(), DemographicParity(difference_bound=parameter))
            model, seconds = timed(
                lambda: model.fit(train.X, train.y, sensitive_features=train.groups)
            )
            note = f"parameter {parameter:g}"
            return Fitted(lambda X: model._pmf_predict(X)[:, 1], seconds, True, note)

        parameters = (bound, bound / 2, bound / 4)
        return pick([lambda p=p: candidate(p) for p in parameters], validation, bound)

    def wrapper(steer: float | None) -> Method:
        def fit(train: Part, validation: Part, bound: float, seed: int) -> Fitted:
            rows = train.with_rows(validation)
            model = ReductionsWrapper(
                clone(base()),
                "demographic_parity",
                difference_bound=bound,
                validation_fraction=steer,
                random_state=seed,
            )
            model, seconds = timed(
                lambda: model.fit(rows.X, rows.y, sensitive_features=rows.groups)
            )
            note = f"{model.n_fits_} fits; constant share {model.constant_weight_:.3f}"

            def share(X: Any) -> NDArray[np.float64]:
                return np.asarray(model.predict_proba(X)[:, 1])

            return Fitted(share, seconds, True, note)

        return fit

    return {
        f"{name} unconstrained": unconstrained,
        f"fairlearn EG {name}, picked": fairlearn,
        f"ReductionsWrapper {name}": wrapper(None),
        f"ReductionsWrapper {name}, steered": wrapper(0.25),
    }


def write_speed(found: Sequence[dict[str, Any]], path: Path) -> None:
    """Ratios only."""
    frame = pd.DataFrame(found)
    frame["largest_difference"] = [f"{d:.0e}" for d in frame["largest_difference"]]
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False, float_format="%.2f", lineterminator="\n")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run both parts, print their tables and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, few rows, nothing written")
    parser.add_argument("--rows", type=int, default=MOST_ROWS, help="rows of a data set at most")
    parser.add_argument("--only", choices=("speed", "protocol"), help="one part")
    options = parser.parse_args(arguments)
    if options.only != "speed":
        try:
            data_folder()
        except MissingDataError as error:
            print(error, file=sys.stderr)
            return 2
    warnings.simplefilter("ignore")  # bounds that fail are what the table shows
    if options.only != "protocol":
        found = []
        for case in QUICK_SPEED if options.quick else SPEED:
            found.append(speed(case))
            _say(f"{case.name}, {case.rows:,} rows: {found[-1]['times_faster']:.2f}x")
        print(ABOUT_SPEED)
        print(speed_table(found), end="\n\n")
        if not options.quick:
            write_speed(found, RESULTS / "reductions_speed.csv")
    if options.only == "speed":
        return 0
    rows = []
    for name, over in COMPARISONS[2:3] if options.quick else COMPARISONS:
        data = load(name).sample(2_000 if options.quick else options.rows)
        some = methods("LR", logistic) | methods("XGB", boosted)
        seeds = (0,) if options.quick else (0, 1, 2)
        rows += run(data, over, some, bound=BOUND, seeds=seeds, say=_say)
        if not options.quick:
            write_csv(rows, RESULTS / "reductions_protocol.csv")
    print(ABOUT_BOUNDS)
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
