"""What no loss may pass over: numbers that are none, labels and codes that cannot be, weights."""

from __future__ import annotations

import math

import pytest
import torch
from tests.contracts.test_loss_contract import CASES, Case, rows

from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.losses import (
    DemographicParityLoss,
    FairnessLoss,
    FairnessRegularizerLoss,
    GroupDROLoss,
    GroupMSEParityLoss,
    HierarchicalFairnessLoss,
)

every = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def unsized(case: Case) -> FairnessLoss:
    """The loss without a number of groups, where it can do without."""
    return case() if isinstance(case(), GroupDROLoss) else case(num_groups=None)


@every
def test_logits_that_are_no_numbers_do_not_give_a_number(case: Case) -> None:
    logits, targets, codes = rows()
    logits[3] = logits[5] = math.nan  # of either label
    assert not torch.isfinite(case().eval()(logits, targets, codes))


@every
@pytest.mark.parametrize("label", [2, -1, math.nan])
def test_labels_that_cannot_be_are_refused(case: Case, label: float) -> None:
    logits, targets, codes = rows()
    targets = targets.double()
    targets[5] = label
    loss = case()
    if loss.target_kind == "label":
        with pytest.raises(InvalidDataError, match=r"targets must be 0 \.\. 1"):
            loss(logits, targets, codes)


def test_values_to_predict_are_finite() -> None:
    for value in (math.nan, math.inf):
        targets = torch.tensor([value, 1.0])
        with pytest.raises(InvalidDataError, match="NaN or infinite"):
            GroupMSEParityLoss()(torch.zeros(2), targets, torch.arange(2))


@every
@pytest.mark.parametrize("row", [3, 5], ids=["y=0", "y=1"])
@pytest.mark.parametrize("code", [-2, 4, 5, 10**9, -(10**9)])
def test_codes_that_cannot_be_are_one_clear_error(case: Case, code: int, row: int) -> None:
    logits, targets, codes = rows()
    codes[row] = code
    for loss in (case(), unsized(case)) if abs(code) not in (4, 5) else (case(),):
        with pytest.raises(InvalidDataError, match="sensitive_features holds") as caught:
            loss(logits, targets, codes)
        assert "\n" not in str(caught.value)


def test_codes_of_columns_that_cannot_be_are_one_clear_error() -> None:
    logits, _, codes = rows()
    for code in (-2, 10**9):
        codes[5] = code
        with pytest.raises(InvalidDataError, match="sensitive_features holds"):
            HierarchicalFairnessLoss()(logits, None, torch.stack([codes, codes], dim=1))


@every
@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_weights_are_finite_and_not_negative(case: Case, weight: float) -> None:
    logits, targets, codes = rows()
    weights = torch.ones(24)
    weights[3] = weight
    with pytest.raises(InvalidDataError, match="sample_weight must be finite and not negative"):
        case()(logits, targets, codes, sample_weight=weights)


class TestRegularizer:
    """Its base loss would take what penalties without labels never look at."""

    @pytest.mark.parametrize("label", [2.0, -1.0, math.nan])
    def test_labels(self, label: float) -> None:
        targets = torch.tensor([label, 1.0])
        for every_ in (1, 2):
            with pytest.raises(InvalidDataError, match="targets must be 0 or 1"):
                FairnessRegularizerLoss(every=every_)(torch.zeros(2), targets, torch.arange(2))
        soft = FairnessRegularizerLoss()(torch.zeros(2), torch.tensor([0.3, 1.0]), torch.arange(2))
        assert torch.isfinite(soft)

    def test_weights_of_a_call_without_penalty(self) -> None:
        criterion = FairnessRegularizerLoss(every=2)
        batch = torch.zeros(2), torch.ones(2), torch.arange(2)
        criterion(*batch)
        with pytest.raises(InvalidDataError, match="not negative"):
            criterion(*batch, sample_weight=torch.tensor([1.0, -1.0]))

    @pytest.mark.parametrize(
        ("setting", "value"),
        [("memory", 1.0), ("temperature", 0), ("shrinkage", -1), ("debias", 2), ("num_groups", 0)],
    )
    def test_settings_of_penalties(self, setting: str, value: float) -> None:
        with pytest.raises(InvalidParameterError, match=f"{setting} must"):
            FairnessRegularizerLoss(**{setting: value})

    def test_none_is_the_default_of_a_penalty(self) -> None:
        criterion = FairnessRegularizerLoss(reduction=None, temperature=None, num_groups=2)
        assert repr(criterion.penalties[0]) == repr(DemographicParityLoss(num_groups=2))


NAMES = ("F/Black", "F/White", "M/Black", "M/White")


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("F/Black", NAMES),
        ("F x Black", NAMES),
        (("F", "Black"), NAMES),
        (("F", "Black"), [name.replace("/", " x ") for name in NAMES]),
        ("F x Black", [name.replace("/", " x ") for name in NAMES]),
        ("F/Black", [name.replace("/", " x ") for name in NAMES]),
        (0, NAMES),
    ],
)
def test_intersections_are_named_in_any_usual_way(key: object, names: list[str]) -> None:
    logits, targets, codes = rows()
    expected = FairnessRegularizerLoss(group_weights=[2, 1, 1, 1])(logits, targets, codes)
    found = FairnessRegularizerLoss(group_weights={key: 2}, group_names=names)
    torch.testing.assert_close(found(logits, targets, codes), expected)
    columns = torch.stack([codes // 2, codes % 2], dim=1)
    found = FairnessRegularizerLoss(group_weights={key: 2}, group_names=names, num_groups=(2, 2))
    torch.testing.assert_close(found(logits, targets, columns), expected)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (("F", "Asian"), "not among"),
        (("Black", "F"), "not among"),
        (("F", 0), "names the group"),
        ((), "names the group"),
        ((0, 5), "names the group"),
        (1.5, "names the group"),
        (-1, "names the group"),
    ],
)
def test_a_group_that_is_none_is_refused(key: object, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        DemographicParityLoss(group_weights={key: 2}, group_names=NAMES, num_groups=(2, 2))
