"""Maps that are tables over the logit, one a group: isotonic, histogram, Venn-Abers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from scipy.optimize import isotonic_regression

from fairtrain.calibration.cells import Cells, Codes, Floats, Mask

__all__ = [
    "GroupTables",
    "VennAbers",
    "distinct_cells",
    "fit_histogram",
    "fit_isotonic",
    "fit_venn_abers",
]

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

    def has(self, codes: Codes) -> Mask:
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


@dataclass(frozen=True, eq=False)
class VennAbers:
    r"""Probabilities :math:`p_1 / (1 - p_0 + p_1)` from the pair of predictions.

    Attributes
    ----------
    lower, upper : GroupTables
        :math:`p_0` and :math:`p_1`: the isotonic fit at the score when a row with that score and
        label 0, or 1, joins the group.
    """

    lower: GroupTables
    upper: GroupTables

    def __call__(self, x: Floats, codes: Codes) -> Floats:
        """Calibrate logits of rows."""
        p0, p1 = self.pair(x, codes)
        return np.asarray(p1 / (1 - p0 + p1))

    def pair(self, x: Floats, codes: Codes) -> tuple[Floats, Floats]:
        """Give p0 and p1; below the first score p0 is 0, above the last p1 is 1."""
        p0 = np.where(x < self.lower.low[codes], 0.0, self.lower(x, codes))
        p1 = np.where(x > self.upper.high[codes], 1.0, self.upper(x, codes))
        return p0, p1


def fit_venn_abers(cells: Cells) -> VennAbers:
    """Work out p0 and p1 at every score of every group.

    References
    ----------
    Vovk, Petej and Fedorova (2015), "Large-scale probabilistic predictors with and without
    guarantees of validity", NeurIPS, Algorithms 1-4. Time is linear in distinct scores.
    """
    pooled = distinct_cells(cells)
    bounds = np.searchsorted(pooled.group, np.arange(cells.size + 1))
    lower, upper = np.empty(len(pooled.x)), np.empty(len(pooled.x))
    for a, b in pairwise(bounds.tolist()):
        w, yes = pooled.weight[a:b], pooled.events[a:b]
        upper[a:b] = _with_a_one(w, yes)
        # Mirrored: labels and order turned around, a 0 that joins becomes a 1.
        lower[a:b] = np.subtract(1.0, _with_a_one(w[::-1], (w - yes)[::-1])[::-1])
    make = GroupTables.make
    return VennAbers(
        make(pooled.group, pooled.x, lower, cells.size, "from_left"),
        make(pooled.group, pooled.x, upper, cells.size, "from_right"),
    )


def _with_a_one(weight: Floats, events: Floats) -> list[float]:
    """Isotonic fit at each score when a row of that score and label 1 joins."""
    count = len(weight)
    xs = [-1.0, 0.0, *np.cumsum(weight).tolist()]  # cumulative sum diagram, P_-1 and P_0 in front
    ys = [-1.0, 0.0, *np.cumsum(events).tolist()]

    def turns_right_or_straight(a: int, b: int, c: int) -> bool:
        cross = (xs[b] - xs[a]) * (ys[c] - ys[b]) - (ys[b] - ys[a]) * (xs[c] - xs[b])
        return bool(cross <= 0)

    corners: list[int] = [0, 1]
    for i in range(2, count + 2):
        while len(corners) > 1 and turns_right_or_straight(corners[-2], corners[-1], i):
            corners.pop()
        corners.append(i)
    stack = corners[::-1]
    slopes = []
    for i in range(2, count + 2):
        top, below = stack[-1], stack[-2]
        slopes.append((ys[below] - ys[top]) / (xs[below] - xs[top]))
        # The point before this score slides: the joining row now comes after it.
        xs[i - 1], ys[i - 1] = (xs[i - 2] + xs[i] - xs[i - 1], ys[i - 2] + ys[i] - ys[i - 1])
        over = (xs[below] - xs[top]) * (ys[i - 1] - ys[top]) - (ys[below] - ys[top]) * (
            xs[i - 1] - xs[top]
        )
        if over >= 0:
            continue
        stack.pop()
        while len(stack) > 1 and turns_right_or_straight(i - 1, stack[-1], stack[-2]):
            stack.pop()
        stack.append(i - 1)
    return slopes
