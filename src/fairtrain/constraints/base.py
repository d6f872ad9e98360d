"""What every constraint has: rates, groups, importance, and the bound of a parity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from fairtrain._parameters import (
    ANYTHING,
    COLUMNS,
    DIFFERENCE,
    FLAG,
    NONE,
    RATIO,
    Choice,
    Real,
    Table,
    Whole,
    check_parameters,
)
from fairtrain.constraints.rates import Rate
from fairtrain.data.groups import GroupScheme
from fairtrain.data.strata import GivenSpec, read_given
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

if TYPE_CHECKING:
    from fairlearn.reductions import Moment

__all__ = [
    "DEFAULT_DIFFERENCE_BOUND",
    "FAIRLEARN_NAMES",
    "Constraint",
    "ParityConstraint",
    "check_bounds",
    "check_number",
]

DEFAULT_DIFFERENCE_BOUND = 0.05
"""Pairwise bound of a constraint that was given none: five percentage points."""

FAIRLEARN_NAMES = {
    "demographic_parity": "DemographicParity",
    "equal_opportunity": "TruePositiveRateParity",
    "predictive_equality": "FalsePositiveRateParity",
    "equalized_odds": "EqualizedOdds",
    "error_rate_parity": "ErrorRateParity",
}
"""fairlearn's class for each notion."""


