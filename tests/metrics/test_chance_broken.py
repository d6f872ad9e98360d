"""The chance that a bound kept on steering rows is broken in the population."""

from __future__ import annotations

import numpy as np
import pytest

from fairtrain import fairness_report
from fairtrain.constraints import AtLeast, AtMost, DemographicParity, EqualizedOdds


def decided(rates: list[float], n: int = 1000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    who = np.repeat(np.arange(len(rates)), n)
    yes = np.concatenate([(np.arange(n) < round(n * r)).astype(int) for r in rates])
    return np.tile([0, 1], len(who) // 2), yes, who


def chance(rates: list[float], asked: object, n: int = 1000) -> float:
    y, yes, who = decided(rates, n)
    result = fairness_report(y, yes, who, asked, rows="steering", positive_label=1).results[0]
    assert result.verdict == "not_certified"
    assert result.chance_broken is not None
    return result.chance_broken


def test_two_groups_on_the_bound_break_it_in_one_of_two_and_more_groups_more_often() -> None:
    asked = DemographicParity(difference_bound=0.05)
    assert chance([0.40, 0.45], asked) == pytest.approx(0.5, abs=0.03)
    assert chance([0.40, 0.40, 0.45, 0.45], asked) > 0.75
    assert chance([0.40, 0.41], asked, n=4000) < 0.01


@pytest.mark.parametrize("rates", [[0.2, 0.24], [0.3, 0.33, 0.34], [0.1, 0.12, 0.13, 0.14]])
def test_it_is_the_share_of_populations_that_break_the_bound(rates: list[float]) -> None:
    """An independent count: beta posteriors under a flat prior."""
    n, rng = 800, np.random.default_rng(0)
    counts = np.round(n * np.array(rates))
    drawn = rng.beta(counts + 1, n - counts + 1, (20_000, len(rates)))
    expected = (np.ptp(drawn, axis=1) > 0.05).mean()
    asked = DemographicParity(difference_bound=0.05)
    assert chance(rates, asked, n) == pytest.approx(expected, abs=0.03)


def test_caps_floors_and_ratios_have_one_too() -> None:
    assert chance([0.4, 0.5], AtMost("selection_rate", 0.5)) == pytest.approx(0.5, abs=0.03)
    assert chance([0.5, 0.8], AtLeast("selection_rate", 0.5)) == pytest.approx(0.5, abs=0.03)
    ratio = DemographicParity(difference_bound=None, ratio_bound=0.8)
    assert chance([0.4, 0.5], ratio) == pytest.approx(0.5, abs=0.04)


def test_it_is_said_in_words_and_only_of_what_nothing_certified() -> None:
    y, yes, who = decided([0.40, 0.45])
    report = fairness_report(y, yes, who, difference_bound=0.05, rows="steering")
    assert "about 5 in 10 such models break the bound on new people" in report.explain()
    assert report.to_dict()["constraints"][0]["chance_broken"] == report.results[0].chance_broken
    fresh = fairness_report(y, yes, who, difference_bound=0.05)
    assert fresh.results[0].chance_broken is None
    odds = fairness_report(y, yes, who, EqualizedOdds(difference_bound=0.5), rows="steering")
    assert odds.results[0].chance_broken == pytest.approx(0, abs=0.01)
    assert "fewer than 1 in 10" in odds.explain()
