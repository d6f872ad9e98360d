"""Limits of one rate against their equations, written out with scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fairtrain.metrics.intervals import pairwise_differences, short_exact
from fairtrain.metrics.intervals.single import (
    Design,
    beta_limits,
    rates,
    student_quantile,
    student_rows,
)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize(("seen", "rows"), [(1, 4), (3, 12), (57, 80), (998, 1000)])
def test_short_exact_solves_its_equations(seen: int, rows: int, confidence: float) -> None:
    lower, upper = (float(v) for v in short_exact(seen / rows, rows, confidence))
    tail = (1 - confidence) / 2
    own, above = stats.binom.pmf(seen, rows, lower), stats.binom.sf(seen, rows, lower)
    assert 0.7 * own + above == pytest.approx(tail, rel=1e-8)
    own, below = stats.binom.pmf(seen, rows, upper), stats.binom.cdf(seen - 1, rows, upper)
    assert 0.7 * own + below == pytest.approx(tail, rel=1e-8)


def test_short_exact_at_the_edges() -> None:
    lower, upper = short_exact([0.0, 1.0, 0.5, np.nan], [10, 10, 0, 10])
    np.testing.assert_allclose(lower, [0.0, 1 - upper[0], np.nan, np.nan], atol=1e-12)
    assert upper[1] == 1.0
    assert 0.7 * (1 - upper[0]) ** 10 == pytest.approx(0.025)
    assert np.isnan(upper[2:]).all()


def test_jeffreys_limits_are_quantiles_of_beta_but_do_not_pass_the_rate() -> None:
    p, n, z = np.array([0.0, 0.3, 1.0]), np.array([10.0, 10.0, 10.0]), np.array(1.5)
    lower, upper = beta_limits(p, n, z, prior=0.5)
    posterior = stats.beta(n * p + 0.5, n * (1 - p) + 0.5)
    tail = stats.norm.sf(z)
    np.testing.assert_allclose(lower, np.where(p == 0, 0.0, posterior.ppf(tail)))
    np.testing.assert_allclose(upper, np.where(p == 1, 1.0, posterior.isf(tail)))
    only = beta_limits(p, n, z, prior=0.5, where=np.array([False, True, True]))
    np.testing.assert_array_equal(only, np.where([False, True, True], (lower, upper), np.nan))
    near = beta_limits(p[1:2], n[1:2], np.array(1e-3), prior=0.5)  # the median is above .3
    assert near[0][0] <= 0.3 <= near[1][0]


def test_limits_of_few_clusters_are_student_s() -> None:
    z, df = np.array(1.96), np.array([4.0, 30.0])
    design = Design(df, np.eye(2))
    rows = student_rows(np.array([100.0, 0.0]), z, design)
    t = stats.t.isf(stats.norm.sf(1.96), 4)
    np.testing.assert_allclose(rows, [100 * (1.96 / t) ** 2, 0.0])
    assert student_rows(np.array([100.0]), z, None)[0] == 100
    plain = short_exact(0.4, rows[0])
    np.testing.assert_allclose(short_exact([0.4, 0.4], 100, design=design)[0][0], plain[0], 1e-4)
    # One cluster alone has no degree of freedom: its limits say next to nothing, yet are numbers.
    lone = short_exact(0.4, 100, design=Design(np.array(0.0), np.eye(1)))
    assert (lone[0], lone[1]) == (pytest.approx(0, abs=0.01), pytest.approx(1, abs=0.01))


def test_many_quantiles_of_student_are_interpolated() -> None:
    df = np.geomspace(1, 1e9, 9001)
    found = student_quantile(np.full(1, 2.5), df)
    np.testing.assert_allclose(found, stats.t.isf(stats.norm.sf(2.5), df), rtol=1e-5)
    differing = student_quantile(np.linspace(2, 3, 9001), df)
    np.testing.assert_allclose(differing, stats.t.isf(stats.norm.sf(np.linspace(2, 3, 9001)), df))


def test_rates_past_the_edge_by_rounding_are_put_back() -> None:
    p, n = rates([1 + 1e-16, -1e-17, np.nan, 0.5], [3, 3, 3, 0])
    np.testing.assert_array_equal(p, [1.0, 0.0, np.nan, np.nan])
    np.testing.assert_array_equal(n, [3, 3, 0, 0])


def test_two_rows_have_a_variance_and_one_has_none() -> None:
    limits = pairwise_differences([1.0, 2.0, 3.0], [2, 9, 1], variance=[1.0, 1.0, 1.0])
    assert limits.lower[0, 1] < -1 < limits.upper[0, 1]
    assert np.isnan(limits.lower[2]).all()
    # Two are left, so the critical value is that of two groups: Welch's.
    df = (1 / 2 + 1 / 9) ** 2 / ((1 / 2) ** 2 / 1 + (1 / 9) ** 2 / 8)
    half = stats.t.isf(0.025, df) * np.sqrt(1 / 2 + 1 / 9)
    assert limits.upper[0, 1] - limits.estimate[0, 1] == pytest.approx(half)
