"""What names a penalty."""

from __future__ import annotations

import fairlearn.reductions as fl
import pytest
import torch

from fairtrain import BoundedGroupLoss
from fairtrain.exceptions import InvalidParameterError
from fairtrain.losses import FairnessRegularizerLoss

LOGITS = torch.tensor([1.0, 0.5, -1.0, -2.0, 0.3, -0.2])
TARGETS, CODES = torch.tensor([1.0, 0, 1, 0, 1, 0]), torch.tensor([0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (fl.DemographicParity(difference_bound=0.1), "demographic_parity"),
        (fl.TruePositiveRateParity(), "equal_opportunity"),
        (fl.FalsePositiveRateParity(ratio_bound=0.8), "predictive_equality"),
        (fl.EqualizedOdds(), "equalized_odds"),
        (fl.ErrorRateParity(), "error_rate_parity"),
        (
            fl.BoundedGroupLoss(fl.SquareLoss(0, 1), upper_bound=0.1),
            BoundedGroupLoss(upper_bound=0.1, loss="squared"),
        ),
        (
            fl.BoundedGroupLoss(fl.AbsoluteLoss(0, 1), upper_bound=0.1),
            BoundedGroupLoss(upper_bound=0.1, loss="absolute"),
        ),
        (
            fl.BoundedGroupLoss(fl.SquareLoss(0, 2), upper_bound=0.1),
            BoundedGroupLoss(upper_bound=0.1, loss="squared"),
        ),
    ],
)
def test_fairlearn_s_constraints_name_the_same_penalties(theirs: object, ours: object) -> None:
    found = FairnessRegularizerLoss(penalty=theirs)(LOGITS, TARGETS, CODES)
    expected = FairnessRegularizerLoss(penalty=ours)(LOGITS, TARGETS, CODES)
    torch.testing.assert_close(found, expected)
    several = FairnessRegularizerLoss(penalty=[theirs, "covariance"])
    assert several(LOGITS, TARGETS, CODES) > found


class Own(fl.DemographicParity):  # type: ignore[misc]
    """A moment that only fairlearn's path can train under."""


def test_a_moment_without_a_rate_is_refused_in_one_line() -> None:
    with pytest.raises(InvalidParameterError, match="only ReductionsWrapper trains under it"):
        FairnessRegularizerLoss(penalty=Own())
    with pytest.raises(InvalidParameterError, match="asks for nothing"):
        FairnessRegularizerLoss(penalty=fl.ErrorRate())
