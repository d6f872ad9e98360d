"""Venn-Abers predictors: the two isotonic fits in which the new row is a 0, and a 1."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fairtrain.calibration.cells import Cells
from fairtrain.calibration.maps.steps import GroupTables, distinct_cells

__all__ = ["VennAbers", "fit_venn_abers"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


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
    found = []
    for i in range(2, count + 2):
        top, below = stack[-1], stack[-2]
        found.append((ys[below] - ys[top]) / (xs[below] - xs[top]))
        # The point before this score slides: the joining row now comes after it.
        xs[i - 1], ys[i - 1] = (
            xs[i - 2] + xs[i] - xs[i - 1],
            ys[i - 2] + ys[i] - ys[i - 1],
        )
        over = (xs[below] - xs[top]) * (ys[i - 1] - ys[top]) - (ys[below] - ys[top]) * (
            xs[i - 1] - xs[top]
        )
        if over >= 0:
            continue
        stack.pop()
        while len(stack) > 1 and turns_right_or_straight(i - 1, stack[-1], stack[-2]):
            stack.pop()
        stack.append(i - 1)
    return found
