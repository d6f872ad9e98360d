"""Rates of every group: accuracy, selection, true and false positives, precision, score, loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairtrain._parameters import ANYTHING, COLUMNS, CONFIDENCE, LABEL, MISSING, NAMES, NONE, checks
from fairtrain.constraints.families import RateFamily
from fairtrain.constraints.rates import (
    ERROR_RATE,
    FALSE_POSITIVE_RATE,
    NAMED_RATES,
    SELECTION_RATE,
    TRUE_POSITIVE_RATE,
    Rate,
    log_loss,
)
from fairtrain.constraints.table import standardised
from fairtrain.data.groups import Groups, Missing
from fairtrain.data.rows import Rows
from fairtrain.data.strata import GivenSpec, read_given
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.metrics.cells import Cells, cell_means

__all__ = ["MEASURES", "USUAL", "family_cells", "group_rates", "measure_cells", "rates_frame"]

Floats = NDArray[np.float64]

_RATES: dict[str, Rate] = {
    rate.name: rate
    for rate in (SELECTION_RATE, TRUE_POSITIVE_RATE, FALSE_POSITIVE_RATE, ERROR_RATE)
} | {name: rate for name, rate in NAMED_RATES.items() if rate.among is not None}

MEASURES = (
    "accuracy",
    *_RATES,
    "mean_score",
    "log_loss",
)
"""Names of all measures; "precision" is the positive predictive value."""

USUAL = (
    "accuracy",
    "selection_rate",
    "true_positive_rate",
    "false_positive_rate",
    "positive_predictive_value",
)
_SCORED = ("mean_score", "log_loss")
_LABEL_FREE = ("selection_rate", "mean_score")


def measure_cells(rows: Rows, measure: str | Rate, groups: Groups | None = None) -> Cells:
    """One measure in every group."""
    groups = rows.groups if groups is None else groups
    weight, inside = rows.weight, None
    if isinstance(measure, str) and measure not in MEASURES:
        raise InvalidParameterError(f"unknown metric {measure!r}; known: {', '.join(MEASURES)}.")
    if rows.y is None and measure not in _LABEL_FREE and measure is not SELECTION_RATE:
        raise InvalidDataError(f"{measure} needs y_true.")
    if measure in _SCORED and rows.score is None:
        raise InvalidDataError(f"{measure} needs y_score.")
    y = np.zeros(len(rows.decisions)) if rows.y is None else rows.y
    if measure == "accuracy":
        values = 1 - ERROR_RATE.quantity(y, rows.decisions)
    elif measure == "mean_score":
        values = rows.score
    elif measure == "log_loss":
        values = log_loss(y, rows.score)
    else:
        rate = _RATES[measure] if isinstance(measure, str) else measure
        values = rate.quantity(y, rows.decisions)
        inside = None if rate.event is None else np.asarray(rate.event(y), dtype=bool)
        if rate.among is not None:
            weight, inside = _among(rate, y, rows, inside)
    cells = cell_means(
        np.asarray(values), groups.members, len(groups), weight, inside, rows.clusters
    )
    return cells.inflated(rows.design_effect)


def _among(
    rate: Rate, y: Floats, rows: Rows, inside: NDArray[np.bool_] | None
) -> tuple[Floats | None, NDArray[np.bool_] | None]:
    """Weights and event of a rate among those who are decided one way: rows count as they are."""
    assert rate.among is not None
    share = np.asarray(rate.among(y, rows.decisions), dtype=np.float64)
    if rows.weight is not None or not np.isin(share, (0, 1)).all():
        return share if rows.weight is None else share * rows.weight, inside
    return None, share == 1 if inside is None else inside & (share == 1)


def family_cells(rows: Rows, family: RateFamily) -> Cells:
    """One rate of a constraint in every group, within its stratum if it is given some."""
    if family.strata is not None:
        inside = None if rows.y is None else np.asarray(family.rate.mask(rows.y), dtype=bool)
        members, weight, _ = standardised(family, rows.groups.members, rows.weight, inside)
        rows = replace(rows, groups=rows.groups.with_members(members), weight=weight)
    groups = rows.groups.merged(family.scheme, family.parent)
    return measure_cells(rows, family.rate, groups)


@checks(
    metrics=NAMES | NONE,
    over=COLUMNS,
    given=ANYTHING,
    positive_label=LABEL,
    missing=MISSING,
    confidence=CONFIDENCE,
)
def group_rates(
    y_true: Any,
    y_pred: Any,
    sensitive_features: Any,
    *,
    metrics: str | Sequence[str] | None = None,
    y_score: Any = None,
    over: str | Sequence[str] | None = None,
    given: GivenSpec = None,
    positive_label: Any = None,
    sample_weight: Any = None,
    clusters: Any = None,
    missing: Missing = "error",
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Rates of every group, each with its count and interval.

    Parameters
    ----------
    y_true : array-like of shape (n,) or None
        Labels; None where only ``selection_rate`` or ``mean_score`` is requested.
    y_pred : array-like of shape (n,)
        Decisions as labels, or probabilities in [0, 1] of a favourable randomised decision.
    sensitive_features : frame, series, mapping, array, list or Groups
        The sensitive features: which group each person belongs to.
    metrics : str or sequence of str, optional
        Any of :data:`MEASURES`. Default: accuracy, selection, true and false positive rate and
        positive predictive value, with mean score and log loss if ``y_score`` is given.
    y_score : array-like of shape (n,), optional
        Probability of the favourable label.
    over : str or sequence of str, optional
        Sensitive columns that make the groups; all of them, together, by default.
    given : str, sequence of str, or mapping of str to sequence of float, optional
        Sensitive columns that divide each group into strata, with a rate in each: as in
        :class:`~fairtrain.constraints.Constraint`.
    positive_label : label, optional
        The favourable outcome; may be left out only for {0, 1}, {-1, 1} and booleans.
    sample_weight : array-like of shape (n,), optional
        Row weights. Intervals then use Kish's effective sample size.
    clusters : array-like of shape (n,), optional
        Which rows belong together and are not independent: those of one customer, branch or judge.
        Intervals then rest on how much clusters differ.
    missing : {"error", "group"}, default="error"
        What to do with missing sensitive values.
    confidence : float, default=0.95
        Level of each group's own interval: exact for shares of rows; by the variance for
        scores and shares of decisions drawn by lot, and for losses.

    Returns
    -------
    DataFrame
        Columns ``metric``, ``group``, ``rate``, ``count``, ``lower``, ``upper``. ``count`` is the
        number of rows that enter the rate; where it is 0, rate and limits are NaN. With
        ``clusters`` also a column of that name: how many hold these rows.

    Examples
    --------
    >>> frame = group_rates([1, 0, 1, 0], [1, 0, 1, 1], ["a", "a", "b", "b"],
    ...                     metrics="selection_rate")
    >>> frame[["group", "rate", "count"]].to_dict("list")
    {'group': ['a', 'b'], 'rate': [0.5, 1.0], 'count': [2, 2]}
    """
    requested = [metrics] if isinstance(metrics, str) else metrics
    if requested is not None and not len(requested):
        raise InvalidParameterError("metrics is empty; leave it out for the usual ones.")
    if requested is None:
        requested = [*USUAL, *(_SCORED if y_score is not None else ())]
        requested = (
            requested if y_true is not None else [name for name in requested if name in _LABEL_FREE]
        )
    rows = Rows.read_decided(
        y_true,
        y_pred,
        sensitive_features,
        y_score=y_score,
        positive_label=positive_label,
        sample_weight=sample_weight,
        clusters=clusters,
        missing=missing,
        name_required=bool(set(requested) - {"accuracy", "error_rate"}),
        given=read_given(given),
    )
    if over is not None and given is not None:
        own = (over,) if isinstance(over, str) else tuple(over)
        over = (*own, *(name for name, _ in read_given(given)))
    return rates_frame(rows, requested, rows.groups.over(over), confidence)


def rates_frame(
    rows: Rows, metrics: Sequence[str | Rate], groups: Groups, confidence: float
) -> pd.DataFrame:
    """Long frame of several measures; the body of :func:`group_rates`."""
    frames = []
    for name in metrics:
        cells = measure_cells(rows, name, groups)
        lower, upper = cells.limits(confidence)
        table = {
            "metric": name.name if isinstance(name, Rate) else name,
            "group": list(groups.names),
            "rate": cells.mean,
            "count": cells.count,
            "lower": lower,
            "upper": upper,
        }
        known = {} if cells.clusters is None else {"clusters": cells.clusters}
        frames.append(pd.DataFrame(table | known))
    return pd.concat(frames, ignore_index=True)
