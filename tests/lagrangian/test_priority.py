import numpy as np
import pytest

from fairtrain.constraints import DemographicParity, EqualizedOdds, EqualOpportunity
from fairtrain.constraints.bounds import RateBounds
from fairtrain.lagrangian import Yielding
from fairtrain.lagrangian.multipliers import Ascent, Multipliers
from fairtrain.lagrangian.priority import is_useless


def priced(*constraints, cap=np.inf):
    bounds = [RateBounds(c, np.ones(2)) for c in constraints]
    multipliers = Multipliers(bounds, Ascent(1.0), cap=cap)
    multipliers.update(np.tile([0.9, 0.1], len(bounds)))
    return multipliers


FIRST = DemographicParity(difference_bound=0.02, priority=1)
SECOND = EqualizedOdds(difference_bound=0.04)


def test_the_lower_priority_gives_way_after_its_patience():
    m = priced(FIRST, SECOND)
    yielding = Yielding(m.bounds, step=0.5, patience=2)
    assert yielding.look(m, useless=True).tolist() == [0.0, 0.0]
    assert yielding.look(m, useless=True).tolist() == [0.0, 0.02]
    assert yielding.look(m, useless=True).tolist() == [0.0, 0.02]


def test_nothing_gives_way_while_the_model_is_useful():
    m = priced(FIRST, SECOND)
    yielding = Yielding(m.bounds, patience=1)
    for _ in range(5):
        assert not yielding.look(m, useless=False).any()


def test_a_bound_at_its_cap_makes_the_lower_one_give_way():
    m = priced(FIRST, SECOND, cap=0.1)
    assert Yielding(m.bounds, patience=1).look(m, useless=False)[1] > 0
    one = priced(FIRST, SECOND, cap=0.1)
    one.values[:, 2:] /= 2
    assert Yielding(one.bounds, patience=1).look(one, useless=False)[1] > 0


def test_equal_priorities_have_the_same_claim():
    m = priced(SECOND, DemographicParity(difference_bound=0.02))
    assert not Yielding(m.bounds, patience=1).look(m, useless=True).any()


def test_a_state_goes_on():
    m = priced(FIRST, SECOND)
    yielding = Yielding(m.bounds, patience=2)
    yielding.look(m, useless=True)
    again = Yielding(m.bounds, patience=2)
    again.load_state_dict(yielding.state_dict())
    assert again.look(m, useless=True)[1] > 0


def test_what_gives_way_is_halved_and_gives_way_by_more_each_time():
    third = EqualOpportunity(ratio_bound=0.8, priority=-1)
    m = priced(FIRST, SECOND, third)
    before = m.values.copy()
    yielding = Yielding(m.bounds, step=0.5, patience=1)
    assert yielding.look(m, useless=True).tolist() == [0.0, 0.0, pytest.approx(0.1)]
    expected = before.copy()
    expected[:, 4:] /= 2
    np.testing.assert_array_equal(m.values, expected)
    assert yielding.look(m, useless=True)[2] == pytest.approx(0.3)
    m.values[:, 4:] = 0.0  # nothing left to give: the next one
    np.testing.assert_allclose(yielding.look(m, useless=True), [0.0, 0.02, 0.3])


def test_a_bound_without_a_price_is_not_to_blame():
    m = priced(FIRST, SECOND)
    m.values[:, 2:] = 0.0
    assert not Yielding(m.bounds, patience=1).look(m, useless=True).any()


def test_patience_is_lost_only_by_calls_that_agree():
    m = priced(FIRST, SECOND)
    yielding = Yielding(m.bounds, patience=3)
    for useless in (True, True, False, True, True):
        assert not yielding.look(m, useless=useless).any()
    assert yielding.look(m, useless=True).any()
    slack = yielding.slack.copy()
    for _ in range(2):  # and it begins anew
        np.testing.assert_array_equal(yielding.look(m, useless=True), slack)
    assert yielding.look(m, useless=True)[1] > slack[1]


def test_the_usual_patience_is_two_and_the_first_step_half_the_bound():
    m = priced(FIRST, DemographicParity(difference_bound=0.0))
    yielding = Yielding(m.bounds)
    assert not yielding.look(m, useless=True).any()
    assert yielding.look(m, useless=True)[1] == pytest.approx(0.005)  # half of at least 0.01


@pytest.mark.parametrize(
    ("performance", "constant", "rows", "useless"),
    [
        (0.6, 0.6, 1e12, True),
        (0.6001, 0.6, 1e12, False),
        (0.6489, 0.6, 100, True),  # the standard error is 0.049
        (0.6491, 0.6, 100, False),
        (0.9, 0.6, 0, True),
        (-2.0, -2.0, 100, True),
        (-1.99, -2.0, 100, False),
        (0.1, -np.inf, 100, False),
    ],
)
def test_a_model_is_useless_within_the_noise_of_the_best_constant(
    performance, constant, rows, useless
):
    assert is_useless(performance, constant, rows) is useless
