"""Reports where there are more than two classes, or numbers instead of decisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairtrain.constraints import Constraint, MomentConstraint
from fairtrain.constraints.rates import LOSSES, of_true_class
from fairtrain.data.labels import LabelCoding
from fairtrain.data.rows import Rows
from fairtrain.metrics.cells import Cells, cell_means
from fairtrain.metrics.joint import jointly
from fairtrain.metrics.measures import rates_frame
from fairtrain.metrics.report import (
    NEAR_CONSTANT,
    FairnessReport,
    constant_accuracy,
    report_on,
)
from fairtrain.metrics.verdicts import ConstraintResult, RowsRole, judge

__all__ = ["judge_of", "report_on_classes", "report_on_values"]

Floats = NDArray[np.float64]

_CLASS_RATES = ("selection_rate", "true_positive_rate", "false_positive_rate")


def judge_of(labels: LabelCoding | None) -> Callable[..., FairnessReport]:
    """What judges decided rows: of two classes, of several, or of numbers where there are none."""
    if labels is None:
        return report_on_values
    return report_on if len(labels.labels) == 2 else report_on_classes


def report_on_classes(
    data: Rows, constraints: Sequence[Constraint], *, rows: RowsRole, confidence: float = 0.95
) -> FairnessReport:
    """Judge decisions among several classes, each class an outcome of its own.

    Parameters
    ----------
    data : Rows
        ``y`` holds class numbers, ``decision``, of shape (n, C), 1 for the class decided for or the
        probability of deciding for it, and ``labels`` the names of the classes.
    constraints : sequence of Constraint
        Judged for every class; errors and losses of the true class once.
    rows, confidence
        As in :func:`fairtrain.metrics.report.report_on`.

    Returns
    -------
    FairnessReport
        One result a constraint and class, with limits that hold for all classes together
        (Bonferroni); ``favourable`` is None and ``selection_rate`` that of the commonest decision.
    """
    assert data.labels is not None
    decision, groups, weight = data.decisions, data.groups, data.weight
    y, classes = data.outcomes.astype(np.int64), data.labels.labels.tolist()
    true_class = decision[np.arange(len(y)), y]
    effect = data.design_effect

    def judged(truth: NDArray[Any], decided: Floats) -> Rows:
        rows = Rows.judged(
            truth.astype(np.float64), decided, groups, weight, clusters=data.clusters
        )
        return replace(rows, design_effect=effect)

    of_truth = judged(np.ones(len(y)), true_class)
    by_class = [judged(y == c, decision[:, c]) for c in range(len(classes))]
    stricter = 1 - (1 - confidence) / len(classes)
    results: list[ConstraintResult] = []
    judged_on: list[tuple[Constraint, Rows]] = []
    for constraint in constraints:
        if all(of_true_class(rate) for rate in constraint.rates):
            results.append(judge(constraint, of_truth, rows, confidence))
            judged_on.append((constraint, of_truth))
            continue
        for label, of_class in zip(classes, by_class, strict=True):
            result = judge(constraint, of_class, rows, stricter)
            results.append(replace(result, constraint=f"{result.constraint}: {label}"))
            judged_on.append((constraint, of_class))
    frames = [
        _named(rates_frame(of_class, _CLASS_RATES, groups, confidence), label)
        for label, of_class in zip(classes, by_class, strict=True)
    ]
    right = cell_means(true_class, _everyone(y), 1, weight, clusters=data.clusters)
    accuracy = _with_limits(right.inflated(effect), confidence)
    shares = [float(cell_means(d.decisions, _everyone(y), 1, weight).mean[0]) for d in by_class]
    commonest = max(shares)
    return FairnessReport(
        results=tuple(results),
        rows=rows,
        n_rows=len(y),
        accuracy=accuracy,
        selection_rate=commonest,
        near_constant=1 - commonest <= NEAR_CONSTANT + 1e-9,
        favourable=None,
        group_rates=pd.concat(
            [rates_frame(of_truth, ("accuracy",), groups, confidence), *frames], ignore_index=True
        ),
        confidence=confidence,
        constant_accuracy=constant_accuracy(
            constraints, [_alike(k, y, classes, by_class, of_truth) for k in range(len(classes))]
        ),
        joint=jointly(judged_on, results, rows, confidence),
    )


def report_on_values(
    data: Rows, constraints: Sequence[Constraint], *, rows: RowsRole, confidence: float = 0.95
) -> FairnessReport:
    """Judge predicted numbers against bounds on group losses.

    Parameters
    ----------
    data : Rows
        ``y`` holds true numbers, ``decision`` predicted ones.
    constraints, rows, confidence
        As in :func:`fairtrain.metrics.report.report_on`.

    Returns
    -------
    FairnessReport
        ``accuracy`` and ``selection_rate`` are NaN: there are no decisions.
    """
    # A moment has no rate of its own: then groups are told by the error that numbers have.
    rated = [c for c in constraints if not isinstance(c, MomentConstraint)]
    rates = dict.fromkeys(rate for c in rated for rate in c.rates) or (LOSSES["squared"],)
    results = tuple(judge(c, data, rows, confidence) for c in constraints)
    return FairnessReport(
        results=results,
        rows=rows,
        n_rows=len(data),
        accuracy=(np.nan, np.nan, np.nan),
        selection_rate=np.nan,
        near_constant=False,
        favourable=None,
        group_rates=pd.concat(
            [rates_frame(data, (rate,), data.groups, confidence) for rate in rates],
            ignore_index=True,
        ),
        confidence=confidence,
        joint=jointly([(c, data) for c in constraints], results, rows, confidence),
    )


def _alike(
    k: int, y: NDArray[np.int64], classes: Sequence[Any], by_class: Sequence[Rows], of_truth: Rows
) -> dict[Any, Rows]:
    """Rows by outcome where everybody is decided to be of class k."""
    outcomes = {
        label: of_class.decided(np.full(len(y), float(k == c)))
        for c, (label, of_class) in enumerate(zip(classes, by_class, strict=True))
    }
    return outcomes | {None: of_truth.decided((y == k).astype(np.float64))}


def _named(frame: pd.DataFrame, label: Any) -> pd.DataFrame:
    return frame.assign(metric=frame["metric"] + f": {label}")


def _everyone(y: NDArray[Any]) -> NDArray[np.int64]:
    return np.zeros(len(y), dtype=np.int64)


def _with_limits(cells: Cells, confidence: float) -> tuple[float, float, float]:
    lower, upper = cells.limits(confidence)
    return float(cells.mean[0]), float(lower[0]), float(upper[0])
