"""Intervals where rows come in clusters: against brute force, resampling and known truths."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fairtrain import fairness_report, gap, group_rates, ratio
from fairtrain.constraints.table import CellRows
from fairtrain.metrics.cells import Cells, cell_means
from fairtrain.metrics.clusters import LEAST_CLUSTERS, clustered
from fairtrain.metrics.intervals import (
    differences_from_overall,
    pairwise_differences,
    pairwise_ratios,
)
from fairtrain.metrics.intervals.single import Design
from fairtrain.metrics.paired import paired_difference
from fairtrain.metrics.power import Requirement

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


def drawn(
    seed: int, *, n: int = 1000, size: int = 10, groups: int = 2, nested: bool, effect: float = 0.8
) -> tuple[Floats, Codes, Codes]:
    """Decisions, groups and clusters; a cluster's own effect on the logit scale of a normal."""
    rng = np.random.default_rng(seed)
    cluster = np.arange(n) // size
    m = cluster[-1] + 1
    code = rng.integers(0, groups, m)[cluster] if nested else rng.integers(0, groups, n)
    shared = effect * rng.normal(size=m)[cluster]
    return (shared + rng.normal(size=n) > 0.3).astype(np.float64), code, cluster


def covariance_by_hand(
    values: Floats, code: Codes, cluster: Codes, weight: Floats, size: int
) -> Floats:
    """Linearised values summed by cluster, in loops."""
    sums: Floats = np.zeros((cluster.max() + 1, size))
    for g in range(size):
        total = weight[code == g].sum()
        mean = np.average(values[code == g], weights=weight[code == g])
        for c in range(len(sums)):
            rows = (code == g) & (cluster == c)
            share = weight[rows].sum() / total
            sums[c, g] = (weight[rows] * (values[rows] - mean)).sum() / total / np.sqrt(1 - share)
    return np.asarray(sums.T @ sums)


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_variances_and_correlations_are_those_of_the_sandwich(nested: bool, weighted: bool) -> None:
    values, code, cluster = drawn(1, n=600, groups=3, nested=nested)
    rng = np.random.default_rng(2)
    weight = rng.uniform(0.5, 3.0, len(values)) if weighted else None
    cells = cell_means(values, code, 3, weight, clusters=cluster)
    assert cells.design is not None
    scale = np.sqrt(cells.mean * (1 - cells.mean) / cells.effective)
    expected = covariance_by_hand(
        values, code, cluster, np.ones(len(values)) if weight is None else weight, 3
    )
    enlarged = np.maximum(np.diag(expected), scale**2)
    np.testing.assert_allclose(scale**2, enlarged, rtol=1e-10)
    shared = np.outer(scale, scale) * cells.design.correlation
    off = ~np.eye(3, dtype=bool)
    np.testing.assert_allclose(shared[off], expected[off], atol=1e-12)
    assert (np.abs(shared[off]) < 1e-15).all() == nested


def test_the_variance_of_a_gap_is_that_of_drawing_clusters_again() -> None:
    values, code, cluster = drawn(3, n=1500, nested=False)
    cells = cell_means(values, code, 2, clusters=cluster)
    assert cells.design is not None
    scale = np.sqrt(cells.mean * (1 - cells.mean) / cells.effective)
    variance = (scale**2).sum() - 2 * cells.design.correlation[0, 1] * scale.prod()
    rng, m = np.random.default_rng(4), cluster[-1] + 1
    sums = np.array([[np.bincount(cluster, (code == g) * v) for g in (0, 1)]
                     for v in (np.ones(len(values)), values)])  # fmt: skip
    gaps = []
    for _ in range(2000):
        counts, hits = sums @ np.bincount(rng.integers(0, m, m), minlength=m)
        gaps.append(hits[0] / counts[0] - hits[1] / counts[1])
    assert variance == pytest.approx(np.var(gaps), rel=0.12)


def test_degrees_of_freedom_count_equal_clusters_and_weigh_unequal_ones() -> None:
    equal = np.repeat(np.arange(12), 5)
    values = (np.arange(60) % 3 == 0).astype(np.float64)
    one = CellRows(np.zeros(60, dtype=np.int64), 1)
    assert clustered(one, values, equal).design.df[0] == pytest.approx(11)
    # One cluster of half of all rows: a variance that rests on it alone has hardly any.
    alike = np.repeat(np.arange(12) % 2, 5).astype(np.float64)
    unequal = np.where(np.arange(60) < 30, 0, np.arange(60))
    assert clustered(one, np.where(unequal == 0, 0.0, alike), unequal).design.df[0] < 3


