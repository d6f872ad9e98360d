"""Means of a quantity in every group, with what their intervals need."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairtrain.constraints.table import CellRows
from fairtrain.metrics.intervals import mean_interval, wilson

__all__ = ["Cells", "cell_means"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cells:
    """One quantity in G groups.

    Attributes
    ----------
    mean : ndarray of shape (G,)
        Weighted mean; NaN where a group has no row.
    count : ndarray of int64, shape (G,)
        Rows that enter it.
    effective : ndarray of shape (G,)
        Kish's effective sample size ``(sum w)^2 / sum w^2``; the count where weights are equal.
    total : ndarray of shape (G,)
        Sum of weights; the count where there are none.
    variance : ndarray of shape (G,) or None
        Sample variance of the quantity; None where it lies in [0, 1], when the mean is a rate.
    """

    mean: Floats
    count: NDArray[np.int64]
    effective: Floats
    total: Floats
    variance: Floats | None

    def limits(self, confidence: float) -> tuple[Floats, Floats]:
        """Interval of each group's mean: Wilson for a rate, Student t otherwise."""
        if self.variance is None:
            return wilson(np.nan_to_num(self.mean), self.effective, confidence)
        return mean_interval(self.mean, self.variance, self.effective, confidence)

    def inflated(self, design_effect: float) -> Cells:
        """Cells whose means vary so much more than those of independent rows (Kish, 1965)."""
        if design_effect == 1:
            return self
        return replace(self, effective=self.effective / design_effect)

    def bare(self) -> tuple[Floats, Floats]:
        """Means with 0 for empty groups, and effective counts: what comparisons take."""
        return np.nan_to_num(self.mean), self.effective


def cell_means(
    values: NDArray[Any],
    members: NDArray[Any],
    size: int,
    weights: Floats | None = None,
    inside: NDArray[np.bool_] | None = None,
) -> Cells:
    """Mean of ``values`` in every group.

    Parameters
    ----------
    values : ndarray of shape (n,)
        The quantity.
    members : ndarray of int64, shape (n,), or of shape (n, G)
        Group of each row, -1 is left out; or memberships.
    size : int
        Number of groups G.
    weights : ndarray of shape (n,), optional
        Weight of each row.
    inside : ndarray of bool, shape (n,), optional
        Rows of the event; all by default.
    """
    if weights is not None:
        inside = weights > 0 if inside is None else inside & (weights > 0)
    rows = CellRows(members, size, weights, inside)
    values = np.asarray(values[rows.rows], dtype=np.float64)
    is_rate = not len(values) or (values.min() >= 0 and values.max() <= 1)
    return Cells(
        mean=rows.mean(values),
        count=rows.count,
        effective=rows.effective,
        total=rows.totals,
        variance=None if is_rate else rows.variance(values),
    )
