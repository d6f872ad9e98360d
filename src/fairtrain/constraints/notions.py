"""The notions of fairness, each a rate or two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from fairtrain._parameters import FUNCTION, NONE, Choice, Of, Real, Table
from fairtrain.constraints.base import Constraint, ParityConstraint
from fairtrain.constraints.rates import (
    ERROR_RATE,
    FALSE_POSITIVE_RATE,
    LOSSES,
    NAMED_RATES,
    SELECTION_RATE,
    TRUE_POSITIVE_RATE,
    ClippedLoss,
    Event,
    Quantity,
    Rate,
    prediction,
)
from fairtrain.exceptions import InvalidParameterError

if TYPE_CHECKING:
    from fairlearn.reductions import Moment

__all__ = [
    "BoundedGroupLoss",
    "DemographicParity",
    "EqualOpportunity",
    "EqualizedOdds",
    "ErrorRateParity",
    "Limit",
    "PredictiveEquality",
    "PredictiveParity",
    "RateParity",
]


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
class PredictiveParity(ParityConstraint):
    r"""Equal precision: favourable decisions are as often right (Chouldechova, 2017).

    Compares :math:`P[Y = 1 \mid A = g, \hat Y = 1]`. Where base rates differ and some, not all,
    favourable decisions are wrong, none have this and equalized odds both (Chouldechova, 2017,
    section 2.1). A group of whom
    nobody is selected has no precision.

    Parameters
    ----------
    rate : str, default="positive_predictive_value"
        Or ``"false_discovery_rate"``, which differs by as much and has another ratio;
        ``"negative_predictive_value"`` or ``"false_omission_rate"`` of those who are not selected.
    difference_bound, ratio_bound, over, given, weights, priority
        See :class:`ParityConstraint`. Precision has no average over strata by weights that do not
        depend on decisions, and groups are compared with each other: ``pooled`` and
        ``reference="overall"`` are refused.

    Examples
    --------
    >>> PredictiveParity(difference_bound=0.05).rates[0].name
    'positive_predictive_value'
    """

    notion: ClassVar[str] = "predictive_parity"

    _allowed: ClassVar[Table] = {
        "rate": Choice(*(name for name, rate in NAMED_RATES.items() if rate.among is not None))
    }

    rate: str = "positive_predictive_value"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pooled or self.reference == "overall":
            raise InvalidParameterError(
                f"{self.notion} compares groups with each other, in every stratum by itself: leave "
                "out pooled and reference."
            )

    @property
    def rates(self) -> tuple[Rate, ...]:
        """The predictive value that is compared."""
        return (NAMED_RATES[self.rate],)

    @property
    def name(self) -> str:
        """The notion, with the rate if it is not precision, and the columns it speaks about."""
        usual = self.rates[0] is NAMED_RATES["precision"]
        return f"{self.notion}{'' if usual else f' of {self.rate}'}{self._scope}"


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
    difference_bound, ratio_bound, over, given, pooled, weights, priority
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

    _allowed: ClassVar[Table] = {
        "quantity": FUNCTION,
        "event": FUNCTION | NONE,
        "label": Of("be a name", str),
    }

    quantity: Quantity = prediction
    event: Event | None = None
    label: str = "rate_parity"

    @property
    def name(self) -> str:
        """The label, with the columns it speaks about if it names any."""
        return f"{self.label}{self._scope}"

    @property
    def rates(self) -> tuple[Rate, ...]:
        """The one rate that was given."""
        return (Rate(self.label, self.quantity, self.event, self.label),)


class Limit(Constraint):
    """A bound on every group's rate by itself: no pairs are compared."""

    _number: ClassVar[str]  # the setting that holds the bound

    def with_bounds(
        self, difference_bound: float | None = None, ratio_bound: float | None = None
    ) -> Self:
        """Reject a difference or ratio bound: there are no pairs here."""
        if difference_bound is None and ratio_bound is None:
            return self
        raise InvalidParameterError(
            f"{type(self).__name__} compares no pairs: set its {self._number} instead of "
            "difference_bound or ratio_bound."
        )


@dataclass(frozen=True, kw_only=True)
class BoundedGroupLoss(Limit):
    r"""No group's mean loss exceeds a limit (Agarwal, Dudik & Wu, 2019).

    .. math:: E[\ell(Y, \hat Y) \mid A = g] \le \zeta \quad\text{for every group } g.

    The limit is absolute: no pairs are compared. It may be out of reach.

    Parameters
    ----------
    upper_bound : float > 0
        The limit :math:`\zeta`.
    loss : {"zero_one", "squared", "absolute", "log_loss"} or callable, default="zero_one"
        A callable takes ``(y, prediction)`` and gives one number a row.
    over, given, pooled, weights, priority
        See :class:`Constraint`.
    """

    notion: ClassVar[str] = "bounded_group_loss"
    _number: ClassVar[str] = "upper_bound"

    _allowed: ClassVar[Table] = {
        "upper_bound": Real(0, ends="()"),
        "loss": Choice(*LOSSES) | FUNCTION,
    }

    upper_bound: float
    loss: str | Quantity = "zero_one"

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
        return callable(self.loss) and not isinstance(self.loss, ClippedLoss)

    @property
    def rates(self) -> tuple[Rate, ...]:
        """The mean loss."""
        if callable(self.loss):
            return (Rate("loss", self.loss, None, "mean loss"),)
        return (LOSSES[self.loss],)

    def to_fairlearn(self) -> Moment:
        """Make fairlearn's ``BoundedGroupLoss`` (all but log loss and functions)."""
        import fairlearn.reductions as fl

        named = {"zero_one": fl.ZeroOneLoss(), "squared": fl.SquareLoss(0, 1)}
        named["absolute"] = fl.AbsoluteLoss(0, 1)
        loss = self.loss.to_fairlearn() if isinstance(self.loss, ClippedLoss) else None
        loss = named.get(self.loss) if isinstance(self.loss, str) else loss
        if loss is None:
            return super().to_fairlearn()
        return fl.BoundedGroupLoss(loss, upper_bound=self.upper_bound)
