import numpy as np
import pytest

from fairtrain.constraints import BoundedGroupLoss, DemographicParity
from fairtrain.data.groups import Groups
from fairtrain.lagrangian import families_of, steering_rates, working_margins
from fairtrain.metrics.intervals import gap_interval

CROSSED = Groups.from_sensitive({"race": ["a", "a", "b", "b"], "sex": ["f", "m", "f", "m"]}).scheme
THREE = Groups.from_sensitive(["a", "b", "c"]).scheme


def test_large_groups_keep_their_rates_and_empty_ones_are_unknown():
    families = families_of([DemographicParity()], THREE)
    rates = steering_rates(families, np.array([30.0, 10.0, 0.0]), np.array([60.0, 40.0, 0.0]),
                           min_count=30)  # fmt: skip
    np.testing.assert_allclose(rates, [0.5, 0.25, np.nan])


def test_a_small_group_is_pulled_towards_all_rows():
    families = families_of([DemographicParity()], THREE)
    rates = steering_rates(families, np.array([50.0, 40.0, 3.0]), np.array([100.0, 100.0, 3.0]),
                           min_count=30)  # fmt: skip
    overall = 93 / 203
    assert rates[2] == pytest.approx(overall + 0.1 * (1 - overall))
    np.testing.assert_allclose(rates[:2], [0.5, 0.4])


def test_a_small_intersection_is_pulled_towards_its_marginal_groups():
    families = families_of([DemographicParity()], CROSSED)
    sums, counts = np.array([80.0, 20.0, 3.0, 10.0]), np.array([100.0, 100.0, 3.0, 100.0])
    rates = steering_rates(families, sums, counts, min_count=30)
    parents = (83 / 103 + 13 / 103) / 2  # all f, all of race b
    assert rates[2] == pytest.approx(parents + 0.1 * (1 - parents))


def test_the_margin_is_the_way_from_the_gap_to_its_limit():
    families = families_of([DemographicParity(difference_bound=0.5)], THREE)
    rates, counts = np.array([0.5, 0.4, 0.45]), np.array([400.0, 300.0, 500.0])
    expected = gap_interval(rates, counts, 0.95)
    margin = working_margins(families, rates, counts, 0.95)
    np.testing.assert_allclose(margin, float(expected.upper) - 0.1)


def test_a_margin_leaves_a_part_of_the_bound():
    families = families_of([DemographicParity(difference_bound=0.02)], THREE)
    margin = working_margins(families, np.full(3, 0.5), np.full(3, 20.0), 0.95)
    assert margin == pytest.approx(0.018)


@pytest.mark.parametrize(
    ("constraint", "sign"),
    [(DemographicParity(ratio_bound=0.5), 1), (BoundedGroupLoss(upper_bound=0.9), 1)],
)
def test_more_rows_make_a_smaller_margin(constraint, sign):
    families = families_of([constraint], THREE)
    rates = np.array([0.5, 0.4, 0.45])
    few, many = (
        sign * working_margins(families, rates, np.full(3, n), 0.95)[0] for n in (400.0, 4000.0)
    )
    assert few > many > 0


def test_nothing_to_compare_needs_no_margin():
    families = families_of([DemographicParity()], THREE)
    rates, counts = np.array([0.5, np.nan, np.nan]), np.array([9.0, 0.0, 0.0])
    assert working_margins(families, rates, counts, 0.95) == 0
