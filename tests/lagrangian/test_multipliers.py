import cooper
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from fairtrain.constraints import (
    BoundedGroupLoss,
    Constraint,
    DemographicParity,
    EqualOpportunity,
)
from fairtrain.constraints.bounds import RateBounds
from fairtrain.data.groups import Groups
from fairtrain.exceptions import InvalidParameterError
from fairtrain.lagrangian import families_of
from fairtrain.lagrangian.multipliers import Ascent, Multipliers, NuPI, multiplier_frame

FREE = DemographicParity(difference_bound=0.1)
RATIO = DemographicParity(ratio_bound=0.8)
OVERALL = DemographicParity(difference_bound=0.1, reference="overall")
OVERALL_RATIO = DemographicParity(ratio_bound=0.8, ratio_slack=0.01, reference="overall")
UPPER = BoundedGroupLoss(upper_bound=0.3)
ALL = (FREE, RATIO, OVERALL, OVERALL_RATIO, UPPER)


def bounds(constraint: Constraint, groups: int = 3, **more: float) -> RateBounds:
    return RateBounds(constraint, np.ones(groups), **more)


def one(constraint: Constraint, groups: int = 3, lr: float = 1.0) -> Multipliers:
    return Multipliers([bounds(constraint, groups)], Ascent(lr))


@pytest.mark.parametrize("constraint", ALL, ids=lambda c: f"{c.kind}-{c.name}")
def test_violations_say_exactly_when_a_bound_is_broken(constraint):
    rng = np.random.default_rng(0)
    for _ in range(200):
        rates = rng.uniform(0.2, 0.4, 3)
        shares = rng.dirichlet(np.ones(3))
        b = bounds(constraint)
        overall = rates @ shares
        kept = {
            FREE: np.ptp(rates) <= 0.1,
            RATIO: rates.min() >= 0.8 * rates.max(),
            OVERALL: np.abs(rates - overall).max() <= 0.1,
            OVERALL_RATIO: max((0.8 * rates - overall).max(), (0.8 * overall - rates).max())
            <= 0.01,
            UPPER: rates.max() <= 0.3,
        }[constraint]
        assert (b.violations(rates, shares).max() <= 1e-12) == kept


def test_the_excess_is_in_units_of_the_rate():
    rates = np.array([0.2, 0.5, np.nan])
    assert bounds(FREE).excess(rates) == pytest.approx(0.2)
    assert bounds(RATIO).excess(rates) == pytest.approx(0.8 * 0.5 - 0.2)
    assert bounds(UPPER).excess(rates) == pytest.approx(0.2)
    assert np.isnan(bounds(FREE).excess(np.array([0.2, np.nan, np.nan])))


def test_what_was_achieved_is_what_the_bound_limits():
    rates = np.array([0.2, 0.5, np.nan])
    assert bounds(FREE).achieved(rates) == pytest.approx(0.3)
    assert bounds(RATIO).achieved(rates) == pytest.approx(0.4)
    assert bounds(UPPER).achieved(rates) == pytest.approx(0.5)
    assert np.isnan(bounds(FREE).achieved(np.array([0.2, np.nan, np.nan])))
    left_out = RateBounds(FREE, np.array([1.0, 1.0, 0.0]))
    assert left_out.achieved(np.array([0.2, 0.5, 0.9])) == pytest.approx(0.3)


def test_a_margin_tightens_every_kind_of_bound():
    assert bounds(FREE, margin=0.04).bound == pytest.approx(0.06)
    assert bounds(RATIO, margin=0.1).bound == pytest.approx(0.9)
    assert bounds(UPPER, margin=0.1).bound == pytest.approx(0.2)
    assert bounds(FREE, margin=-0.1).bound == pytest.approx(0.2)
    assert bounds(FREE, margin=9).bound == 0.0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-3, 3), min_size=2, max_size=6),
    st.sampled_from([FREE, RATIO]),
    st.integers(0, 10_000),
)
def test_the_projection_is_the_nearest_balanced_point(values, constraint, seed):
    rng = np.random.default_rng(seed)
    given_values = np.array([values, rng.normal(size=len(values))])
    b = bounds(constraint, len(values))
    found = b.project(given_values)
    tau = 1.0 if constraint is FREE else 0.8
    assert found.min() >= 0
    assert found[0].sum() == pytest.approx(tau * found[1].sum(), abs=1e-9)
    best = minimize(
        lambda x: ((x - given_values.ravel()) ** 2).sum(),
        np.zeros(given_values.size),
        bounds=[(0, None)] * given_values.size,
        constraints={
            "type": "eq",
            "fun": lambda x: x[: len(values)].sum() - tau * x[len(values) :].sum(),
        },
        method="SLSQP",
    )
    assert ((found - given_values) ** 2).sum() <= best.fun + 1e-6


