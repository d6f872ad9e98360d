"""What is asked: fairness constraints, independent of any framework.

Every notion here is one sentence: *the mean of a quantity over an event, compared across groups*.
A :class:`Rate` holds the quantity and the event; a :class:`Constraint` holds one or more rates and
the bound. Quantities and events use operators that NumPy arrays and PyTorch tensors share, so the
same object serves reductions, losses, Lagrangian training, boosting and metrics.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from fairtrain.exceptions import InvalidParameterError
from fairtrain.rates import (
    ERROR_RATE,
    FALSE_POSITIVE_RATE,
    LOSSES,
    SELECTION_RATE,
    TRUE_POSITIVE_RATE,
    Event,
    Quantity,
    Rate,
    prediction,
)

if TYPE_CHECKING:
    from fairlearn.reductions import Moment

__all__ = [
    "DEFAULT_DIFFERENCE_BOUND",
    "BoundedGroupLoss",
    "Constraint",
    "DemographicParity",
    "EqualOpportunity",
    "EqualizedOdds",
    "ErrorRateParity",
    "ParityConstraint",
    "PredictiveEquality",
    "RateParity",
    "as_constraints",
    "from_fairlearn",
]

DEFAULT_DIFFERENCE_BOUND = 0.05
"""Pairwise bound of a constraint that was given none: five percentage points."""


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """Base of all constraints: which rates, over which groups, how important.

    Parameters
    ----------
    over : str or sequence of str, optional
        Sensitive columns whose groups are compared. Default: the intersection of all of them.
    weights : mapping of str to float, optional
        Group name -> importance (default 1). A weight scales how strongly training reacts to that
        group's violation and, when not every bound can be kept, which violation costs more. It
        does not move the bound. Weight 0 leaves the group out.
    priority : int, default=0
        When several constraints cannot hold together, those of lower priority give way first.
    """

    notion: ClassVar[str] = "constraint"
    label_dependent: ClassVar[bool] = True

    over: str | tuple[str, ...] | Sequence[str] | None = None
    weights: Mapping[str, float] | Sequence[tuple[str, float]] | None = None
    priority: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.over, str):
            object.__setattr__(self, "over", (self.over,))
        elif self.over is not None:
            object.__setattr__(self, "over", tuple(self.over))
            if not self.over:
                raise InvalidParameterError("over=() names no column; leave it out to use all.")
            if not all(isinstance(name, str) for name in self.over):
                raise InvalidParameterError(f"over must name columns, got {self.over!r}.")
        if self.weights is not None:
            object.__setattr__(self, "weights", _frozen_weights(self.weights))

    @property
    def rates(self) -> tuple[Rate, ...]:
        """The rates that are compared across groups."""
        raise NotImplementedError(f"{type(self).__name__} defines no rates.")

    @property
    def kind(self) -> Literal["difference", "ratio", "upper"]:
        """What the bound limits."""
        raise NotImplementedError(f"{type(self).__name__} defines no kind of bound.")

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
        return self.notion if self.over is None else f"{self.notion} over {' x '.join(self.over)}"

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
    over, weights, priority
        See :class:`Constraint`.

    Raises
    ------
    InvalidParameterError
        If a bound lies outside its range or both bounds are given.
    """

    difference_bound: float | None = None
    ratio_bound: float | None = None
    reference: Literal["pairwise", "overall"] = "pairwise"
    ratio_slack: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_bounds(self.difference_bound, self.ratio_bound)
        if self.reference not in ("pairwise", "overall"):
            raise InvalidParameterError(
                f"reference must be 'pairwise' or 'overall', got {self.reference!r}."
            )
        _check_number("ratio_slack", self.ratio_slack)
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
        ``reference="overall"`` the translation is exact.
        """
        import fairlearn.reductions as fl

        name = _FAIRLEARN_NAMES.get(self.notion)
        if name is None:
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


@dataclass(frozen=True, kw_only=True)
class DemographicParity(ParityConstraint):
    r"""Every group receives the favourable decision equally often (Calders et al., 2009).

    Compares :math:`P[\hat Y = 1 \mid A = g]` over any two groups; fairlearn's class of the same
    name compares each group with the overall rate.

    Examples
    --------
    >>> DemographicParity(difference_bound=0.05).bound
    0.05
    """

    notion: ClassVar[str] = "demographic_parity"
    label_dependent: ClassVar[bool] = False

    @property
    def rates(self) -> tuple[Rate, ...]:
        """Selection rate."""
        return (SELECTION_RATE,)


@dataclass(frozen=True, kw_only=True)
class EqualOpportunity(ParityConstraint):
    r"""Equal true positive rates (Hardt, Price & Srebro, 2016, section 2).

    Compares :math:`P[\hat Y = 1 \mid A = g, Y = 1]`.
    """

    notion: ClassVar[str] = "equal_opportunity"

    @property
    def rates(self) -> tuple[Rate, ...]:
        """True positive rate."""
        return (TRUE_POSITIVE_RATE,)


@dataclass(frozen=True, kw_only=True)
class PredictiveEquality(ParityConstraint):
    r"""Equal false positive rates (Corbett-Davies et al., 2017).

    Compares :math:`P[\hat Y = 1 \mid A = g, Y = 0]`.
    """

    notion: ClassVar[str] = "predictive_equality"

    @property
    def rates(self) -> tuple[Rate, ...]:
        """False positive rate."""
        return (FALSE_POSITIVE_RATE,)


@dataclass(frozen=True, kw_only=True)
class EqualizedOdds(ParityConstraint):
    """Equal true positive *and* false positive rates (Hardt, Price & Srebro, 2016).

    The gap is the larger of the two gaps.
    """

    notion: ClassVar[str] = "equalized_odds"

    @property
    def depends_on_positive(self) -> bool:
        """Swapping the two labels swaps the two rates: their larger gap stays what it was."""
        return self.kind == "ratio"

    @property
    def rates(self) -> tuple[Rate, ...]:
        """False positive rate and true positive rate."""
        return (FALSE_POSITIVE_RATE, TRUE_POSITIVE_RATE)


@dataclass(frozen=True, kw_only=True)
class ErrorRateParity(ParityConstraint):
    r"""Equal shares of wrong decisions: :math:`P[\hat Y \ne Y \mid A = g]`."""

    notion: ClassVar[str] = "error_rate_parity"

    @property
    def depends_on_positive(self) -> bool:
        """Swapping the two labels leaves every error an error."""
        return False

    @property
    def rates(self) -> tuple[Rate, ...]:
        """Error rate."""
        return (ERROR_RATE,)


@dataclass(frozen=True, kw_only=True)
class RateParity(ParityConstraint):
    """A notion of your own: a quantity and an event, two small functions.

    Parameters
    ----------
    quantity : callable
        ``quantity(y, prediction)`` -> one number a row, from operators that NumPy and PyTorch
        share. ``y`` is 1 for the favourable outcome.
    event : callable, optional
        ``event(y)`` -> mask of the rows that count; all rows by default.
    label : str, default="rate_parity"
        Name used in reports.
    difference_bound, ratio_bound, over, weights, priority
        See :class:`ParityConstraint`.

    Notes
    -----
    Functions defined in a module can be pickled with the model, lambdas cannot.

    Examples
    --------
    Parity of false *negatives*, weighted as a cost of 2:

    >>> def missed(y, prediction):
    ...     return 2 * y * (1 - prediction)
    >>> RateParity(quantity=missed, label="missed cost", difference_bound=0.1).name
    'missed cost'
    """

    notion: ClassVar[str] = "rate_parity"

    quantity: Quantity = prediction
    event: Event | None = None
    label: str = "rate_parity"

    def __post_init__(self) -> None:
        super().__post_init__()
        for part, value in (("quantity", self.quantity), ("event", self.event)):
            if not callable(value) and not (part == "event" and value is None):
                raise InvalidParameterError(f"{part} must be a function, got {value!r}.")

    @property
    def name(self) -> str:
        """The label, with the columns it speaks about if it names any."""
        return self.label if self.over is None else f"{self.label} over {' x '.join(self.over)}"

    @property
    def rates(self) -> tuple[Rate, ...]:
        """The one rate that was given."""
        return (Rate(self.label, self.quantity, self.event, self.label),)


@dataclass(frozen=True, kw_only=True)
class BoundedGroupLoss(Constraint):
    r"""No group's mean loss exceeds a limit (Agarwal, Dudik & Wu, 2019).

    .. math:: E[\ell(Y, \hat Y) \mid A = g] \le \zeta \quad\text{for every group } g.

    The limit is absolute: no pairs are compared. It may be out of reach.

    Parameters
    ----------
    upper_bound : float > 0
        The limit :math:`\zeta`.
    loss : {"zero_one", "squared", "log_loss"} or callable, default="zero_one"
        A callable takes ``(y, prediction)`` and gives one number a row.
    over, weights, priority
        See :class:`Constraint`.
    """

    notion: ClassVar[str] = "bounded_group_loss"

    upper_bound: float
    loss: str | Quantity = "zero_one"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_number("upper_bound", self.upper_bound)
        if not 0 < self.upper_bound < math.inf:
            raise InvalidParameterError(f"upper_bound must be above 0, got {self.upper_bound!r}.")
        if not callable(self.loss) and self.loss not in LOSSES:
            raise InvalidParameterError(
                f"loss must be one of {sorted(LOSSES)} or a function, got {self.loss!r}."
            )

    @property
    def bound(self) -> float:
        """The upper bound."""
        return float(self.upper_bound)

    @property
    def kind(self) -> Literal["upper"]:
        """An absolute limit."""
        return "upper"

    @property
    def depends_on_positive(self) -> bool:
        """A loss of one's own may treat the labels differently."""
        return callable(self.loss)

    @property
    def rates(self) -> tuple[Rate, ...]:
        """The mean loss."""
        if callable(self.loss):
            return (Rate("loss", self.loss, None, "mean loss"),)
        return (LOSSES[self.loss],)

    def with_bounds(
        self, difference_bound: float | None = None, ratio_bound: float | None = None
    ) -> BoundedGroupLoss:
        """Reject a difference or ratio bound: there are no pairs here."""
        if difference_bound is None and ratio_bound is None:
            return self
        raise InvalidParameterError(
            "BoundedGroupLoss compares no pairs: set its upper_bound instead of difference_bound "
            "or ratio_bound."
        )

    def to_fairlearn(self) -> Moment:
        """Make fairlearn's ``BoundedGroupLoss`` (zero-one or squared loss)."""
        import fairlearn.reductions as fl

        if self.loss == "zero_one":
            return fl.BoundedGroupLoss(fl.ZeroOneLoss(), upper_bound=self.upper_bound)
        if self.loss == "squared":
            return fl.BoundedGroupLoss(fl.SquareLoss(0, 1), upper_bound=self.upper_bound)
        return super().to_fairlearn()


