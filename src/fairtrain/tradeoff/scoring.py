"""How good and how fair a fitted model is on rows that did not train it."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairtrain.constraints import Constraint, Objective, as_constraints, as_objective
from fairtrain.data import inputs
from fairtrain.data.groups import GroupScheme
from fairtrain.data.labels import LabelCoding
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.metrics.cells import cell_means
from fairtrain.metrics.disclosure import MIN_CELL, rests_on_few
from fairtrain.metrics.outcomes import report_on_classes
from fairtrain.metrics.report import NEAR_CONSTANT, FairnessReport, report_on
from fairtrain.metrics.verdicts import RowsRole

__all__ = ["PERFORMANCES", "Score", "Scorer", "read_metric"]

Floats = NDArray[np.float64]

PERFORMANCES = ("accuracy", "balanced_accuracy", "roc_auc")
"""Names that ``performance=`` takes."""

_RESAMPLES = 200


@dataclass(frozen=True)
class Score:
    """Performance and gap with their limits; NaN where a callable gives no interval.

    ``near_constant``: (almost) everybody gets the same decision. ``no_better_than_constant``: the
    best such model performs at least as well.
    """

    performance: float
    performance_lower: float
    performance_upper: float
    gap: float
    gap_lower: float
    gap_upper: float
    near_constant: bool
    no_better_than_constant: bool = False


@dataclass(frozen=True)
class Scorer:
    """Scores models on one set of rows.

    Parameters
    ----------
    metric : tuple of Constraint, or callable
        What the gap is: the largest that any of the constraints limits, or a function
        ``(y_true, y_pred, sensitive_features) -> float``.
    performance : str, costs, Objective or callable
        One of :data:`PERFORMANCES`, between two classes any objective
        (:func:`~fairtrain.constraints.as_objective`), or a function ``(y_true, y_pred) -> float``
        of labels.
    labels : LabelCoding
        Labels that were trained on.
    scheme : GroupScheme
        Groups that were trained on.
    confidence : float
        Level of the intervals.
    seed : int
        Source of the bootstrap's draws.
    """

    metric: tuple[Constraint, ...] | Callable[[Any, Any, Any], float]
    performance: Any
    labels: LabelCoding
    scheme: GroupScheme
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.performance, str) and self.performance in PERFORMANCES:
            return
        if self._of_labels:
            return
        try:
            objective = as_objective(self.performance, self.labels)
        except InvalidParameterError as wrong:
            raise InvalidParameterError(
                f"performance must be a function or one of {', '.join(PERFORMANCES)}, or an "
                f"objective: {wrong}"
            ) from None
        if len(self.labels.labels) > 2:
            raise InvalidParameterError(
                f"performance={objective.name!r} is about two classes, y holds "
                f"{len(self.labels.labels)}; take 'accuracy', 'balanced_accuracy' or a function."
            )
        if not objective.symmetric:
            self.labels.require_named("performance")

    @property
    def _of_labels(self) -> bool:
        """Whether performance is a function of labels as they are written."""
        return callable(self.performance) and not isinstance(self.performance, Objective)

    @property
    def performance_name(self) -> str:
        """What performance is, in words."""
        if isinstance(self.performance, str) or self._of_labels:
            return _name_of(self.performance).replace("_", " ")
        return as_objective(self.performance, self.labels).name.replace("_", " ")

    @property
    def gap_name(self) -> str:
        """What the gap is, in words."""
        if callable(self.metric):
            return _name_of(self.metric).replace("_", " ")
        return ", ".join(dict.fromkeys(c.name.replace("_", " ") for c in self.metric)) + " gap"

    def read(
        self,
        X: Any,
        y: Any,
        sensitive_features: Any,
        sample_weight: Any = None,
        clusters: Any = None,
    ) -> Rows:
        """Read rows to score on: a label or group that training never saw raises."""
        return Rows.read(
            X,
            y,
            sensitive_features,
            sample_weight,
            clusters=clusters,
            scheme=self.scheme,
            labels=self.labels,
        )

    def __call__(self, model: Any, rows: Rows) -> Score:
        """Score one model."""
        decided = self.decided(model, rows)
        performance = self._performance(model, decided)
        no_better = performance[0] <= self._best_constant(rows) + 1e-12
        if callable(self.metric):
            gap = _gap_by(self.metric, rows, self._chosen_labels(decided))
            constant = bool(1 - decided.decisions.mean(axis=0).max() <= NEAR_CONSTANT + 1e-9)
            return Score(*performance, gap, math.nan, math.nan, constant, no_better)
        report = self.report(decided, "steering")
        achieved, lower, upper = (
            max(getattr(result, name) for result in report.results)
            for name in ("achieved", "lower", "upper")
        )
        return Score(*performance, achieved, lower, upper, report.near_constant, no_better)

    def rests_on_few(self, rows: Rows) -> bool:
        """Whether a gap on these rows rests on a group of so few that it tells of single people."""
        if callable(self.metric):
            counts = rows.groups.counts
            return bool(counts[counts > 0].min(initial=MIN_CELL) < MIN_CELL)
        alike = rows.decided(np.eye(len(self.labels.labels))[np.zeros(len(rows), dtype=np.int64)])
        return any(map(rests_on_few, self.report(alike, "steering").results))

    def decided(self, model: Any, rows: Rows) -> Rows:
        """Add a model's decisions: the probability of each class by number, shape (n, C)."""
        if hasattr(model, "decision_proba"):
            shares = np.asarray(model.decision_proba(rows.X), dtype=np.float64)
            columns = np.zeros((len(rows), len(self.labels.labels)))
            columns[:, self.labels.encode(model.classes_)] = shares
            return rows.decided(columns)
        predicted = inputs.as_vector(model.predict(rows.X), "predictions")
        return rows.decided(np.eye(len(self.labels.labels))[self.labels.encode(predicted)])

    def report(
        self, decided: Rows, role: RowsRole, constraints: Sequence[Constraint] | None = None
    ) -> FairnessReport:
        """Report on decisions.

        Parameters
        ----------
        decided : Rows
            As :meth:`decided` makes them.
        role : {"certification", "steering", "training"}
            What they were used for.
        constraints : sequence of Constraint, optional
            What is judged, if not ``metric``.
        """
        judged = self.metric if constraints is None else tuple(constraints)
        assert not callable(judged)
        if decided.decisions.shape[1] > 2:
            return report_on_classes(decided, judged, rows=role, confidence=self.confidence)
        two = decided.decided(decided.decisions[:, 1])
        return report_on(two, judged, rows=role, confidence=self.confidence)

    def _best_constant(self, rows: Rows) -> float:
        """Performance of the best model that decides the same for everybody."""
        n_classes = len(self.labels.labels)
        if self._of_labels:
            assert callable(self.performance)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # such as of a precision without positives
                return max(
                    float(self.performance(rows.targets, np.full(len(rows), label)))
                    for label in self.labels.labels
                )
        shares = np.bincount(_numbers(rows), rows.weight, minlength=n_classes)
        if self.performance == "accuracy":
            return float(shares.max() / shares.sum())
        if self.performance == "balanced_accuracy":
            return float(1 / np.count_nonzero(shares))
        objective = as_objective(self.performance, self.labels)
        return objective.best_constant([0.0, 1.0], shares)

    def _chosen_labels(self, decided: Rows) -> NDArray[Any]:
        return self.labels.decode(decided.decisions.argmax(axis=1))

    def _performance(self, model: Any, decided: Rows) -> tuple[float, float, float]:
        n, target, decisions = len(decided), _numbers(decided), decided.decisions
        weight = np.ones(n) if decided.weight is None else decided.weight
        if self._of_labels:
            assert callable(self.performance)
            value = float(self.performance(decided.targets, self._chosen_labels(decided)))
            return value, math.nan, math.nan
        if self.performance == "accuracy":
            hit = decisions[np.arange(n), target]
            everyone = np.zeros(n, np.int64)
            right = cell_means(hit, everyone, 1, decided.weight, clusters=decided.clusters)
            limits = right.limits(self.confidence)
            return float(right.mean[0]), float(limits[0][0]), float(limits[1][0])
        if self.performance == "balanced_accuracy":
            measure = _balanced_accuracy_of(decisions, target)
        else:
            measure = self._sought(model, decided)
        random = np.random.RandomState(self.seed)
        # Clusters are drawn whole; without any each row is one.
        cluster = np.arange(n)
        if decided.clusters is not None:
            cluster = np.unique(decided.clusters, return_inverse=True)[1]
        m = int(cluster.max(initial=-1)) + 1
        draws = [
            measure(weight * np.bincount(random.randint(0, m, m), minlength=m)[cluster])
            for _ in range(_RESAMPLES)
        ]
        tail = 50 * (1 - self.confidence)
        known = np.array(draws)[np.isfinite(draws)]
        low, high = np.percentile(known, [tail, 100 - tail]) if len(known) else (math.nan,) * 2
        return measure(weight), float(low), float(high)

    def _sought(self, model: Any, decided: Rows) -> Callable[[Floats], float]:
        """Value of an objective on these rows, by their weights."""
        objective = as_objective(self.performance, self.labels)
        y, score = decided.outcomes, None
        if objective.scored:
            score = self._ranking(model, decided)
        if objective.name == "auc" and len(np.unique(y)) < 2:
            name = self.performance if isinstance(self.performance, str) else "auc"
            raise InvalidDataError(
                f"performance={name!r} needs both labels among the validation rows."
            )
        return lambda weight: objective(y, decided.decisions[:, 1], score, weight)

    def _ranking(self, model: Any, decided: Rows) -> Floats:
        """Score of the favourable label."""
        if len(self.labels.labels) != 2:
            raise InvalidParameterError(
                f"performance='roc_auc' is about two classes, y holds {len(self.labels.labels)}."
            )
        if not hasattr(model, "predict_proba"):
            return np.asarray(decided.decisions[:, 1])
        place = self.labels.encode(model.classes_).tolist().index(1)
        return np.asarray(model.predict_proba(decided.X))[:, place].astype(np.float64)