@dataclass(frozen=True, kw_only=True)
class Constraint:
    r"""Base of all constraints: which rates, over which groups, how important.

    Parameters
    ----------
    over : str or sequence of str, optional
        Sensitive columns whose groups are compared. Default: the intersection of all of them, but
        for those that a constraint is ``given``.
    given : str, sequence of str, or mapping of str to sequence of float, optional
        Columns within which groups are compared: the same rate for people of the same income band.
        Each combination of their levels is a *stratum* with a bound of its own; the widest gap of
        any stratum counts. A column is looked for among the sensitive features, then in ``X``,
        where it stays a feature. Numbers are cut at edges, ``given={"age": [30, 45]}``; an edge
        belongs to the stratum above it. Kept as a tuple of (column, edges).
    pooled : bool, default=False
        Bound one number instead: rates averaged over the strata, the same weights for every group,

        .. math:: \bar r_g = \frac{\sum_s w_s r_{gs}}{\sum_s w_s}, \qquad
           w_s = \Big(\sum_g \frac{1}{n_{gs}}\Big)^{-1}.

        For two groups :math:`w_s = n_{1s} n_{2s} / (n_{1s} + n_{2s})`, the weights of Cochran
        (1954) and Mantel & Haenszel (1959): the difference is Mantel and Haenszel's (Greenland &
        Robins, 1985), and so is the ratio. A stratum that lacks a group weighs nothing. Opposite
        gaps in two strata may cancel.
    weights : mapping of str to float, optional
        Group name -> importance (default 1). A weight scales how strongly training reacts to that
        group's violation and, when not every bound can be kept, which violation costs more. It
        does not move the bound. Weight 0 leaves the group out.
    priority : int, default=0
        When several constraints cannot hold together, those of lower priority give way first.
    """

    notion: ClassVar[str] = "constraint"
    label_dependent: ClassVar[bool] = True

    _allowed: ClassVar[Table] = {
        "over": COLUMNS,
        "given": ANYTHING,
        "pooled": FLAG,
        "weights": ANYTHING,
        "priority": Whole(-1000, 1000),
    }

    over: str | tuple[str, ...] | Sequence[str] | None = None
    given: GivenSpec = None
    pooled: bool = False
    weights: Mapping[str, float] | Sequence[tuple[str, float]] | None = None
    priority: int = 0

    def __post_init__(self) -> None:
        check_parameters(self)
        if isinstance(self.over, str):
            object.__setattr__(self, "over", (self.over,))
        elif self.over is not None:
            object.__setattr__(self, "over", tuple(self.over))
            if not self.over:
                raise InvalidParameterError("over=() names no column; leave it out to use all.")
        if self.weights is not None:
            object.__setattr__(self, "weights", _frozen_weights(self.weights))
        if self.given is not None:
            object.__setattr__(self, "given", read_given(self.given))
        elif self.pooled:
            raise InvalidParameterError("pooled=True averages over strata: say which with given=.")
        if twice := set(self.over or ()) & set(self.given_columns):
            raise InvalidParameterError(
                f"{min(twice)!r} is in over and in given: groups are compared within it or by it."
            )

    @property
    def given_columns(self) -> tuple[str, ...]:
        """Columns that make the strata."""
        return tuple(name for name, _ in read_given(self.given))

    @property
    def rates(self) -> tuple[Rate, ...]:
        """The rates that are compared across groups."""
        raise NotImplementedError(f"{type(self).__name__} defines no rates.")

    @property
    def kind(self) -> Literal["difference", "ratio", "upper", "lower"]:
        """What the bound limits."""
        raise NotImplementedError(f"{type(self).__name__} defines no kind of bound.")

    @property
    def absolute(self) -> bool:
        """Whether the bound limits every group's rate by itself; else groups are compared."""
        return self.kind in ("upper", "lower")

    @property
    def larger_is_fairer(self) -> bool:
        """Whether what the bound limits must be at least the bound."""
        return self.kind in ("ratio", "lower")

    @property
    def bound(self) -> float:
        """The bound in force."""
        raise NotImplementedError(f"{type(self).__name__} defines no bound.")

    @property
    def depends_on_positive(self) -> bool:
        """Whether swapping the two labels changes what is asked."""
        return self.label_dependent

    @property
    def name(self) -> str:
        """The notion, with the columns it speaks about if it names any."""
        return f"{self.notion}{self._scope}"

    @property
    def _scope(self) -> str:
        """The columns that are named: of groups and of strata."""
        said = "" if self.over is None else f" over {' x '.join(self.over)}"
        if self.given is not None:
            said += f" given {' x '.join(self.given_columns)}"
        return f"{said}, pooled" if self.pooled else said

    def columns(self, scheme: GroupScheme) -> tuple[str, ...] | None:
        """Columns of the groups and strata that it names, in the scheme's order; None for all."""
        if self.over is None:
            return None
        named = {*self.over, *self.given_columns}
        return (
            tuple(self.over)
            if self.given is None
            else tuple(name for name in scheme.columns if name in named)
        )

    def group_weights(self, names: Sequence[str]) -> np.ndarray:
        """Weight of each group, shape (G,), 1 where none was given.

        Raises
        ------
        InvalidParameterError
            If ``weights`` names a group that is not among ``names``.
        """
        given = dict(self.weights or ())
        if unknown := sorted(set(given) - set(names)):
            raise InvalidParameterError(
                f"weights of {self.name} name the group {unknown[0]!r}, which is not among "
                f"{_shown(names)}."
            )
        return np.array([given.get(name, 1.0) for name in names], dtype=np.float64)

    def shifts(self, names: Sequence[str]) -> NDArray[np.float64]:
        """How far the bound of each group lies above :attr:`bound`, shape (G,)."""
        return np.zeros(len(names))

    def partition(self, scheme: GroupScheme) -> tuple[GroupScheme, NDArray[np.int64]]:
        """Groups that the constraint speaks about, and the one of every group of ``scheme``."""
        if self.over is not None:
            return scheme.coarsen(tuple(self.over))
        strata = self.given_columns
        people = tuple(name for name in scheme.people if name not in strata)
        if people == scheme.columns:
            return scheme, np.arange(len(scheme))
        if not people:
            raise InvalidDataError(
                f"{self.name}: every sensitive column is one of strata, so there are no groups to "
                "compare; name a column with over=."
            )
        return scheme.coarsen(people)

    def with_bounds(
        self, difference_bound: float | None = None, ratio_bound: float | None = None
    ) -> Constraint:
        """Copy with other bounds; None and None keep the present ones."""
        raise NotImplementedError(f"{type(self).__name__} takes no bounds.")

    def to_fairlearn(self) -> Moment:
        """Make the fairlearn moment that implies this constraint."""
        raise InvalidParameterError(f"fairlearn has no counterpart of {self.name}.")


