"""Means of a quantity in every group, with what their intervals need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairtrain.data.groups import group_sums
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

    def bare(self) -> tuple[Floats, Floats]:
        """Means with 0 for empty groups, and effective counts: what comparisons take."""
        return np.nan_to_num(self.mean), self.effective


def cell_means(
    values: NDArray[Any],
    codes: NDArray[np.int64],
    size: int,
    weights: Floats | None = None,
    inside: NDArray[np.bool_] | None = None,
) -> Cells:
    """Mean of ``values`` in every group.

    Parameters
    ----------
    values : ndarray of shape (n,)
        The quantity.
    codes : ndarray of int64, shape (n,)
        Group of each row; -1 is left out.
    size : int
        Number of groups G.
    weights : ndarray of shape (n,), optional
        Weight of each row.
    inside : ndarray of bool, shape (n,), optional
        Rows of the event; all by default.
    """
    keep = codes >= 0
    if inside is not None:
        keep &= inside
    if weights is not None:
        keep &= weights > 0
    if not keep.all():
        values, codes = values[keep], codes[keep]
        weights = None if weights is None else weights[keep]
    values = np.asarray(values, dtype=np.float64)
    count = np.bincount(codes, minlength=size)
    if weights is None:
        total = effective = count.astype(np.float64)
        sums = group_sums(values, codes, size)
    else:
        total = group_sums(weights, codes, size)
        squares = group_sums(weights**2, codes, size)
        sums = group_sums(weights * values, codes, size)
        effective = _divide(total**2, squares, empty=0.0)
    mean = _divide(sums, total, empty=np.nan)
    is_rate = not len(values) or (values.min() >= 0 and values.max() <= 1)
    variance = None if is_rate else _variance(values, codes, mean, weights, total, effective)
    return Cells(mean, count, effective, total, variance)


def _divide(a: Floats, b: Floats, *, empty: float) -> Floats:
    return np.asarray(np.divide(a, b, out=np.full(len(a), empty), where=b > 0))


def _variance(
    values: Floats,
    codes: NDArray[np.int64],
    mean: Floats,
    weights: Floats | None,
    total: Floats,
    effective: Floats,
) -> Floats:
    squares = (values - mean[codes]) ** 2
    if weights is not None:
        squares = squares * weights
    biased = _divide(group_sums(squares, codes, len(mean)), total, empty=np.nan)
    correction = np.divide(
        effective, effective - 1, out=np.full(len(mean), np.nan), where=effective > 1
    )
    return np.asarray(biased * correction)
