from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import fairlearn.reductions as fl
import numpy as np
import pytest

from fairtrain import fairness_report
from fairtrain.constraints import (
    DEFAULT_DIFFERENCE_BOUND,
    BoundedGroupLoss,
    Constraint,
    DemographicParity,
    EqualizedOdds,
    EqualOpportunity,
    ErrorRateParity,
    ParityConstraint,
    PredictiveEquality,
    RateParity,
    as_constraints,
    from_fairlearn,
)
from fairtrain.exceptions import InvalidParameterError

PARITY = [
    DemographicParity,
    EqualOpportunity,
    PredictiveEquality,
    EqualizedOdds,
    ErrorRateParity,
]
FAIRLEARN = {
    DemographicParity: fl.DemographicParity,
    EqualOpportunity: fl.TruePositiveRateParity,
    PredictiveEquality: fl.FalsePositiveRateParity,
    EqualizedOdds: fl.EqualizedOdds,
    ErrorRateParity: fl.ErrorRateParity,
}


def missed(y: Any, prediction: Any) -> Any:
    return y * (1 - prediction)


def everyone(y: Any) -> Any:
    return y >= 0


@pytest.mark.parametrize("cls", PARITY)
@pytest.mark.parametrize("value", [-0.01, 1.01, math.nan, math.inf, "0.1", True, [0.1]])
def test_difference_bound_out_of_range(cls: type[ParityConstraint], value: Any) -> None:
    with pytest.raises(InvalidParameterError, match="difference_bound must"):
        cls(difference_bound=value)


@pytest.mark.parametrize("cls", PARITY)
@pytest.mark.parametrize("value", [0, -0.5, 1.01, math.nan, "0.8", True])
def test_ratio_bound_out_of_range(cls: type[ParityConstraint], value: Any) -> None:
    with pytest.raises(InvalidParameterError, match="ratio_bound must"):
        cls(ratio_bound=value)


