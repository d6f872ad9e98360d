"""What is measured: the mean of a quantity over an event.

Quantities and events use operators that NumPy arrays and PyTorch tensors share, so that metrics,
reductions, losses and boosting read the same definition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

__all__ = [
    "ERROR_RATE",
    "FALSE_POSITIVE_RATE",
    "LOSSES",
    "NAMED_RATES",
    "POSITIVE_PREDICTIVE_VALUE",
    "SELECTION_RATE",
    "TRUE_POSITIVE_RATE",
    "ClippedLoss",
    "Event",
    "Quantity",
    "Rate",
    "of_true_class",
]

Quantity = Callable[[Any, Any], Any]
Event = Callable[[Any], Any]


@dataclass(frozen=True)
class Rate:
    r"""The mean of a quantity over an event, or over those of it who are decided one way.

    Precision is the mean of labels among those who are selected. Such a rate is a ratio of two
    numbers that are linear in decisions,

    .. math:: r = \frac{\sum_i a(y_i, d_i)\, q(y_i, d_i)}{\sum_i a(y_i, d_i)},

    and not linear itself. That it is at least m is linear, :math:`\sum_i a\,(q - m) \ge 0`: see
    :meth:`above`.

    Parameters
    ----------
    name : str
        Short name, such as ``"selection_rate"``.
    quantity : callable
        ``quantity(y, prediction)`` -> one number a row. ``y`` is 1 for the favourable outcome and
        0 otherwise; ``prediction`` lies in [0, 1]: a decision, or the probability of one.
    event : callable or None
        ``event(y)`` -> mask of the rows that count; None counts all rows.
    words : str
        The rate in plain words, with ``{outcome}`` where the favourable outcome's name goes.
    among : callable, optional
        ``among(y, prediction)`` -> share of the row that counts, where that is up to the decision:
        the prediction itself, or 1 less it.
    level : float, default=0
        What was subtracted from a rate by :meth:`above`.
    """

    name: str
    quantity: Quantity
    event: Event | None = None
    words: str = ""
    among: Quantity | None = None
    level: float = 0.0

    def mask(self, y: Any) -> Any:
        """Rows that belong to the event, as a boolean array or tensor."""
        return (y == y) if self.event is None else self.event(y)  # noqa: PLR0124

    def above(self, level: float) -> Rate:
        r"""Rate that is linear in decisions, and not below 0 where this one is not below a level.

        Parameters
        ----------
        level : float
            The level m.

        Returns
        -------
        Rate
            Mean over the event of :math:`4 a\,(q - m)`; 0 where nobody is decided that way.
        """
        assert self.among is not None
        excess = Excess(self.quantity, self.among, level)
        return replace(self, quantity=excess, among=None, level=level)


@dataclass(frozen=True)
class Excess:
    """How far a quantity lies above a level, of the share of a row that counts.

    Four times as far, so that tolerances and prices mean about as much as those of other rates:
    where a quarter is selected, a point of the mean is a point of precision.
    """

    quantity: Quantity
    among: Quantity
    level: float

    def __call__(self, y: Any, p: Any) -> Any:
        """One number a row, in [-4, 4]."""
        return 4 * self.among(y, p) * (self.quantity(y, p) - self.level)


def prediction(y: Any, p: Any) -> Any:
    """Quantity of selection, true positive and false positive rates: the prediction itself."""
    return p


def error(y: Any, p: Any) -> Any:
    """Probability that the decision differs from the label: ``y (1 - p) + (1 - y) p``."""
    return y + p - 2 * y * p


def rejection(y: Any, p: Any) -> Any:
    """Quantity of false and true negative rates: the unfavourable decision."""
    return 1 - p


def label(y: Any, p: Any) -> Any:
    """Quantity of predictive values: whether the label is the favourable one."""
    return y


def other_label(y: Any, p: Any) -> Any:
    """Whether the label is not the favourable one."""
    return 1 - y


def agreement(y: Any, p: Any) -> Any:
    """Probability that the decision is the label."""
    return 1 - error(y, p)


def squared_error(y: Any, p: Any) -> Any:
    """Squared difference of label and prediction."""
    return (y - p) ** 2


def absolute_error(y: Any, p: Any) -> Any:
    """Distance of label and prediction."""
    return abs(y - p)


@dataclass(frozen=True)
class ClippedLoss:
    r"""Distance of label and prediction in a range, to a power: fairlearn's losses.

    .. math:: |\operatorname{clip}(y) - \operatorname{clip}(p)|^{\text{power}}

    Parameters
    ----------
    power : {1, 2}
        fairlearn's ``AbsoluteLoss`` or ``SquareLoss``.
    low, high : float
        Ends of the range.
    """

    power: int
    low: float
    high: float

    def __call__(self, y: Any, p: Any) -> Any:
        """One number a row."""
        return abs(y.clip(self.low, self.high) - p.clip(self.low, self.high)) ** self.power

    def to_fairlearn(self) -> Any:
        """Make fairlearn's loss."""
        import fairlearn.reductions as fl

        return (fl.AbsoluteLoss if self.power == 1 else fl.SquareLoss)(self.low, self.high)


