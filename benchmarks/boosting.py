"""LagrangianBoostingClassifier beside its own booster, ReductionsWrapper and ThresholdOptimizer.

Run ``python benchmarks/boosting.py``, ``--quick`` for a smoke test. The simulation needs no data.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
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
    Row,
    aligned,
    data_folder,
    load,
    run,
    timed,
    write_csv,
)
from fairlearn.postprocessing import ThresholdOptimizer
from numpy.typing import NDArray

from fairtrain import LagrangianBoostingClassifier, ReductionsWrapper, Verdict

TREES, DEPTH, RATE = 100, 5, 0.1
BOUNDS = (0.1, 0.05, 0.02)
CONSTRAINTS = ("demographic_parity", "equalized_odds")
COMPARISONS = (
    ("adult", "sex"),
    ("adult", "race"),
    ("compas", "race"),
    ("credit_default", "SEX"),
    ("law_school", "race"),
    ("acs_income_ca", "RAC1P"),
    ("acs_income_ok", "RAC1P"),
)
SEEDS = (0, 1, 2, 3, 4)
FRONTIER_ROWS = 6_000
FRONTIER_SEEDS = (0, 1)
UNCONSTRAINED = {"xgboost": "XGBoost alone", "lightgbm": "LightGBM alone"}
OURS = {"xgboost": "Lagrangian XGBoost", "lightgbm": "Lagrangian LightGBM"}
REDUCTION = "ReductionsWrapper XGBoost"
OPTIMIZER = "ThresholdOptimizer XGBoost"

ABOUT_BOUNDS = f"""\
All rows, {len(SEEDS)} seeds, means over seeds, bounds between any two groups. Every booster has
{TREES} trees of depth {DEPTH}. "Times": processor seconds of fit over those of the same booster
alone (medians). Raw: the gap on test rows is within the bound; not broken: its lower limit is;
certified: its upper limit is. ThresholdOptimizer reads the sensitive attribute to predict and
decides by lot; nothing else here does either.
"""
ABOUT_FRONTIER = f"""\
At most {FRONTIER_ROWS:,} rows, {len(FRONTIER_SEEDS)} seeds: a reduction fits its booster often.
Accuracy at an equal gap on test rows: that of ours less what ReductionsWrapper's frontier (its
bounds and the booster alone, straight lines between) has at the same gap. "Below": the gap of ours
lies below any that ReductionsWrapper reached; the difference is then to its smallest gap, in its
favour.
"""
ABOUT_SIMULATION = """\
Made-up rows whose population is known: 6,000 rows a fit, three groups, bound 0.1, confidence=0.95,
30 % certification rows. Broken: gap above the bound on 200,000 fresh rows.
"""

# Methods ----------------------------------------------------------------------------------------


def booster(name: str, trees: int = TREES) -> Any:
    """The stock classifier, one thread."""
    if name == "xgboost":
        from xgboost import XGBClassifier

        return XGBClassifier(n_estimators=trees, max_depth=DEPTH, learning_rate=RATE, n_jobs=1)
    from lightgbm import LGBMClassifier

    return LGBMClassifier(
        n_estimators=trees,
        max_depth=DEPTH,
        num_leaves=2**DEPTH,
        learning_rate=RATE,
        n_jobs=1,
        verbosity=-1,
        deterministic=True,
        force_row_wise=True,
    )


def double_precision() -> Any:
    """XGBoost with probabilities in double precision, without which ThresholdOptimizer raises."""
    from xgboost import XGBClassifier

    class Double(XGBClassifier):
        def predict_proba(self, X: Any, *args: Any, **kwargs: Any) -> NDArray[np.float64]:
            return np.asarray(super().predict_proba(X, *args, **kwargs), dtype=np.float64)

    return Double(n_estimators=TREES, max_depth=DEPTH, learning_rate=RATE, n_jobs=1)


def alone(name: str) -> Method:
    """The booster without constraints."""

    def fit(train: Part, validation: Part, bound: float, seed: int) -> Fitted:
        rows = train.with_rows(validation)
        model, seconds = timed(lambda: booster(name).fit(rows.X, rows.y))
        return Fitted(model.predict, seconds)

    return fit


def lagrangian(name: str, constraint: str) -> Method:
    """Ours, with its own fifth of the rows to steer."""

    def fit(train: Part, validation: Part, bound: float, seed: int) -> Fitted:
        rows = train.with_rows(validation)
        model = LagrangianBoostingClassifier(
            constraint,
            difference_bound=bound,
            booster=name,
            n_estimators=TREES,
            max_depth=DEPTH,
            learning_rate=RATE,
            random_state=seed,
            n_jobs=1,
        )
        model, seconds = timed(lambda: model.fit(rows.X, rows.y, sensitive_features=rows.groups))
        return Fitted(model.predict, seconds, note=f"{model.n_estimators_} rounds")

    return fit


def reduction(constraint: str) -> Method:
    """The reduction of the same booster, its mixture weighed on a quarter of the rows."""

    def fit(train: Part, validation: Part, bound: float, seed: int) -> Fitted:
        rows = train.with_rows(validation)
        model = ReductionsWrapper(
            booster("xgboost"),
            constraint,
            difference_bound=bound,
            validation_fraction=0.25,
            random_state=seed,
        )
        model, seconds = timed(lambda: model.fit(rows.X, rows.y, sensitive_features=rows.groups))

        def share(X: Any) -> NDArray[np.float64]:
            return np.asarray(model.predict_proba(X)[:, 1])

        return Fitted(share, seconds, True, f"{model.n_fits_} fits")

    return fit


def methods(constraint: str) -> dict[str, Method]:
    """What is compared on all rows; none of it reads the attribute at predict."""
    found: dict[str, Method] = {}
    for name in ("xgboost", "lightgbm"):
        found[UNCONSTRAINED[name]] = alone(name)
        found[OURS[name]] = lagrangian(name, constraint)
    return found


def optimized(
    data: Any, over: str, constraint: str, bound: float, seeds: Sequence[int]
) -> list[Row]:
    """fairlearn's ThresholdOptimizer, which needs groups to predict: a table row of its own.

    It keeps exact parity on the rows it is fitted on; it has no bound to set.
    """
    from benchmarks.protocol import measure, split

    rows = []
    for seed in seeds:
        parts = split(data, over, seed)
        train = parts.train.with_rows(parts.validation)

        def fit(train: Part = train) -> Any:
            return ThresholdOptimizer(
                estimator=double_precision(),
                constraints=constraint,
                predict_method="predict_proba",
                prefit=False,
            ).fit(train.X, train.y, sensitive_features=train.groups)

        model, seconds = timed(fit)
        share = model._pmf_predict(
            parts.test.X.astype(np.float64), sensitive_features=parts.test.groups
        )[:, 1]
        found = measure(parts.test.y, share, parts.test.groups, bound, constraint)
        label = f"{data.name}, {over}"
        rows.append(Row(label, OPTIMIZER, seed, bound, constraint, found, True, seconds))
    return rows


# Tables -----------------------------------------------------------------------------------------


def bounds_table(rows: Sequence[Row]) -> str:
    """One line a data set, constraint, bound and method."""
    head = ("data", "constraint", "bound", "method", "accuracy", "gap", "worst", "raw")
    lines = [(*head, "not broken", "certified", "rows/group", "times")]
    plain: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        for name, called in UNCONSTRAINED.items():
            if row.method == called:
                plain.setdefault((row.data, name), []).append(row.seconds)
    for key, some in _grouped(rows).items():
        data, constraint, bound, method = key
        found = [r.found for r in some]
        base = "lightgbm" if "LightGBM" in method else "xgboost"
        times = median(r.seconds for r in some) / median(plain[data, base])
        lines.append(
            (
                data,
                {"demographic_parity": "DP", "equalized_odds": "EO"}[constraint],
                f"{bound:g}",
                method,
                f"{np.mean([m.accuracy for m in found]):.3f}",
                f"{np.mean([m.gap for m in found]):.3f}",
                f"{max(m.gap for m in found):.3f}",
                f"{sum(m.raw for m in found)}/{len(found)}",
                f"{sum(m.not_broken for m in found)}/{len(found)}",
                f"{sum(m.certified for m in found)}/{len(found)}",
                f">={min(m.smallest_group for m in found)}",
                f"{times:.2f}",
            )
        )
    return aligned(lines)


def summary(rows: Sequence[Row]) -> str:
    """Share of runs whose bound was not significantly broken, by method."""
    lines = [("method", "runs", "raw", "not broken", "certified", "near constant")]
    for method in dict.fromkeys(r.method for r in rows):
        found = [r.found for r in rows if r.method == method]
        lines.append(
            (
                method,
                str(len(found)),
                *(
                    f"{np.mean([getattr(m, name) for m in found]):.1%}"
                    for name in ("raw", "not_broken", "certified", "near_constant")
                ),
            )
        )
    return aligned(lines)


def frontier(rows: Sequence[Row]) -> pd.DataFrame:
    """Accuracy of ours less ReductionsWrapper's at the same gap."""
    records = []
    for data, constraint in dict.fromkeys((r.data, r.constraint) for r in rows):
        here = [r for r in rows if (r.data, r.constraint) == (data, constraint)]
        theirs = sorted(
            _point([r for r in here if r.method == method and r.bound == bound])
            for method in (REDUCTION, UNCONSTRAINED["xgboost"])
            for bound in BOUNDS
            if any(r.method == method and r.bound == bound for r in here)
        )
        gaps = np.array([gap for gap, _ in theirs])
        best = np.maximum.accumulate([accuracy for _, accuracy in theirs])
        for bound in BOUNDS:
            ours = [r for r in here if r.method == OURS["xgboost"] and r.bound == bound]
            reduced = [r for r in here if r.method == REDUCTION and r.bound == bound]
            if not ours or not reduced:
                continue
            gap, accuracy = _point(ours)
            their_gap, their_accuracy = _point(reduced)
            records.append(
                {
                    "data": data,
                    "constraint": constraint,
                    "bound": bound,
                    "accuracy": accuracy,
                    "gap": gap,
                    "accuracy_reduction": their_accuracy,
                    "gap_reduction": their_gap,
                    "difference_at_equal_gap": accuracy - float(np.interp(gap, gaps, best)),
                    "below": gap < gaps.min(),
                    "times_faster": median(r.seconds for r in reduced)
                    / median(r.seconds for r in ours),
                }
            )
    return pd.DataFrame(records)


