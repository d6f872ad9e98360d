"""Functions of a logit that are tables: one a group, all looked up in one search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from fairtrain.calibration.cells import Cells

__all__ = ["GroupTables", "distinct_cells", "fit_histogram", "fit_isotonic"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Kind = Literal["linear", "from_left", "from_right"]

_SPAN = 64.0  # logits lie within (-32, 32), so groups cannot overlap on the common axis


def axis(group: Codes, x: Floats) -> Floats:
    """Place logits of all groups on one line, a stretch for each group."""
    return np.asarray(group * _SPAN + x)


@dataclass(frozen=True, eq=False)
class GroupTables:
    """Tables of values over logits.

    Attributes
    ----------
    place : ndarray of shape (m,)
        Points of all groups on one line, ascending; see :func:`axis`.
    value : ndarray of shape (m,)
        Value at each point.
    low, high : ndarray of shape (G,)
        First and last logit of each group's table; beyond them the end values hold. NaN where a
        group has no table.
    kind : {"linear", "from_left", "from_right"}
        Between points: a straight line, the value of the point before, or of the point after.
    """

    place: Floats
    value: Floats
    low: Floats
    high: Floats
    kind: Kind = "linear"

    @classmethod
    def make(
        cls, group: Codes, x: Floats, value: Floats, size: int, kind: Kind = "linear"
    ) -> GroupTables:
        """Make tables of points sorted by group and logit; drop those that say nothing new."""
        low, high = np.full(size, np.nan), np.full(size, np.nan)
        if len(x):
            new = np.diff(group, prepend=-1) != 0
            last = np.append(new[1:], True)
            low[group[new]], high[group[last]] = x[new], x[last]
            same_before = np.append(False, value[1:] == value[:-1]) & ~new
            same_after = np.append(same_before[1:], False)
            keep = {
                "linear": ~(same_before & same_after),
                "from_left": ~same_before,
                "from_right": ~same_after,
            }[kind]
            group, x, value = group[keep], x[keep], value[keep]
        return cls(axis(group, x), value, low, high, kind)

    def has(self, codes: Codes) -> NDArray[np.bool_]:
        """Whether the group of each row has a table."""
        return ~np.isnan(self.low[codes])

    def __call__(self, x: Floats, codes: Codes) -> Floats:
        """Look up rows whose groups all have a table."""
        if not len(self.place):
            return np.full(len(x), np.nan)
        at = axis(codes, np.clip(x, self.low[codes], self.high[codes]))
        if self.kind == "linear":
            return np.interp(at, self.place, self.value)
        if self.kind == "from_left":
            return self.value[np.searchsorted(self.place, at, side="right") - 1]
        return self.value[np.searchsorted(self.place, at, side="left")]


def distinct_cells(cells: Cells) -> Cells:
    """Cells sorted by group and logit, equal logits of a group pooled: one sort for all groups."""
    order = np.lexsort((cells.x, cells.group))
    group, x = cells.group[order], cells.x[order]
    new = np.append(True, (np.diff(group) != 0) | (np.diff(x) != 0)) if len(x) else np.array([])
    first = np.flatnonzero(new)
    if not len(first):
        return cells
    return Cells(
        group[first],
        x[first],
        np.add.reduceat(cells.weight[order], first),
        np.add.reduceat(cells.events[order], first),
        np.add.reduceat(cells.squares[order], first),
        cells.size,
    )


def fit_isotonic(cells: Cells) -> GroupTables:
    """Fit a rising curve to each group, all of them in one pass (Zadrozny & Elkan, 2002).

    Targets of group g are raised by 2g, so that no block of pool-adjacent-violators can reach over
    two groups. Values between points are interpolated in the logit.
    """
    pooled = distinct_cells(cells)
    if not len(pooled.x):
        return GroupTables.make(pooled.group, pooled.x, pooled.x, cells.size)
    lift = 2.0 * pooled.group
    rate = pooled.events / pooled.weight
    fitted: Floats = isotonic_regression(rate + lift, weights=pooled.weight).x - lift
    value = np.clip(np.round(fitted, 12), 0.0, 1.0)
    return GroupTables.make(pooled.group, pooled.x, value, cells.size)


def fit_histogram(cells: Cells, n_bins: int = 10) -> GroupTables:
    """Give every row of a group the event rate of its bin, of equally many rows (Zadrozny, 2001).

    A group has at most one bin for every ten rows; equal scores are never parted.
    """
    pooled = distinct_cells(cells)
    if not len(pooled.x):
        return GroupTables.make(pooled.group, pooled.x, pooled.x, cells.size, "from_left")
    total = cells.sums(cells.weight)
    bins = np.clip(total // 10, 1, n_bins).astype(np.int64)
    running = np.cumsum(pooled.weight)
    before = running - pooled.weight
    first = np.append(True, np.diff(pooled.group) != 0)
    offset = before[first][np.cumsum(first) - 1]
    share = (before - offset) / total[pooled.group]
    bin_of = np.minimum(
        (share * bins[pooled.group] + 1e-9).astype(np.int64), bins[pooled.group] - 1
    )
    new = np.append(True, (np.diff(pooled.group) != 0) | (np.diff(bin_of) != 0))
    start = np.flatnonzero(new)
    sums = [np.add.reduceat(v, start) for v in (pooled.events, pooled.weight)]
    rate: Floats = np.asarray(sums[0] / sums[1], dtype=np.float64)
    return GroupTables.make(pooled.group[start], pooled.x[start], rate, cells.size, "from_left")
