"""The quantity a bound limits, with its confidence limits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fairtrain.constraints import BoundedGroupLoss, Constraint, ParityConstraint
from fairtrain.exceptions import InvalidDataError
from fairtrain.metrics.cells import Cells
from fairtrain.metrics.intervals import (
    GapInterval,
    differences_from_overall,
    gap_interval,
    ratio_interval,
)

__all__ = ["Limited", "limited"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Limited:
    """The quantity a bound limits, for one rate: smaller is fairer after ``sign``."""

    achieved: float
    lower: float
    upper: float
    pairwise: float
    highest: int
    lowest: int


def limited(constraint: Constraint, cells: Cells, confidence: float, n_rates: int) -> Limited:
    """Read one rate of a notion that compares ``n_rates`` of them.

    A group without a row may have any rate: it widens the limits and adds nothing to what was
    achieved.
    """
    # The limit on the near side may err once for every rate: Bonferroni over the rates.
    stricter = 1 - (1 - confidence) / n_rates
    known = cells.count > 0 if cells.variance is None else cells.effective >= 2
    if isinstance(constraint, BoundedGroupLoss):
        return _upper_limited(cells, known, confidence, stricter)
    assert isinstance(constraint, ParityConstraint)
    if len(known) < 2 or not known.any():
        raise InvalidDataError(
            f"{constraint.name} compares at least two groups, but these rows hold fewer that it "
            "is defined on."
        )
    mean, effective = cells.bare()
    if constraint.kind == "difference":
        far = gap_interval(mean, effective, confidence, variance=cells.variance)
        near = gap_interval(mean, effective, stricter, variance=cells.variance)
        if constraint.reference == "overall":
            found = _around_overall(cells, far, confidence, stricter)
        else:
            found = _from_interval(far, lower=near.lower, upper=far.upper)
        return found if known.all() else _around_unknown(found, cells, known, confidence)
    if cells.variance is not None:
        raise InvalidDataError(f"{constraint.name}: a ratio bound needs a rate in [0, 1].")
    far = ratio_interval(mean, effective, confidence)
    near = ratio_interval(mean, effective, stricter)
    if constraint.reference == "overall":
        found = _ratio_to_overall(cells, far, near)
    else:
        found = _from_interval(far, lower=far.lower, upper=near.upper)
    return found if known.all() else _with_ends(found, known, equal=1.0, lower=0.0)


def _around_unknown(found: Limited, cells: Cells, known: Bools, confidence: float) -> Limited:
    """Allow for groups without rows, whose rates may lie anywhere: the farthest apart they can.

    The rate of all rows lies among those of the groups, so this holds for the distance from it too.
    """
    if cells.variance is not None:
        farthest = np.inf
    elif (~known).sum() > 1:
        farthest = 1.0
    else:
        low, high = (limit[known] for limit in cells.limits(confidence))
        farthest = max(high.max(), 1 - low.min())
    return _with_ends(found, known, equal=0.0, upper=float(np.fmax(found.upper, farthest)))


def _with_ends(found: Limited, known: Bools, equal: float, **limits: float) -> Limited:
    """Put in limits; where a single group has rows it equals itself, and an empty one is named."""
    numbers = ("achieved", "lower", "upper", "pairwise")
    values = {name: getattr(found, name) for name in numbers} | limits
    values = {name: equal if np.isnan(v) else v for name, v in values.items()}
    if found.highest < 0:
        return Limited(**values, highest=int(known.argmax()), lowest=int(known.argmin()))
    return replace(found, **values)


def _from_interval(interval: GapInterval, lower: Floats, upper: Floats) -> Limited:
    value = float(interval.estimate)
    value = 1.0 if np.isnan(value) else value  # a ratio of two rates of 0: equal
    return Limited(
        value, float(lower), float(upper), value, int(interval.highest), int(interval.lowest)
    )


def _around_overall(
    cells: Cells, pairs: GapInterval, confidence: float, stricter: float
) -> Limited:
    """fairlearn's difference: the group farthest from all rows."""
    mean, effective = cells.bare()
    limits, near = (
        differences_from_overall(
            mean, effective, level, weight=cells.total, variance=cells.variance
        )
        for level in (confidence, stricter)
    )
    distance = np.fmax(near.lower, -near.upper)
    return Limited(
        achieved=float(np.nanmax(np.abs(limits.estimate))),
        lower=float(max(0.0, np.nanmax(distance))),
        upper=float(np.nanmax(np.fmax(limits.upper, -limits.lower))),
        pairwise=float(pairs.estimate),
        highest=int(pairs.highest),
        lowest=int(pairs.lowest),
    )


def _ratio_to_overall(cells: Cells, far: GapInterval, near: GapInterval) -> Limited:
    """fairlearn's ratio, min over groups of r_g / r and r / r_g.

    It lies between the pairwise ratio R and sqrt(R), which gives it limits.
    """
    present = cells.count > 0
    overall = float(np.average(cells.mean[present], weights=cells.total[present]))
    with np.errstate(divide="ignore", invalid="ignore"):
        to_overall = cells.mean[present] / overall
        both = np.fmin(to_overall, 1 / to_overall)
    value = 1.0 if overall == 0 else float(np.nanmin(both))
    pairwise = 1.0 if np.isnan(far.estimate) else float(far.estimate)
    return Limited(
        value,
        float(far.lower),
        float(np.sqrt(near.upper)),
        pairwise,
        int(far.highest),
        int(far.lowest),
    )


def _upper_limited(cells: Cells, known: Bools, confidence: float, stricter: float) -> Limited:
    present = cells.count > 0
    if not present.any():
        raise InvalidDataError("bounded group loss: no group has rows.")
    lower = cells.limits(1 - (1 - stricter) / int(present.sum()))[0]
    upper = np.where(known, cells.limits(confidence)[1], 1.0 if cells.variance is None else np.inf)
    order = np.argsort(np.where(present, cells.mean, -np.inf))
    return Limited(
        achieved=float(np.nanmax(cells.mean)),
        lower=float(np.nanmax(np.where(np.isnan(lower), 0.0, lower))),
        upper=float(upper.max()),
        pairwise=float(np.nanmax(cells.mean) - np.nanmin(cells.mean)),
        highest=int(order[-1]),
        lowest=int(np.nanargmin(cells.mean)),
    )