def log_loss(y: Any, p: Any) -> Any:
    """Negative log likelihood of the label, in nats; probabilities are kept 1e-7 from 0 and 1."""
    p = p.clip(1e-7, 1 - 1e-7)
    log: Callable[[Any], Any] = (lambda t: t.log()) if hasattr(p, "log") else np.log
    return -(y * log(p) + (1 - y) * log(1 - p))


def is_positive(y: Any) -> Any:
    """Event: rows whose label is the favourable one."""
    return y == 1


def is_negative(y: Any) -> Any:
    """Event: rows whose label is not the favourable one."""
    return y == 0


SELECTION_RATE = Rate("selection_rate", prediction, None, "share predicted {outcome}")
TRUE_POSITIVE_RATE = Rate(
    "true_positive_rate", prediction, is_positive, "share predicted {outcome} among true {outcome}"
)
FALSE_POSITIVE_RATE = Rate(
    "false_positive_rate",
    prediction,
    is_negative,
    "share predicted {outcome} among true not {outcome}",
)
ERROR_RATE = Rate("error_rate", error, None, "share decided wrongly")
POSITIVE_PREDICTIVE_VALUE = Rate(
    "positive_predictive_value",
    label,
    None,
    "share truly {outcome} among predicted {outcome}",
    among=prediction,
)

NAMED_RATES: dict[str, Rate] = {
    "selection_rate": SELECTION_RATE,
    "true_positive_rate": TRUE_POSITIVE_RATE,
    "recall": TRUE_POSITIVE_RATE,
    "false_positive_rate": FALSE_POSITIVE_RATE,
    "false_negative_rate": Rate(
        "false_negative_rate",
        rejection,
        is_positive,
        "share predicted not {outcome} among true {outcome}",
    ),
    "true_negative_rate": Rate(
        "true_negative_rate",
        rejection,
        is_negative,
        "share predicted not {outcome} among true not {outcome}",
    ),
    "positive_predictive_value": POSITIVE_PREDICTIVE_VALUE,
    "precision": POSITIVE_PREDICTIVE_VALUE,
    "false_discovery_rate": Rate(
        "false_discovery_rate",
        other_label,
        None,
        "share truly not {outcome} among predicted {outcome}",
        among=prediction,
    ),
    "negative_predictive_value": Rate(
        "negative_predictive_value",
        other_label,
        None,
        "share truly not {outcome} among predicted not {outcome}",
        among=rejection,
    ),
    "false_omission_rate": Rate(
        "false_omission_rate",
        label,
        None,
        "share truly {outcome} among predicted not {outcome}",
        among=rejection,
    ),
    "error_rate": ERROR_RATE,
    "accuracy": Rate("accuracy", agreement, None, "share decided rightly"),
}
"""Rates of decisions by name; "recall" is the true positive rate, and "precision" the positive
predictive value."""

LOSSES: dict[str, Rate] = {
    "zero_one": Rate("zero_one_loss", error, None, "share decided wrongly"),
    "squared": Rate("squared_loss", squared_error, None, "mean squared error"),
    "absolute": Rate("absolute_loss", absolute_error, None, "mean absolute error"),
    "log_loss": Rate("log_loss", log_loss, None, "mean log loss"),
}


_OF_TRUE_CLASS = (error, agreement, squared_error, absolute_error, log_loss)


def of_true_class(rate: Rate) -> bool:
    """Whether a rate of several classes is one of the true class alone, as errors are."""
    return rate.event is None and rate.quantity in _OF_TRUE_CLASS
