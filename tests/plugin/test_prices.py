"""Linear rates against counting, prices against a linear program, the aim against simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linprog

from fairtrain.constraints import (
    DemographicParity,
    EqualizedOdds,
    EqualOpportunity,
    ErrorRateParity,
    PredictiveEquality,
)
from fairtrain.constraints.families import RateFamily, families_of
from fairtrain.constraints.table import RateTable
from fairtrain.data.groups import Groups
from fairtrain.data.rows import Rows
from fairtrain.metrics.measures import measure_cells
from fairtrain.plugin.linear import JointScores, LinearRates, linear_rates
from fairtrain.plugin.prices import DualProblem, solve_dual
from fairtrain.plugin.rule import RuleSettings, ScoredRows, _aim, find_rule

ALL = [
    DemographicParity(difference_bound=0.05),
    EqualizedOdds(difference_bound=0.05),
    EqualOpportunity(ratio_bound=0.8),
    PredictiveEquality(difference_bound=0.05),
    ErrorRateParity(difference_bound=0.05),
]


def table(cells: int, groups: int, seed: int) -> tuple[JointScores, np.ndarray, Groups]:
    """A finite population: P(x), P(y | x) and P(g | x, y) of every cell of x."""
    rng = np.random.default_rng(seed)
    mass = rng.dirichlet(np.full(cells, 3.0))
    members = rng.dirichlet(np.full(groups, 0.7), size=(2, cells))
    scores = JointScores(rng.uniform(0.05, 0.95, cells), members)
    return scores, mass, Groups.from_sensitive(list(range(groups)))


def best_gain(families: list[RateFamily], gain: np.ndarray, rates: LinearRates) -> float:
    """Largest mean gain under the bounds, by a linear program over pairs of groups."""
    n = len(gain)
    slopes, rows, limits, start = rates.share[:, None] * rates.slopes, [], [], 0
    for family in families:
        bounds = family.constraint
        for i in range(start, start + len(family.scheme)):
            for j in range(start, start + len(family.scheme)):
                if i == j:
                    continue
                tau = bounds.bound if bounds.kind == "ratio" else 1.0
                room = 0.0 if bounds.kind == "ratio" else bounds.bound
                rows.append(tau * slopes[:, i] - slopes[:, j])
                limits.append(room - tau * rates.base[i] + rates.base[j])
        start += len(family.scheme)
    found = linprog(
        -gain * rates.share, A_ub=np.array(rows), b_ub=limits, bounds=[(0, 1)] * n, method="highs"
    )
    assert found.status == 0
    return float(-found.fun)


@pytest.mark.parametrize("constraint", ALL, ids=lambda c: c.name)
def test_rates_of_known_people_are_counted_rates(constraint) -> None:
    rng = np.random.default_rng(0)
    y, codes = rng.integers(0, 2, 500), rng.integers(0, 3, 500)
    decision, weight = rng.integers(0, 2, 500).astype(float), rng.uniform(0.5, 2, 500)
    groups = Groups.from_sensitive(codes)
    known = np.eye(3)[codes]
    scores = JointScores(y.astype(float), np.stack([known, known]))
    families = families_of([constraint], groups.scheme)
    rates = linear_rates(families, scores, weight)(decision)
    rows = Rows.read_decided(y, decision.astype(int), groups, sample_weight=weight)
    expected = np.concatenate([measure_cells(rows, f.rate).mean for f in families])
    np.testing.assert_allclose(rates, expected, atol=1e-12)


@pytest.mark.parametrize("constraint", ALL, ids=lambda c: c.name)
@pytest.mark.parametrize("seed", range(3))
def test_the_dual_reaches_the_optimum_of_a_finite_table(constraint, seed: int) -> None:
    scores, mass, groups = table(cells=12, groups=4, seed=seed)
    families = families_of([constraint], groups.scheme)
    rates = linear_rates(families, scores, mass)
    gain = 2 * scores.outcome - 1
    best = best_gain(families, gain, rates)
    known = np.full(len(rates.base), 1e9)
    rows = ScoredRows(gain, rates, rates, known)
    rule = find_rule(families, rows, RuleSettings(aim=False))
    assert rule.gain == pytest.approx(best, abs=1e-3)
    assert rule.excess.max() < 1e-3


def test_the_gradient_is_minus_the_violations() -> None:
    """A solution is stationary: nudging any multiplier along the balance raises the dual."""
    scores, mass, groups = table(cells=300, groups=3, seed=5)
    families = families_of([DemographicParity(difference_bound=0.02)], groups.scheme)
    rates = linear_rates(families, scores, mass)
    problem = DualProblem(
        2 * scores.outcome - 1, rates, [f.bounds for f in families], np.zeros(len(rates.base))
    )
    found = solve_dual(problem, iterations=500)
    decided = 1 / (1 + np.exp(-(problem.gain - rates.slopes @ found.prices()) / 0.01))
    # Complementary slackness: the bound is tight, and only extreme groups are priced.
    smooth = rates(decided)
    assert np.ptp(smooth) == pytest.approx(0.02, abs=2e-3)
    inner = (smooth < smooth.max() - 2e-3) & (smooth > smooth.min() + 2e-3)
    assert np.abs(found.prices()[inner]).max(initial=0.0) < 1e-6


def test_a_subset_of_rows_starts_near_the_solution() -> None:
    scores, mass, groups = table(cells=2000, groups=3, seed=1)
    families = families_of([DemographicParity(difference_bound=0.05)], groups.scheme)
    rates = linear_rates(families, scores, mass)
    bounds = [f.bounds for f in families]
    problem = DualProblem(2 * scores.outcome - 1, rates, bounds, np.zeros(3))
    whole = solve_dual(problem).prices()
    part = solve_dual(problem.take(np.arange(0, 2000, 2))).prices()
    np.testing.assert_allclose(part, whole, atol=0.1)


@pytest.mark.parametrize("notion", [DemographicParity, EqualizedOdds])
def test_many_rows_are_priced_on_some_and_counted_on_all(notion, monkeypatch) -> None:
    rng = np.random.default_rng(4)
    n, groups = 12_000, Groups.from_sensitive(np.tile(list("aabc"), 3000))
    merit = rng.normal(size=n) + 0.8 * (groups.codes == 0)
    outcome = 1 / (1 + np.exp(-1.5 * merit))
    near = np.exp(rng.normal(size=(n, 3)) + 1.5 * np.eye(3)[groups.codes]) * [0.5, 0.25, 0.25]
    near /= near.sum(axis=1, keepdims=True)
    families = families_of([notion(difference_bound=0.05)], groups.scheme)
    counted = RateTable(families, rng.binomial(1, outcome), groups.members)
    rates = linear_rates(families, JointScores(outcome, np.stack([near, near])))
    rows = ScoredRows(2 * outcome - 1, rates, counted, counted.effective)
    whole = find_rule(families, rows, RuleSettings(aim=False))
    monkeypatch.setattr("fairtrain.plugin.rule._ENOUGH", 4_000)
    some = find_rule(families, rows, RuleSettings(aim=False))
    assert not np.array_equal(some.prices, whole.prices)
    assert some.gain == pytest.approx(whole.gain, abs=1e-3)
    assert some.excess.max() < 1e-3


def test_the_aim_makes_the_expected_gap_the_bound() -> None:
    families = families_of(
        [DemographicParity(difference_bound=0.05)], Groups.from_sensitive(list("abcd")).scheme
    )
    bounds = families[0].bounds
    counts = np.array([4000.0, 800.0, 800.0, 800.0])
    rates = np.array([0.30, 0.35, 0.30, 0.32])
    margin = _aim(bounds, rates, counts)
    assert 0 < margin < 0.05
    shrunk = 0.325 + (rates - 0.325) * (0.05 - margin) / 0.05
    rng = np.random.default_rng(9)
    drawn = rng.binomial(counts.astype(int), shrunk, size=(20_000, 4)) / counts
    assert np.ptp(drawn, axis=1).mean() == pytest.approx(0.05, abs=2e-3)
    assert _aim(bounds, rates, counts * 1e4) < 1e-3
    assert _aim(bounds, rates, np.array([4000.0, 0, 0, 0])) == 0.0


def test_mixed_rates_lean_on_scores_in_small_cells() -> None:
    scores, mass, groups = table(cells=50, groups=2, seed=2)
    families = families_of([DemographicParity()], groups.scheme)
    rates = linear_rates(families, scores, mass)

    def counted(decisions: np.ndarray) -> np.ndarray:
        return rates(decisions) + 0.1

    rows = ScoredRows(scores.outcome, rates, counted, np.array([300.0, 100.0]))
    decisions = (scores.outcome > 0.5).astype(float)
    added = rows.mixed(decisions, 100.0) - rates(decisions)
    np.testing.assert_allclose(added, [0.075, 0.05])
    empty = replace(rows, counts=np.array([300.0, 0.0]))
    assert np.isnan(empty.mixed(decisions, 100.0)).tolist() == [False, True]
