"""How good and how fair a fitted model is on rows that did not train it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairtrain.constraints import Constraint, as_constraints
from fairtrain.data import inputs
from fairtrain.data.groups import Groups, GroupScheme
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.metrics.cells import cell_means
from fairtrain.metrics.intervals import wilson
from fairtrain.metrics.outcomes import report_on_classes
from fairtrain.metrics.report import NEAR_CONSTANT, FairnessReport, report_on
from fairtrain.metrics.verdicts import RowsRole

__all__ = ["PERFORMANCES", "HeldRows", "Score", "Scorer", "read_metric"]

Floats = NDArray[np.float64]

PERFORMANCES = ("accuracy", "balanced_accuracy", "roc_auc")
"""Names that ``performance=`` takes."""

_RESAMPLES, _SKETCH = 200, 128


@dataclass(frozen=True)
class Score:
    """Performance and gap with their limits; NaN where a callable gives no interval."""

    performance: float
    performance_lower: float
    performance_upper: float
    gap: float
    gap_lower: float
    gap_upper: float
    near_constant: bool


@dataclass(frozen=True)
class Scorer:
    """Scores models on one set of rows.

    Parameters
    ----------
    metric : tuple of Constraint, or callable
        What the gap is: the largest that any of the constraints limits, or a function
        ``(y_true, y_pred, sensitive_features) -> float``.
    performance : str or callable
        One of :data:`PERFORMANCES`, or a function ``(y_true, y_pred) -> float``.
    classes : ndarray of shape (C,)
        Labels; with two of them the second is the favourable one.
    scheme : GroupScheme
        The groups.
    confidence : float
        Level of the intervals.
    seed : int
        Source of the bootstrap's draws.
    """

    metric: tuple[Constraint, ...] | Callable[[Any, Any, Any], float]
    performance: str | Callable[[Any, Any], float]
    classes: NDArray[Any]
    scheme: GroupScheme
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if not callable(self.performance) and self.performance not in PERFORMANCES:
            raise InvalidParameterError(
                f"performance must be a function or one of {', '.join(PERFORMANCES)}, got "
                f"{self.performance!r}."
            )

    @property
    def performance_name(self) -> str:
        """What performance is, in words."""
        return _name_of(self.performance).replace("_", " ")

    @property
    def gap_name(self) -> str:
        """What the gap is, in words."""
        if callable(self.metric):
            return _name_of(self.metric).replace("_", " ")
        return ", ".join(dict.fromkeys(c.name.replace("_", " ") for c in self.metric)) + " gap"

    def __call__(self, model: Any, rows: HeldRows) -> Score:
        """Score one model."""
        decided = rows.decide(model, self.classes)
        report = None if callable(self.metric) else self.report(decided, rows, "steering")
        performance = self._performance(model, decided, rows)
        if report is None:
            assert callable(self.metric)
            found = rows.ask(self.metric, self._labels(decided))
            return Score(*performance, found, math.nan, math.nan, _constant(decided))
        achieved, lower, upper = (
            max(getattr(result, name) for result in report.results)
            for name in ("achieved", "lower", "upper")
        )
        return Score(*performance, achieved, lower, upper, report.near_constant)

    def report(
        self,
        decided: Floats,
        rows: HeldRows,
        role: RowsRole,
        constraints: Sequence[Constraint] | None = None,
    ) -> FairnessReport:
        """Report on decisions.

        Parameters
        ----------
        decided : ndarray of shape (n, C)
            Probability of deciding for each class.
        rows : HeldRows
            The rows.
        role : {"certification", "steering", "training"}
            What they were used for.
        constraints : sequence of Constraint, optional
            What is judged, if not ``metric``.
        """
        asked = self.metric if constraints is None else tuple(constraints)
        assert not callable(asked)
        target = rows.class_numbers(self.classes)
        groups = Groups(self.scheme, rows.codes(self.scheme))
        if len(self.classes) > 2:
            return report_on_classes(
                target, decided, groups, rows.weight, asked, self.classes.tolist(),
                rows=role, confidence=self.confidence,
            )  # fmt: skip
        data = Rows.judged(
            target.astype(np.float64),
            decided[:, 1],
            groups,
            rows.weight,
            favourable=self.classes[1],
        )
        return report_on(data, asked, rows=role, confidence=self.confidence)

    def _labels(self, decided: Floats) -> NDArray[Any]:
        return np.asarray(self.classes[decided.argmax(axis=1)])

    def _performance(
        self, model: Any, decided: Floats, rows: HeldRows
    ) -> tuple[float, float, float]:
        n = len(decided)
        weight = np.ones(n) if rows.weight is None else rows.weight
        target = rows.class_numbers(self.classes)
        if callable(self.performance):
            value = float(self.performance(rows.y, self._labels(decided)))
            return value, math.nan, math.nan
        if self.performance == "accuracy":
            right = cell_means(decided[np.arange(n), target], np.zeros(n, np.int64), 1, rows.weight)
            limits = wilson(right.mean, right.effective, self.confidence)
            return float(right.mean[0]), float(limits[0][0]), float(limits[1][0])
        if self.performance == "roc_auc":
            measure = _auc_of(rows.scores(model, decided, self.classes), target)
        else:
            measure = _balanced_accuracy_of(decided, target)
        random = np.random.RandomState(self.seed)
        draws = [
            measure(weight * np.bincount(random.randint(0, n, n), minlength=n))
            for _ in range(_RESAMPLES)
        ]
        tail = 50 * (1 - self.confidence)
        known = np.array(draws)[np.isfinite(draws)]
        low, high = np.percentile(known, [tail, 100 - tail]) if len(known) else (math.nan,) * 2
        return measure(weight), float(low), float(high)


class HeldRows:
    """Rows that models are scored on.

    Parameters
    ----------
    X, y : array-like of n rows
        Features and labels.
    sensitive_features
        Who.
    sample_weight : array-like of shape (n,), optional
        Weights.
    """

    def __init__(self, X: Any, y: Any, sensitive_features: Any, sample_weight: Any = None) -> None:
        inputs.require_same_index(
            X=X, y=y, sensitive_features=sensitive_features, sample_weight=sample_weight
        )
        self.X = X
        self.y = inputs.column_of_labels(y)
        self.sensitive_features = sensitive_features
        inputs.check_lengths(inputs.number_of_rows(X), y=self.y)
        self.weight = inputs.as_sample_weight(sample_weight, len(self.y))

    def codes(self, scheme: GroupScheme) -> NDArray[np.int64]:
        """Groups of the rows; one that training never saw raises."""
        codes: NDArray[np.int64] = scheme.encode(self.sensitive_features)
        inputs.check_lengths(len(self.y), sensitive_features=codes)
        return codes

    def class_numbers(self, classes: NDArray[Any]) -> NDArray[np.int64]:
        """Position of each row's label among the classes."""
        inputs.require_known_labels(self.y, classes)
        return _numbers(self.y, classes)

    def ask(self, metric: Callable[..., float], decided: NDArray[Any]) -> float:
        """Gap by a function of the user's, which may want the groups by name."""
        kinds = inspect.signature(metric).parameters
        who = kinds.get("sensitive_features")
        if who is not None and who.kind is inspect.Parameter.KEYWORD_ONLY:
            gap = float(metric(self.y, decided, sensitive_features=self.sensitive_features))
        else:
            gap = float(metric(self.y, decided, self.sensitive_features))
        if gap < 0:
            raise InvalidParameterError(
                f"metric gave {gap:g}: a gap is 0 or more; take the absolute value."
            )
        return gap

    def sketch(self) -> frozenset[int]:
        """The smallest hashes of the rows: enough to know all, or a good part of them, again."""
        return frozenset(sorted(self.hashes())[:_SKETCH])

    def hashes(self) -> frozenset[int]:
        """A number for every row, whatever its place and its index."""
        X = self.X.detach().cpu().numpy() if hasattr(self.X, "detach") else self.X
        X = X.toarray() if hasattr(X, "toarray") else X
        X = X.to_pandas() if hasattr(X, "to_pandas") else X
        table = pd.DataFrame(np.reshape(X, (self.n, -1)) if isinstance(X, np.ndarray) else X)
        is_number = pd.api.types.is_numeric_dtype
        columns = [
            column.astype(np.float32) if is_number(column) else column.astype(str)
            for _, column in table.items()
        ]
        plain = pd.concat(columns, axis=1) if columns else table
        return frozenset(pd.util.hash_pandas_object(plain, index=False).tolist())

    def decide(self, model: Any, classes: NDArray[Any]) -> Floats:
        """Probability of deciding for each class, shape (n, C); 0 and 1 where nothing is drawn."""
        shares = getattr(model, "decision_proba", None)
        if shares is not None:
            found = np.asarray(shares(self.X))
            order = _numbers(np.asarray(model.classes_), classes)
            columns: Floats = np.empty_like(found)
            columns[:, order] = found
            return columns
        predicted = inputs.as_vector(model.predict(self.X), "predictions")
        inputs.require_known_labels(predicted, classes)
        return np.asarray(np.eye(len(classes))[_numbers(predicted, classes)])

    def scores(self, model: Any, decided: Floats, classes: NDArray[Any]) -> Floats:
        """Score of the favourable label, for ranking."""
        if len(classes) != 2:
            raise InvalidParameterError(
                f"performance='roc_auc' is about two classes, y holds {len(classes)}."
            )
        if not hasattr(model, "predict_proba"):
            return decided[:, 1]
        place = _numbers(np.asarray(model.classes_), classes).tolist().index(1)
        return np.asarray(model.predict_proba(self.X))[:, place].astype(np.float64)

    @property
    def n(self) -> int:
        """How many rows there are."""
        return len(self.y)


