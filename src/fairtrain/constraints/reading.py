"""Reading a constraint from whatever names it: an object, a string, a fairlearn moment, a list."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fairtrain.constraints.base import FAIRLEARN_NAMES, Constraint, ParityConstraint, check_bounds
from fairtrain.constraints.moments import MomentConstraint
from fairtrain.constraints.notions import (
    BoundedGroupLoss,
    DemographicParity,
    EqualizedOdds,
    EqualOpportunity,
    ErrorRateParity,
    PredictiveEquality,
    PredictiveParity,
)
from fairtrain.constraints.rates import ClippedLoss
from fairtrain.data.strata import Given, read_given
from fairtrain.exceptions import InvalidParameterError

if TYPE_CHECKING:
    from fairlearn.reductions import Moment

__all__ = [
    "ConstraintSpec",
    "as_constraints",
    "from_fairlearn",
    "is_fairlearns",
    "refuse_given",
    "require_group_losses",
    "strata_of",
]

_NOTIONS: dict[str, type[ParityConstraint]] = {
    cls.notion: cls
    for cls in (
        DemographicParity,
        EqualOpportunity,
        PredictiveEquality,
        EqualizedOdds,
        ErrorRateParity,
        PredictiveParity,
    )
}
_NOTIONS["precision_parity"] = PredictiveParity

ConstraintSpec = Any
"""A constraint, a notion's name, a fairlearn moment, or a list of these."""


def from_fairlearn(moment: Moment, *, values: bool = False, moments: bool = False) -> Constraint:
    """Read a fairlearn moment; its bound keeps fairlearn's meaning (group against overall).

    Parameters
    ----------
    moment : fairlearn.reductions.Moment
        One of fairlearn's constraints for classification, or ``BoundedGroupLoss``.
    values : bool, default=False
        What is judged are numbers of a regression, which fairlearn's losses cut to their range;
        decisions lie in it.
    moments : bool, default=False
        Read any other moment too, as one that only fairlearn's own path can train under.

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
        return _bounded_group_loss(moment, values=values)
    for notion, name in FAIRLEARN_NAMES.items():
        if type(moment) is getattr(fl, name):
            cls = _NOTIONS[notion]
            if moment.ratio == 1.0:
                return cls(difference_bound=moment.eps, reference="overall")
            return cls(ratio_bound=moment.ratio, ratio_slack=moment.eps, reference="overall")
    other = MomentConstraint(moment=moment)
    if not moments:
        raise InvalidParameterError(other.refusal)
    return other


def _bounded_group_loss(moment: Any, *, values: bool) -> Constraint:
    import fairlearn.reductions as fl

    loss, bound = moment.reduction_loss, moment.upper_bound
    if bound is None:
        raise InvalidParameterError("fairlearn's BoundedGroupLoss needs an upper_bound here.")
    read: Any = loss.eval if callable(getattr(loss, "eval", None)) else loss
    if isinstance(loss, fl.SquareLoss | fl.AbsoluteLoss):
        power = 2 if isinstance(loss, fl.SquareLoss) else 1
        read = ClippedLoss(power, float(loss.min_val), float(loss.max_val))
        if not values and read in _UNIT_LOSSES:
            read = "zero_one" if type(loss) is fl.ZeroOneLoss else _UNIT_LOSSES[read]
    return BoundedGroupLoss(upper_bound=bound, loss=read)


_UNIT_LOSSES = {ClippedLoss(1, 0.0, 1.0): "absolute", ClippedLoss(2, 0.0, 1.0): "squared"}
"""Those that cut nothing off decisions, or probabilities of one."""


def as_constraints(
    spec: ConstraintSpec,
    *,
    difference_bound: float | None = None,
    ratio_bound: float | None = None,
    values: bool = False,
    moments: bool = False,
) -> tuple[Constraint, ...]:
    """Read whatever names a constraint: an object, a string, a fairlearn moment, or a list.

    Parameters
    ----------
    spec : Constraint, str, fairlearn moment, or a sequence of these
        The constraints that decisions are to keep.
    difference_bound, ratio_bound : float, optional
        Replace the bounds of every parity in ``spec``; caps and floors beside one stay.
    values, moments : bool, default=False
        As in :func:`from_fairlearn`.

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
    constraints = tuple(_one_constraint(item, values, moments) for item in items)
    parities = [isinstance(constraint, ParityConstraint) for constraint in constraints]
    constraints = tuple(
        c.with_bounds(difference_bound, ratio_bound) if parity or not any(parities) else c
        for c, parity in zip(constraints, parities, strict=True)
    )
    if not constraints:
        raise InvalidParameterError("constraints is empty; name at least one.")
    return constraints


def strata_of(constraints: Iterable[Constraint]) -> Given:
    """Columns that any of the constraints is given, with their edges.

    Raises
    ------
    InvalidParameterError
        If two constraints cut one column differently.
    """
    found: dict[str, tuple[float, ...]] = {}
    for constraint in constraints:
        for name, edges in read_given(constraint.given):
            if found.setdefault(name, edges) != edges:
                raise InvalidParameterError(
                    f"given: {name!r} is cut at {list(found[name])} by one constraint and at "
                    f"{list(edges)} by another; cut it alike, or add a column."
                )
    return tuple(found.items())


def refuse_given(constraints: Iterable[Constraint], who: str, instead: str) -> None:
    """Raise where a constraint is given strata and whoever reads it knows none.

    Parameters
    ----------
    constraints : iterable of Constraint
        What was asked.
    who : str
        Who cannot, and what they do.
    instead : str
        What can.

    Raises
    ------
    InvalidParameterError
        In one line.
    """
    for constraint in constraints:
        if constraint.given is not None:
            raise InvalidParameterError(f"{constraint.name}: {who}; use {instead}.")


def require_group_losses(constraints: Iterable[Constraint], who: str) -> None:
    """Raise unless all are bounds on group losses of predicted numbers.

    Parameters
    ----------
    constraints : iterable of Constraint
        What is asked.
    who : str
        The estimator that is asked.
    """
    for constraint in constraints:
        if not isinstance(constraint, BoundedGroupLoss) or constraint.loss in (
            "zero_one",
            "log_loss",
        ):
            raise InvalidParameterError(
                f"{who} takes BoundedGroupLoss with loss='squared', 'absolute' or a function of "
                f"(y, prediction), got {constraint.name}."
            )


def is_fairlearns(item: Any) -> bool:
    """Whether an object is of a class of fairlearn's, or of a subclass."""
    return any(base.__module__.startswith("fairlearn.") for base in type(item).__mro__)


def _one_constraint(item: Any, values: bool, moments: bool) -> Constraint:
    if isinstance(item, Constraint):
        return item
    if isinstance(item, str):
        cls = _NOTIONS.get(item.strip().lower().replace("-", "_").replace(" ", "_"))
        if cls is None:
            raise InvalidParameterError(
                f"unknown constraint {item!r}; known: {', '.join(sorted(_NOTIONS))}."
            )
        return cls()
    if is_fairlearns(item):
        return from_fairlearn(item, values=values, moments=moments)
    raise InvalidParameterError(
        f"constraints must be a fairtrain or fairlearn constraint, a name or a list of these, "
        f"got {type(item).__name__}."
    )
