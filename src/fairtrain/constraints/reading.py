"""Reading a constraint from whatever names it: an object, a string, a fairlearn moment, a list."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fairtrain.constraints.base import FAIRLEARN_NAMES, Constraint, ParityConstraint, check_bounds
from fairtrain.constraints.notions import (
    BoundedGroupLoss,
    DemographicParity,
    EqualizedOdds,
    EqualOpportunity,
    ErrorRateParity,
    PredictiveEquality,
)
from fairtrain.data.strata import Given, read_given
from fairtrain.exceptions import InvalidParameterError

if TYPE_CHECKING:
    from fairlearn.reductions import Moment

__all__ = ["ConstraintSpec", "as_constraints", "from_fairlearn", "refuse_given", "strata_of"]

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
