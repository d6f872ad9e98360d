import numpy as np
import pytest

from fairtrain.constraints import BoundedGroupLoss, DemographicParity, EqualOpportunity
from fairtrain.data.groups import Groups
from fairtrain.lagrangian import (
    BOOSTING,
    NETWORKS,
    Ascent,
    DualController,
    DualSettings,
    NuPI,
    families_of,
)

SCHEME = Groups.from_sensitive(["a", "b", "c"]).scheme
PARITY = DemographicParity(difference_bound=0.1)
FEW, MANY = np.array([400.0, 400.0, 5.0]), np.full(3, 400.0)
RATES = np.array([0.6, 0.4, 0.5])


def controller(*constraints, tuning=NETWORKS, iterates=1, units=None, rule=None, **settings):
    families = families_of(list(constraints or [PARITY]), SCHEME)
    usual = {"cap": 50.0, "confidence": None, "min_count": 30, "constant": -np.inf}
    settings = DualSettings(tuning, iterates, **{**usual, **settings})
    return DualController(families, rule or Ascent(1.0), settings, units)


def test_a_look_moves_the_prices_by_what_is_over_the_working_bound():
    dual = controller()
    assert not dual.prices.any()
    prices = dual.look(RATES, MANY)
    assert dual.multipliers.bounds[0].bound == pytest.approx(0.09)  # a tenth is spared
    np.testing.assert_allclose(prices, [0.055, -0.055, 0.0], atol=1e-12)
    np.testing.assert_array_equal(prices, dual.prices)
    np.testing.assert_allclose(dual.excess, [[0.11]])
    np.testing.assert_allclose(dual.sums, [[0.11]])


@pytest.mark.parametrize(
    ("constraint", "tuning", "spare", "bound"),
    [
        (PARITY, NETWORKS, 0.0, 0.1),
        (PARITY, BOOSTING, 0.2, 0.08),
        (DemographicParity(ratio_bound=0.8), NETWORKS, 0.1, 0.82),
        (DemographicParity(difference_bound=0.1, reference="overall"), NETWORKS, 0.1, 0.09),
        (BoundedGroupLoss(upper_bound=0.5), NETWORKS, 0.1, 0.5),
        (BoundedGroupLoss(upper_bound=0.5), BOOSTING, 0.1, 0.495),
    ],
)
def test_what_is_spared_is_a_share_of_the_bound(constraint, tuning, spare, bound):
    dual = controller(constraint, tuning=tuning, spare=spare)
    dual.look(RATES, MANY)
    assert dual.multipliers.bounds[0].bound == pytest.approx(bound)
    dual.offer(0, RATES, MANY, 0.8, 1.0)
    assert dual.multipliers.bounds[0].bound == pytest.approx(bound)
    assert dual.record()[f"bound: {constraint.name}"] == pytest.approx(constraint.bound)


def test_small_groups_steer_by_their_parents_rates():
    own = np.array([0.4, 0.5, 1.0])
    steadied, plain = controller(min_count=50), controller(min_count=5)
    assert steadied.shrunk(own, FEW)[2] == pytest.approx(0.4534 + 0.1 * 0.5466, abs=1e-4)
    np.testing.assert_array_equal(plain.shrunk(own, FEW), own)
    assert plain.look(own, FEW)[2] > 3 * steadied.look(own, FEW)[2] > 0


def test_confidence_tightens_the_bound_by_what_few_rows_leave_open():
    dual = controller(confidence=0.9, spare=0.0)
    dual.offer(0, RATES, np.full(3, 4000.0), 0.8, 1.0)
    many = dual.record()["bound: demographic_parity"]
    dual.offer(1, RATES, np.full(3, 1000.0), 0.8, 1.0)
    assert 0 < dual.record()["bound: demographic_parity"] < many < 0.1


def test_moving_leaves_the_working_bound_where_it_is():
    dual = controller()
    dual.move(RATES)
    assert dual.multipliers.bounds[0].bound == 0.1
    np.testing.assert_allclose(dual.excess, [[0.1]])
    assert dual.multipliers.n_updates == 1


def test_units_scale_the_steps_of_a_family():
    one, two = controller(), controller(units=[2.0])
    np.testing.assert_allclose(2 * one.look(RATES, MANY), two.look(RATES, MANY))


