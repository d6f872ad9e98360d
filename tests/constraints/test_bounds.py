"""One bound, read in every way: excess, inequalities, projection."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from fairtrain.constraints import AtLeast, BoundedGroupLoss, Constraint, DemographicParity
from fairtrain.constraints.bounds import RateBounds

FREE = DemographicParity(difference_bound=0.1)
RATIO = DemographicParity(ratio_bound=0.8)
OVERALL = DemographicParity(difference_bound=0.1, reference="overall")
OVERALL_RATIO = DemographicParity(ratio_bound=0.8, ratio_slack=0.01, reference="overall")
UPPER = BoundedGroupLoss(upper_bound=0.3)
LOWER = AtLeast("recall", 0.3)
ALL = pytest.mark.parametrize(
    "constraint",
    [FREE, RATIO, OVERALL, OVERALL_RATIO, UPPER, LOWER],
    ids=lambda c: f"{c.kind}-{c.name}",
)


@ALL
def test_many_rates_are_read_at_once_as_one_by_one(constraint: Constraint) -> None:
    rng = np.random.default_rng(0)
    bounds = RateBounds(constraint, np.array([1.0, 2.0, 1.0, 0.0]))
    rates = np.where(rng.random((5, 7, 4)) < 0.3, np.nan, rng.random((5, 7, 4)))
    shares = rng.dirichlet(np.ones(4))
    for read in (
        bounds.achieved,
        bounds.excess,
        lambda r: bounds.excess(r, shares),
    ):
        found = read(rates)
        assert found.shape == (5, 7)
        np.testing.assert_array_equal(found, [[read(row) for row in block] for block in rates])


@ALL
def test_the_inequalities_hold_for_some_centre_exactly_where_there_is_no_excess(
    constraint: Constraint,
) -> None:
    rng = np.random.default_rng(1)
    bounds = RateBounds(constraint, np.ones(3), margin=0.02)
    shares = rng.dirichlet(np.ones(3))
    asked = bounds.inequalities(np.arange(3), shares)
    seen = set()
    for _ in range(60):
        rates = rng.uniform(0.2, 0.4, 3)
        excess = bounds.excess(rates, shares)
        feasible = linprog(
            [0.0],
            A_ub=asked.centre[:, None],
            b_ub=asked.limit - asked.matrix @ rates,
            bounds=[(None, None)],
        )
        assert (feasible.status == 0) == (excess <= 0)
        seen.add(excess <= 0)
    assert seen == {True, False}


@pytest.mark.parametrize("constraint", [FREE, RATIO], ids=lambda c: c.kind)
def test_without_its_centre_a_bound_is_one_on_all_pairs(constraint: DemographicParity) -> None:
    bounds = RateBounds(constraint, np.ones(4))
    first, second = np.nonzero(~np.eye(4, dtype=bool))
    pairs = bounds.inequalities(np.arange(4)).without_centre(first, second)
    rates = np.random.default_rng(2).random(4)
    tau = constraint.bound if constraint is RATIO else 1.0
    np.testing.assert_allclose(pairs.matrix @ rates, tau * rates[first] - rates[second])
    np.testing.assert_allclose(pairs.limit, 0.1 if constraint is FREE else 0.0)
    assert (pairs.matrix @ rates - pairs.limit).max() == pytest.approx(bounds.excess(rates))


@pytest.mark.parametrize("constraint", [FREE, RATIO], ids=lambda c: c.kind)
def test_around_the_overall_rate_a_pairwise_bound_is_implied(constraint: Constraint) -> None:
    rng = np.random.default_rng(3)
    bounds = RateBounds(constraint, np.ones(3))
    tighter, kept = bounds.around_overall(), 0
    for _ in range(400):
        rates, shares = rng.uniform(0.3, 0.4, 3), rng.dirichlet(np.ones(3))
        if tighter.excess(rates, shares) <= 0:
            kept += 1
            assert bounds.excess(rates) <= 1e-12
    assert kept > 20


@ALL
@pytest.mark.parametrize("cap", [math.inf, 1.5, 0.2])
def test_the_projection_is_the_nearest_point_under_the_cap(
    constraint: Constraint, cap: float
) -> None:
    rng = np.random.default_rng(4)
    bounds = RateBounds(constraint, np.ones(3))
    above, below = constraint.kind != "lower", constraint.kind != "upper"
    tau = 0.8 if constraint is RATIO else 1.0
    for _ in range(15):
        given = rng.normal(0.3, 1.0, (2, 3))
        found = bounds.project(given, cap)
        assert found.min() >= 0
        assert found.sum(axis=1).max() <= cap * (1 + 1e-12)
        rules: list[dict[str, object]] = []
        if constraint in (FREE, RATIO):
            assert found[0].sum() == pytest.approx(tau * found[1].sum(), abs=1e-9)
            rules = [{"type": "eq", "fun": lambda x: x[:3].sum() - tau * x[3:].sum()}]
        if cap < math.inf:
            rules += [
                {"type": "ineq", "fun": lambda x: cap - x[:3].sum()},
                {"type": "ineq", "fun": lambda x: cap - x[3:].sum()},
            ]
        best = minimize(
            lambda x, given=given: ((x - given.ravel()) ** 2).sum(),
            np.zeros(6),
            jac=lambda x, given=given: 2 * (x - given.ravel()),
            bounds=[(0, None if side else 0) for side in (above, below) for _ in range(3)],
            constraints=rules,
            method="SLSQP",
            options={"ftol": 1e-12, "maxiter": 300},
        )
        assert best.success
        np.testing.assert_allclose(found.ravel(), best.x, atol=2e-5)


def test_the_projection_leaves_groups_of_weight_zero_out() -> None:
    bounds = RateBounds(FREE, np.array([1.0, 0.0, 1.0]))
    found = bounds.project(np.array([[3.0, 9.0, 1.0], [1.0, 9.0, 2.0]]), cap=2.0)
    np.testing.assert_array_equal(found[:, 1], 0.0)
    np.testing.assert_allclose(found.sum(axis=1), 2.0)
