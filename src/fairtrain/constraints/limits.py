"""Limits of a rate by itself: floors and caps of groups, capacity, no levelling down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from fairtrain._parameters import ANYTHING, COLUMNS, FLAG, Choice, Of, Real, Table
from fairtrain.constraints.base import Constraint, check_number
from fairtrain.constraints.moments import MomentConstraint
from fairtrain.constraints.notions import Limit, PredictiveParity
from fairtrain.constraints.rates import NAMED_RATES, Rate, agreement, error
from fairtrain.data.groups import GroupScheme
from fairtrain.exceptions import InvalidParameterError

__all__ = ["AtLeast", "AtMost", "NoLevellingDown", "between", "linearised", "require_linear"]

Levels = float | Mapping[str, float] | tuple[tuple[str, float], ...]


@dataclass(frozen=True, kw_only=True)
class _RateLimit(Limit):
    """A number that one rate is held to: in every group, in some, or over everybody."""

    _number: ClassVar[str] = "value"
    _allowed: ClassVar[Table] = {
        "rate": Choice(*NAMED_RATES) | Of("be a Rate", Rate),
        "value": ANYTHING,
        "overall": FLAG,
        "groups": COLUMNS,
    }

    rate: str | Rate = field(kw_only=False)
    value: Levels | None = field(kw_only=False)
    overall: bool = False
    groups: str | tuple[str, ...] | Sequence[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.groups is not None:
            named = (self.groups,) if isinstance(self.groups, str) else tuple(self.groups)
            object.__setattr__(self, "groups", named)
        if self.overall and (self.groups is not None or self.over is not None):
            raise InvalidParameterError(
                "overall=True speaks of everybody: leave out over and groups."
            )
        if isinstance(self.value, Mapping | tuple):
            if not self.value:
                raise InvalidParameterError("value maps groups to numbers: name at least one.")
            object.__setattr__(self, "value", _frozen_levels(self.value))

    @property
    def _levels(self) -> float | dict[str, float]:
        """The number, for all, or of each group that is spoken of."""
        assert self.value is not None
        return dict(self.value) if isinstance(self.value, Mapping | tuple) else self.value

    @property
    def rates(self) -> tuple[Rate, ...]:
        """The one rate."""
        return (NAMED_RATES[self.rate] if isinstance(self.rate, str) else self.rate,)

    @property
    def bound(self) -> float:
        """The number; of several, the one that asks for least."""
        levels = self._levels
        if not isinstance(levels, dict):
            return float(levels)
        return (min if self.larger_is_fairer else max)(levels.values())

    def shifts(self, names: Sequence[str]) -> NDArray[np.float64]:
        """How far the number of each group lies above :attr:`bound`, shape (G,)."""
        levels = self._levels
        if not isinstance(levels, dict):
            return np.zeros(len(names))
        return np.array([levels.get(name, self.bound) - self.bound for name in names])

    def linearised(self) -> tuple[Constraint, ...]:
        """The same of rates that are linear in decisions: one limit, or one a group with a number.

        Precision is at least m where the mean of what lies above m, over those who are selected,
        is not below 0.
        """
        rate, levels = self.rates[0], self._levels
        if rate.among is None:
            return (self,)
        own: Any = AtLeast if self.larger_is_fairer else AtMost
        shared = {name: getattr(self, name) for name in ("over", "given", "weights", "priority")}
        if isinstance(levels, dict):
            return tuple(
                own(rate.above(level), 0.0, groups=name, **shared) for name, level in levels.items()
            )
        shared |= {"overall": self.overall, "groups": self.groups}
        return (own(rate.above(levels), 0.0, **shared),)

    def group_weights(self, names: Sequence[str]) -> NDArray[np.float64]:
        """Weight of each group, shape (G,): 0 for those that are not spoken of."""
        weights, levels = super().group_weights(names), self._levels
        told = tuple(levels) if isinstance(levels, dict) else self.groups
        if told is None:
            return weights
        if unknown := sorted(set(told) - set(names)):
            raise InvalidParameterError(
                f"{self.name} names the group {unknown[0]!r}, which is not among "
                f"{', '.join(map(repr, names[:8]))}."
            )
        return np.where(np.isin(names, list(told)), weights, 0.0)

    def partition(self, scheme: GroupScheme) -> tuple[GroupScheme, NDArray[np.int64]]:
        """Groups that the constraint speaks about: everybody, where it is overall."""
        return scheme.everybody if self.overall else super().partition(scheme)

    @property
    def depends_on_positive(self) -> bool:
        """Swapping the two labels leaves only errors what they are."""
        return self.rates[0].quantity not in (error, agreement)

    @property
    def name(self) -> str:
        """What is asked, and of whom."""
        said = self._said
        if self.overall:
            said = f"{said} overall"
        if self.groups is not None:
            said = f"{said} of {', '.join(self.groups)}"
        return f"{said}{self._scope}"

    @property
    def _said(self) -> str:
        rate = self.rates[0].name
        levels = self._levels
        number = "its own number"
        if not isinstance(levels, dict):
            number = f"{levels + self.rates[0].level:g}"
        return f"{rate} at {'least' if self.larger_is_fairer else 'most'} {number}"


class _Stated(_RateLimit):
    """A limit whose number a person states."""

    def __post_init__(self) -> None:
        super().__post_init__()
        numbers: list[Any] = [self.value]
        if isinstance(self.value, tuple):
            numbers = [number for _, number in self.value]
            if self.overall or self.groups is not None:
                raise InvalidParameterError("value names groups: leave out overall and groups.")
        for number in numbers:
            check_number("value", number)
            if isinstance(self.rate, str) and not 0 <= number <= 1:
                raise InvalidParameterError(
                    f"value must lie in [0, 1], got {number!r}; write 70 % as 0.7."
                )


@dataclass(frozen=True, kw_only=True)
class AtMost(_Stated):
    r"""A rate may not lie above a number: in no group, or over everybody.

    .. math:: r_g \le v \quad\text{for every group } g, \qquad\text{or}\qquad r \le v.

    ``AtMost("false_positive_rate", 0.1)`` is a cap in every group;
    ``AtMost("selection_rate", 0.2, overall=True)`` a capacity: at most every fifth person.

    Parameters
    ----------
    rate : str or Rate
        ``"selection_rate"``, ``"true_positive_rate"`` (``"recall"``), ``"false_positive_rate"``,
        ``"false_negative_rate"``, ``"true_negative_rate"``, ``"positive_predictive_value"``
        (``"precision"``), ``"false_discovery_rate"``, ``"negative_predictive_value"``,
        ``"false_omission_rate"``, ``"error_rate"``, ``"accuracy"``, or a rate of your own.
    value : float, or mapping of group name to float
        The number, or one for each group that is spoken of.
    overall : bool, default=False
        Speak of everybody together.
    groups : str or sequence of str, optional
        The groups that are spoken of; all by default.
    over, given, pooled, weights, priority
        See :class:`Constraint`.

    Raises
    ------
    InvalidParameterError
        If a rate of that name is not known or a number lies outside [0, 1].

    Examples
    --------
    >>> AtMost("selection_rate", 0.2, overall=True).name
    'selection_rate at most 0.2 overall'
    """

    notion: ClassVar[str] = "at_most"

    @property
    def kind(self) -> Literal["upper"]:
        """A cap."""
        return "upper"


@dataclass(frozen=True, kw_only=True)
class AtLeast(_Stated):
    r"""A rate may not lie below a number: in no group, or over everybody.

    .. math:: r_g \ge v \quad\text{for every group } g, \qquad\text{or}\qquad r \ge v.

    Parameters
    ----------
    rate, value, overall, groups
        See :class:`AtMost`.
    over, given, pooled, weights, priority
        See :class:`Constraint`.

    Examples
    --------
    >>> AtLeast("recall", 0.7, over="sex").name
    'true_positive_rate at least 0.7 over sex'
    >>> AtLeast("precision", {"f": 0.6, "m": 0.7}).name
    'positive_predictive_value at least its own number'
    """

    notion: ClassVar[str] = "at_least"

    @property
    def kind(self) -> Literal["lower"]:
        """A floor."""
        return "lower"


@dataclass(frozen=True, kw_only=True)
class NoLevellingDown(_RateLimit):
    r"""No group may be worse off than without any constraint (Mittelstadt et al., 2023).

    .. math:: r_g(d) \ge r_g(d_0) - m \quad\text{for every group } g

    with :math:`d_0` what the same model decides unconstrained. Its floors are not known before
    ``fit`` measures them on the rows it prices: only
    :class:`~fairtrain.plugin.FairPlugInClassifier` has such a model.

    Parameters
    ----------
    rate : str or Rate, default="selection_rate"
        A rate of which more is better, as in :class:`AtMost`.
    margin : float in [0, 1], default=0
        The loss m that is accepted.
    value : mapping of group name to float, optional
        Its floors, once they are known: set by ``fit``.
    overall, groups
        See :class:`AtMost`.
    over, given, pooled, weights, priority
        See :class:`Constraint`.
    """

    notion: ClassVar[str] = "no_levelling_down"
    _number: ClassVar[str] = "margin"
    _allowed: ClassVar[Table] = {"margin": Real(0, 1)}

    rate: str | Rate = field(default="selection_rate", kw_only=False)
    value: Levels | None = None
    margin: float = 0.0

    @property
    def kind(self) -> Literal["lower"]:
        """A floor."""
        return "lower"

    @property
    def _levels(self) -> float | dict[str, float]:
        if self.value is None:
            raise InvalidParameterError(
                "NoLevellingDown measures an unconstrained model, which only FairPlugInClassifier "
                "has; elsewhere state the floors, as AtLeast(rate, {group: number})."
            )
        return super()._levels

    def resolved(self, names: Sequence[str], rates: NDArray[np.float64]) -> Self:
        """Set the floors by the rates (G,) of the unconstrained model; empty groups have none."""
        floors = {
            name: float(rate) - self.margin
            for name, rate in zip(names, rates, strict=True)
            if np.isfinite(rate) and (self.groups is None or name in self.groups)
        }
        return replace(self, value=floors)

    @property
    def _said(self) -> str:
        return f"{self.notion} of {self.rates[0].name}"


def linearised(constraints: Iterable[Constraint]) -> tuple[Constraint, ...]:
    """Constraints whose rates are linear in decisions, which say the same.

    Parameters
    ----------
    constraints : iterable of Constraint
        What is asked.

    Returns
    -------
    tuple of Constraint
        Floors and caps of precision and its kin are rewritten; all others stay.

    Raises
    ------
    InvalidParameterError
        For a parity of such rates, whose common level would have to be known.
    """
    found: list[Constraint] = []
    for constraint in constraints:
        if isinstance(constraint, _RateLimit):
            found += constraint.linearised()
            continue
        if not isinstance(constraint, MomentConstraint):
            require_linear(
                [constraint],
                "the level that all groups share must be known here; FairPlugInClassifier searches "
                "it, LagrangianBoostingClassifier and LagrangianFairnessTrainer do without, and "
                "AtLeast and AtMost state it",
            )
        found.append(constraint)
    return tuple(found)


def between(parity: PredictiveParity, low: float, high: float) -> tuple[Constraint, ...]:
    """A floor and a cap between which rates of groups keep a parity.

    Parameters
    ----------
    parity : PredictiveParity
        What is asked.
    low, high : float in [0, 1]
        The smallest and the largest rate of any group.
    """
    shared: dict[str, Any] = {
        name: getattr(parity, name) for name in ("over", "given", "weights", "priority")
    }
    return (
        AtLeast(parity.rate, low, **shared),
        AtMost(parity.rate, high, **shared),
    )


def require_linear(constraints: Iterable[Constraint], instead: str) -> None:
    """Raise for rates that are not linear in decisions, such as precision.

    Parameters
    ----------
    constraints : iterable of Constraint
        What is asked.
    instead : str
        Why that matters, and what to do.
    """
    for constraint in constraints:
        for rate in constraint.rates:
            if rate.among is not None:
                raise InvalidParameterError(
                    f"{constraint.name}: {rate.name} is not linear in decisions, and {instead}."
                )


def _frozen_levels(value: Any) -> tuple[tuple[str, Any], ...]:
    pairs = value.items() if isinstance(value, Mapping) else value
    try:
        return tuple(sorted((str(name), number) for name, number in pairs))
    except (TypeError, ValueError):
        raise InvalidParameterError(
            f"value must be a number, or map group names to numbers, got {value!r}."
        ) from None