@pytest.mark.parametrize("constraint", ALL, ids=lambda c: f"{c.kind}-{c.name}")
def test_the_prices_are_the_derivative_of_the_lagrangian(constraint):
    rng = np.random.default_rng(1)
    rates, shares = rng.uniform(0.2, 0.6, 4), rng.dirichlet(np.ones(4))
    b = bounds(constraint, 4)
    multipliers = b.project(rng.uniform(0, 2, (2, 4)))

    def lagrangian(at):
        violations = b.violations(at, shares)
        return float((multipliers * np.where(np.isfinite(violations), violations, 0)).sum())

    step = 1e-6
    numeric = [
        (lagrangian(rates + step * e) - lagrangian(rates - step * e)) / (2 * step)
        for e in np.eye(4)
    ]
    np.testing.assert_allclose(b.prices(multipliers, shares), numeric, atol=1e-8)


def test_the_augmented_prices_are_the_derivative_of_the_squared_excess():
    rng = np.random.default_rng(2)
    m = one(FREE, 4)
    m.values = m.bounds[0].project(rng.uniform(0, 0.1, (2, 4)))
    rates, rho = rng.uniform(0.1, 0.9, 4), 3.0

    def augmented(at):
        def given_centre(c):
            above, below = at - c - 0.05, c - at - 0.05
            inside = m.values / rho + np.vstack([above, below])
            return rho / 2 * (np.maximum(inside, 0) ** 2).sum()

        centres = np.linspace(at.min(), at.max(), 20_001)
        return min(given_centre(c) for c in centres)

    step = 1e-3
    numeric = [(augmented(rates + step * e) - augmented(rates - step * e)) / (2 * step)
               for e in np.eye(4)]  # fmt: skip
    np.testing.assert_allclose(m.prices(m.shifted(rates, rho)), numeric, atol=2e-3)


def test_plain_ascent_follows_coopers_trajectory():
    """Upper bounds and bounds around the overall rate have no free centre, as in cooper."""
    rng = np.random.default_rng(3)
    shares = rng.dirichlet(np.ones(3))
    for constraint in (UPPER, OVERALL):
        m = one(constraint, 3, lr=0.3)
        m.set_shares(shares * 100)
        reference = cooper.multipliers.DenseMultiplier(6, dtype=torch.float64)
        reference.constraint_type = cooper.ConstraintType.INEQUALITY
        optimizer = torch.optim.SGD(reference.parameters(), lr=0.3, maximize=True)
        for _ in range(30):
            rates = rng.uniform(0, 0.8, 3)
            violations = m.update(rates)
            finite = np.where(np.isfinite(violations), violations, 0.0)
            optimizer.zero_grad()
            (reference() * torch.from_numpy(finite.ravel())).sum().backward()
            optimizer.step()
            reference.post_step_()
            expected = reference().detach().numpy().reshape(2, 3)
            np.testing.assert_allclose(m.values, expected, atol=1e-12)


def test_nu_pi_follows_coopers_trajectory():
    from cooper.optim import nuPI

    rng = np.random.default_rng(4)
    m = Multipliers([bounds(UPPER)], NuPI(lr=0.2, proportional=1.5, nu=0.0))
    reference = cooper.multipliers.DenseMultiplier(3, dtype=torch.float64)
    reference.constraint_type = cooper.ConstraintType.INEQUALITY
    optimizer = nuPI(reference.parameters(), lr=0.2, Kp=7.5, Ki=1.0, ema_nu=0.0, maximize=True)
    for _ in range(30):
        violations = m.update(rng.uniform(0.2, 0.8, 3))
        optimizer.zero_grad()
        (reference() * torch.from_numpy(violations[0])).sum().backward()
        optimizer.step()
        reference.post_step_()
        np.testing.assert_allclose(m.values[0], reference().detach().numpy(), atol=1e-12)


