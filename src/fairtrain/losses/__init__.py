"""Fairness losses for PyTorch: penalties to add to the loss of any training loop.

Every loss is called as ``loss(logits, targets, sensitive_features)`` and gives a scalar; those that
read no labels as ``loss(logits, sensitive_features=sensitive_features)`` too.

========================================================  =========================================
what should be alike                                      loss
========================================================  =========================================
rates (selection, true/false positive, error,             ``DemographicParityLoss``,
precision)                                                ``EqualOpportunityLoss``,
                                                          ``PredictiveEqualityLoss``,
                                                          ``PredictiveParityLoss``,
                                                          ``EqualizedOddsLoss``,
                                                          ``ErrorRateParityLoss``,
                                                          ``BiasParityScoreLoss``
rates of one's own                                        ``RateParityLoss``
several sensitive columns and their intersections         ``HierarchicalFairnessLoss``
whole distributions of scores                             ``WassersteinLoss``, ``MMDLoss``
no dependence on discrete or continuous attributes        ``CovarianceLoss``, ``CorrelationLoss``,
                                                          ``MutualInformationLoss``, ``HSICLoss``,
                                                          ``NeuralMutualInformationLoss``
no group served badly                                     ``BoundedGroupLossPenalty``,
                                                          ``GroupDROLoss``,
                                                          ``GroupMSEParityLoss``
========================================================  =========================================

``FairnessRegularizerLoss`` adds any of them to a usual loss.
"""

from fairtrain._imports import require

require("torch", extra="torch")
require("jaxtyping", extra="torch")

from fairtrain.losses.base import FairnessLoss  # noqa: E402
from fairtrain.losses.dependence import (  # noqa: E402
    CorrelationLoss,
    CovarianceLoss,
    MutualInformationLoss,
    WassersteinLoss,
)
from fairtrain.losses.diagnosis import GradientNorms  # noqa: E402
from fairtrain.losses.disparity import disparity  # noqa: E402
from fairtrain.losses.functional import (  # noqa: E402
    group_means,
    group_sums,
    rate_sums,
    soft_decisions,
)
from fairtrain.losses.group_mean import GroupMeanLoss  # noqa: E402
from fairtrain.losses.hierarchical import HierarchicalFairnessLoss  # noqa: E402
from fairtrain.losses.kernels import HSICLoss, MMDLoss  # noqa: E402
from fairtrain.losses.names import PENALTIES  # noqa: E402
from fairtrain.losses.neural import NeuralMutualInformationLoss  # noqa: E402
from fairtrain.losses.rates import (  # noqa: E402
    BiasParityScoreLoss,
    DemographicParityLoss,
    EqualizedOddsLoss,
    EqualOpportunityLoss,
    ErrorRateParityLoss,
    PredictiveEqualityLoss,
    PredictiveParityLoss,
    RateParityLoss,
)
from fairtrain.losses.regularizer import FairnessRegularizerLoss  # noqa: E402
from fairtrain.losses.robust import (  # noqa: E402
    BoundedGroupLossPenalty,
    GroupDROLoss,
    GroupMSEParityLoss,
)
from fairtrain.losses.schedule import CosineRamp, LinearWarmup, SigmoidRamp, StepRamp  # noqa: E402

FairnessRegularizer = FairnessRegularizerLoss

__all__ = [
    "PENALTIES",
    "BiasParityScoreLoss",
    "BoundedGroupLossPenalty",
    "CorrelationLoss",
    "CosineRamp",
    "CovarianceLoss",
    "DemographicParityLoss",
    "EqualOpportunityLoss",
    "EqualizedOddsLoss",
    "ErrorRateParityLoss",
    "FairnessLoss",
    "FairnessRegularizer",
    "FairnessRegularizerLoss",
    "GradientNorms",
    "GroupDROLoss",
    "GroupMSEParityLoss",
    "GroupMeanLoss",
    "HSICLoss",
    "HierarchicalFairnessLoss",
    "LinearWarmup",
    "MMDLoss",
    "MutualInformationLoss",
    "NeuralMutualInformationLoss",
    "PredictiveEqualityLoss",
    "PredictiveParityLoss",
    "RateParityLoss",
    "SigmoidRamp",
    "StepRamp",
    "WassersteinLoss",
    "disparity",
    "group_means",
    "group_sums",
    "rate_sums",
    "soft_decisions",
]