def test_rows_that_agree_within_clusters_count_as_one() -> None:
    cluster = np.repeat(np.arange(40), 6)
    values = (np.arange(40) % 2)[cluster].astype(np.float64)
    cells = cell_means(values, np.zeros(240, dtype=np.int64), 1, clusters=cluster)
    assert cells.effective[0] == pytest.approx(39)
    # Nobody was chosen: nothing tells how alike the rows are, so that they are taken to agree.
    nobody = cell_means(np.zeros(240), np.zeros(240, dtype=np.int64), 1, clusters=cluster)
    assert nobody.effective[0] == pytest.approx(40)
    assert nobody.limits(0.95)[1][0] > 0.06


def test_clusters_of_one_row_change_next_to_nothing() -> None:
    values, code, _ = drawn(5, nested=True)
    one, many = (
        cell_means(values, code, 2, clusters=c).gap(0.95) for c in (None, np.arange(len(values)))
    )
    np.testing.assert_allclose(many[:3], one[:3], atol=2e-3)


def test_correlated_limits_against_formulas_written_out() -> None:
    mean, rows = np.array([0.4, 0.5, 0.6]), np.array([400.0, 300.0, 500.0])
    r = np.array([[1, 0.4, 0.1], [0.4, 1, 0.0], [0.1, 0.0, 1]])
    design = Design(np.full(3, 1e12), r)
    plain = pairwise_differences(mean, rows, simultaneous=False)
    found = pairwise_differences(mean, rows, simultaneous=False, design=design)
    single = [Cells(mean, rows.astype(int), rows, rows, None).limits_at(np.array(1.959964))]
    (low, high), i, j = single[0], 0, 1
    below, above = mean[i] - low[i], high[j] - mean[j]
    half = np.sqrt(below**2 - 2 * r[i, j] * below * above + above**2)
    assert found.lower[i, j] == pytest.approx(mean[i] - mean[j] - half, abs=1e-6)
    assert found.lower[1, 2] == pytest.approx(plain.lower[1, 2], abs=1e-6)
    quotient = pairwise_ratios(mean, rows, simultaneous=False, design=design).lower[i, j]
    at = np.sqrt(below**2 - 2 * r[i, j] * below * quotient * above + (quotient * above) ** 2)
    assert mean[i] - quotient * mean[j] == pytest.approx(at, abs=1e-6)
    # The distance from all rows, as a quadratic form.
    overall = differences_from_overall(mean, rows, design=design)
    z = 2.3939798
    low, high = Cells(mean, rows.astype(int), rows, rows, None).limits_at(np.array(z))
    w = rows / rows.sum()
    part = np.where(np.arange(3) == 0, (1 - w) * (mean - low), -w * (high - mean))
    assert overall.lower[0] == pytest.approx(
        mean[0] - mean @ w - np.sqrt(part @ r @ part), abs=2e-3
    )


def test_differences_of_losses_allow_for_clusters() -> None:
    rng = np.random.default_rng(6)
    cluster = np.arange(800) // 8
    code = cluster % 2
    loss = np.exp(rng.normal(size=100)[cluster] + 0.3 * rng.normal(size=800))
    alone, found = (cell_means(loss, code, 2, clusters=c).gap(0.95) for c in (None, cluster))
    assert found.upper - found.estimate > 2 * (alone.upper - alone.estimate)


@pytest.mark.parametrize("nested", [True, False])
def test_a_null_gap_is_covered_where_rows_come_in_clusters(nested: bool) -> None:
    covered, ignored, repeats = 0, 0, 250
    for seed in range(repeats):
        values, code, cluster = drawn(seed, n=600, nested=nested)
        covered += cell_means(values, code, 2, clusters=cluster).gap(0.95).lower <= 0
        ignored += cell_means(values, code, 2).gap(0.95).lower <= 0
    assert covered >= 0.92 * repeats
    assert not nested or ignored < 0.8 * repeats


