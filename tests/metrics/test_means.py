"""Limits of means: as narrow as Welch's where that is safe, and safe where his are not."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from fairtrain import fairness_report, gap, group_rates
from fairtrain.metrics.cells import Cells, cell_means
from fairtrain.metrics.intervals import pairwise_differences, ratio_interval, short_exact, wilson
from fairtrain.metrics.intervals.means import bounded_limits

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], Floats]

SCORES: dict[str, Draw] = {
    "logistic": lambda rng, size: 1 / (1 + np.exp(1 - rng.normal(size=size))),
    "sd .1": lambda rng, size: rng.beta(12, 12, size),
    "lottery": lambda rng, size: rng.choice([0, 0.5, 1], size, p=[0.5, 0.3, 0.2]),
}
RARE: dict[str, Draw] = {
    "1 %": lambda rng, size: np.where(rng.random(size) < 0.01, 0.9, 0.01),
    "1.5 %": lambda rng, size: np.where(rng.random(size) < 0.015, 1.0, 0.2),
}


def samples(draw: Draw, n: int, times: int = 3000) -> tuple[Floats, Floats]:
    """Means and variances of pairs of groups, shape (times, 2)."""
    values = draw(np.random.default_rng(n), (2 * times, n))
    return values.mean(1).reshape(-1, 2), values.var(1, ddof=1).reshape(-1, 2)


@pytest.mark.parametrize("name", SCORES)
def test_differences_of_mean_scores_are_narrow_and_hold(name: str) -> None:
    mean, variance = samples(SCORES[name], 200)
    rows = np.full(2, 200)
    ours, welch = (
        pairwise_differences(mean, rows, variance=variance, bounded=b) for b in (True, False)
    )
    width = (ours.upper - ours.lower)[:, 0, 1].mean()
    assert width <= 1.3 * (welch.upper - welch.lower)[:, 0, 1].mean()
    assert ((ours.lower <= 0) & (ours.upper >= 0))[:, 0, 1].mean() >= 0.94
    ratio = ratio_interval(mean, rows, variance=variance)
    assert (ratio.upper >= 1).mean() >= 0.94


@pytest.mark.parametrize("n", [30, 200])
@pytest.mark.parametrize("name", RARE)
def test_rare_values_are_covered_where_student_fails(name: str, n: int) -> None:
    draw = RARE[name]
    truth = float(draw(np.random.default_rng(0), (1, 1_000_000)).mean())
    mean, variance = samples(draw, n)
    lower, upper = bounded_limits(mean, variance, np.full(2, float(n)), np.array(1.96))
    assert ((lower <= truth + 1e-9) & (upper >= truth - 1e-9)).mean() >= 0.935
    student = mean + stats.t.ppf(0.975, n - 1) * np.sqrt(variance / n)
    assert (student < truth).mean() > 0.1


def test_limits_of_bounded_means_stay_in_range_and_near_wilson_for_coin_flips() -> None:
    p, n = np.array([0.0, 0.02, 0.3, 1.0]), np.full(4, 5000.0)
    lower, upper = bounded_limits(p, p * (1 - p) * n / (n - 1), n, np.array(1.96))
    np.testing.assert_allclose([lower, upper], wilson(p, n), atol=4e-4)
    lower, upper = bounded_limits(*(np.array([v]) for v in (0.4, np.nan, 1.0)), np.array(1.96))
    assert (lower[0], upper[0]) == (0, 1)


def test_weighted_rows_count_by_their_effective_number() -> None:
    score, who = np.random.default_rng(0).random(2000), np.repeat(["a", "b"], 1000)
    weight = np.tile([1.0, 3.0], 1000)
    plain, weighted = (
        gap(None, score > 0.5, who, "mean_score", y_score=score, sample_weight=w, positive_label=1)
        for w in (None, weight)
    )
    ratio = (weighted.upper - weighted.lower) / (plain.upper - plain.lower)
    assert ratio == pytest.approx(np.sqrt(1.25), rel=0.1)  # (1 + 3)^2 / 2 / (1 + 9) = .8


def test_a_lottery_is_judged_by_its_variance() -> None:
    rng = np.random.default_rng(0)
    y, who = rng.integers(0, 2, 4000), np.repeat(["a", "b"], 2000)
    lottery = np.clip(rng.normal(0.3, 0.05, 4000), 0, 1)
    flips = fairness_report(y, (rng.random(4000) < 0.3).astype(int), who).results[0]
    found = fairness_report(y, lottery, who).results[0]
    assert found.upper - found.lower < 0.3 * (flips.upper - flips.lower)


@pytest.mark.parametrize("n", [5, 10, 20, 100, 200])
def test_group_rates_cover_everywhere(n: int) -> None:
    p = np.concatenate([np.geomspace(1e-4, 0.1, 300), np.linspace(0.1, 0.5, 200)])[:, None]
    k = np.arange(n + 1)
    lower, upper = short_exact(k / n, n)
    chance = stats.binom.pmf(k, n, p)
    assert (chance * ((lower <= p) & (upper >= p))).sum(axis=1).min() >= 0.93
    lower, upper = wilson(k / n, n)
    assert (chance * ((lower <= p) & (upper >= p))).sum(axis=1).min() < 0.9


def test_intervals_of_a_thousand_groups_take_no_time() -> None:
    rng = np.random.default_rng(0)
    groups, p = rng.integers(0, 1000, 50_000), rng.integers(0, 2, 50_000)
    start = time.process_time()
    frame = group_rates(None, p, groups, metrics="selection_rate", positive_label=1)
    assert time.process_time() - start < 5  # .1 s on an idle machine
    assert ((frame["lower"] < frame["rate"]) & (frame["rate"] < frame["upper"])).all()


@pytest.mark.parametrize("shift", [0.0, -1.0])
def test_the_upper_limit_of_a_mean_log_loss_holds_at_thirty_rows(shift: float) -> None:
    def draw(rng: np.random.Generator, size: tuple[int, int]) -> Floats:
        p = 1 / (1 + np.exp(-shift - rng.normal(size=size)))
        return np.asarray(-np.log(np.where(rng.random(size) < p, p, 1 - p)))

    truth = float(draw(np.random.default_rng(0), (1, 2_000_000)).mean())
    mean, variance = (v.ravel() for v in samples(draw, 30))
    rows = np.full(len(mean), 30)
    cells = Cells(mean, rows, rows.astype(float), rows.astype(float), variance, "positive")
    assert (cells.limits(0.95)[1] < truth).mean() <= 0.032
    assert (mean + stats.t.ppf(0.975, 29) * np.sqrt(variance / 30) < truth).mean() > 0.04


@pytest.mark.parametrize(
    ("values", "support", "flips"),
    [
        ([0, 1, 1], "unit", True),
        ([0, 0.5, 1], "unit", False),
        ([0, 2], "positive", False),
        ([-1, 0.5], "real", False),
        ([], "unit", True),
    ],
)
def test_where_a_quantity_lies_is_seen(values: list[float], support: str, flips: bool) -> None:
    found = cell_means(np.array(values), np.zeros(len(values), dtype=int), 1)
    assert (found.support, found.variance is None) == (support, flips)
