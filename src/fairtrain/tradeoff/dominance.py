"""Points in the plane of gap (less is better) and performance (more is better)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairtrain.exceptions import InvalidParameterError

__all__ = ["dominated", "hypervolume", "knee"]

Floats = NDArray[np.float64]


def dominated(gap: ArrayLike, performance: ArrayLike) -> NDArray[np.bool_]:
    """Which points another one beats: no wider gap, no lower performance, one of them better.

    Equal points do not dominate each other. A point with a NaN is dominated, and dominates none.

    Parameters
    ----------
    gap, performance : array-like of shape (n,)
        The points.

    Returns
    -------
    ndarray of bool, shape (n,)

    Examples
    --------
    >>> dominated([0.1, 0.2, 0.2, 0.3], [0.8, 0.9, 0.85, 0.9]).tolist()
    [False, False, True, True]
    """
    gaps, scores = _points(gap, performance)
    beaten = ~(np.isfinite(gaps) & np.isfinite(scores))
    known = np.flatnonzero(~beaten)
    order = known[np.lexsort((-scores[known], gaps[known]))]
    # In this order only an earlier point can beat a later one, and the best of them if any.
    best = np.maximum.accumulate(scores[order]) if len(order) else scores[:0]
    first = np.searchsorted(best, scores[order], side="left")
    widest = gaps[order][np.minimum(first, max(len(order) - 1, 0))]
    beaten[order] = (best > scores[order]) | (widest < gaps[order])
    return beaten


def hypervolume(gap: ArrayLike, performance: ArrayLike, reference: tuple[float, float]) -> float:
    r"""Area that the points dominate, up to a reference point (Zitzler & Thiele, 1999).

    Parameters
    ----------
    gap, performance : array-like of shape (n,)
        The points.
    reference : (float, float)
        Gap and performance of a point that is worse than any of interest, such as (0.3, 0.5).

    Returns
    -------
    float >= 0
        Larger is better; points that are not better than the reference in both add nothing.

    Examples
    --------
    >>> hypervolume([0.1, 0.2], [0.8, 0.9], reference=(0.3, 0.5))
    0.07
    """
    gaps, scores = _points(gap, performance)
    worst_gap, worst_score = reference
    if not (np.isfinite(worst_gap) and np.isfinite(worst_score)):
        raise InvalidParameterError(f"reference must be two finite numbers, got {reference!r}.")
    inside = (gaps < worst_gap) & (scores > worst_score)
    gaps, scores = gaps[inside], scores[inside]
    front = ~dominated(gaps, scores)
    order = np.argsort(gaps[front], kind="stable")
    left, top = gaps[front][order], scores[front][order]
    return float(np.sum((np.append(left[1:], worst_gap) - left) * (top - worst_score)))


def knee(gap: ArrayLike, performance: ArrayLike) -> int:
    """Point of the front that lies farthest above the line between its ends.

    Both axes are scaled to the front's own extent first, as in Kneedle (Satopaa, Albrecht, Irwin &
    Raghavan, 2011). Where no point lies above the line the end with the narrower gap is taken.

    Parameters
    ----------
    gap, performance : array-like of shape (n,)
        The points; those that are dominated are passed over.

    Returns
    -------
    int
        Position of the point.

    Examples
    --------
    >>> knee([0.0, 0.05, 0.3], [0.7, 0.85, 0.87])
    1
    """
    gaps, scores = _points(gap, performance)
    front = np.flatnonzero(~dominated(gaps, scores))
    if not len(front):
        raise InvalidParameterError("there is no point whose gap and performance are both known.")
    front = front[np.argsort(gaps[front], kind="stable")]
    x, y = gaps[front] - gaps[front[0]], scores[front] - scores[front[0]]
    if x[-1] <= 0 or y[-1] <= 0:
        return int(front[0])
    return int(front[np.argmax(y / y[-1] - x / x[-1])])


def _points(gap: ArrayLike, performance: ArrayLike) -> tuple[Floats, Floats]:
    gaps, scores = np.asarray(gap, dtype=np.float64), np.asarray(performance, dtype=np.float64)
    if gaps.ndim != 1 or gaps.shape != scores.shape:
        raise InvalidParameterError(
            f"gap and performance must be two equally long lists, got {gaps.shape} and "
            f"{scores.shape}."
        )
    return gaps, scores