_FAIRLEARN_NAMES = {
    "demographic_parity": "DemographicParity",
    "equal_opportunity": "TruePositiveRateParity",
    "predictive_equality": "FalsePositiveRateParity",
    "equalized_odds": "EqualizedOdds",
    "error_rate_parity": "ErrorRateParity",
}

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
    for notion, name in _FAIRLEARN_NAMES.items():
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
        What is asked.
    difference_bound, ratio_bound : float, optional
        Replace the bounds of every constraint in ``spec``.

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
    _check_bounds(difference_bound, ratio_bound)
    items: Iterable[Any] = spec if isinstance(spec, list | tuple) else (spec,)
    constraints = tuple(
        _one_constraint(item).with_bounds(difference_bound, ratio_bound) for item in items
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


def _check_bounds(difference_bound: float | None, ratio_bound: float | None) -> None:
    if difference_bound is not None and ratio_bound is not None:
        raise InvalidParameterError("give difference_bound or ratio_bound, not both.")
    if difference_bound is not None:
        _check_number("difference_bound", difference_bound)
        if not 0 <= difference_bound <= 1:
            raise InvalidParameterError(
                f"difference_bound must lie in [0, 1], got {difference_bound!r}; write 5 % as 0.05."
            )
    if ratio_bound is not None:
        _check_number("ratio_bound", ratio_bound)
        if not 0 < ratio_bound <= 1:
            raise InvalidParameterError(
                f"ratio_bound must lie in (0, 1], got {ratio_bound!r}; the 80 % rule is 0.8."
            )


def _check_number(name: str, value: Any) -> None:
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
