"""FairPlugInClassifier beside the other methods that decide without the attribute, on unseen rows.

Run ``python benchmarks/plug_in.py``, ``--quick`` for a smoke test, ``--methods``, ``--rows`` and
``--seeds`` for a part: what the table has already is not run again. Every method gets the same
rows and its own bound; ours are given all of them, so nothing is picked on the validation rows.
``noise`` is the standard error of a gap on the test rows. The widest of several noisy gaps is too
wide on average besides: ``floor`` is the rms of gap - bound that these rows would show of decisions
whose true gap *is* the bound. ``plug_in_curves.csv`` has the plug-in at more bounds.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: ratios are for one thread
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script

import numpy as np
import pandas as pd
from benchmarks.plug_in_methods import AWARE, GROUPS, METHODS, Asked, curve, unconstrained
from benchmarks.protocol import RESULTS, MissingDataError, Part, load, measure, split
from numpy.typing import NDArray

from fairtrain.constraints import as_constraints
from fairtrain.constraints.table import RateTable
from fairtrain.data.groups import Groups

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
SAMPLED = {1_000: 1_430, 3_000: 4_300, 10_000: 14_300, 0: 10**9}
"""Rows drawn of a set, by how many of them train: 70 %. 0 stands for all that there are."""

LEVEL = 0.002  # of accuracy: less is level
REFERENCE = "plug-in, XGBoost"
POINT = ["rows", "data", "seed", "constraint", "bound"]


def compare(
    name: str, over: str, rows: int, seed: int, chosen: Sequence[str], done: set[tuple[Any, ...]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Every question and method on one split: what was found, and points of the curves."""
    label = f"{name}, {over}"
    wanted = [
        (method, asked)
        for asked in ASKED
        for method in chosen
        if (rows, label, seed, *asked, method) not in done
    ]
    if not wanted:
        return [], []
    parts = split(load(name).sample(SAMPLED[rows]), over, seed)
    test, kept = parts.test, dict[str, Any]()
    found, points = [], []
    for constraint, bound in ASKED:
        where = {"rows": rows, "data": label, "seed": seed, "constraint": constraint}
        asked = Asked(parts.train, parts.validation, constraint, bound, seed, kept)
        plain = unconstrained(asked).seconds
        for method in [m for m, a in wanted if a == (constraint, bound)]:
            answer = METHODS[method](asked)
            if answer is None:
                continue
            judged = measure(test.y, answer.decide(test), test.groups, bound, constraint)
            line = {**where, "bound": bound, "method": method, **asdict(judged)}
            line |= {"noise": (judged.upper - judged.lower) / (2 * 1.96)}
            line |= {"floor": floor(test, bound) if constraint == "demographic_parity" else np.nan}
            found.append(line | {"times": answer.seconds / plain, "seconds": answer.seconds})
        if (REFERENCE, (constraint, bound)) in wanted and (constraint, bound) != ASKED[0]:
            for other, share in curve(asked, test):
                right = np.mean(np.where(test.y == 1, share, 1 - share))
                width = _gap(test, share, constraint)
                points.append({**where, "bound": other, "accuracy": right, "gap": width})
    return found, points


def floor(test: Part, bound: float) -> float:
    """Root mean square of gap - bound that test rows show where two large groups differ by it.

    Rates are about the share of favourable labels; only demographic parity is simple enough.
    """
    counts = np.sort(np.unique(test.groups, return_counts=True)[1])[::-1]
    rates = np.full(len(counts), test.y.mean())
    rates[:2] += np.array([0.5, -0.5]) * bound
    drawn = np.random.default_rng(0).binomial(counts, np.clip(rates, 0, 1), (4000, len(counts)))
    return float(np.sqrt(np.mean((np.ptp(drawn / counts, axis=1) - bound) ** 2)))


def _gap(test: Part, share: NDArray[Any], constraint: str) -> float:
    """Widest gap, without the limits that take most of the time of ``measure``."""
    asked = as_constraints(constraint, difference_bound=0.0)
    table = RateTable.comparing(asked, test.y, Groups.from_sensitive(test.groups, min_count=0))
    rates = table(share)
    return float(max(c.family.bounds.achieved(rates[c.part]) for c in table.cells))


# Tables ----------------------------------------------------------------------------------------


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """One line a number of rows, question and method: means over sets and seeds."""
    squares = {name: found[name] ** 2 for name in ("noise", "floor")}
    found = found.assign(off=(found["gap"] - found["bound"]) ** 2, **squares)
    table = found.groupby(["rows", "constraint", "bound", "method"], sort=False).agg(
        accuracy=("accuracy", "mean"),
        gap=("gap", "mean"),
        worst=("gap", "max"),
        rms=("off", lambda s: np.sqrt(s.mean())),
        noise=("noise", lambda s: np.sqrt(s.mean())),
        floor=("floor", lambda s: np.sqrt(s.mean())),
        constant=("near_constant", "mean"),
        times=("times", "median"),
        fits=("gap", "size"),
    )
    return table.rename(columns={"rms": "rms gap - bound"}).round(3)


