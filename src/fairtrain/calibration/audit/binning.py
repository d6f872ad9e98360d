"""Sorted rows as cells: every measure of calibration, observed or simulated, is a sum over them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fairtrain.calibration.cells import CLIP
from fairtrain.data.groups import group_sums

__all__ = ["GroupCells", "make_cells"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

_FINE = 200
_EXACT_ROWS = 1000


@dataclass(frozen=True, eq=False)
class GroupCells:
    """Rows of G groups, pooled where group, bins and (nearly) score agree.

    Attributes
    ----------
    group : ndarray of int64, shape (m,)
        Group of each cell.
    mass, width, fine : ndarray of int64, shape (m,)
        Its bin of equally many rows, its bin of equal width, and its place on a fine grid.
    rows : ndarray of int64, shape (m,)
        Rows in it.
    score, events, square : ndarray of shape (m,)
        Sums of the rows' scores, outcomes and squared scores.
    size, n_bins, n_fine : int
        Number of groups, of bins a group, and of grid places.
    """

    group: Codes
    mass: Codes
    width: Codes
    fine: Codes
    rows: Codes
    score: Floats
    events: Floats
    square: Floats
    size: int
    n_bins: int
    n_fine: int

    @cached_property
    def count(self) -> Floats:
        """Rows of each group, shape (G,)."""
        return group_sums(self.rows.astype(np.float64), self.group, self.size)

    @cached_property
    def mean_score(self) -> Floats:
        """Mean score of each cell."""
        return np.clip(self.score / self.rows, 0.0, 1.0)

    def totals(self, values: Floats) -> Floats:
        """Sums over each group: (..., m) to (..., G)."""
        return self._gathered(self.group, self.size, values)

    def by_mass(self, values: Floats) -> Floats:
        """Sums over bins of equally many rows: (..., m) to (..., G, bins)."""
        return self._binned(self.mass, self.n_bins, values)

    def by_width(self, values: Floats) -> Floats:
        """Sums over bins of equal width: (..., m) to (..., G, bins)."""
        return self._binned(self.width, self.n_bins, values)

    def by_place(self, values: Floats) -> Floats:
        """Sums over the fine grid: (..., m) to (..., G, places)."""
        return self._binned(self.fine, self.n_fine, values)

    def _binned(self, at: Codes, bins: int, values: Floats) -> Floats:
        found = self._gathered(self.group * bins + at, self.size * bins, values)
        return found.reshape(*values.shape[:-1], self.size, bins)

    def _gathered(self, keys: Codes, size: int, values: Floats) -> Floats:
        if values.ndim == 1:
            return group_sums(values, keys, size)
        ones = np.ones(len(keys))
        matrix = sparse.csr_array((ones, keys, np.arange(len(keys) + 1)), (len(keys), size))
        return np.asarray((matrix.T @ values.T).T)

    def drawn(self, simulations: int, rng: np.random.Generator) -> Floats:
        """Outcomes under perfect calibration, shape (simulations, m).

        Exact for cells of one row; a cell of several draws from the binomial at its mean score.
        """
        size = (simulations, len(self.rows))
        return rng.binomial(self.rows, self.mean_score, size).astype(np.float64)


def make_cells(scores: Floats, y: NDArray[Any], codes: Codes, size: int, n_bins: int) -> GroupCells:
    """Make cells of rows sorted by group and score.

    Bins of equal mass hold ranks ``floor(n_bins * rank / n)``, rows of one score all in the bin of
    the first; bins of equal width are [k, k + 1) / n_bins, the last one closed. Both are assigned
    once, here, and never recomputed, so that counts and means always speak of the same rows.

    Parameters
    ----------
    scores, y, codes : ndarray of shape (n,)
        Probabilities, outcomes and groups, sorted by group, then score; no code is negative.
    size : int
        Number of groups.
    n_bins : int
        Bins a group. Bins without rows are kept, empty.
    """
    n = len(scores)
    count = np.bincount(codes, minlength=size)
    start = np.concatenate([[0], np.cumsum(count)])[:-1]
    rank = np.arange(n) - start[codes]
    tied = np.append(False, (scores[1:] == scores[:-1]) & (codes[1:] == codes[:-1]))[:n]
    first_of_tie = np.maximum.accumulate(np.where(tied, 0, np.arange(n)))
    rank = rank[first_of_tie]
    mass = (n_bins * rank) // count[codes] if n else rank
    steps = -(-_FINE // n_bins)
    n_fine = steps * n_bins
    fine = np.minimum((scores * n_fine).astype(np.int64), n_fine - 1)
    new = np.append(True, (np.diff(codes) != 0) | (np.diff(mass) != 0) | (np.diff(fine) != 0))[
        :n
    ] | ((count[codes] <= _EXACT_ROWS) & ~tied)
    at = np.flatnonzero(new)

    def summed(values: Floats) -> Floats:
        return np.add.reduceat(values, at) if n else np.zeros(0)

    clipped = np.clip(scores, CLIP, 1 - CLIP)
    return GroupCells(
        codes[at],
        mass[at],
        fine[at] // steps,
        fine[at],
        np.diff(np.append(at, n)),
        summed(scores),
        summed(np.asarray(y, dtype=np.float64)),
        summed(clipped**2),
        size,
        n_bins,
        n_fine,
    )
