"""What is optimised beside what is asked: costs of errors, or a measure of decisions or scores.

One vocabulary for all methods. An objective is a number, larger is better. Where it is linear in
decisions, or a ratio of two that are, it is known what the two errors cost, and training uses that;
any objective can choose: an iterate, a round, a mixture, a point of a frontier.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fairtrain._parameters import Real, Table, check_parameters
from fairtrain._text import one_line
from fairtrain.constraints.rates import log_loss
from fairtrain.data.labels import LabelCoding
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

__all__ = [
    "BINS",
    "OBJECTIVES",
    "ErrorCosts",
    "Objective",
    "area_under_curve",
    "as_costs",
    "as_objective",
    "as_said",
    "balanced_accuracy",
    "binned",
]

Floats = NDArray[np.float64]
Measure = Callable[[Floats, Floats, Floats], float]
"""``measure(y, decision or score, weight)``: larger is better."""

BINS = 1000
"""Of scores, where rows are summed rather than kept; even, so that decisions are known."""

_WORDS = {"roc_auc": "auc"}
_COSTS = {"false_positive", "false_negative"}


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

    @property
    def equal(self) -> bool:
        """Whether both errors cost the same: accuracy is then what counts."""
        return self.false_positive == self.false_negative

    def relative(self, share: float) -> tuple[float, float]:
        """Costs of the two errors, so that their mean over labels is 1.

        Parameters
        ----------
        share : float
            Share of favourable labels.
        """
        mean = share * self.false_negative + (1 - share) * self.false_positive
        mean = mean or 1.0  # labels of which errors cost nothing
        return self.false_positive / mean, self.false_negative / mean


@dataclass(frozen=True)
class Objective:
    """A number to be large, and what it says of the two errors.

    Attributes
    ----------
    name : str
        In words for messages.
    measure : callable
        ``measure(y, decision or score, weight)`` -> float, of favourable labels as 1.
    scored : bool, default=False
        Whether it reads scores; decisions otherwise.
    costs_at : callable, optional
        ``costs_at(share, value)`` -> :class:`ErrorCosts` under which the best decisions improve on
        ``value``, given the share of favourable labels; None where no such costs are known.
    settled : bool, default=True
        Whether costs do not depend on ``value``.
    symmetric : bool, default=False
        Whether it treats both labels alike, so that none has to be named the favourable one.

    Notes
    -----
    F1 is a ratio of two linear functions of decisions: whatever beats the value t has a positive
    ``2 TP (1 - t) - t FP - t FN``, and so the best decisions at the costs t/2 and 1 - t/2 are, once
    t is their own F1, the best of all (Dinkelbach, 1967; Koyejo et al., 2014).
    """

    name: str
    measure: Measure
    scored: bool = False
    costs_at: Callable[[float, float], ErrorCosts] | None = None
    settled: bool = True
    symmetric: bool = False

    def __call__(self, y: Any, decision: Any, score: Any = None, weight: Any = None) -> float:
        """Value on some rows.

        Parameters
        ----------
        y : array-like of shape (n,)
            1 for the favourable label, else 0.
        decision : array-like of shape (n,)
            1 for the favourable decision, or its chance.
        score : array-like of shape (n,), optional
            What ``decision`` rests on; the decisions themselves, if left out.
        weight : array-like of shape (n,), optional
            Weights of the rows.

        Returns
        -------
        float
            NaN where it is not defined, such as an AUC of one label.
        """
        given = decision if not self.scored or score is None else score
        y, p = np.asarray(y, dtype=np.float64), np.asarray(given, dtype=np.float64)
        mass = np.ones(len(y)) if weight is None else np.asarray(weight, dtype=np.float64)
        return float(self.measure(y, p, mass))

    def of_bins(self, bins: Floats) -> float:
        """Value on rows that :func:`binned` summed; NaN where there are none."""
        used = np.flatnonzero(bins > 0)
        place = used % BINS
        if not len(used):
            return float("nan")
        decided = (place >= BINS // 2).astype(np.float64)
        return self(used // BINS, decided, (place + 0.5) / BINS, bins[used])

    @property
    def is_accuracy(self) -> bool:
        """Whether it is the usual one."""
        return self.name == "accuracy"

    def best_constant(
        self, y: Any, weight: Any = None, alike: Sequence[float] = (0.0, 1.0)
    ) -> float:
        """Value of the best of these decisions, or of one score, that is the same for all."""
        y = np.asarray(y, dtype=np.float64)
        if self.scored:
            alike = (float(np.average(y, weights=weight)),)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as of a precision without positives
            values = [self(y, np.full(len(y), d), weight=weight) for d in alike]
        return max((v for v in values if np.isfinite(v)), default=float("nan"))

    def costs(self, share: float, value: float = 0.5) -> ErrorCosts:
        """Costs that training uses: its own, or those of accuracy where it only chooses."""
        return ErrorCosts() if self.costs_at is None else self.costs_at(share, value)


def binned(
    y: Floats,
    score: Floats,
    decision: NDArray[Any],
    weight: Floats | None = None,
    sums: Callable[[Floats, NDArray[np.int64], int], Floats] | None = None,
) -> Floats:
    """Weights by label and score, of which any objective is known to a thousandth of a score.

    Sums cross borders of processes and batches, where rows do not.

    Parameters
    ----------
    y, score, decision : ndarray of shape (n,)
        Labels 0/1, scores in [0, 1], and whether they decide favourably.
    weight : ndarray of shape (n,), optional
        Weights of the rows.
    sums : callable, optional
        ``sums(values, codes, size)``; over several processes where there are any.

    Returns
    -------
    ndarray of shape (2 * BINS,)
    """
    place = np.clip((score * BINS).astype(np.int64), 0, BINS - 1)
    half = BINS // 2
    place = np.where(decision > 0, np.maximum(place, half), np.minimum(place, half - 1))
    codes = y.astype(np.int64) * BINS + place
    mass = np.ones(len(y)) if weight is None else np.asarray(weight, dtype=np.float64)
    if sums is None:
        return np.bincount(codes, weights=mass, minlength=2 * BINS).astype(np.float64)
    return np.asarray(sums(mass, codes, 2 * BINS))


def accuracy(y: Floats, decision: Floats, weight: Floats) -> float:
    """Share of right decisions."""
    return float(np.average(1 - np.abs(y - decision), weights=weight))


def balanced_accuracy(y: Floats, decision: Floats, weight: Floats) -> float:
    """Mean over labels of the share of right decisions; of the labels that there are."""
    right = 1 - np.abs(y - decision)
    kinds = [np.average(right[own], weights=weight[own]) for own in (y == 0, y == 1)
             if weight[own].sum() > 0]  # fmt: skip
    return float(np.mean(kinds)) if kinds else float("nan")


def f1(y: Floats, decision: Floats, weight: Floats) -> float:
    """2 TP / (2 TP + FP + FN) of the favourable label; 0 where nobody gets it or has it."""
    both = float(weight @ y + weight @ decision)
    return float(2 * (weight @ (y * decision)) / both) if both else 0.0


def area_under_curve(y: Floats, score: Floats, weight: Floats) -> float:
    """Weighted Mann-Whitney statistic; ties count half, and NaN stands for one label alone."""
    _, place = np.unique(score, return_inverse=True)
    positive, negative = np.bincount(place, weight * y), np.bincount(place, weight * (1 - y))
    below = np.cumsum(negative) - negative
    pairs = positive.sum() * negative.sum()
    return float(positive @ (below + negative / 2) / pairs) if pairs else float("nan")


def _likelihood(y: Floats, score: Floats, weight: Floats) -> float:
    return -float(np.average(log_loss(y, score), weights=weight))


def _cost(costs: ErrorCosts, y: Floats, decision: Floats, weight: Floats) -> float:
    wrong = y * (1 - decision) * costs.false_negative + (1 - y) * decision * costs.false_positive
    return -float(np.average(wrong, weights=weight))


def _alike(share: float, value: float) -> ErrorCosts:
    return ErrorCosts()


def _by_share(share: float, value: float) -> ErrorCosts:
    return ErrorCosts(share, 1 - share)


def _by_value(share: float, value: float) -> ErrorCosts:
    return ErrorCosts(value / 2, 1 - value / 2)


def _given(costs: ErrorCosts, share: float, value: float) -> ErrorCosts:
    return costs


OBJECTIVES: dict[str, Objective] = {
    one.name: one
    for one in (
        Objective("accuracy", accuracy, costs_at=_alike, symmetric=True),
        Objective("balanced_accuracy", balanced_accuracy, costs_at=_by_share, symmetric=True),
        Objective("f1", f1, costs_at=_by_value, settled=False),
        Objective("auc", area_under_curve, scored=True, symmetric=True),
        Objective("log_loss", _likelihood, scored=True, symmetric=True),
    )
}
"""Objectives by name; "roc_auc" is "auc", and "log_loss" has its sign turned: larger is better."""


_LOSSES = ("cost", "log_loss")


def as_said(objective: str, value: float) -> float:
    """Give a value as people name it: costs and losses above 0, of which less is better.

    Examples
    --------
    >>> as_said("cost", -0.25), as_said("f1", 0.5)
    (0.25, 0.5)
    """
    return 0.0 - value if objective.replace(" ", "_") in _LOSSES else value


def as_objective(spec: Any, labels: LabelCoding | None = None) -> Objective:
    """Read what is optimised: a word, costs, or a function.

    Parameters
    ----------
    spec : str, ErrorCosts, mapping, array, fairlearn's ErrorRate, Objective or callable
        - "accuracy", "balanced_accuracy", "f1", "auc" or "log_loss";
        - :class:`ErrorCosts`, fairlearn's ``ErrorRate(costs=...)``, or a mapping with the names
          ``false_positive`` and ``false_negative``, or labels, to the cost of an error about
          somebody of that label; one left out costs 1;
        - a 2 x 2 matrix of costs, a row a true and a column a decided label, in the order of
          ``classes_`` (without ``labels``: unfavourable, favourable);
        - a function ``(y, decision, weight)``, larger is better, of 1 for the favourable label and
          decision. It gets scores where its second argument is called ``score``, ``y_score`` or
          ``y_proba``; weights as the keyword ``sample_weight``, if it has one, as scikit-learn's
          metrics do.
    labels : LabelCoding, optional
        What labels mean; needed for costs by label.

    Returns
    -------
    Objective

    Raises
    ------
    InvalidParameterError
        If it is none of these.

    Examples
    --------
    >>> as_objective({"false_negative": 4})([1, 0], [0, 0])  # a mean cost, with its sign turned
    -2.0
    """
    if isinstance(spec, Objective):
        return spec
    if isinstance(spec, str) and (name := _WORDS.get(spec, spec)) in OBJECTIVES:
        return OBJECTIVES[name]
    costs = _read_costs(spec, labels)
    if costs is not None:
        by_label = isinstance(spec, Mapping | Sequence | np.ndarray) and not _names_errors(spec)
        return Objective(
            "cost",
            partial(_cost, costs),
            costs_at=partial(_given, costs),
            symmetric=costs.equal or by_label,
        )
    if callable(spec) and not isinstance(spec, type):
        return _of_function(spec)
    words = ", ".join(map(repr, OBJECTIVES))
    raise InvalidParameterError(
        "objective must be 'accuracy', ErrorCosts or {'false_positive': cost, 'false_negative': "
        f"cost}}, costs by label or as a matrix, one of {words}, or a function of (y, decision, "
        f"weight), got {one_line(repr(spec))}."
    )


def as_costs(objective: Any, labels: LabelCoding | None = None) -> ErrorCosts:
    """Read an objective that is nothing but what the two errors cost.

    Parameters
    ----------
    objective : "accuracy", ErrorCosts, mapping, array or fairlearn.reductions.ErrorRate
        See :func:`as_objective`.
    labels : LabelCoding, optional
        What labels mean; needed for costs by label.

    Returns
    -------
    ErrorCosts

    Raises
    ------
    InvalidParameterError
        If it is none of these.
    """
    read = as_objective(objective, labels)
    if read.name not in ("accuracy", "cost"):
        raise InvalidParameterError(
            "objective must be 'accuracy', ErrorCosts or {'false_positive': cost, "
            "'false_negative': cost} where a linear program mixes models, got "
            f"{read.name!r}; FairPlugInClassifier and LagrangianBoostingClassifier seek others."
        )
    return read.costs(0.5)


def _read_costs(spec: Any, labels: LabelCoding | None) -> ErrorCosts | None:
    """Costs, if that is what it is."""
    if isinstance(spec, ErrorCosts):
        return spec
    if _names_errors(spec):
        return ErrorCosts(**spec)
    if isinstance(spec, Mapping):
        return _by_label(spec, labels)
    if hasattr(spec, "fp_cost") and hasattr(spec, "fn_cost"):
        return ErrorCosts(float(spec.fp_cost), float(spec.fn_cost))
    sequence = isinstance(spec, Sequence | np.ndarray) and not isinstance(spec, str)
    return _of_matrix(spec, labels) if sequence else None


def _by_label(spec: Mapping[Any, Any], labels: LabelCoding | None) -> ErrorCosts | None:
    known = [] if labels is None else labels.labels.tolist()
    if not spec or len(known) != 2 or not set(spec) <= set(known):
        return None
    return ErrorCosts(*(spec.get(label, 1.0) for label in known))


def _names_errors(spec: Any) -> bool:
    return isinstance(spec, Mapping) and bool(spec) and set(spec) <= _COSTS


def _of_matrix(spec: Any, labels: LabelCoding | None) -> ErrorCosts | None:
    try:
        matrix = np.asarray(spec, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    if matrix.shape != (2, 2) or not np.isfinite(matrix).all():
        return None
    if labels is not None and labels.column == 0:
        matrix = matrix[::-1, ::-1]
    extra = matrix[0, 1] - matrix[0, 0], matrix[1, 0] - matrix[1, 1]
    if min(extra) < 0:
        raise InvalidParameterError(
            "objective: in a matrix of costs an error may not cost less than the right decision "
            f"about the same label, got {matrix.tolist()}."
        )
    return ErrorCosts(float(extra[0]), float(extra[1]))


def _of_function(function: Callable[..., Any]) -> Objective:
    inner = function.func if isinstance(function, partial) else function
    name = str(getattr(inner, "__name__", type(inner).__name__))
    parameters = inspect.signature(function).parameters
    ordered = [p.name for p in parameters.values() if p.kind is not p.KEYWORD_ONLY]
    keyword = "sample_weight" if "sample_weight" in parameters else None
    if len(ordered) < (2 if keyword else 3):
        raise InvalidParameterError(
            f"objective: {name} must take (y, decision, weight), or weights as sample_weight=."
        )
    scored = any(word in ordered[1] for word in ("score", "prob"))
    return Objective(name, partial(_called, function, name, keyword, scored), scored)


def _called(
    function: Callable[..., Any],
    name: str,
    keyword: str | None,
    scored: bool,
    y: Floats,
    p: Floats,
    weight: Floats,
) -> float:
    if not scored and ((p > 0) & (p < 1)).any():  # decided by lot: a row stands for both
        y, weight = np.tile(y, 2), np.concatenate([weight * (1 - p), weight * p])
        p = np.repeat([0.0, 1.0], len(p))
        y, p, weight = (column[weight > 0] for column in (y, p, weight))
    y, p = y.astype(np.int64), p if scored else p.astype(np.int64)
    value = function(y, p, **{keyword: weight}) if keyword else function(y, p, weight)
    if not isinstance(value, float | int | np.floating | np.integer):
        raise InvalidDataError(
            f"objective: {name} must give one number, got {type(value).__name__}."
        )
    return float(value)
