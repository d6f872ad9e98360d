import math

import numpy as np
import pytest

from fairtrain.constraints import DemographicParity, EqualizedOdds
from fairtrain.constraints.bounds import RateBounds
from fairtrain.lagrangian import Candidate, IterateChoice

STRICT = RateBounds(DemographicParity(difference_bound=0.02, priority=1), np.ones(2))
LOOSE = RateBounds(EqualizedOdds(difference_bound=0.05), np.ones(2))


def best(candidates, bounds=(STRICT,), **settings):
    choice = IterateChoice(bounds, **settings)
    for candidate in candidates:
        choice.offer(candidate)
    return choice.best.when


def test_among_feasible_iterates_the_most_accurate_wins():
    assert best([Candidate(0, 0.8, (-0.01,)), Candidate(1, 0.82, (0.0,)),
                 Candidate(2, 0.9, (0.01,))]) == 1  # fmt: skip


def test_among_infeasible_ones_the_least_violating_wins():
    assert best([Candidate(0, 0.9, (0.3,)), Candidate(1, 0.8, (0.1,)),
                 Candidate(2, 0.9, (0.2,))]) == 1  # fmt: skip


def test_an_early_constant_does_not_beat_a_later_model_that_misses_by_a_hair():
    early = Candidate(0, 0.7, (-0.02,), near_constant=True)
    later = Candidate(5, 0.85, (0.001,))
    assert best([early, later], tolerance=0.1, warm_up=3) == 5
    assert best([early, later], warm_up=3) == 5


def test_a_near_constant_model_loses_to_one_that_tells_people_apart():
    assert best([Candidate(0, 0.95, (-0.02,), near_constant=True), Candidate(1, 0.9, (0.0,))]) == 1


def test_the_bound_of_higher_priority_decides_first():
    first = Candidate(0, 0.9, (0.00, 0.30))
    second = Candidate(1, 0.9, (0.01, 0.00))
    assert best([first, second], (STRICT, LOOSE)) == 0
    assert best([second, first], (STRICT, LOOSE)) == 0


def test_a_loss_that_is_not_a_number_is_never_chosen():
    assert best([Candidate(0, math.nan, (0.0,)), Candidate(1, -3.0, (0.0,))]) == 1


def test_the_tolerance_is_a_share_of_the_bound():
    choice = IterateChoice([STRICT], tolerance=0.1)
    assert choice.is_feasible(Candidate(0, 1.0, (0.0019,)))
    assert not choice.is_feasible(Candidate(0, 1.0, (0.0021,)))


def test_a_state_goes_on():
    choice = IterateChoice([STRICT])
    choice.offer(Candidate(3, 0.8, (math.nan,)))
    again = IterateChoice([STRICT])
    again.load_state_dict(choice.state_dict())
    assert again.best.when == 3
    assert not again.offer(Candidate(4, 0.7, (0.0,)))
    assert again.offer(Candidate(5, 0.9, (0.0,)))
    assert again.best.performance == pytest.approx(0.9)


def test_bounds_of_one_priority_are_judged_by_the_one_exceeded_most():
    both = (LOOSE, LOOSE)
    evenly, badly = Candidate(0, 0.9, (0.05, 0.05)), Candidate(1, 0.9, (0.00, 0.06))
    assert best([evenly, badly], both) == 0
    assert best([badly, evenly], both) == 0


def test_among_equally_violating_ones_the_better_performance_decides():
    assert best([Candidate(0, 0.8, (0.1,)), Candidate(1, 0.9, (0.1 + 4e-13,))]) == 1
    assert best([Candidate(0, 0.9, (0.1,)), Candidate(1, 0.9, (0.1,))]) == 0  # first come


def test_feasible_and_constant_beats_infeasible_whatever_the_performance():
    constant = Candidate(0, 0.5, (-0.02,), near_constant=True)
    assert best([constant, Candidate(1, 0.9, (0.001,))]) == 0
    assert best([Candidate(1, 0.9, (0.001,)), constant]) == 0


def test_the_warm_up_ends_with_its_last_candidate():
    early, late = Candidate(2, 0.9, (0.0,)), Candidate(3, 0.8, (0.0,))
    assert best([early, late], warm_up=3) == 3
    assert best([early, late], warm_up=2) == 2
    assert best([early], warm_up=3) == 2


def test_a_hair_is_no_excess_and_an_unknown_one_counts_as_kept():
    choice = IterateChoice([STRICT, LOOSE])
    assert choice.is_feasible(Candidate(0, 1.0, (1e-10, math.nan)))
    assert not choice.is_feasible(Candidate(0, 1.0, (1e-8, 0.0)))
    assert not choice.is_feasible(Candidate(0, 1.0, (0.0, 0.01)))


def test_nothing_chosen_is_a_state_too():
    choice = IterateChoice([STRICT])
    assert choice.best is None
    choice.load_state_dict(IterateChoice([STRICT]).state_dict())
    assert choice.best is None
