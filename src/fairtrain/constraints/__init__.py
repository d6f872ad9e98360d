"""What is asked: fairness constraints, independent of any framework.

Every notion here is one sentence: *the mean of a quantity over an event, compared across groups*.
A :class:`Rate` holds the quantity and the event; a :class:`Constraint` holds one or more rates and
the bound. Quantities and events use operators that NumPy arrays and PyTorch tensors share, so the
same object serves reductions, losses, Lagrangian training, boosting and metrics.
"""

from __future__ import annotations

from fairtrain.constraints.base import DEFAULT_DIFFERENCE_BOUND, Constraint, ParityConstraint
from fairtrain.constraints.limits import AtLeast, AtMost, NoLevellingDown, linearised
from fairtrain.constraints.moments import MomentConstraint
from fairtrain.constraints.notions import (
    BoundedGroupLoss,
    DemographicParity,
    EqualizedOdds,
    EqualOpportunity,
    ErrorRateParity,
    PredictiveEquality,
    PredictiveParity,
    RateParity,
)
from fairtrain.constraints.objectives import ErrorCosts, Objective, as_costs, as_objective
from fairtrain.constraints.rates import Rate
from fairtrain.constraints.reading import (
    ConstraintSpec,
    as_constraints,
    from_fairlearn,
    refuse_given,
    strata_of,
)

__all__ = [
    "DEFAULT_DIFFERENCE_BOUND",
    "AtLeast",
    "AtMost",
    "BoundedGroupLoss",
    "Constraint",
    "ConstraintSpec",
    "DemographicParity",
    "EqualOpportunity",
    "EqualizedOdds",
    "ErrorCosts",
    "ErrorRateParity",
    "MomentConstraint",
    "NoLevellingDown",
    "Objective",
    "ParityConstraint",
    "PredictiveEquality",
    "PredictiveParity",
    "Rate",
    "RateParity",
    "as_constraints",
    "as_costs",
    "as_objective",
    "from_fairlearn",
    "linearised",
    "refuse_given",
    "strata_of",
]