def read_metric(metric: Any) -> Any:
    """Constraints as they are judged on a frontier, whatever their bounds; callables stay."""
    if callable(metric) and not isinstance(metric, type):
        return metric
    constraints = as_constraints(metric)
    if any(c.kind == "ratio" for c in constraints):
        constraints = as_constraints(list(constraints), difference_bound=0.05)
    return constraints


def _numbers(labels: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.int64]:
    order = np.argsort(classes, kind="stable")
    return np.asarray(order[np.searchsorted(classes, labels, sorter=order)], dtype=np.int64)


def _name_of(what: Any) -> str:
    return what if isinstance(what, str) else str(getattr(what, "__name__", type(what).__name__))


def _constant(decided: Floats) -> bool:
    return bool(1 - decided.mean(axis=0).max() <= NEAR_CONSTANT + 1e-9)


def _balanced_accuracy_of(decided: Floats, target: NDArray[np.int64]) -> Callable[[Floats], float]:
    right = decided[np.arange(len(target)), target]

    def measure(weight: Floats) -> float:
        rows = np.bincount(target, weight)
        hits = np.bincount(target, weight * right)
        return float(np.mean(hits[rows > 0] / rows[rows > 0]))

    return measure


def _auc_of(score: Floats, target: NDArray[np.int64]) -> Callable[[Floats], float]:
    """Weighted Mann-Whitney statistic; ties count half."""
    _, place = np.unique(score, return_inverse=True)
    if len(np.unique(target)) < 2:
        raise InvalidDataError("performance='roc_auc' needs both labels among the validation rows.")

    def measure(weight: Floats) -> float:
        positive = np.bincount(place, weight * target)
        negative = np.bincount(place, weight * (1 - target))
        below = np.cumsum(negative) - negative
        pairs = positive.sum() * negative.sum()
        return float(positive @ (below + negative / 2) / pairs) if pairs else math.nan

    return measure