def test_an_offer_is_judged_by_the_bound_that_was_promised():
    dual = controller()
    assert dual.offer(0, np.array([0.595, 0.5, 0.5]), MANY, 0.8, 1.0)
    assert dual.record() == {
        "feasible": True,
        "worst_excess": pytest.approx(-0.005),
        "bound: demographic_parity": 0.1,
        "multipliers: demographic_parity": 0.0,
    }
    assert not dual.offer(1, RATES, MANY, 0.9, 1.0)
    assert not dual.record()["feasible"]
    assert dual.record()["worst_excess"] == pytest.approx(0.1)
    assert dual.choice.best.when == 0


def test_the_worst_excess_is_that_of_the_bounds_that_compare_something():
    dual = controller(PARITY, EqualOpportunity(difference_bound=0.02))
    dual.offer(0, np.concatenate([RATES, RATES]), np.ones(6), 0.8, 1.0)
    assert dual.record()["worst_excess"] == pytest.approx(0.18)
    one_group = [0.3, np.nan, np.nan]
    dual.offer(0, np.concatenate([RATES, one_group]), np.ones(6), 0.8, 1.0)
    assert dual.record()["worst_excess"] == pytest.approx(0.1)
    dual.offer(0, np.array(one_group * 2), np.ones(6), 0.8, 1.0)
    assert np.isnan(dual.record()["worst_excess"])


def test_nearly_one_decision_for_all_is_near_constant():
    dual = controller()
    for minority, near in ((0.01, True), (0.011, False), (1.0, False)):
        dual.offer(0, RATES, MANY, 0.8, minority)
        assert dual.candidate.near_constant is near


@pytest.mark.parametrize(
    ("tuning", "iterates", "warm_up"),
    [(NETWORKS, 31, 10), (NETWORKS, 300, 100), (BOOSTING, 50, 5), (BOOSTING, 300, 10)],
)
def test_the_first_iterates_are_a_warm_up(tuning, iterates, warm_up):
    assert controller(tuning=tuning, iterates=iterates).choice.warm_up == warm_up


@pytest.mark.parametrize(("tuning", "every"), [(NETWORKS, 1), (BOOSTING, 5)])
def test_the_lower_bound_gives_way_when_all_together_cost_everything(tuning, every):
    first = EqualOpportunity(difference_bound=0.1, priority=1)
    dual = controller(first, PARITY, tuning=tuning, constant=0.6, spare=0.0)
    rates, rows = np.concatenate([RATES, RATES]), np.concatenate([MANY, MANY])
    dual.look(rates, rows)
    for _ in range(2 * every - 1):  # Yielding asks twice
        dual.give_way(0.6, 1000)
    assert not dual.yielding.slack.any()
    dual.give_way(0.6, 1000)
    assert dual.yielding.slack.tolist() == [0.0, pytest.approx(0.05)]
    dual.offer(0, rates, rows, 0.6, 1.0)
    assert dual.record()["bound: demographic_parity"] == pytest.approx(0.15)
    dual.look(rates, rows)
    assert dual.multipliers.bounds[1].bound == pytest.approx(0.15)


def test_a_saved_loop_goes_on_bit_for_bit():
    def fresh():
        constraints = (EqualOpportunity(difference_bound=0.02, priority=1), PARITY)
        rule = NuPI(0.5, 1.0, 0.5)
        return controller(*constraints, tuning=BOOSTING, rule=rule, cap=0.4, constant=0.6)

    def go_on(dual, some):
        for when, rates in some:
            dual.look(rates, np.full(6, 60.0))
            dual.offer(when, rates, np.full(6, 60.0), float(rates.mean()), 1.0)
            dual.give_way(0.6, 1000)

    rounds = list(enumerate(np.random.default_rng(0).uniform(size=(40, 6))))
    straight, stopped, resumed = fresh(), fresh(), fresh()
    go_on(straight, rounds)
    go_on(stopped, rounds[:23])
    resumed.load_state_dict(stopped.state_dict())
    go_on(resumed, rounds[23:])
    assert straight.yielding.slack[1] > 0
    for name in ("excess", "sums", "prices"):
        np.testing.assert_array_equal(getattr(resumed, name), getattr(straight, name))
    assert len(resumed.sums) == 40
    assert resumed.choice.best == straight.choice.best
    assert resumed.record() == straight.record()


def test_there_is_one_unit_a_family():
    with pytest.raises(ValueError, match="zip"):
        controller(units=[1.0, 2.0])
