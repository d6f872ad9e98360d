"""Caps, floors, capacity and no levelling down: what they say of rates and of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fairtrain import fairness_report
from fairtrain.constraints import (
    AtLeast,
    AtMost,
    BoundedGroupLoss,
    DemographicParity,
    ErrorCosts,
    NoLevellingDown,
    Rate,
    as_constraints,
    as_costs,
)
from fairtrain.constraints.families import families_of
from fairtrain.constraints.table import RateTable
from fairtrain.data.groups import Groups
from fairtrain.exceptions import InvalidParameterError

WHO = {"race": ["w", "b", "b", "w"] * 50, "sex": ["f", "f", "m", "m"] * 50}
GROUPS = Groups.from_sensitive(WHO)


def people(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, 200)
    return y, np.where(rng.random(200) < 0.3, 1 - y, y)


@pytest.mark.parametrize(
    ("floor", "cap"),
    [
        (AtLeast("accuracy", 0.72), AtMost("error_rate", 0.28)),
        (AtLeast("true_negative_rate", 0.7), AtMost("false_positive_rate", 0.3)),
        (AtLeast("recall", 0.6, over="sex"), AtMost("false_negative_rate", 0.4, over="sex")),
        (
            AtLeast("accuracy", {"b/f": 0.7, "w/m": 0.8}),
            AtMost("error_rate", {"b/f": 0.3, "w/m": 0.2}),
        ),
        (AtLeast("accuracy", 0.7, overall=True), AtMost("error_rate", 0.3, overall=True)),
    ],
    ids=lambda c: c.name,
)
def test_a_floor_is_a_cap_on_the_complement(floor: AtLeast, cap: AtMost) -> None:
    """Verdict, limits, group and rows needed of the one mirror those of the other."""
    for seed in range(4):
        y, decided = people(seed)
        low, high = (
            fairness_report(y, decided, GROUPS, constraint).results[0]
            for constraint in (floor, cap)
        )
        assert low.verdict is high.verdict
        np.testing.assert_allclose(
            [low.bound, low.achieved, low.lower, low.upper],
            [1 - high.bound, 1 - high.achieved, 1 - high.upper, 1 - high.lower],
        )
        assert low.extreme == high.extreme
        assert low.excess == pytest.approx(high.excess)
        assert low.rows_needed.keys() == high.rows_needed.keys()
        assert "at least" in low.words()
        assert "at most" in high.words()


def test_a_cap_on_errors_is_a_bounded_group_loss() -> None:
    y, decided = people()
    ours = fairness_report(y, decided, GROUPS, AtMost("error_rate", 0.25)).results[0]
    known = fairness_report(y, decided, GROUPS, BoundedGroupLoss(upper_bound=0.25)).results[0]
    assert (ours.achieved, ours.lower, ours.upper) == (known.achieved, known.lower, known.upper)
    assert ours.verdict is known.verdict


def test_everybody_is_one_group_whatever_the_columns() -> None:
    y, decided = people()
    capacity = AtMost("selection_rate", 0.2, overall=True)
    (family,) = families_of([capacity], GROUPS.scheme)
    assert family.scheme.names == ("everybody",)
    assert RateTable.comparing([capacity], y, GROUPS)(decided).tolist() == [decided.mean()]
    (result,) = fairness_report(y, decided, GROUPS, capacity).results
    assert result.achieved == decided.mean()
    assert result.extreme == "everybody"
    assert family.coarser[0][0] == 1


def test_groups_that_are_not_named_are_free() -> None:
    some = AtLeast("recall", 0.9, groups=("b/f",))
    assert some.group_weights(GROUPS.names).tolist() == [1, 0, 0, 0]
    each = AtLeast("recall", {"w/m": 0.5, "b/m": 0.8})
    assert each.bound == 0.5
    np.testing.assert_allclose(each.shifts(GROUPS.names), [0, 0.3, 0, 0])
    (family,) = families_of([each], GROUPS.scheme)
    excess = family.bounds.excess(np.array([0.1, 0.7, 0.1, 0.6]))
    assert excess == pytest.approx(0.1)  # b/m is .1 short, w/m is not, the others are not asked
    with pytest.raises(InvalidParameterError, match="names the group 'x', which is not among"):
        AtLeast("recall", 0.9, groups="x").group_weights(GROUPS.names)


def test_no_levelling_down_has_no_floor_before_it_is_measured() -> None:
    asked = NoLevellingDown("recall", margin=0.05)
    for read in (lambda: asked.bound, lambda: asked.group_weights(GROUPS.names)):
        with pytest.raises(InvalidParameterError, match="only FairPlugInClassifier has"):
            read()
    y, decided = people()
    with pytest.raises(InvalidParameterError, match="only FairPlugInClassifier has"):
        fairness_report(y, decided, GROUPS, asked)
    known = asked.resolved(("a", "b", "c"), np.array([0.5, 0.7, np.nan]))
    assert known.bound == pytest.approx(0.45)
    np.testing.assert_allclose(known.shifts(("a", "b", "c")), [0, 0.2, 0], atol=1e-12)
    assert known.group_weights(("a", "b", "c")).tolist() == [1, 1, 0]
    assert known.name == "no_levelling_down of true_positive_rate"


def test_only_parities_take_the_bounds_of_a_list() -> None:
    capacity = AtMost("selection_rate", 0.2, overall=True)
    parity, limit = as_constraints(["demographic_parity", capacity], difference_bound=0.01)
    assert parity.bound == 0.01
    assert limit is capacity
    with pytest.raises(InvalidParameterError, match="set its value instead"):
        as_constraints(capacity, difference_bound=0.01)
    with pytest.raises(InvalidParameterError, match="no counterpart"):
        capacity.to_fairlearn()


def twice(y: Any, p: Any) -> Any:
    return 2 * p


def test_a_rate_of_ones_own_and_what_depends_on_the_favourable_label() -> None:
    own = AtMost(Rate("twice", twice), 1.5)
    y, decided = people()
    assert RateTable.comparing([own], y, GROUPS)(decided).max() > 1
    assert own.name == "twice at most 1.5"
    assert own.depends_on_positive
    assert not AtMost("error_rate", 0.1).depends_on_positive
    assert AtMost("selection_rate", 0.1).depends_on_positive


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: AtMost("prevalence", 0.2), "rate must be one of"),
        (lambda: AtMost("recall", 20), r"value must lie in \[0, 1\]"),
        (lambda: AtMost("recall", "x"), "value must be a number"),
        (lambda: AtMost("recall", {"a": 2}), r"value must lie in \[0, 1\]"),
        (lambda: AtMost("recall", {}), "name at least one"),
        (lambda: AtMost("recall", (0.2, 0.3)), "or map group names to numbers"),
        (lambda: AtMost("recall", {"a": 0.2}, overall=True), "leave out overall and groups"),
        (lambda: AtMost("recall", 0.2, overall=True, over="sex"), "leave out over and groups"),
        (lambda: NoLevellingDown(margin=2), r"margin must lie in \[0, 1\]"),
        (lambda: as_costs("money"), "objective must be 'accuracy', ErrorCosts or"),
        (lambda: as_costs({"fp": 1}), "objective must be 'accuracy', ErrorCosts or"),
        (lambda: ErrorCosts(0, 0), "must cost something"),
        (lambda: ErrorCosts(-1), "false_positive must be a number >= 0"),
    ],
)
def test_what_cannot_be_asked(make: Any, says: str) -> None:
    with pytest.raises(InvalidParameterError, match=says):
        make()


def test_costs_are_read_from_whatever_names_them() -> None:
    import fairlearn.reductions as fl

    assert as_costs("accuracy").threshold == 0.5
    assert as_costs({"false_negative": 4}) == ErrorCosts(1, 4) == as_costs(ErrorCosts(1, 4))
    assert as_costs(fl.ErrorRate(costs={"fp": 1, "fn": 4})).threshold == 0.2


def test_two_that_say_the_same_are_equal() -> None:
    assert AtLeast("recall", {"a": 0.2, "b": 0.3}) == AtLeast("recall", {"b": 0.3, "a": 0.2})
    assert hash(AtMost("recall", 0.2)) == hash(AtMost("recall", 0.2))
    assert DemographicParity().absolute is False


def test_groups_are_named_by_whatever_their_values_are() -> None:
    limit = AtMost("selection_rate", {0: 0.4, 1: 0.9})
    report = fairness_report([0, 1] * 50, [1, 0] * 50, [0, 0, 1, 1] * 25, limit)
    assert report.results[0].bound == 0.4
    assert AtMost("recall", {True: 0.2, "b": 0.3}).value == (("True", 0.2), ("b", 0.3))