@dataclass(frozen=True, kw_only=True)
class ParityConstraint(Constraint):
    r"""Rates that must be alike in every group.

    With group rates :math:`r_g` the constraint is, for every rate of the notion,

    .. math:: \max_g r_g - \min_g r_g \le b \qquad\text{or}\qquad \min_g r_g \ge \tau \max_g r_g.

    .. note::
       ``difference_bound`` limits *any two groups*. The bound of fairlearn's own moments limits
       \|group - overall\|, so two groups may there be twice as far apart. A constraint made by
       :func:`from_fairlearn` keeps fairlearn's meaning (``reference="overall"``).

    Parameters
    ----------
    difference_bound : float in [0, 1], optional
        Largest allowed difference between the rates of any two groups.
    ratio_bound : float in (0, 1], optional
        Smallest allowed ratio between the rates of any two groups (0.8: the four-fifths rule).
        Give one of the two; with neither, :data:`DEFAULT_DIFFERENCE_BOUND` holds.
    reference : {"pairwise", "overall"}, default="pairwise"
        Compare groups with each other, or (fairlearn's meaning) with the overall rate.
    ratio_slack : float, default=0
        fairlearn's ``ratio_bound_slack``; only with ``reference="overall"``.
    over, given, pooled, weights, priority
        See :class:`Constraint`.

    Raises
    ------
    InvalidParameterError
        If a bound lies outside its range or both bounds are given.
    """

    _allowed: ClassVar[Table] = {
        "difference_bound": DIFFERENCE | NONE,
        "ratio_bound": RATIO | NONE,
        "reference": Choice("pairwise", "overall"),
        "ratio_slack": Real(0),
    }

    difference_bound: float | None = None
    ratio_bound: float | None = None
    reference: Literal["pairwise", "overall"] = "pairwise"
    ratio_slack: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds(self.difference_bound, self.ratio_bound)
        if self.ratio_slack and self.reference != "overall":
            raise InvalidParameterError("ratio_slack belongs to reference='overall' (fairlearn).")

    @property
    def kind(self) -> Literal["difference", "ratio"]:
        """Which of the two bounds is in force."""
        return "difference" if self.ratio_bound is None else "ratio"

    @property
    def bound(self) -> float:
        """The bound in force."""
        if self.ratio_bound is not None:
            return float(self.ratio_bound)
        if self.difference_bound is not None:
            return float(self.difference_bound)
        return DEFAULT_DIFFERENCE_BOUND

    @property
    def depends_on_positive(self) -> bool:
        """Whether swapping the two labels changes what is asked."""
        return self.label_dependent or self.kind == "ratio"

    def with_bounds(
        self, difference_bound: float | None = None, ratio_bound: float | None = None
    ) -> ParityConstraint:
        """Copy with other bounds; None and None keep the present ones."""
        if difference_bound is None and ratio_bound is None:
            return self
        return replace(
            self, difference_bound=difference_bound, ratio_bound=ratio_bound, ratio_slack=0.0
        )

    def to_fairlearn(self) -> Moment:
        r"""Make the fairlearn moment that implies this constraint.

        A pairwise bound *b* becomes *b*/2 around the overall rate and a pairwise ratio
        :math:`\tau` becomes :math:`\sqrt\tau`: sufficient, not equivalent. With
        ``reference="overall"`` the translation is exact. The columns of ``given`` are fairlearn's
        ``control_features``, which it takes with the data, not here.
        """
        import fairlearn.reductions as fl

        name = FAIRLEARN_NAMES.get(self.notion)
        if name is None or self.pooled:
            return super().to_fairlearn()
        halved = self.reference == "pairwise"
        if self.kind == "ratio":
            tau = math.sqrt(self.bound) if halved else self.bound
            by_ratio: Moment = getattr(fl, name)(
                ratio_bound=tau, ratio_bound_slack=self.ratio_slack
            )
            return by_ratio
        bound = self.bound / 2 if halved else self.bound
        exact: Moment = getattr(fl, name)(difference_bound=bound)
        return exact


def check_bounds(difference_bound: float | None, ratio_bound: float | None) -> None:
    """Raise unless at most one bound is given, and that within its range."""
    if difference_bound is not None and ratio_bound is not None:
        raise InvalidParameterError("give difference_bound or ratio_bound, not both.")
    if difference_bound is not None:
        check_number("difference_bound", difference_bound)
        if not 0 <= difference_bound <= 1:
            raise InvalidParameterError(
                f"difference_bound must lie in [0, 1], got {difference_bound!r}; write 5 % as 0.05."
            )
    if ratio_bound is not None:
        check_number("ratio_bound", ratio_bound)
        if not 0 < ratio_bound <= 1:
            raise InvalidParameterError(
                f"ratio_bound must lie in (0, 1], got {ratio_bound!r}; the 80 % rule is 0.8."
            )


def check_number(name: str, value: Any) -> None:
    """Raise unless the value is a number."""
    number = isinstance(value, int | float | np.integer | np.floating)
    if not number or isinstance(value, bool) or math.isnan(value):
        raise InvalidParameterError(f"{name} must be a number, got {value!r}.")


def _frozen_weights(
    weights: Mapping[str, float] | Sequence[tuple[str, float]],
) -> tuple[tuple[str, float], ...]:
    pairs = weights.items() if isinstance(weights, Mapping) else weights
    try:
        frozen = tuple(sorted((str(name), float(weight)) for name, weight in pairs))
    except (TypeError, ValueError):
        raise InvalidParameterError(
            f"weights must map group names to numbers, got {weights!r}."
        ) from None
    for name, weight in frozen:
        if not 0 <= weight < math.inf:
            raise InvalidParameterError(
                f"weights[{name!r}] must be a finite number >= 0, got {weight!r}."
            )
    return frozen


def _shown(names: Sequence[str], most: int = 8) -> str:
    listed = ", ".join(repr(name) for name in names[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"
