"""The quantity a bound limits, with its confidence limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fairtrain.constraints import Constraint, ParityConstraint
from fairtrain.exceptions import InvalidDataError
from fairtrain.metrics.cells import Cells
from fairtrain.metrics.intervals import GapInterval, differences_from_overall

__all__ = ["Limited", "limited", "nothing_known"]

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


def nothing_known(cells: Sequence[Cells]) -> Limited:
    """A stratum without rows: anything that the quantity, in all strata, can be."""
    unit = all(cell.support == "unit" for cell in cells)
    low, high = (0.0, 1.0) if unit else (-np.inf, np.inf)
    return Limited(np.nan, low, high, np.nan, 0, -1)


def limited(
    constraint: Constraint, cells: Cells, confidence: float, n_rates: int, shift: Floats
) -> Limited:
    """Read one rate of a notion that compares ``n_rates`` of them.

    ``shift`` says how far the bound of each group lies above the common one, where it is absolute:
    what is read then belongs to the group nearest to its own bound, or farthest beyond it.

    A group without a row may have any rate: it widens the limits and adds nothing to what was
    achieved.
    """
    # The limit on the near side may err once for every rate: Bonferroni over the rates.
    stricter = 1 - (1 - confidence) / n_rates
    known = cells.known
    if constraint.absolute:
        return _absolutely_limited(constraint, cells, known, confidence, stricter, shift)
    assert isinstance(constraint, ParityConstraint)
    if len(known) < 2 or not known.any():
        raise InvalidDataError(
            f"{constraint.name} compares at least two groups, but these rows hold fewer that it "
            "is defined on."
        )
    if constraint.kind == "difference":
        far, near = cells.gap(confidence), cells.gap(stricter)
        if constraint.reference == "overall":
            result = _around_overall(cells, far, confidence, stricter)
        else:
            result = _from_interval(far, lower=near.lower, upper=far.upper, equal=0.0)
        return result if known.all() else _around_unknown(result, cells, known, confidence)
    if cells.support != "unit":
        raise InvalidDataError(f"{constraint.name}: a ratio bound needs a rate in [0, 1].")
    far, near = cells.ratio(confidence), cells.ratio(stricter)
    if constraint.reference == "overall":
        result = _ratio_to_overall(cells, far, near)
    else:
        result = _from_interval(far, lower=far.lower, upper=near.upper, equal=1.0)
    return result if known.all() else _with_ends(result, known, equal=1.0, lower=0.0)


def _around_unknown(result: Limited, cells: Cells, known: Bools, confidence: float) -> Limited:
    """Allow for groups without rows, whose rates may lie anywhere: the farthest apart they can.

    The rate of all rows lies among those of the groups, so this holds for the distance from it too.
    """
    if cells.support != "unit":
        farthest = np.inf
    elif (~known).sum() > 1:
        farthest = 1.0
    else:
        low, high = (limit[known] for limit in cells.limits(confidence))
        farthest = max(high.max(), 1 - low.min())
    return _with_ends(result, known, equal=0.0, upper=float(np.fmax(result.upper, farthest)))


def _with_ends(result: Limited, known: Bools, equal: float, **limits: float) -> Limited:
    """Put in limits; where a single group has rows it equals itself, and an empty one is named."""
    numbers = ("achieved", "lower", "upper", "pairwise")
    values = {name: getattr(result, name) for name in numbers} | limits
    values = {name: equal if np.isnan(v) else v for name, v in values.items()}
    if result.highest < 0:
        return Limited(**values, highest=int(known.argmax()), lowest=int(known.argmin()))
    return replace(result, **values)


def _from_interval(interval: GapInterval, lower: Floats, upper: Floats, equal: float) -> Limited:
    value = float(interval.estimate)
    value = equal if np.isnan(value) else value  # a single group, or a ratio of two rates of 0
    return Limited(
        value, float(lower), float(upper), value, int(interval.highest), int(interval.lowest)
    )


def _around_overall(
    cells: Cells, pairs: GapInterval, confidence: float, stricter: float
) -> Limited:
    """fairlearn's difference: the group farthest from all rows."""
    mean, effective = cells.bare()
    limits, near = (
        differences_from_overall(mean, effective, level, weight=cells.total, **cells.spread)
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


def _absolutely_limited(
    constraint: Constraint,
    cells: Cells,
    known: Bools,
    confidence: float,
    stricter: float,
    shift: Floats,
) -> Limited:
    """Read a cap or a floor; a group without rows may lie anywhere, on the far side."""
    present = cells.count > 0
    if not present.any():
        raise InvalidDataError(f"{constraint.name}: no group has rows.")
    floor = constraint.larger_is_fairer
    one_of_all = 1 - (1 - stricter) / int(present.sum())
    far = cells.limits(confidence)[0 if floor else 1]
    near = cells.limits(one_of_all)[1 if floor else 0]
    worst_of_rates, worst_of_values = (0.0, -np.inf) if floor else (1.0, np.inf)
    far = np.where(known, far, worst_of_rates if cells.support == "unit" else worst_of_values)
    near = np.where(np.isnan(near), np.inf if floor else 0.0, near)
    beyond = np.where(present, cells.mean - shift, np.nan)
    extreme = int(np.nanargmin(beyond) if floor else np.nanargmax(beyond))
    end = np.min if floor else np.max
    own = shift[extreme]
    highest, lowest = int(np.nanargmax(cells.mean)), int(np.nanargmin(cells.mean))
    limits = float(end((near - shift)[present]) + own), float(end(far - shift) + own)
    return Limited(
        achieved=float(cells.mean[extreme]),
        lower=limits[floor],
        upper=limits[not floor],
        pairwise=float(cells.mean[highest] - cells.mean[lowest]),
        highest=highest if floor else extreme,
        lowest=extreme if floor else lowest,
    )
