"""Reading whatever names a penalty: a loss, a name, a constraint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairtrain.constraints import (
    BoundedGroupLoss,
    Constraint,
    NoLevellingDown,
    ParityConstraint,
    as_constraints,
    refuse_given,
)
from fairtrain.constraints.reading import is_fairlearns
from fairtrain.exceptions import InvalidParameterError
from fairtrain.losses import dependence, rates, robust
from fairtrain.losses.base import FairnessLoss
from fairtrain.losses.hierarchical import HierarchicalFairnessLoss
from fairtrain.losses.kernels import HSICLoss, MMDLoss
from fairtrain.losses.neural import NeuralMutualInformationLoss

__all__ = ["PENALTIES", "Penalty", "as_penalty"]

Penalty = FairnessLoss | Constraint | str | Any
"""A loss, a constraint of ours or of fairlearn's, or a name."""

PENALTIES: dict[str, type[FairnessLoss]] = {
    "demographic_parity": rates.DemographicParityLoss,
    "equal_opportunity": rates.EqualOpportunityLoss,
    "predictive_equality": rates.PredictiveEqualityLoss,
    "predictive_parity": rates.PredictiveParityLoss,
    "precision_parity": rates.PredictiveParityLoss,
    "equalized_odds": rates.EqualizedOddsLoss,
    "error_rate_parity": rates.ErrorRateParityLoss,
    "bias_parity_score": rates.BiasParityScoreLoss,
    "covariance": dependence.CovarianceLoss,
    "correlation": dependence.CorrelationLoss,
    "mutual_information": dependence.MutualInformationLoss,
    "neural_mutual_information": NeuralMutualInformationLoss,
    "hsic": HSICLoss,
    "mmd": MMDLoss,
    "wasserstein": dependence.WassersteinLoss,
    "group_dro": robust.GroupDROLoss,
    "group_mse_parity": robust.GroupMSEParityLoss,
    "hierarchical": HierarchicalFairnessLoss,
}


def as_penalty(penalty: Penalty, settings: Mapping[str, Any]) -> FairnessLoss:
    """Make the loss that is meant.

    Parameters
    ----------
    penalty : FairnessLoss, constraint, fairlearn moment or str
        A loss is used as it is; a name or a constraint makes one. A penalty has a strength and no
        bound: of a parity only the notion counts, of fairlearn's too.
    settings : mapping
        Keywords of the loss that is made. With a loss that is already made they are an error.

    Returns
    -------
    FairnessLoss

    Raises
    ------
    InvalidParameterError
        If the name is unknown, the loss takes no such keyword, or a moment has no rate here.

    Examples
    --------
    >>> as_penalty("equalized_odds", {"num_groups": 4})
    EqualizedOddsLoss(num_groups=4, temperature=1.0, reduction='squared_pairs')
    """
    if isinstance(penalty, FairnessLoss):
        if settings:
            raise InvalidParameterError(
                f"{sorted(settings)} belong to penalties made from names; give them to "
                f"{type(penalty).__name__}(...) itself."
            )
        return penalty
    if is_fairlearns(penalty):
        penalty = as_constraints(penalty)[0]
    if isinstance(penalty, ParityConstraint):
        return rates.RateParityLoss(penalty, **settings)
    if isinstance(penalty, BoundedGroupLoss):
        refuse_given([penalty], "this penalty knows no strata", "LagrangianFairnessTrainer")
        return robust.BoundedGroupLossPenalty(penalty.upper_bound, loss=penalty.loss, **settings)
    if isinstance(penalty, Constraint):
        if isinstance(penalty, NoLevellingDown):  # which no other method takes
            keeper = "FairPlugInClassifier"
        else:
            keeper = "LagrangianFairnessTrainer or FairPlugInClassifier"
        raise InvalidParameterError(
            f"{penalty.name} is no penalty; keep it as a constraint of {keeper}."
        )
    name = str(penalty).strip().lower().replace("-", "_").replace(" ", "_")
    loss = PENALTIES.get(name)
    if loss is None:
        raise InvalidParameterError(
            f"penalty must be a FairnessLoss, a constraint or one of {', '.join(PENALTIES)}; "
            f"got {penalty!r}."
        )
    try:
        return loss(**settings)
    except TypeError as error:
        raise InvalidParameterError(f"{loss.__name__}: {error}.") from None
