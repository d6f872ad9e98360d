"""Which scores of the group the plug-in should price: P(g | x, y), P(g | x) or P(g, y | x).

Run ``python benchmarks/plug_in_scores.py``, ``--quick`` for a smoke test. The label's scores, the
folds and the bounds are the same for all; what is compared is accuracy at equal gap on unseen rows.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: times are for one thread
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script

import numpy as np
import pandas as pd
from benchmarks.protocol import RESULTS, MissingDataError, load, prepare, timed
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from fairtrain.constraints import DemographicParity, EqualizedOdds
from fairtrain.constraints.families import families_of
from fairtrain.constraints.table import RateTable
from fairtrain.data.groups import Groups
from fairtrain.data.splits import stratified_folds
from fairtrain.plugin.linear import JointScores, linear_rates
from fairtrain.plugin.rule import RuleSettings, ScoredRows, find_rule
from fairtrain.plugin.scores import CrossFit, cross_fit

COMPARISONS = (
    ("adult", "sex"),
    ("compas", "race"),
    ("credit_default", "SEX"),
    ("acs_income_ca", "SEX"),
    ("adult", "race"),
)
TRAINING_ROWS, TEST_ROWS, LEAST_GROUP = 5_000, 20_000, 100
NOTIONS = {"dp": DemographicParity, "eo": EqualizedOdds}
BOUNDS = (0.01, 0.02, 0.05, 0.1)
EQUAL_GAPS = {"dp": (0.03, 0.06), "eo": (0.05, 0.08)}
BASES: dict[str, Any] = {
    "trees": HistGradientBoostingClassifier(max_iter=100, early_stopping=False, random_state=0),
    "logistic": LogisticRegression(max_iter=1000),
}
Pair = tuple[JointScores, JointScores]  # of training rows, out of fold, and of unseen rows


def by_label(outcome: CrossFit, fits: list[CrossFit], X: Any) -> Pair:
    """Scores of a label's fit, and of groups by one or two fits."""
    held, new = ([f.held for f in fits], [f(X) for f in fits])
    if len(fits) == 1:
        held, new = held * 2, new * 2
    return (
        JointScores(outcome.held[:, 1], np.stack(held)),
        JointScores(outcome(X)[:, 1], np.stack(new)),
    )


def jointly(fit: CrossFit, X: Any, outcome: CrossFit | None = None) -> Pair:
    """Scores of one fit of (g, y); the label's own, where they are passed, replace its label."""

    def read(proba: np.ndarray, label: np.ndarray | None) -> JointScores:
        joint = proba.reshape(len(proba), -1, 2)
        total = joint.sum(axis=1, keepdims=True)
        groups = np.moveaxis(joint / np.maximum(total, 1e-9), 2, 0)
        return JointScores(total[:, 0, 1] if label is None else label, groups)

    own = (None, None) if outcome is None else (outcome.held[:, 1], outcome(X)[:, 1])
    return read(fit.held, own[0]), read(fit(X), own[1])


