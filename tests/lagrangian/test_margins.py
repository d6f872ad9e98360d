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
    rates = steering_rates(families, np.array([0.5, 0.25, np.nan]), np.array([60.0, 40.0, 0.0]),
                           min_count=30)  # fmt: skip
    np.testing.assert_allclose(rates, [0.5, 0.25, np.nan])


def test_a_small_group_is_shrunk_towards_all_rows():
    families = families_of([DemographicParity()], THREE)
    rates = steering_rates(families, np.array([0.5, 0.4, 1.0]), np.array([100.0, 100.0, 3.0]),
                           min_count=30)  # fmt: skip
    overall = 93 / 203
    assert rates[2] == pytest.approx(overall + 0.1 * (1 - overall))
    np.testing.assert_allclose(rates[:2], [0.5, 0.4])


def test_a_small_intersection_is_shrunk_towards_its_marginal_groups():
    families = families_of([DemographicParity()], CROSSED)
    rates, counts = np.array([0.8, 0.2, 1.0, 0.1]), np.array([100.0, 100.0, 3.0, 100.0])
    rates = steering_rates(families, rates, counts, min_count=30)
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


def test_groups_left_out_or_without_rows_need_no_margin():
    weights = {"a": 1.0, "b": 1.0, "c": 0.0}
    left_out = families_of([DemographicParity(difference_bound=0.5, weights=weights)], THREE)
    two = families_of(
        [DemographicParity(difference_bound=0.5)], Groups.from_sensitive(["a", "b"]).scheme
    )
    rates, counts = np.array([0.5, 0.4, 0.9]), np.array([400.0, 300.0, 20.0])
    expected = working_margins(two, rates[:2], counts[:2], 0.95)
    np.testing.assert_allclose(working_margins(left_out, rates, counts, 0.95), expected)
    for unknown in ([0.5, 0.4, np.nan], [0.5, 0.4, 0.9]):
        families = families_of([DemographicParity(difference_bound=0.5)], THREE)
        none = np.array([400.0, 300.0, 0.0])
        margin = working_margins(families, np.array(unknown), none, 0.95)
        np.testing.assert_allclose(margin, expected)


def test_a_loss_that_is_no_share_needs_no_margin():
    families = families_of([BoundedGroupLoss(upper_bound=2.0, loss="squared")], THREE)
    assert working_margins(families, np.array([0.5, 1.5, 0.5]), np.full(3, 50.0), 0.95) == 0
    assert working_margins(families, np.array([0.5, -0.1, 0.5]), np.full(3, 50.0), 0.95) == 0
    parity = families_of([DemographicParity(difference_bound=0.9)], THREE)
    for shares in ([0.0, 0.5, 0.5], [0.5, 1.0, 0.5]):
        assert working_margins(parity, np.array(shares), np.full(3, 50.0), 0.95) > 0


def test_one_group_has_a_margin_under_an_upper_bound_only():
    rates, counts = np.array([0.5, np.nan, np.nan]), np.array([90.0, 0.0, 0.0])
    upper = families_of([BoundedGroupLoss(upper_bound=0.9)], THREE)
    assert working_margins(upper, rates, counts, 0.95) > 0
    ratio = families_of([DemographicParity(ratio_bound=0.5)], THREE)
    assert working_margins(ratio, rates, counts, 0.95) == 0


def test_every_family_has_its_own_groups_and_its_own_margin():
    both = families_of(
        [DemographicParity(difference_bound=0.5), BoundedGroupLoss(upper_bound=0.9)], THREE
    )
    rates, counts = np.array([0.5, 0.4, 0.45, 0.2, 0.3, 0.1]), np.repeat([400.0, 900.0], 3)
    expected = [
        working_margins(both[:1], rates[:3], counts[:3], 0.95)[0],
        working_margins(both[1:], rates[3:], counts[3:], 0.95)[0],
    ]
    np.testing.assert_allclose(working_margins(both, rates, counts, 0.95), expected)
    counts[5] = 4.0
    shrunk = steering_rates(both, rates, counts, min_count=8)
    np.testing.assert_array_equal(shrunk[:5], rates[:5])
    overall = (900 * 0.5 + 0.4) / 1804
    assert shrunk[5] == pytest.approx((overall + 0.1) / 2)


def test_a_ratios_margin_leaves_a_part_of_what_is_left_to_one():
    families = families_of([DemographicParity(ratio_bound=0.8)], THREE)
    margin = working_margins(families, np.array([0.5, 0.45, 0.5]), np.full(3, 20.0), 0.95)
    assert margin == pytest.approx(0.18)


def test_a_group_of_just_enough_rows_is_left_alone():
    families = families_of([DemographicParity()], THREE)
    rates, rows = np.array([0.5, 0.4, 1.0]), np.array([100.0, 100.0, 30.0])
    np.testing.assert_array_equal(steering_rates(families, rates, rows, min_count=30), rates)
    np.testing.assert_array_equal(steering_rates(families, rates, rows), rates)
    one = steering_rates(families, rates, np.array([100.0, 100.0, 1.0]), min_count=30)
    assert one[2] == pytest.approx(91 / 201 + (1 - 91 / 201) / 30)
