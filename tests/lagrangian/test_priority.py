import numpy as np

from fairtrain.constraints import DemographicParity, EqualizedOdds
from fairtrain.constraints.bounds import RateBounds
from fairtrain.lagrangian import Yielding
from fairtrain.lagrangian.multipliers import Ascent, Multipliers


def pulling(*constraints, cap=np.inf):
    bounds = [RateBounds(c, np.ones(2)) for c in constraints]
    multipliers = Multipliers(bounds, Ascent(1.0), cap=cap)
    multipliers.update(np.tile([0.9, 0.1], len(bounds)))
    return multipliers


FIRST = DemographicParity(difference_bound=0.02, priority=1)
SECOND = EqualizedOdds(difference_bound=0.04)


def test_the_lower_priority_gives_way_after_its_patience():
    m = pulling(FIRST, SECOND)
    yielding = Yielding(m.bounds, step=0.5, patience=2)
    assert yielding.look(m, useless=True).tolist() == [0.0, 0.0]
    assert yielding.look(m, useless=True).tolist() == [0.0, 0.02]
    assert yielding.look(m, useless=True).tolist() == [0.0, 0.02]


def test_nothing_gives_way_while_the_model_is_useful():
    m = pulling(FIRST, SECOND)
    yielding = Yielding(m.bounds, patience=1)
    for _ in range(5):
        assert not yielding.look(m, useless=False).any()


def test_a_bound_at_its_cap_makes_the_lower_one_give_way():
    m = pulling(FIRST, SECOND, cap=0.1)
    assert Yielding(m.bounds, patience=1).look(m, useless=False)[1] > 0


def test_equal_priorities_have_the_same_claim():
    m = pulling(SECOND, DemographicParity(difference_bound=0.02))
    assert not Yielding(m.bounds, patience=1).look(m, useless=True).any()


def test_a_state_goes_on():
    m = pulling(FIRST, SECOND)
    yielding = Yielding(m.bounds, patience=2)
    yielding.look(m, useless=True)
    again = Yielding(m.bounds, patience=2)
    again.load_state_dict(yielding.state_dict())
    assert again.look(m, useless=True)[1] > 0