def one_split(name: str, over: str, seed: int) -> Iterator[dict[str, Any]]:
    """Accuracy and gap on unseen rows of every base, way, notion and bound."""
    data = load(name)
    order = np.random.default_rng(seed).permutation(len(data.y))
    n = min(TRAINING_ROWS, len(order) * 2 // 3)
    who = np.asarray(data.sensitive[over]).astype(str)
    names, counts = np.unique(who[order[:n]], return_counts=True)
    order = order[: n + TEST_ROWS]
    compared = np.isin(who[order], names[counts >= LEAST_GROUP])
    train, test = order[:n][compared[:n]], order[n:][compared[n:]]
    prepared = prepare()
    X = np.asarray(prepared.fit_transform(data.X.iloc[train]), dtype=np.float64)
    unseen = np.asarray(prepared.transform(data.X.iloc[test]), dtype=np.float64)
    y, truth = data.y[train].astype(np.int64), data.y[test]
    groups = Groups.from_sensitive(who[train])
    others = Groups(groups.scheme, groups.encode(who[test]))
    codes, size = groups.codes, len(groups)
    folds = stratified_folds((codes, y), 5, np.random.RandomState(seed))
    for base, estimator in BASES.items():

        def learnt(target: Any, classes: int, base: Any = estimator) -> CrossFit:
            return cross_fit([base], X, target, classes, None, folds)

        outcome = learnt(y, 2)
        labelled, slow = timed(lambda: [learnt(np.where(y == v, codes, -1), size) for v in (0, 1)])
        marginal, fast = timed(lambda: [learnt(codes, size)])
        joint, slowest = timed(lambda: learnt(2 * codes + y, 2 * size))
        ways = {
            "g | x, y": (by_label(outcome, labelled, unseen), slow),
            "g | x": (by_label(outcome, marginal, unseen), fast),
            "g, y | x": (jointly(joint, unseen), slowest),
            "groups of g, y | x": (jointly(joint, unseen, outcome), slowest),
        }
        for way, ((held, new), seconds) in ways.items():
            for notion, bound in ((k, b) for k in NOTIONS for b in BOUNDS):
                asked = [NOTIONS[notion](difference_bound=bound)]
                families = families_of(asked, groups.scheme)
                table = RateTable.comparing(asked, y, groups)
                rates = linear_rates(families, held)
                rows = ScoredRows(2 * held.outcome - 1, rates, table, table.effective)
                rule = find_rule(families, rows, RuleSettings())
                priced = linear_rates(families, new, scale=rule.scale).slopes @ rule.prices
                share = rule.share(2 * new.outcome - 1 - priced)
                judged = RateTable.comparing(asked, truth, others)
                found = judged(share)
                gap = max(float(np.ptp(found[cells.part])) for cells in judged.cells)
                yield {
                    "data": name, "over": over, "seed": seed, "base": base, "way": way,
                    "notion": notion, "bound": bound, "accuracy": 1 - judged.error(share),
                    "gap": gap, "seconds": seconds,
                }  # fmt: skip


def at_equal_gap(found: pd.DataFrame) -> pd.DataFrame:
    """Accuracy less that of P(g | x, y), interpolated to gaps that both curves reach."""
    keys = ["data", "over", "seed", "base", "notion"]
    rows = []
    for key, points in found.groupby([*keys, "way"]):
        curve = points.sort_values("gap")
        for gap in EQUAL_GAPS[str(points["notion"].iloc[0])]:
            if curve["gap"].min() <= gap <= curve["gap"].max():
                accuracy = float(np.interp(gap, curve["gap"], curve["accuracy"]))
                rows.append((*key, gap, accuracy))
    table = pd.DataFrame(rows, columns=[*keys, "way", "at", "accuracy"])
    first = table[table["way"] == "g | x, y"].drop(columns="way")
    both = table[table["way"] != "g | x, y"].merge(first, on=[*keys, "at"], suffixes=("", "_first"))
    both["less"] = both["accuracy"] - both["accuracy_first"]
    both["better"], both["worse"] = both["less"] > 0.002, both["less"] < -0.002
    return both.groupby(["way", "notion", "base"]).agg(
        mean=("less", "mean"), better=("better", "sum"), worse=("worse", "sum"), of=("less", "size")
    )


def main() -> None:
    """Run and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one set, one seed")
    quick = parser.parse_args().quick
    warnings.filterwarnings("ignore", category=UserWarning)
    rows: list[dict[str, Any]] = []
    try:
        for name, over in COMPARISONS[:1] if quick else COMPARISONS:
            for seed in (100,) if quick else (100, 101, 102):
                rows += one_split(name, over, seed)
                print(f"{name} by {over}, seed {seed}", flush=True)
    except MissingDataError as error:
        sys.exit(str(error))
    found = pd.DataFrame(rows)
    print(at_equal_gap(found).round(4).to_string())
    print(found.groupby(["data", "over", "base", "way"])["seconds"].mean().round(2).to_string())
    if not quick:
        found.round(5).to_csv(RESULTS / "plug_in_scores.csv", index=False)


if __name__ == "__main__":
    main()