def test_a_paired_difference_covers_where_rows_come_in_clusters() -> None:
    covered, ignored, repeats = 0, 0, 300
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        cluster = np.arange(500) // 10
        shared = rng.normal(size=50)[cluster]
        first, second = (shared + rng.normal(size=(2, 500)) * [[1], [2]] > 0).astype(float)
        difference = np.where(shared > 0, first - second, second - first)
        difference = np.where(rng.uniform(size=50)[cluster] < 0.5, difference, -difference)
        low, high = paired_difference(difference, clusters=cluster)[1:]
        covered += low <= 0 <= high
        low, high = paired_difference(difference)[1:]
        ignored += low <= 0 <= high
    assert covered >= 0.92 * repeats
    assert ignored < covered
    everyone = paired_difference(np.zeros(500), clusters=np.arange(500) // 10)
    assert everyone[2] > paired_difference(np.zeros(500))[2] * 5


def test_few_clusters_tell_nothing_and_the_report_says_so() -> None:
    rng = np.random.default_rng(0)
    n = 20_000
    group = np.where(rng.uniform(size=n) < 0.5, "a", "b")
    y, decided = rng.integers(0, 2, n), rng.integers(0, 2, n)
    branch = np.where(group == "a", np.arange(n) % 500, 500 + np.arange(n) % 7)
    report = fairness_report(y, decided, group, difference_bound=0.2, clusters=branch)
    assert report.verdict == "too_few_rows"
    result = report.results[0]
    assert result.clusters == {"a": 500, "b": 7}
    assert f"fewer than {LEAST_CLUSTERS} clusters of a group tell nothing" in result.words()
    assert "in 7 clusters and needs about" in result.words()
    assert "in 10: fewer" in result.words()
    assert result.rows_needed["b"] == pytest.approx(result.counts["b"] * 10 / 7, abs=1)
    more = np.where(group == "a", np.arange(n) % 500, 500 + np.arange(n) % 100)
    assert fairness_report(y, decided, group, difference_bound=0.2, clusters=more).verdict == "met"


def test_rows_needed_count_the_design_effect() -> None:
    values, code, cluster = drawn(8, n=2000, nested=True, effect=1.0)
    y = np.arange(2000) % 2
    settings = {"difference_bound": 0.08}
    alone = fairness_report(y, values, code, **settings)  # type: ignore[arg-type]
    found = fairness_report(y, values, code, clusters=cluster, **settings)  # type: ignore[arg-type]
    assert alone.verdict == "met"
    assert found.verdict == "too_few_rows"
    needed = found.results[0]
    assert "clusters and needs about" in needed.words()
    # Brought up to these rows, in clusters of this kind, the bound is met with a chance of 80 %.
    cells = cell_means(values, code, 2, clusters=cluster)
    rows = max(needed.rows_needed.values())
    level = np.full(2, cells.mean.mean()) + needed.true_gap * np.array([-0.5, 0.5])  # type: ignore[operator]
    met, repeats = 0, 60
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        m = 2 * int(rows / 10)
        cut = -np.sqrt(2) * np.array([np.quantile(rng.normal(size=20000), p) for p in level])
        group = np.repeat(np.arange(m) % 2, 10)
        shared = np.repeat(rng.normal(size=m), 10) + rng.normal(size=10 * m)
        chosen = (shared > cut[group]).astype(float)
        of_cluster = np.repeat(np.arange(m), 10)
        met += cell_means(chosen, group, 2, clusters=of_cluster).gap(0.95).upper <= 0.08
    assert 0.65 <= met / repeats <= 0.97


def test_every_metric_and_comparison_takes_clusters() -> None:
    values, code, cluster = drawn(9, nested=True)
    y = np.random.default_rng(0).integers(0, 2, len(values))
    plain, found = (
        group_rates(y, values.astype(int), code, clusters=c).set_index(["metric", "group"])
        for c in (None, cluster)
    )
    wider = (found["upper"] - found["lower"]) / (plain["upper"] - plain["lower"])
    assert (wider >= 1 - 1e-12).all()
    assert wider["selection_rate"].min() > 1.3
    for compare in (gap, ratio):
        alone = compare(y, values.astype(int), code)
        limits = compare(y, values.astype(int), code, clusters=cluster)
        assert limits.value == alone.value
        assert limits.upper - limits.lower > alone.upper - alone.lower


def test_a_group_with_more_rows_keeps_the_kind_of_its_clusters() -> None:
    values, code, cluster = drawn(10, nested=True)
    cells = cell_means(values, code, 2, clusters=cluster)
    twice = cells.with_rows(2 * cells.effective)
    assert cells.design is not None
    assert twice.design is not None
    np.testing.assert_allclose(twice.design.df, 2 * cells.design.df)
    required = Requirement("difference", 0.1)
    assert required.chance(twice) > required.chance(cells)
