"""Comparisons of every group with all rows together."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fairtrain.metrics.intervals.means import bounded_limits, mean_limits
from fairtrain.metrics.intervals.sides import Limits, single_limits
from fairtrain.metrics.intervals.single import (
    Design,
    FloatArray,
    error_rate,
    rates,
    student_rows,
    two_sided,
)

__all__ = ["differences_from_overall"]


def differences_from_overall(
    mean: ArrayLike,
    count: ArrayLike,
    confidence: float = 0.95,
    *,
    weight: ArrayLike | None = None,
    variance: ArrayLike | None = None,
    bounded: bool = False,
    design: Design | None = None,
) -> Limits:
    r"""Difference of every group from the overall mean, with limits that hold together.

    The contrast :math:`(1 - w_g) r_g - \sum_{j \ne g} w_j r_j` has the lower limit
    :math:`d - \sqrt{(1 - w_g)^2 (r_g - l_g)^2 + \sum_{j \ne g} w_j^2 (u_j - r_j)^2}`, and the
    upper one with l and u exchanged; Bonferroni over the G contrasts.

    Parameters
    ----------
    mean, count, confidence, variance, bounded, design
        As in `pairwise_differences`.
    weight : array_like, shape (..., G), optional
        Share of each group in the overall mean, up to a factor; ``count`` if None.

    Returns
    -------
    Limits
        Arrays of shape (..., G); NaN for empty groups.

    References
    ----------
    Zou, Huang and Zhang (2009), Computational Statistics and Data Analysis 53, 1080-1085.

    Examples
    --------
    >>> limits = differences_from_overall([0.3, 0.5], [200, 200])
    >>> limits.estimate.round(3).tolist(), limits.upper.round(3).tolist()
    ([-0.1, 0.1], [-0.052, 0.145])
    """
    r, n = np.broadcast_arrays(np.asarray(mean, dtype=float), np.asarray(count, dtype=float))
    present = ~np.isnan(r) & (n > 0 if variance is None or bounded else n >= 2)
    groups = present.sum(-1, keepdims=True)
    # Two groups make one contrast, seen from either side.
    many = groups > 2
    z = two_sided(error_rate(confidence) / np.where(many, groups, 1))
    if variance is None:
        r, n = rates(r, n)
        lower, upper = single_limits(r, student_rows(n, z, design), z, many)
    else:
        limits = bounded_limits if bounded else mean_limits
        df = None if design is None else design.df
        lower, upper = limits(r, np.asarray(variance, dtype=float), n, z, df)
    w = np.where(present, n if weight is None else weight, 0.0)
    w = w / np.where(present.any(-1, keepdims=True), w.sum(-1, keepdims=True), 1.0)
    below, above = (np.where(present, v, 0.0) for v in (r - lower, upper - r))
    estimate = np.where(present, r, 0.0)
    estimate = np.where(present, estimate - (w * estimate).sum(-1, keepdims=True), np.nan)
    shared = None if design is None else design.correlation
    return Limits(
        estimate,
        estimate - _half(w, below, above, shared),
        estimate + _half(w, above, below, shared),
    )


def _half(
    w: FloatArray, own: FloatArray, other: FloatArray, correlation: FloatArray | None
) -> FloatArray:
    """Half width of each contrast: the group's own limit, and those of the rest opposite."""
    own, other = (1 - w) * own, w * other
    pulled = other if correlation is None else (correlation @ other[..., None])[..., 0]
    others = (other * pulled).sum(-1, keepdims=True) - 2 * other * pulled + other**2
    return np.asarray(np.sqrt(np.maximum(own**2 - 2 * own * (pulled - other) + others, 0.0)))