def test_renaming_groups_renames_multipliers():
    rng = np.random.default_rng(5)
    order = rng.permutation(6)
    first, second = one(FREE, 6), one(FREE, 6)
    for _ in range(20):
        rates = rng.uniform(0, 1, 6)
        first.update(rates)
        second.update(rates[order])
        np.testing.assert_allclose(first.values[:, order], second.values, atol=1e-12)


def test_a_group_without_rows_or_with_a_nan_keeps_its_place():
    m = one(FREE, 3)
    m.update(np.array([0.9, 0.1, 0.5]))
    m.update(np.array([np.nan, 0.1, 0.5]))
    m.update(np.array([np.inf, 0.1, np.nan]))
    assert np.isfinite(m.values).all()
    assert m.values[0].sum() == pytest.approx(m.values[1].sum())


def test_a_weight_scales_the_reaction_and_zero_leaves_a_group_out():
    rates = np.array([0.9, 0.1, 0.5])
    b = RateBounds(FREE, np.array([0.0, 1.0, 1.0]))
    m = Multipliers([b], Ascent(1.0))
    m.update(rates)
    assert m.values[:, 0].tolist() == [0.0, 0.0]
    assert m.prices()[2] > 0 > m.prices()[1]


def test_the_cap_scales_a_whole_bound():
    m = Multipliers([bounds(FREE)], Ascent(10.0), cap=0.5)
    for _ in range(5):
        m.update(np.array([0.9, 0.1, 0.2]))
    assert m.values.sum(axis=1) == pytest.approx([0.5, 0.5])
    assert m.at_cap.tolist() == [True]


def test_reliability_scales_the_step():
    full, half = one(UPPER), one(UPPER)
    full.update(np.full(3, 0.5))
    half.update(np.full(3, 0.5), reliability=np.full(3, 0.5))
    np.testing.assert_allclose(half.values, full.values / 2)


@pytest.mark.parametrize("rule", [lambda: Ascent(0.7), lambda: NuPI(0.7, proportional=2.0, nu=0.3)])
def test_a_saved_state_goes_on_bit_for_bit(rule):
    rng = np.random.default_rng(6)
    rates = rng.uniform(0, 1, (20, 8))

    def fresh():
        ratio = RateBounds(EqualOpportunity(ratio_bound=0.8), np.ones(4))
        return Multipliers([bounds(FREE, 4), ratio], rule())

    straight, stopped = fresh(), fresh()
    for row in rates:
        straight.update(row)
    for row in rates[:10]:
        stopped.update(row)
    resumed = fresh()
    resumed.load_state_dict(stopped.state_dict())
    for row in rates[10:]:
        resumed.update(row)
    assert (resumed.values == straight.values).all()
    assert resumed.n_updates == 20


def test_other_groups_cannot_take_up_a_state():
    with pytest.raises(InvalidParameterError, match="have shape"):
        one(FREE, 3).load_state_dict(one(FREE, 4).state_dict())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ascent(0.0), "dual_lr must be a number above 0"),
        (lambda: NuPI(1.0, proportional=-1.0), "proportional"),
        (lambda: Multipliers([bounds(FREE)], Ascent(1.0), cap=0.0), "cap"),
    ],
)
def test_bad_settings_say_what_is_wrong(make, message):
    with pytest.raises(InvalidParameterError, match=message):
        make()


