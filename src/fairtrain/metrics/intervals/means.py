"""Intervals for means without bounds, such as losses and scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from fairtrain.metrics.intervals.single import FloatArray, error_rate, two_sided

__all__ = ["mean_interval", "mean_limits", "welch_half_width"]

_NODES = np.geomspace(1.0, 1e12, 8001)


def mean_interval(
    mean: ArrayLike, variance: ArrayLike, count: ArrayLike, confidence: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    r"""Student's interval of a mean: :math:`\bar x \pm t_{n-1} \sqrt{s^2 / n}`.

    Parameters
    ----------
    mean, variance : array_like
        Mean and sample variance (divisor n - 1) of each group.
    count : array_like
        Rows behind each mean; any real number.
    confidence : float
        Two-sided confidence level.

    Returns
    -------
    lower, upper : ndarray
        NaN where ``count`` is below 2.

    References
    ----------
    Student (1908), Biometrika 6, 1-25.

    Examples
    --------
    >>> lower, upper = mean_interval(5.0, 4.0, 16)
    >>> round(float(lower), 3), round(float(upper), 3)
    (3.934, 6.066)
    """
    centre, spread, n = (np.asarray(v, dtype=float) for v in (mean, variance, count))
    return mean_limits(centre, spread, n, two_sided(error_rate(confidence)))


def mean_limits(
    mean: FloatArray, variance: FloatArray, count: FloatArray, z: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Student's limits with the tail probability that ``z`` has for the normal."""
    n = np.where(count >= 2, count, np.nan)
    half = student_quantile(z, n - 1) * np.sqrt(variance / n)
    return mean - half, mean + half


def student_quantile(z: FloatArray, df: FloatArray) -> FloatArray:
    """Student's quantile with the tail probability that ``z`` has for the normal."""
    if df.size > _NODES.size and np.ptp(z) == 0:
        # A thousand groups make a million degrees of freedom: interpolated, right to 1e-5.
        nodes = np.log(-special.stdtrit(_NODES, special.ndtr(-z.flat[0])))
        return np.asarray(np.exp(np.interp(1 / df, 1 / _NODES[::-1], nodes[::-1])))
    return np.asarray(-special.stdtrit(df, special.ndtr(-z)))


def welch_half_width(variance: FloatArray, count: FloatArray, z: FloatArray) -> FloatArray:
    """Half widths of all pairwise differences of means, degrees of freedom after Welch (1947)."""
    share = variance / count
    with np.errstate(invalid="ignore"):
        own = share**2 / (count - 1)
        total = share[..., :, None] + share[..., None, :]
        df = total**2 / (own[..., :, None] + own[..., None, :])
        half = student_quantile(z, df) * np.sqrt(total)
    return np.where(total == 0, 0.0, half)