@pytest.mark.parametrize("value", [0, -1.0, math.inf, math.nan, "1", None, True])
def test_upper_bound_out_of_range(value: Any) -> None:
    with pytest.raises(InvalidParameterError, match="upper_bound must"):
        BoundedGroupLoss(upper_bound=value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"difference_bound": 0.1, "ratio_bound": 0.8}, "not both"),
        ({"reference": "mean"}, "reference must be"),
        ({"ratio_slack": 0.1}, "ratio_slack belongs"),
        ({"ratio_slack": "0.1"}, "ratio_slack must be a number"),
        ({"over": ()}, "names no column"),
        ({"over": [1]}, "over must be a name or a list of names"),
        ({"weights": {"a": -1}}, "weights\\['a'\\]"),
        ({"weights": {"a": math.nan}}, "weights\\['a'\\]"),
        ({"weights": {"a": "much"}}, "weights must map"),
        ({"weights": 3}, "weights must map"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        DemographicParity(**settings)


@pytest.mark.parametrize("cls", PARITY)
def test_bound_in_force(cls: type[ParityConstraint]) -> None:
    assert (cls().kind, cls().bound) == ("difference", DEFAULT_DIFFERENCE_BOUND)
    assert (cls(difference_bound=0).kind, cls(difference_bound=0).bound) == ("difference", 0.0)
    assert (cls(ratio_bound=0.8).kind, cls(ratio_bound=0.8).bound) == ("ratio", 0.8)
    assert cls(difference_bound=np.float32(0.5)).bound == 0.5


@pytest.mark.parametrize("cls", PARITY)
def test_with_bounds_replaces_whichever_was_there(cls: type[ParityConstraint]) -> None:
    constraint = cls(ratio_bound=0.8, over="race", priority=2)
    assert constraint.with_bounds() is constraint
    changed = constraint.with_bounds(difference_bound=0.1)
    assert (changed.kind, changed.bound, changed.over, changed.priority) == (
        "difference",
        0.1,
        ("race",),
        2,
    )


def test_bounded_group_loss_takes_no_pairwise_bound() -> None:
    constraint = BoundedGroupLoss(upper_bound=0.3)
    assert constraint.with_bounds() is constraint
    with pytest.raises(InvalidParameterError, match="upper_bound"):
        constraint.with_bounds(difference_bound=0.1)


@pytest.mark.parametrize(
    "constraint",
    [
        *(
            cls(difference_bound=0.1, over=["race", "sex"], weights={"b": 2, "a": 1.0})
            for cls in PARITY
        ),
        BoundedGroupLoss(upper_bound=0.2, loss="squared"),
        RateParity(quantity=missed, event=everyone, label="missed"),
    ],
    ids=lambda c: c.notion,
)
def test_copies_are_equal_and_hash_alike(constraint: Constraint) -> None:
    for twin in (
        pickle.loads(pickle.dumps(constraint)),
        copy.copy(constraint),
        copy.deepcopy(constraint),
    ):
        assert twin == constraint
        assert hash(twin) == hash(constraint)


def test_weights_are_one_whatever_their_order() -> None:
    one = DemographicParity(weights={"a": 1, "b": 2})
    assert one == DemographicParity(weights=[("b", 2.0), ("a", 1.0)])
    assert one.group_weights(["b", "c", "a"]).tolist() == [2.0, 1.0, 1.0]


def test_weights_of_an_unknown_group() -> None:
    with pytest.raises(InvalidParameterError, match="name the group 'martian'"):
        DemographicParity(weights={"martian": 2}).group_weights(["a", "b"])


@pytest.mark.parametrize("cls", PARITY)
def test_names_of_notions_are_read(cls: type[ParityConstraint]) -> None:
    for spelling in (
        cls.notion,
        cls.notion.replace("_", "-"),
        cls.notion.replace("_", " ").title(),
    ):
        assert as_constraints(spelling) == (cls(),)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("parity", "unknown constraint 'parity'; known: demographic_parity"),
        ([], "constraints is empty"),
        (None, "got NoneType"),
        ([DemographicParity], "got"),
        ({"demographic_parity"}, "got set"),
    ],
)
def test_what_names_no_constraint(spec: Any, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        as_constraints(spec)


def test_a_list_may_mix_kinds_and_takes_one_bound() -> None:
    spec = ["demographic_parity", EqualizedOdds(ratio_bound=0.9), fl.TruePositiveRateParity()]
    found = as_constraints(spec, difference_bound=0.07)
    assert [type(c) for c in found] == [DemographicParity, EqualizedOdds, EqualOpportunity]
    assert [c.bound for c in found] == [0.07] * 3


@pytest.mark.parametrize("cls", PARITY)
@pytest.mark.parametrize("bound", [0.0, 0.04, 1.0])
def test_pairwise_difference_is_halved_for_fairlearn(
    cls: type[ParityConstraint], bound: float
) -> None:
    moment = cls(difference_bound=bound).to_fairlearn()
    assert type(moment) is FAIRLEARN[cls]
    assert (moment.eps, moment.ratio) == (bound / 2, 1.0)


@pytest.mark.parametrize("cls", PARITY)
@pytest.mark.parametrize("tau", [0.64, 1.0])
def test_pairwise_ratio_becomes_its_root_for_fairlearn(
    cls: type[ParityConstraint], tau: float
) -> None:
    assert cls(ratio_bound=tau).to_fairlearn().ratio == pytest.approx(math.sqrt(tau))


@pytest.mark.parametrize("cls", PARITY)
@pytest.mark.parametrize(
    "settings", [{"difference_bound": 0.03}, {"ratio_bound": 0.8, "ratio_bound_slack": 0.02}]
)
def test_fairlearn_moment_keeps_its_meaning_there_and_back(
    cls: type[ParityConstraint], settings: dict[str, float]
) -> None:
    moment = FAIRLEARN[cls](**settings)
    ours = from_fairlearn(moment)
    assert type(ours) is cls
    assert ours.reference == "overall"  # type: ignore[attr-defined]
    back = ours.to_fairlearn()
    assert (type(back), back.eps, back.ratio) == (type(moment), moment.eps, moment.ratio)


@pytest.mark.parametrize("loss", ["zero_one", "squared"])
def test_bounded_group_loss_round_trip(loss: str) -> None:
    ours = BoundedGroupLoss(upper_bound=0.3, loss=loss)
    assert from_fairlearn(ours.to_fairlearn()) == ours


@pytest.mark.parametrize(
    "constraint",
    [BoundedGroupLoss(upper_bound=0.3, loss="log_loss"), RateParity(quantity=missed, label="x")],
)
def test_no_fairlearn_counterpart(constraint: Constraint) -> None:
    with pytest.raises(InvalidParameterError, match="no counterpart"):
        constraint.to_fairlearn()


def test_moments_that_fairlearn_does_not_ship() -> None:
    class Own(fl.DemographicParity):  # type: ignore[misc]
        pass

    with pytest.raises(InvalidParameterError, match="Own is not one of"):
        as_constraints(Own())
    with pytest.raises(InvalidParameterError, match="needs an upper_bound"):
        from_fairlearn(fl.BoundedGroupLoss(fl.ZeroOneLoss()))


@pytest.mark.parametrize("settings", [{"quantity": 3}, {"quantity": None}, {"event": "y=1"}])
def test_rate_parity_asks_for_functions(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameterError, match="must be a function"):
        RateParity(**settings)


def test_rate_parity_is_judged_like_any_other() -> None:
    own = RateParity(quantity=missed, label="missed share", difference_bound=0.1)
    y, p = np.array([1, 1, 0, 1, 0, 1, 1, 0] * 50), np.array([1, 0, 0, 1, 1, 0, 0, 0] * 50)
    group = np.array(list("aaaabbbb") * 50)
    result = fairness_report(y, p, group, own).results[0]
    share = [(y * (1 - p))[group == g].mean() for g in "ab"]
    assert result.achieved == pytest.approx(abs(share[0] - share[1]), abs=1e-12)
    assert (result.constraint, result.rate) == ("missed share", "missed share")


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        (DemographicParity(), False),
        (DemographicParity(ratio_bound=0.8), True),
        (EqualOpportunity(), True),
        (PredictiveEquality(), True),
        (EqualizedOdds(), False),
        (EqualizedOdds(ratio_bound=0.8), True),
        (ErrorRateParity(ratio_bound=0.8), False),
        (BoundedGroupLoss(upper_bound=0.1), False),
        (BoundedGroupLoss(upper_bound=0.1, loss=missed), True),
        (RateParity(quantity=missed), True),
    ],
)
def test_depends_on_positive_is_what_swapping_labels_does(
    constraint: Constraint, expected: bool
) -> None:
    assert constraint.depends_on_positive is expected
    rng = np.random.default_rng(0)
    y, p, group = (rng.integers(0, 2, 400) for _ in range(3))
    first, swapped = (
        fairness_report(y, p, group, constraint, positive_label=label).results[0].achieved
        for label in (1, 0)
    )
    assert (first != pytest.approx(swapped, abs=1e-12)) is expected