def test_every_bound_learns_the_shares_of_its_own_groups():
    m = Multipliers([bounds(OVERALL, 2), bounds(OVERALL, 3)], Ascent(1.0))
    np.testing.assert_allclose(m.shares, [1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 3])
    m.set_shares(np.array([30.0, 10.0, 0.0, 0.0, 0.0]))  # the second has no rows: as before
    np.testing.assert_allclose(m.shares, [3 / 4, 1 / 4, 1 / 3, 1 / 3, 1 / 3])
    m.set_shares(np.array([1.0, 0.0, 0.2, 0.2, 0.6]))
    rates = np.array([0.9, 0.1, 0.2, 0.4, 0.8])
    centres = np.array([0.9, 0.9, 0.6, 0.6, 0.6])
    np.testing.assert_allclose(m.violations(rates)[0], rates - centres - 0.1)
    np.testing.assert_allclose(m.violations(rates)[1], centres - rates - 0.1)
    m.values = np.arange(10.0).reshape(2, 5)
    signed = m.values[0] - m.values[1]
    np.testing.assert_allclose(m.prices(), signed - m.shares * np.repeat([-10, -15], [2, 3]))


def test_a_bound_is_at_its_cap_by_the_sum_of_one_side():
    m = Multipliers([bounds(FREE, 4), bounds(FREE, 4)], Ascent(1.0), cap=0.5)
    m.values = np.zeros((2, 8))
    m.values[:, :4] = [[0.25, 0.25, 0, 0], [0, 0, 0.25, 0.25]]
    m.values[:, 4:] = [[0.4, 0, 0, 0], [0, 0, 0.2, 0.2]]
    assert m.at_cap.tolist() == [True, False]
    assert m.sums.tolist() == pytest.approx([1.0, 0.8])


def test_one_group_can_break_an_upper_bound_but_no_parity():
    alone = np.array([0.5, np.nan, np.nan])
    assert bounds(UPPER).excess(alone) == pytest.approx(0.2)
    assert bounds(UPPER).achieved(alone) == pytest.approx(0.5)
    for constraint in (FREE, RATIO, OVERALL, OVERALL_RATIO):
        assert np.isnan(bounds(constraint).excess(alone))
        assert np.isnan(bounds(constraint).achieved(alone))
    assert np.isnan(bounds(UPPER).excess(np.full(3, np.nan)))


def test_the_excess_around_the_overall_rate_is_the_worse_of_both_sides():
    assert bounds(OVERALL).excess(np.array([0.2, 0.5, 0.5])) == pytest.approx(0.1)  # below
    assert bounds(OVERALL).excess(np.array([0.2, 0.2, 0.5])) == pytest.approx(0.1)  # above


def test_the_first_step_of_pi_control_is_plain_ascent_and_the_next_adds_the_change():
    rule = NuPI(lr=0.5, proportional=2.0, nu=0.25)
    zero = np.zeros((2, 1))
    first, second = np.array([[0.4], [0.0]]), np.array([[0.8], [0.2]])
    np.testing.assert_allclose(rule(zero, first), [[0.2], [0.0]])
    np.testing.assert_allclose(rule(zero, second), [[0.4 + 2.0 * 0.75 * 0.8], [0.1]])
    after = 0.25 * 0.75 * 0.8 + 0.75 * 0.4
    np.testing.assert_allclose(
        rule(zero, first), [[0.2 + 2.0 * (after - 0.75 * 0.8)], [0.0]]
    )  # a violation of 0 says nothing


def test_the_table_names_every_multiplier():
    families = families_of([FREE], Groups.from_sensitive(["a", "b"]).scheme)
    m = one(FREE, 2)
    m.update(np.array([0.9, 0.1]))
    table = multiplier_frame(families, m)
    assert table["group"].tolist() == ["a", "b"]
    assert set(table["constraint"]) == {"demographic_parity"}
    assert table["above"].tolist() == m.values[0].tolist()
    assert table["below"].tolist() == m.values[1].tolist()


def test_pi_control_without_its_proportional_term_is_ascent() -> None:
    plain, pi = Ascent(0.3), NuPI(0.3, proportional=0.0, nu=0.5)
    values = np.zeros((2, 3))
    rng = np.random.default_rng(0)
    for _ in range(4):
        violations = rng.normal(size=(2, 3))
        assert pi(values, violations) == pytest.approx(plain(values, violations))
        values = values + violations
