"""How many rows would tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fairtrain.constraints import Constraint
from fairtrain.metrics.cells import Cells
from fairtrain.metrics.intervals import (
    differences_from_overall,
    pairwise_differences,
    pairwise_ratios,
)

__all__ = ["rows_short"]

Floats = NDArray[np.float64]

_MOST_ROWS = 1e9  # a group that needs more will never have them
_SPARE = 0.25  # part of the bound that the model of "rows needed" leaves unused


def rows_short(
    constraint: Constraint,
    cells: Sequence[Cells],
    names: Sequence[str],
    confidence: float,
    *,
    within: bool,
) -> dict[str, float]:
    """Groups whose rows cannot show that the bound is kept, with the rows that could.

    The interval has to fit between what was achieved and the bound. Where less than a quarter of
    the bound is left, or it is broken, a model that leaves a quarter is the yardstick, unless the
    rows suffice for that. A group without a row is taken to have the rate of all rows.
    """
    short: dict[str, float] = {}
    filled = [_filled(cell) for cell in cells]
    shift = constraint.shifts(names)
    for spare in (_SPARE, 0.0):
        for cell in filled:
            mean = _yardstick(constraint, cell, spare, shift)
            least = _least_rows(constraint, cell, mean, confidence, shift)
            per_row = np.divide(
                cell.count, cell.effective, out=np.ones(len(mean)), where=cell.effective > 0
            )
            for g in np.flatnonzero(cell.effective < least):
                rows = np.ceil(least * per_row[g])
                short[names[int(g)]] = max(short.get(names[int(g)], 0.0), float(rows))
        if short or not within:
            break
    return short


def _filled(cells: Cells) -> Cells:
    """Give groups without a row the mean of all, and those without a variance the usual one."""
    present = cells.count > 0
    overall = np.average(cells.mean[present], weights=cells.total[present])
    variance = cells.variance
    if variance is not None and np.isfinite(variance).any():
        variance = np.where(np.isfinite(variance), variance, np.nanmean(variance))
    return replace(cells, mean=np.where(present, cells.mean, overall), variance=variance)


def _yardstick(constraint: Constraint, cells: Cells, spare: float, shift: Floats) -> Floats:
    """The observed means, brought together until they leave a part of the bound unused."""
    mean, bound = cells.mean, constraint.bound
    if constraint.kind == "upper":
        return np.minimum(mean, (1 - spare) * (bound + shift))
    if constraint.kind == "lower":
        return np.maximum(mean, bound + shift + spare * (1 - bound - shift))
    low, high = float(mean.min()), float(mean.max())
    if constraint.kind == "ratio":
        return np.maximum(mean, high * (bound + spare * (1 - bound)))
    achieved = high - low
    if _around(constraint):
        achieved = float(np.abs(mean - np.average(mean, weights=cells.total)).max())
    allowed = (1 - spare) * bound
    if spare == 0 or achieved <= allowed:
        return mean
    return np.clip(mean, (low + high - allowed) / 2, (low + high + allowed) / 2)


def _around(constraint: Constraint) -> bool:
    """Whether a bound limits the distance to the overall rate, as fairlearn's do."""
    return getattr(constraint, "reference", "") == "overall"


def _least_rows(
    constraint: Constraint, cells: Cells, mean: Floats, confidence: float, shift: Floats
) -> float:
    """Rows (of weight 1) that every group must have at these means, to within 2 %."""

    def enough(rows: float) -> bool:
        n = np.maximum(cells.effective, rows)
        if not n.all():
            return False
        limit = _far_limit(constraint, cells, mean, n, confidence, shift)
        least, bound = constraint.larger_is_fairer, constraint.bound
        return limit >= bound if least else limit <= bound

    low, high = 0.0, 2.0
    while not enough(high):
        low, high = high, 2 * high
        if high > _MOST_ROWS:
            return float("inf")
    if low == 0:
        return high if not enough(0.0) else 0.0
    while high - low > max(1.0, 0.02 * high):
        middle = float(np.floor((low + high) / 2))
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _far_limit(
    constraint: Constraint,
    cells: Cells,
    mean: Floats,
    n: Floats,
    confidence: float,
    shift: Floats,
) -> float:
    """The limit that has to lie within the bound."""
    if constraint.absolute:
        low, high = (
            limits - shift for limits in replace(cells, mean=mean, effective=n).limits(confidence)
        )
        if constraint.larger_is_fairer:
            return float(np.nanmin(np.where((n > 0) & np.isnan(low), -np.inf, low)))
        return float(np.nanmax(np.where((n > 0) & np.isnan(high), np.inf, high)))
    if constraint.kind == "ratio":
        return float(np.nanmin(pairwise_ratios(mean, n, confidence, simultaneous=False).lower))
    if _around(constraint):
        around = differences_from_overall(
            mean, n, confidence, weight=cells.total, variance=cells.variance
        )
        return float(np.nanmax(np.fmax(around.upper, -around.lower)))
    pairs = pairwise_differences(mean, n, confidence, variance=cells.variance, simultaneous=False)
    return float(np.nanmax(pairs.upper))