def at_equal_gap(found: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of the plug-in at the gap that a method reached, less the method's.

    A cell is a number of rows, a set and a question; gaps and accuracies are means over the
    method's seeds, of those that ``points`` has where it has some. The curve is straight between
    the bounds that were asked, those of ``points`` and the booster alone. Where a method's gap is
    wider than any of the curve's, its end counts; where it is narrower, its beginning, and
    ``reached`` is False: that cell flatters the plug-in.
    """
    where = ["rows", "data", "constraint"]
    drawn = points.groupby(where)["seed"].unique().to_dict() if len(points) else {}
    own = found[found["method"].isin([REFERENCE, "XGBoost"])]
    own = own.assign(bound=own["bound"].where(own["method"] == REFERENCE, 1.0))
    points = pd.concat([own, points])
    lines = []
    for (*place, bound, method), seeds in found.groupby([*where, "bound", "method"], sort=False):
        if method.startswith("plug-in") or method in ("XGBoost", *AWARE):
            continue
        cell = seeds[seeds["seed"].isin(drawn.get(tuple(place), seeds["seed"]))]
        if not len(cell):
            continue
        same = (points[where] == place).all(axis=1) & points["seed"].isin(cell["seed"])
        line = points[same].groupby("bound")[["accuracy", "gap"]].mean().sort_values("gap")
        if not len(line):
            continue
        gap = cell["gap"].mean()
        ahead = np.interp(gap, line["gap"], line["accuracy"]) - cell["accuracy"].mean()
        reached = bool(gap >= line["gap"].iloc[0] - LEVEL)
        lines.append([*place, bound, method, float(ahead), reached])
    return pd.DataFrame(lines, columns=[*where, "bound", "method", "ahead", "reached"])


def standing(cells: pd.DataFrame) -> pd.DataFrame:
    """How many cells the plug-in is ahead in, level, or behind, by method."""
    by = cells.groupby(["rows", "method"], sort=False)
    table = by.agg(cells=("ahead", "size"), mean=("ahead", "mean"), worst=("ahead", "min"))
    table["ahead"] = by["ahead"].apply(lambda a: int((a > LEVEL).sum()))
    table["level"] = by["ahead"].apply(lambda a: int((a.abs() <= LEVEL).sum()))
    table["behind"] = by["ahead"].apply(lambda a: int((a < -LEVEL).sum()))
    table["narrower than any"] = by["reached"].apply(lambda r: int((~r).sum()))
    return table.round(3)


def write(table: pd.DataFrame, name: str) -> None:
    """Seconds stay out because they belong to a machine; ``times`` the booster's do not."""
    kept = table.drop(columns="seconds", errors="ignore")
    kept.to_csv(RESULTS / name, index=False, float_format="%.4f", lineterminator="\n")


def read(name: str) -> pd.DataFrame:
    """What an earlier run has left."""
    path = RESULTS / name
    return pd.read_csv(path) if path.is_file() else pd.DataFrame()


def _keys(found: pd.DataFrame) -> set[tuple[Any, ...]]:
    return (
        set(found[[*POINT, "method"]].itertuples(index=False, name=None)) if len(found) else set()
    )


def _joined(old: pd.DataFrame, new: list[dict[str, Any]], key: list[str]) -> pd.DataFrame:
    both = pd.concat([old, pd.DataFrame(new)], ignore_index=True)
    return both.drop_duplicates(key, keep="last") if len(both) else both


def show(found: pd.DataFrame, points: pd.DataFrame) -> None:
    """Print what was found."""
    print(summary(found).to_string())
    if len(found):
        print(f"\n{REFERENCE}: accuracy at the gap that others reached, less theirs\n")
        print(standing(at_equal_gap(found, points)).to_string())


def main() -> None:
    """Run and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one set, one seed, nothing written")
    parser.add_argument("--show", action="store_true", help="only print what the tables have")
    parser.add_argument("--rows", type=int, nargs="+", default=list(SAMPLED)[:3], help="0: all")
    parser.add_argument("--methods", nargs="+", default=["ours", "others"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", nargs="+", default=[name for name, _ in COMPARISONS])
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    found, points = (
        (pd.DataFrame(), pd.DataFrame())
        if options.quick
        else (read("plug_in.csv"), read("plug_in_curves.csv"))
    )
    chosen = [m for word in options.methods for m in GROUPS.get(word, [word])]
    splits = [
        (name, over, rows, seed, chosen)
        for rows in options.rows
        for seed in options.seeds
        for name, over in COMPARISONS
        if name in options.data
    ]
    try:
        for one in [] if options.show else splits[:1] if options.quick else splits:
            done = _keys(found)
            new, drawn = compare(*one, done)
            if not new:
                continue
            found = _joined(found, new, [*POINT, "method"])
            points = _joined(points, drawn, POINT)
            if not options.quick:  # what is there so far, for it takes a while
                write(found, "plug_in.csv")
                if len(points):
                    write(points, "plug_in_curves.csv")
            spent = pd.DataFrame(new).groupby("method", sort=False)["seconds"].sum().round(1)
            print(one, spent.to_dict(), flush=True)
    except MissingDataError as error:
        sys.exit(str(error))
    show(found, points)


if __name__ == "__main__":
    main()
