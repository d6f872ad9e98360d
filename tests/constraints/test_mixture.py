"""The linear program that re-weights a mixture."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog
from tests.reductions.data import make_rows

from fairtrain import (
    BoundedGroupLoss,
    DemographicParity,
    EqualizedOdds,
    ErrorRateParity,
)
from fairtrain.constraints import Constraint
from fairtrain.constraints.bounds import RateBounds
from fairtrain.constraints.mixture import most_accurate_lots, most_accurate_mixture
from fairtrain.constraints.table import RateTable
from fairtrain.data.groups import Groups


def candidates(n: int = 1200, groups: int = 3) -> tuple[np.ndarray, np.ndarray, Groups]:
    X, y, group = make_rows(n, groups)
    cuts = [X[:, 0] > c for c in (-0.5, 0.2, 0.8)] + [X[:, 0] - group > c for c in (-0.8, 0.0)]
    return np.array([*cuts, np.zeros(n, bool), np.ones(n, bool)]), y, Groups.from_sensitive(group)


def solve(constraints: list[Constraint]) -> tuple[np.ndarray, RateTable, np.ndarray, float]:
    decisions, y, groups = candidates()
    table = RateTable.comparing(constraints, y, groups)
    errors = np.array([np.mean(d != y) for d in decisions])
    mixture = most_accurate_mixture(table, decisions, errors)
    return mixture.weights, table, errors, mixture.slack


@pytest.mark.parametrize("bound", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("notion", [DemographicParity, EqualizedOdds, ErrorRateParity])
def test_rates_fit_into_the_bound_wherever_it_lies(notion: type, bound: float) -> None:
    weights, table, _, slack = solve([notion(difference_bound=bound)])
    decisions = candidates()[0]
    assert slack == 0
    for cells in table.cells:
        rates = cells(weights @ decisions)
        assert np.ptp(rates) <= bound + 1e-9


def test_ratio_bound_holds() -> None:
    weights, table, _, _ = solve([DemographicParity(ratio_bound=0.8)])
    rates = table.cells[0](weights @ candidates()[0])
    assert rates.min() >= 0.8 * rates.max() - 1e-9


def test_no_mixture_of_two_or_three_is_better() -> None:
    """Brute force over a grid of small mixtures finds none that is feasible and better."""
    weights, table, errors, _ = solve([DemographicParity(difference_bound=0.05)])
    decisions = candidates()[0]
    best = weights @ errors
    cell = table.cells[0]
    rates = np.array([cell(d.astype(float)) for d in decisions])
    grid = np.linspace(0, 1, 21)
    for members in itertools.combinations(range(len(decisions)), 3):
        for a, b in itertools.product(grid, grid):
            if a + b <= 1:
                q = np.array([a, b, 1 - a - b])
                if np.ptp(q @ rates[list(members)]) <= 0.05:
                    assert q @ errors[list(members)] >= best - 1e-9


def test_loosening_a_bound_never_costs_accuracy() -> None:
    errors = []
    for bound in (0.01, 0.03, 0.1, 0.3):
        weights, _, error, _ = solve([DemographicParity(difference_bound=bound)])
        errors.append(weights @ error)
    assert errors == sorted(errors, reverse=True)


def test_lower_priority_gives_way_first() -> None:
    """A loss limit no candidate reaches cannot hold with parity; the one ranked lower yields."""
    limit = BoundedGroupLoss(upper_bound=0.01, priority=0)
    parity = DemographicParity(difference_bound=0.02, priority=1)
    weights, table, _, slack = solve([limit, parity])
    assert slack > 0
    assert np.ptp(table.cells[1](weights @ candidates()[0])) <= 0.02 + 1e-6

    limit = BoundedGroupLoss(upper_bound=0.01, priority=2)
    weights, table, _, _ = solve([limit, parity])
    assert np.ptp(table.cells[1](weights @ candidates()[0])) > 0.02


def test_a_group_of_weight_zero_is_left_out() -> None:
    free = DemographicParity(difference_bound=0.01, weights={"2": 0})
    weights, table, errors, _ = solve([free])
    all_weights, _, _, _ = solve([DemographicParity(difference_bound=0.01)])
    rates = table.cells[0](weights @ candidates()[0])
    assert abs(rates[0] - rates[1]) <= 0.01 + 1e-9
    assert weights @ errors < all_weights @ errors


@pytest.mark.parametrize("bound", [{"difference_bound": 0.0}, {"ratio_bound": 0.8}])
def test_lots_are_as_good_as_a_program_over_all_pairs(bound: dict[str, float]) -> None:
    """The same optimum as with every pair of groups written out and no free centre."""
    rng = np.random.default_rng(0)
    size, most = 3, 6
    rates = np.sort(rng.random((2, size, most)), axis=2)
    rates[:, :, 0], rates[:, :, -1] = 0.0, 1.0
    right = rng.random((size, most))
    constraint = DemographicParity(**bound)
    weights = most_accurate_lots([RateBounds(constraint, np.ones(size))] * 2, rates, right)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)

    tau, limit = (0.8, 0.0) if "ratio_bound" in bound else (1.0, bound["difference_bound"])
    pairs = []
    for rate, g, h in itertools.product(rates, range(size), range(size)):
        row = np.zeros((size, most))
        row[g] += tau * rate[g]
        row[h] -= rate[h]
        pairs.append(row.ravel())
    oracle = linprog(
        -right.ravel(),
        A_ub=np.array(pairs),
        b_ub=np.full(len(pairs), limit),
        A_eq=np.kron(np.eye(size), np.ones(most)),
        b_eq=np.ones(size),
    )
    assert (weights * right).sum() == pytest.approx(-oracle.fun)
    assert max(row @ weights.ravel() for row in pairs) <= limit + 1e-7