def frontier_table(found: pd.DataFrame) -> str:
    """Text table of the frontiers."""
    lines = [("data", "constraint", "bound", "ours", "ReductionsWrapper", "at equal gap", "faster")]
    lines += [
        (
            str(r.data),
            "DP" if r.constraint == "demographic_parity" else "EO",
            f"{r.bound:g}",
            f"{r.accuracy:.3f} / {r.gap:.3f}",
            f"{r.accuracy_reduction:.3f} / {r.gap_reduction:.3f}",
            f"{r.difference_at_equal_gap:+.3f}{' (below)' if r.below else ''}",
            f"{r.times_faster:.0f}x",
        )
        for r in found.itertuples()
    ]
    return aligned(lines)


def _point(rows: Sequence[Row]) -> tuple[float, float]:
    return (
        float(np.mean([r.found.gap for r in rows])),
        float(np.mean([r.found.accuracy for r in rows])),
    )


def _grouped(rows: Sequence[Row]) -> Mapping[tuple[str, str, float, str], list[Row]]:
    found: dict[tuple[str, str, float, str], list[Row]] = {}
    for r in sorted(rows, key=lambda r: (r.data, r.constraint, -r.bound)):
        found.setdefault((r.data, r.constraint, r.bound, r.method), []).append(r)
    return found


