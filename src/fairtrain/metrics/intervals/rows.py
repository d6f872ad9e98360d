"""How many rows a comparison would need."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from fairtrain.exceptions import InvalidParameterError
from fairtrain.metrics.intervals.sides import compare, sides
from fairtrain.metrics.intervals.single import BoolArray, FloatArray, error_rate, rates

__all__ = ["rows_needed"]

_MOST = 2.0**40


def rows_needed(
    mean: ArrayLike,
    count: ArrayLike,
    half_width: float,
    confidence: float = 0.95,
    *,
    ratio: bool = False,
) -> FloatArray:
    """Rows that each group needs for comparisons of a given half width.

    The smallest whole number of rows at which, were the rates as observed, the interval of the
    group's difference from each other group is at most ``2 * half_width`` wide. The others keep
    their rows; if not even endless rows of this group alone would do, the number holds for every
    group with fewer (each group is brought up to it). Found by bisection on the intervals
    themselves: those that set the upper limit of `gap_interval`, and the lower one of
    `ratio_interval`.

    Parameters
    ----------
    mean, count : array_like, shape (G,)
        Rates in [0, 1] and rows of each group.
    half_width : float
        Largest half width of a difference, or of a ratio (the lower rate over the higher).
    confidence : float
        Two-sided confidence level.
    ratio : bool
        Whether ratios are compared instead of differences.

    Returns
    -------
    ndarray, shape (G,)
        Whole numbers, which may be below ``count``; infinite where no number of rows would do (a
        ratio of two rates of 0); NaN for empty groups and where there is no other group.

    Examples
    --------
    >>> rows_needed([0.30, 0.42, 0.35], [2000, 1800, 22], 0.05).tolist()
    [670.0, 721.0, 438.0]
    """
    if not half_width > 0:
        raise InvalidParameterError(f"half_width must be positive, got {half_width!r}.")
    alpha = error_rate(confidence)
    p, n = rates(mean, count)
    present = n > 0
    ignored = np.eye(p.size, dtype=bool) | ~present

    def enough(rows: FloatArray, together: BoolArray) -> BoolArray:
        others = np.where(together[:, None], np.maximum(n, rows[:, None]), n)
        return np.asarray(
            (ignored | (_widths(p, rows, others, alpha, ratio) <= 2 * half_width)).all(-1)
        )

    together = ~enough(np.full(p.shape, _MOST), np.zeros_like(present))
    needed = _least(lambda rows: enough(rows, together), p.shape)
    return np.where(present & (present.sum() > 1), needed, np.nan)


def _least(enough: Callable[[FloatArray], BoolArray], shape: tuple[int, ...]) -> FloatArray:
    """Smallest whole numbers of rows that are enough; infinite where none is."""
    low, high = np.zeros(shape), np.full(shape, _MOST)
    reachable = enough(high)
    while (high - low > 1).any():
        # Halving on the log scale takes 15 rounds to 1,000 rows where plain halving takes 40.
        middle = np.clip(
            np.floor(np.sqrt(np.maximum(low, 1) * high)), low + 1, np.maximum(high - 1, 1)
        )
        met = enough(middle)
        low, high = np.where(met, low, middle), np.where(met, middle, high)
    return np.where(reachable, high, np.inf)


def _widths(
    p: FloatArray, rows: FloatArray, others: FloatArray, alpha: float, ratio: bool
) -> FloatArray:
    """Widths of all comparisons of group i, with its rows, to group j, with ``others[i, j]``."""
    own = sides(p[:, None], rows[:, None], alpha, "one pair")
    rest = sides(p, others, alpha, "one pair")
    limits = compare(own, rest, ratio=ratio)
    width = limits.upper - limits.lower
    if not ratio:
        return width
    inverse = compare(rest, own, ratio=True)
    return np.where(p[:, None] <= p, width, inverse.upper - inverse.lower)
