"""Several constraints at once: Holm's order, the level of what is claimed, and what is hidden."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from fairtrain import fairness_report
from fairtrain.constraints import AtLeast, DemographicParity, EqualizedOdds, ErrorRateParity
from fairtrain.data.rows import Rows
from fairtrain.metrics.joint import JointStatement, jointly
from fairtrain.metrics.report import report_on
from fairtrain.metrics.verdicts import Verdict, judge

ASKED = (
    DemographicParity(difference_bound=0.08),
    EqualizedOdds(difference_bound=0.13),
    ErrorRateParity(difference_bound=0.06),
    AtLeast("selection_rate", 0.43),
)


def decided(seed: int, n: int = 3000, shift: float = 0.03) -> Rows:
    rng = np.random.default_rng(seed)
    who = rng.integers(0, 2, n)
    y = rng.integers(0, 2, n)
    chance = np.where(y == 1, 0.75, 0.25) + shift * (2 * who - 1) / 2
    return Rows.read_decided(y, (rng.random(n) < chance).astype(int), who)


def closed(rows: Rows, confidence: float) -> list[bool]:
    """Brute force: kept is what every set of constraints that holds it rejects (Marcus, 1976)."""
    m = len(ASKED)
    met = {
        size: [
            judge(c, rows, "certification", 1 - (1 - confidence) / size).verdict is Verdict.MET
            for c in ASKED
        ]
        for size in range(1, m + 1)
    }
    sets = [s for size in range(1, m + 1) for s in combinations(range(m), size)]
    return [all(any(met[len(s)][j] for j in s) for s in sets if i in s) for i in range(m)]


def test_kept_together_is_what_closed_testing_keeps() -> None:
    seen = set()
    for seed in range(8):
        rows = decided(seed, n=900 + 400 * (seed % 6), shift=0.01 * (seed % 4))
        joint = report_on(rows, ASKED, rows="certification").joint
        assert joint is not None
        assert list(joint.kept) == closed(rows, 0.95)
        seen.add(sum(joint.kept))
    assert len(seen) > 2  # some of them, and not always the same


def test_all_are_kept_where_each_is_met_and_limits_hold_at_once() -> None:
    rows = decided(3, n=20_000, shift=0.0)
    report = report_on(rows, ASKED, rows="certification")
    assert report.joint is not None
    assert report.joint.all_kept == all(r.verdict is Verdict.MET for r in report.results)
    for (low, high), single, asked in zip(report.joint.limits, report.results, ASKED, strict=True):
        same = judge(asked, rows, "certification", 1 - 0.05 / 4)
        assert (low, high) == (same.lower, same.upper)
        assert low <= single.lower <= single.upper <= high
    assert "Together, at 95%: all 4 are kept" in report.explain()


def test_broken_bounds_are_claimed_to_be_kept_no_more_often_than_stated() -> None:
    """Both bounds lie at the truth: a parity, and a floor of one group."""
    asked = (DemographicParity(difference_bound=0.1), AtLeast("selection_rate", 0.45))
    wrong = 0
    for seed in range(200):
        rng = np.random.default_rng(1000 + seed)
        who = np.repeat([0, 1], 800)
        yes = (rng.random(1600) < np.where(who == 1, 0.55, 0.45)).astype(int)
        rows = Rows.read_decided(rng.integers(0, 2, 1600), yes, who)
        results = [judge(c, rows, "certification", 0.95, advise=False) for c in asked]
        joint = jointly([(c, rows) for c in asked], results, "certification", 0.95)
        assert joint is not None
        wrong += any(joint.kept) or joint.all_kept
    assert wrong / 200 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)


def test_one_constraint_and_rows_that_steered_have_no_joint_statement() -> None:
    rows = decided(0)
    assert report_on(rows, ASKED[:1], rows="certification").joint is None
    assert report_on(rows, ASKED, rows="steering").joint is None


def test_limits_that_rest_on_few_rows_are_hidden_in_numbers_and_words() -> None:
    y = np.tile([0, 1], 1003)
    who = np.repeat(["a", "b", "c"], [1000, 1000, 6])
    report = fairness_report(y, y, who, ["demographic_parity", "equalized_odds"])
    joint = report.to_dict()["joint"]
    assert joint["limits"] == [[None, None], [None, None]]
    assert len(report.joint_words(shown=True)) == 1
    again = JointStatement.from_dict(joint)
    assert again.kept == report.joint.kept  # type: ignore[union-attr]
    assert again.to_dict() == joint


def test_a_multiclass_report_speaks_of_all_classes_together() -> None:
    from fairtrain.datasets import make_biased
    from fairtrain.metrics.outcomes import report_on_classes

    data = make_biased(1500, n_noise=0, random_state=0)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, len(data)).astype(float)
    rows = Rows.read(data.X, y, data.sensitive_features, several_classes=True)
    rows = rows.decided(np.eye(3)[y.astype(int)])
    asked = [DemographicParity(difference_bound=0.2)]
    report = report_on_classes(rows, asked, rows="certification")
    assert report.joint is not None
    assert len(report.joint.kept) == 3


@pytest.mark.parametrize("confidence", [0.9, 0.975])
def test_words_name_the_level(confidence: float) -> None:
    joint = JointStatement(confidence, False, (False, False), ((0.0, 0.1), (0.1, 0.2)))
    assert f"at {100 * confidence:g}%: not all 2" in joint.words(["a", "b"])[0]
    assert "none is" in joint.words(["a", "b"])[0]


def test_two_bounds_on_one_notion_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    group, decided = rng.integers(0, 2, 4000), rng.integers(0, 2, 4000)
    asked = [DemographicParity(ratio_bound=0.8), DemographicParity(difference_bound=0.001)]
    said = fairness_report(decided, decided, group, asked).joint_words()
    assert "demographic_parity (ratio 0.8) is" in said[0]
    assert "demographic_parity (difference 0.001) " in said[1]
