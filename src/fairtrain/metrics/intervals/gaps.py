"""The gap and the ratio between the extreme groups, with intervals that forgive having looked."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairtrain.metrics.intervals.pairs import (
    pairwise_differences,
    pairwise_ratios,
    reference_ratios,
)
from fairtrain.metrics.intervals.single import BoolArray, Design, FloatArray

__all__ = ["GapInterval", "certain_gap", "certain_ratio", "gap_interval", "ratio_interval"]

IntArray = NDArray[np.intp]


class GapInterval(NamedTuple):
    """Gap or ratio of each family of groups; 0-d arrays for a single family.

    With fewer than two groups that have rows there is nothing to compare: estimate and limits are
    NaN, both positions -1.
    """

    estimate: FloatArray
    lower: FloatArray
    upper: FloatArray
    highest: IntArray
    lowest: IntArray


def gap_interval(
    mean: ArrayLike,
    count: ArrayLike,
    confidence: float = 0.95,
    *,
    variance: ArrayLike | None = None,
    bounded: bool = False,
    design: Design | None = None,
) -> GapInterval:
    r"""Interval of the gap, the largest difference between any two groups.

    The observed gap is biased upward, and its pair was chosen by looking. The lower limit is
    therefore the largest lower limit of *simultaneous* differences. The upper limit is the largest
    upper limit of the differences each *on its own*: it fails only if the pair that truly is the
    widest fails, and that pair is fixed by nature, not by the data (Berger's intersection-union
    principle), so a correction for looking would only waste rows. At a gap of 0 only the lower
    limit can fail; well away from 0 each fails with a probability of about :math:`\alpha/2` at
    most.

    Parameters
    ----------
    mean, count, confidence, variance, bounded, design
        As in `pairwise_differences`.

    Returns
    -------
    GapInterval
        Gap >= 0, its limits and the positions of the two extreme groups, each of shape (...).

    References
    ----------
    Berger (1982), Technometrics 24, 295-300.

    Examples
    --------
    >>> gap = gap_interval([0.30, 0.42, 0.35], [200, 180, 22])
    >>> round(float(gap.estimate), 3), round(float(gap.lower), 3), round(float(gap.upper), 3)
    (0.12, 0.005, 0.288)
    """
    together, alone = (
        pairwise_differences(
            mean,
            count,
            confidence,
            variance=variance,
            bounded=bounded,
            design=design,
            simultaneous=together_too,
        )
        for together_too in (True, False)
    )
    present = ~np.isnan(np.diagonal(alone.lower, axis1=-2, axis2=-1))
    top, bottom = _extremes(mean, present)
    return _masked(
        present.sum(-1) >= 2,
        _over_pairs(np.max, alone.estimate, -np.inf),
        _over_pairs(np.max, together.lower, -np.inf),
        _over_pairs(np.max, alone.upper, -np.inf),
        top,
        bottom,
    )


def certain_gap(mean: ArrayLike, count: ArrayLike, confidence: float = 0.95) -> FloatArray:
    """Lower limit of the gap alone, as in `gap_interval`; -inf with nothing to compare."""
    return _over_pairs(np.max, pairwise_differences(mean, count, confidence).lower, -np.inf)


def certain_ratio(mean: ArrayLike, count: ArrayLike, confidence: float = 0.95) -> FloatArray:
    """Upper limit of the ratio alone, as in `ratio_interval`; inf with nothing to compare."""
    return _over_pairs(np.min, pairwise_ratios(mean, count, confidence).upper, np.inf)


def ratio_interval(
    mean: ArrayLike,
    count: ArrayLike,
    confidence: float = 0.95,
    *,
    reference: int | None = None,
    variance: ArrayLike | None = None,
    design: Design | None = None,
) -> GapInterval:
    """Interval of the ratio of the lowest rate to the highest, or to that of a named group.

    The mirror image of `gap_interval`: the upper limit is the smallest upper limit of simultaneous
    ratios, the lower one the smallest lower limit of ratios each on its own.

    Parameters
    ----------
    mean, count, confidence, variance, design
        As in `pairwise_ratios`.
    reference : int, optional
        Position of the group that the others are compared with, named before looking. The ratio
        is then that of the lowest *other* group and may exceed 1.

    Returns
    -------
    GapInterval
        Without a reference all in [0, 1]. NaN as estimate, with limits 0 and 1, if all rates are
        0. With an empty reference there is nothing to compare.

    Examples
    --------
    >>> ratio = ratio_interval([0.30, 0.42, 0.35], [200, 180, 22])
    >>> round(float(ratio.estimate), 3), round(float(ratio.lower), 3), round(float(ratio.upper), 3)
    (0.714, 0.38, 0.987)
    """
    if reference is not None:
        return _ratio_to(mean, count, confidence, reference, variance, design)
    together, alone = (
        pairwise_ratios(
            mean, count, confidence, variance=variance, design=design, simultaneous=simultaneous
        )
        for simultaneous in (True, False)
    )
    present = ~np.isnan(np.diagonal(alone.lower, axis1=-2, axis2=-1))
    top, bottom = _extremes(mean, present)
    return _masked(
        present.sum(-1) >= 2,
        _quotient(mean, bottom, top),
        _over_pairs(np.min, alone.lower, np.inf),
        _over_pairs(np.min, together.upper, np.inf),
        top,
        bottom,
    )


def _ratio_to(
    mean: ArrayLike,
    count: ArrayLike,
    confidence: float,
    reference: int,
    variance: ArrayLike | None,
    design: Design | None,
) -> GapInterval:
    together, alone = (
        reference_ratios(
            mean,
            count,
            reference,
            confidence,
            variance=variance,
            design=design,
            simultaneous=simultaneous,
        )
        for simultaneous in (True, False)
    )
    positions = np.arange(alone.lower.shape[-1])
    others = ~np.isnan(alone.lower) & (positions != positions[reference])
    bottom = _extremes(mean, others)[1]
    top = np.full_like(bottom, positions[reference])
    return _masked(
        others.any(-1),
        _quotient(mean, bottom, top),
        np.where(others, alone.lower, np.inf).min(-1),
        np.where(others, together.upper, np.inf).min(-1),
        top,
        bottom,
    )


def _extremes(mean: ArrayLike, present: BoolArray) -> tuple[IntArray, IntArray]:
    """Positions of the highest (first) and lowest (last) mean; they differ even in a tie."""
    values = np.broadcast_to(np.asarray(mean, dtype=float), present.shape)
    top = np.where(present, values, -np.inf).argmax(-1)
    bottom = values.shape[-1] - 1 - np.where(present, values, np.inf)[..., ::-1].argmin(-1)
    return top, bottom


def _over_pairs(
    extreme: Callable[..., FloatArray], values: FloatArray, missing: float
) -> FloatArray:
    return extreme(np.where(np.isnan(values), missing, values), axis=(-2, -1))


def _quotient(mean: ArrayLike, bottom: IntArray, top: IntArray) -> FloatArray:
    values = np.broadcast_to(np.asarray(mean, dtype=float), (*bottom.shape, np.shape(mean)[-1]))
    low, high = (np.take_along_axis(values, i[..., None], -1)[..., 0] for i in (bottom, top))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(low / high)


def _masked(
    valid: BoolArray,
    estimate: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    top: IntArray,
    bottom: IntArray,
) -> GapInterval:
    return GapInterval(
        *(np.where(valid, v, np.nan) for v in (estimate, lower, upper)),
        *(np.where(valid, v, -1) for v in (top, bottom)),
    )
