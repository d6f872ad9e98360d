"""Improvement over a baseline, where there are too few rows to certify; and groups left out."""

from __future__ import annotations

import numpy as np
import pytest

from fairtrain import fairness_report
from fairtrain.constraints import AtMost, DemographicParity, EqualizedOdds, RateParity
from fairtrain.data.groups import Groups
from fairtrain.data.rows import Rows
from fairtrain.metrics.paired import narrowed
from fairtrain.report import judged
from fairtrain.report.judged import Judged


def two(seed: int, n: int = 400, groups: int = 2) -> tuple[Rows, Rows, float]:
    """Rows as two models decide them, and the true change between the first and the last group."""
    rng = np.random.default_rng(seed)
    who = rng.integers(0, groups, n)
    y = rng.integers(0, 2, n)
    first = np.array([0.3, 0.6]) if groups == 2 else np.linspace(0.3, 0.6, groups)
    second = np.linspace(0.4, 0.5, groups)
    draw = rng.random(n)
    before, after = ((draw < share[who]).astype(float) for share in (first, second))
    rows = Rows.read_decided(y, before, who, positive_label=1)
    return rows, rows.decided(after), 0.3 - 0.1


@pytest.mark.parametrize("groups", [2, 5])
def test_limits_cover_the_true_change_of_the_pair_that_was_picked(groups: int) -> None:
    covered = []
    for seed in range(300):
        before, after, _ = two(seed, groups=groups)
        found = narrowed(DemographicParity(), before, after)
        assert found is not None
        first, second = np.linspace(0.3, 0.6, groups), np.linspace(0.4, 0.5, groups)
        i, j = int(found.highest), int(found.lowest)
        truth = (first[i] - first[j]) - (second[i] - second[j])
        covered.append(found.change[1] <= truth <= found.change[2])
    assert np.mean(covered) >= 0.93


def test_it_is_narrower_than_two_samples_would_tell_and_is_the_counted_change() -> None:
    before, after, _ = two(3, n=3000)
    found = narrowed(EqualizedOdds(), before, after)
    assert found is not None
    inside = before.outcomes == (found.rate == "true_positive_rate")
    names, codes = before.groups.names, before.groups.codes

    def rate(rows: Rows, group: str) -> float:
        return float(rows.decisions[(codes == names.index(group)) & inside].mean())

    gaps = [rate(r, found.highest) - rate(r, found.lowest) for r in (before, after)]
    assert found.change[0] == pytest.approx(gaps[0] - gaps[1])
    n = len(before) / 2 / 2
    apart = 2 * 1.96 * np.sqrt(4 * 0.25 / n)
    assert found.change[2] - found.change[1] < 0.8 * apart


def test_other_bounds_have_none() -> None:
    before, after, _ = two(0)
    assert (
        narrowed(DemographicParity(difference_bound=None, ratio_bound=0.8), before, after) is None
    )
    assert narrowed(AtMost("selection_rate", 0.9), before, after) is None


def test_a_report_with_too_few_rows_ends_with_what_is_known() -> None:
    before, after, _ = two(1)
    groups = Groups.from_sensitive(before.groups.codes)
    found = judged(
        "fair model",
        (DemographicParity(difference_bound=0.05),),
        before.outcomes,
        after.decisions,
        groups,
        outcome="hired",
        against=before.decisions,
    )
    result = found.report.results[0]
    assert result.verdict == "too_few_rows"
    said = found.words(result, "hired")
    assert "can certify a bound of" in said
    assert "get more rows, widen the bound or merge small groups" in said
    assert "Even so, between '1' and '0'" in said
    assert "share hired is" in said
    again = Judged.from_dict(found.to_dict())
    assert again.words(again.report.results[0], "hired") == said


def test_groups_that_a_parity_leaves_out_are_named() -> None:
    y = np.tile([0, 1], 900)
    who = np.repeat(["a", "b", "c"], 600)
    asked = DemographicParity(difference_bound=0.05, weights={"c": 0})
    report = fairness_report(y, y, who, asked)
    assert report.results[0].left_out == ("c",)
    assert "Not judged, as the constraint leaves them out: c." in report.explain()
    assert report.to_dict()["constraints"][0]["left_out"] == ["c"]
    assert "Not judged" not in fairness_report(y, y, who, difference_bound=0.05).explain()


def missed(y: np.ndarray, decision: np.ndarray) -> np.ndarray:
    return 10 * y * (1 - decision)


def test_a_quantity_beyond_one_has_none() -> None:
    before, after, _ = two(0)
    assert narrowed(RateParity(quantity=missed), before, after) is None