# Simulation -------------------------------------------------------------------------------------


def made_up_rows(n: int, seed: int) -> tuple[NDArray[Any], ...]:
    """Three groups of unequal size whose features and labels differ."""
    rng = np.random.default_rng(seed)
    group = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    X = rng.normal(size=(n, 6))
    X[:, :3] += 0.35 * group[:, None]
    y = (X[:, 0] + X[:, 1] + X[:, 3] + 1.5 * rng.normal(size=n) > 0.5).astype(int)
    return X, y, group


def simulate(fits: int, constraint: str = "demographic_parity", bound: float = 0.1) -> pd.DataFrame:
    """Fit again and again, and look at the population behind every certificate."""
    X, y, group = made_up_rows(200_000, seed=1_000_000)
    records = []
    for seed in range(fits):
        rows, labels, groups = made_up_rows(6_000, seed)
        model = LagrangianBoostingClassifier(
            constraint,
            difference_bound=bound,
            confidence=0.95,
            certification_fraction=0.3,
            n_estimators=60,
            max_depth=4,
            random_state=seed,
            n_jobs=1,
        ).fit(rows, labels, sensitive_features=groups)
        decided = model.predict(X)
        shares = [decided[group == g].mean() for g in range(3)]
        records.append(
            {
                "seed": seed,
                "verdict": str(model.status_),
                "certified": model.status_ is Verdict.MET,
                "gap": max(shares) - min(shares),
                "broken": max(shares) - min(shares) > bound,
                "accuracy": float(np.mean(decided == y)),
            }
        )
    return pd.DataFrame(records)