def read_metric(metric: Any) -> Any:
    """Constraints as they are judged on a frontier, whatever their bounds; callables stay.

    Beside parities the rates that caps and floors limit are no gap: parities alone make it.
    """
    if callable(metric) and not isinstance(metric, type):
        return metric
    constraints = as_constraints(metric)
    constraints = tuple(c for c in constraints if not c.absolute) or constraints
    if any(c.kind == "lower" for c in constraints):
        raise InvalidParameterError(
            "a frontier's gap is to be small and the rate above a floor large: pass metric= a "
            "parity, or the cap on the opposite rate, such as AtMost('false_negative_rate', 0.3)."
        )
    if any(c.kind == "ratio" for c in constraints):
        constraints = as_constraints(list(constraints), difference_bound=0.05)
    return constraints


def _numbers(rows: Rows) -> NDArray[np.int64]:
    return rows.outcomes.astype(np.int64)


def _gap_by(metric: Callable[..., float], rows: Rows, decided: NDArray[Any]) -> float:
    """Gap by a function of the user's, which may want the groups by name."""
    who = inspect.signature(metric).parameters.get("sensitive_features")
    if who is not None and who.kind is inspect.Parameter.KEYWORD_ONLY:
        gap = float(metric(rows.targets, decided, sensitive_features=rows.sensitive))
    else:
        gap = float(metric(rows.targets, decided, rows.sensitive))
    if gap < 0:
        raise InvalidParameterError(
            f"metric gave {gap:g}: a gap is 0 or more; take the absolute value."
        )
    return gap


def _name_of(what: Any) -> str:
    return what if isinstance(what, str) else str(getattr(what, "__name__", type(what).__name__))


def _balanced_accuracy_of(decided: Floats, target: NDArray[np.int64]) -> Callable[[Floats], float]:
    right = decided[np.arange(len(target)), target]

    def measure(weight: Floats) -> float:
        rows = np.bincount(target, weight)
        hits = np.bincount(target, weight * right)
        return float(np.mean(hits[rows > 0] / rows[rows > 0]))

    return measure
