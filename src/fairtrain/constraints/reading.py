"""Reading a constraint from whatever names it: an object, a string, a fairlearn moment, a list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fairtrain._parameters import Real, Table, check_parameters
from fairtrain.constraints.base import FAIRLEARN_NAMES, Constraint, ParityConstraint, check_bounds
from fairtrain.constraints.notions import (
    BoundedGroupLoss,
    DemographicParity,
    EqualizedOdds,
    EqualOpportunity,
    ErrorRateParity,
    PredictiveEquality,
)
from fairtrain.exceptions import InvalidParameterError

if TYPE_CHECKING:
    from fairlearn.reductions import Moment

__all__ = ["ConstraintSpec", "ErrorCosts", "as_constraints", "as_costs", "from_fairlearn"]

_NOTIONS: dict[str, type[ParityConstraint]] = {
    cls.notion: cls
    for cls in (
        DemographicParity,
        EqualOpportunity,
        PredictiveEquality,
        EqualizedOdds,
        ErrorRateParity,
    )
}

ConstraintSpec = Any
"""A constraint, a notion's name, a fairlearn moment, or a list of these."""


def from_fairlearn(moment: Moment) -> Constraint:
    """Read a fairlearn moment; its bound keeps fairlearn's meaning (group against overall).

    Parameters
    ----------
    moment : fairlearn.reductions.Moment
        One of fairlearn's constraints for classification, or ``BoundedGroupLoss``.

    Returns
    -------
    Constraint
        The same constraint with ``reference="overall"``.

    Raises
    ------
    InvalidParameterError
        If the moment is not one that fairlearn ships.
    """
    import fairlearn.reductions as fl

    if type(moment) is fl.BoundedGroupLoss:
        losses = {fl.ZeroOneLoss: "zero_one", fl.SquareLoss: "squared"}
        loss = losses.get(type(moment.reduction_loss))
        if loss is None or moment.upper_bound is None:
            raise InvalidParameterError(
                "fairlearn's BoundedGroupLoss needs an upper_bound and ZeroOneLoss or SquareLoss "
                "here; for another loss use fairtrain's BoundedGroupLoss(loss=function)."
            )
        return BoundedGroupLoss(upper_bound=moment.upper_bound, loss=loss)
    for notion, name in FAIRLEARN_NAMES.items():
        if type(moment) is getattr(fl, name):
            cls = _NOTIONS[notion]
            if moment.ratio == 1.0:
                return cls(difference_bound=moment.eps, reference="overall")
            return cls(ratio_bound=moment.ratio, ratio_slack=moment.eps, reference="overall")
    raise InvalidParameterError(
        f"{type(moment).__name__} is not one of fairlearn's own constraints; write it as "
        "fairtrain.RateParity(quantity=..., event=...)."
    )


@dataclass(frozen=True)
class ErrorCosts:
    """What the two errors cost; only their ratio matters.

    Parameters
    ----------
    false_positive : float >= 0, default=1
        Cost of a favourable decision about somebody whose label is not.
    false_negative : float >= 0, default=1
        Cost of an unfavourable decision about somebody whose label is favourable.

    Examples
    --------
    >>> ErrorCosts(false_negative=4).threshold  # decide for whoever is favourable with this chance
    0.2
    """

    _allowed: ClassVar[Table] = {"false_positive": Real(0), "false_negative": Real(0)}

    false_positive: float = 1.0
    false_negative: float = 1.0

    def __post_init__(self) -> None:
        check_parameters(self)
        if self.false_positive + self.false_negative == 0:
            raise InvalidParameterError("one of the two errors must cost something.")

    @property
    def threshold(self) -> float:
        """Probability of the favourable label above which deciding for it costs less."""
        return float(self.false_positive / (self.false_positive + self.false_negative))


def as_costs(objective: Any) -> ErrorCosts:
    """Read what is optimised: a word, costs by name, or fairlearn's ``ErrorRate(costs=...)``.

    Parameters
    ----------
    objective : "accuracy", ErrorCosts, mapping or fairlearn.reductions.ErrorRate
        A mapping has the names ``false_positive`` and ``false_negative``; one left out costs 1.

    Returns
    -------
    ErrorCosts

    Raises
    ------
    InvalidParameterError
        If it is none of these.
    """
    if isinstance(objective, ErrorCosts):
        return objective
    if isinstance(objective, str) and objective == "accuracy":
        return ErrorCosts()
    names = {"false_positive", "false_negative"}
    if isinstance(objective, Mapping) and objective and set(objective) <= names:
        return ErrorCosts(**objective)
    if hasattr(objective, "fp_cost") and hasattr(objective, "fn_cost"):
        return ErrorCosts(float(objective.fp_cost), float(objective.fn_cost))
    raise InvalidParameterError(
        "objective must be 'accuracy', ErrorCosts or {'false_positive': cost, 'false_negative': "
        f"cost}}, got {objective!r}."
    )


def as_constraints(
    spec: ConstraintSpec,
    *,
    difference_bound: float | None = None,
    ratio_bound: float | None = None,
) -> tuple[Constraint, ...]:
    """Read whatever names a constraint: an object, a string, a fairlearn moment, or a list.

    Parameters
    ----------
    spec : Constraint, str, fairlearn moment, or a sequence of these
        The constraints that decisions are to keep.
    difference_bound, ratio_bound : float, optional
        Replace the bounds of every parity in ``spec``; caps and floors beside one stay.

    Returns
    -------
    tuple of Constraint

    Raises
    ------
    InvalidParameterError
        If a name is unknown, the sequence is empty or a bound lies outside its range.

    Examples
    --------
    >>> as_constraints("demographic_parity", difference_bound=0.02)[0].bound
    0.02
    """
    check_bounds(difference_bound, ratio_bound)
    items: Iterable[Any] = spec if isinstance(spec, list | tuple) else (spec,)
    constraints = tuple(map(_one_constraint, items))
    parities = [isinstance(constraint, ParityConstraint) for constraint in constraints]
    constraints = tuple(
        c.with_bounds(difference_bound, ratio_bound) if parity or not any(parities) else c
        for c, parity in zip(constraints, parities, strict=True)
    )
    if not constraints:
        raise InvalidParameterError("constraints is empty; name at least one.")
    return constraints


def _one_constraint(item: Any) -> Constraint:
    if isinstance(item, Constraint):
        return item
    if isinstance(item, str):
        cls = _NOTIONS.get(item.strip().lower().replace("-", "_").replace(" ", "_"))
        if cls is None:
            raise InvalidParameterError(
                f"unknown constraint {item!r}; known: {', '.join(sorted(_NOTIONS))}."
            )
        return cls()
    if any(base.__module__.startswith("fairlearn.") for base in type(item).__mro__):
        return from_fairlearn(item)
    raise InvalidParameterError(
        f"constraints must be a fairtrain or fairlearn constraint, a name or a list of these, "
        f"got {type(item).__name__}."
    )