def simulation_words(found: pd.DataFrame) -> str:
    """What the simulation came to."""
    certified = found[found["certified"]]
    return (
        f"{len(found)} fits, {len(certified)} certified, of these broken in the population: "
        f"{int(certified['broken'].sum())} ({certified['broken'].mean():.1%}); all fits: "
        f"{found['broken'].mean():.1%} broken, mean gap {found['gap'].mean():.3f}, accuracy "
        f"{found['accuracy'].mean():.3f}."
    )


# Running ----------------------------------------------------------------------------------------


def compare(
    seeds: Sequence[int],
    rows_at_most: int | None,
    make: Callable[[str], dict[str, Method]],
    *,
    optimizer: bool,
    quick: bool = False,
) -> list[Row]:
    """Every data set, constraint and bound."""
    found: list[Row] = []
    for name, over in COMPARISONS[2:3] if quick else COMPARISONS:
        data = load(name)
        data = data if rows_at_most is None else data.sample(rows_at_most)
        for constraint in CONSTRAINTS:
            for bound in BOUNDS[:1] if quick else BOUNDS:
                some = make(constraint)
                found += run(data, over, some, bound=bound, constraint=constraint, seeds=seeds)
                if optimizer:
                    found += optimized(data, over, constraint, bound, seeds)
        _say(f"{data.name}, {over}: done")
    return found


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts, print their tables and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, one set, nothing written")
    parser.add_argument("--only", choices=("simulation", "bounds", "frontier"), help="one part")
    options = parser.parse_args(arguments)
    quick, only = options.quick, options.only
    warnings.simplefilter("ignore")  # bounds that fail are what the tables show
    if only in (None, "simulation"):
        simulated = simulate(5 if quick else 200)
        print(ABOUT_SIMULATION)
        print(simulation_words(simulated), end="\n\n")
        if not quick:
            simulated.to_csv(
                RESULTS / "boosting_simulation.csv", index=False, float_format="%.4f",
                lineterminator="\n",
            )  # fmt: skip
    if only == "simulation":
        return 0
    try:
        data_folder()
    except MissingDataError as error:
        print(error, file=sys.stderr)
        return 2
    seeds = (0,) if quick else SEEDS
    if only in (None, "bounds"):
        rows = compare(seeds, None, methods, optimizer=True, quick=quick)
        print(ABOUT_BOUNDS)
        print(bounds_table(rows), end="\n\n")
        print(summary(rows), end="\n\n")
        if not quick:
            write_csv(rows, RESULTS / "boosting_bounds.csv")
    if only in (None, "frontier"):

        def both(constraint: str) -> dict[str, Method]:
            return {
                UNCONSTRAINED["xgboost"]: alone("xgboost"),
                OURS["xgboost"]: lagrangian("xgboost", constraint),
                REDUCTION: reduction(constraint),
            }

        some = FRONTIER_SEEDS[:1] if quick else FRONTIER_SEEDS
        rows = compare(some, 1_500 if quick else FRONTIER_ROWS, both, optimizer=False, quick=quick)
        table = frontier(rows)
        print(ABOUT_FRONTIER)
        print(frontier_table(table))
        if not quick:
            table.to_csv(
                RESULTS / "boosting_frontier.csv", index=False, float_format="%.4f",
                lineterminator="\n",
            )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
