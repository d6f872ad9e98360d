"""Constraint rows: the linear inequalities on cell rates that a bound stands for.

Each row reads ``C[k] @ rates <= limit[k]``. A pairwise bound is written out over pairs where that
is short and around the overall rate, at half the bound, where it is not; a fairlearn constraint
always keeps fairlearn's own rows, in fairlearn's order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag

from fairtrain.constraints.table import CellRates, RateTable

__all__ = ["ConstraintRows", "constraint_rows"]

Floats = NDArray[np.float64]

MOST_PAIRED_GROUPS = 24
"""Up to here all pairs are written out (24 groups: 552 rows); it costs less accuracy."""


@dataclass(frozen=True)
class RowBlock:
    """Inequalities of one family (one rate of one constraint).

    Attributes
    ----------
    matrix : ndarray of shape (K, G)
        Coefficients of the group rates.
    limit : ndarray of shape (K,)
        Right-hand sides.
    names : list of str
        What each row says.
    project : {"none", "pairs", "median"}
        How multipliers can be lowered without changing what they say.
    """

    matrix: Floats
    limit: Floats
    names: list[str]
    project: str
    shares: Floats

    def projected(self, multipliers: Floats) -> Floats:
        """Multipliers that give the same or a higher Lagrangian for every classifier."""
        if self.project == "pairs":
            return _cancel_opposite(multipliers)
        if self.project == "median":
            return _shift_by_median(multipliers, self.shares)
        return multipliers


@dataclass(frozen=True)
class ConstraintRows:
    """All rows of a table's constraints.

    Attributes
    ----------
    matrix : ndarray of shape (K, n_cells)
        Coefficients of the cell rates.
    limits : ndarray of shape (K,)
        Right-hand sides.
    names : list of str
        What each row says.
    blocks : list of (RowBlock, ndarray)
        Each family's block and the places of its rows.
    """

    matrix: Floats
    limits: Floats
    names: list[str]
    blocks: list[tuple[RowBlock, NDArray[np.int64]]]

    def projected(self, multipliers: Floats) -> Floats:
        """Multipliers that give the same or a higher Lagrangian for every classifier."""
        values = np.array(multipliers, dtype=np.float64)
        for block, rows in self.blocks:
            values[rows] = block.projected(values[rows])
        return values


def constraint_rows(table: RateTable) -> ConstraintRows:
    """Write the bounds of every family as rows."""
    blocks = [_row_block(cells) for cells in table.cells]
    order = _fairlearn_order(table.cells, blocks)
    names = [name for block in blocks for name in block.names]
    ends = np.cumsum([len(block.limit) for block in blocks])[:-1]
    places = np.split(np.argsort(order), ends)
    return ConstraintRows(
        matrix=block_diag(*(block.matrix for block in blocks))[order],
        limits=np.concatenate([block.limit for block in blocks])[order],
        names=[names[row] for row in order],
        blocks=list(zip(blocks, places, strict=True)),
    )


def _fairlearn_order(parts: Sequence[CellRates], blocks: Sequence[RowBlock]) -> NDArray[np.int64]:
    """Within a constraint, upper rows of all its rates first, as fairlearn stacks them.

    The order decides which of several equally good vertices a linear program returns.
    """
    owners: list[int] = []
    for i, cells in enumerate(parts):
        same = i > 0 and cells.family.constraint is parts[i - 1].family.constraint
        owners.append(owners[-1] if same else i)
    keys = [
        (owner, 2 * row >= len(block.limit))
        for owner, block in zip(owners, blocks, strict=True)
        for row in range(len(block.limit))
    ]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


def _row_block(cells: CellRates) -> RowBlock:
    """Write one family's bound as rows."""
    bounds, present = cells.family.bounds, cells.present
    names = [cells.family.cell_names[g] for g in present]
    rate = cells.family.rate.name
    if bounds.reference == "free" and len(present) > MOST_PAIRED_GROUPS:
        bounds = bounds.around_overall()
    if len(present) < (1 if bounds.reference == "none" else 2):  # in this stratum
        nothing = np.zeros(0)
        return RowBlock(np.zeros((0, cells.size)), nothing, [], "none", nothing)
    rows = bounds.inequalities(present, cells.shares)
    weights = bounds.importance[present]
    # Only rows that weigh both rates alike can lower multipliers without changing what they say.
    even = bounds.constraint.kind == "difference" or bounds.bound == 1.0
    project = "none"
    if bounds.reference == "none":
        sign = ">=" if bounds.constraint.larger_is_fairer else "<="
        limits = -rows.limit if bounds.constraint.larger_is_fairer else rows.limit
        said = [f"{rate}[{n}] {sign} {v:g}" for n, v in zip(names, limits, strict=True)]
    elif bounds.reference == "overall":
        said = [f"{sign}{rate}[{name}]" for sign in "+-" for name in names]
        weights, project = np.tile(weights, 2), "median" if even else "none"
    else:
        first, second = np.nonzero(~np.eye(len(present), dtype=bool))
        rows = rows.without_centre(first, second)
        said = [f"{rate}[{names[g]}]-[{names[h]}]" for g, h in zip(first, second, strict=True)]
        weights, project = np.sqrt(weights[first] * weights[second]), "pairs" if even else "none"
    if not np.all(weights == weights[0]):
        project = "none"
    return RowBlock(
        rows.matrix * weights[:, None], rows.limit * weights, said, project, cells.shares[present]
    )


def _cancel_opposite(multipliers: Floats) -> Floats:
    """Lower lambda_gh and lambda_hg by the smaller of the two: they push against each other."""
    size = round((1 + math.sqrt(1 + 4 * len(multipliers))) / 2)
    square = np.zeros((size, size))
    off_diagonal = ~np.eye(size, dtype=bool)
    square[off_diagonal] = multipliers
    return np.asarray((square - np.minimum(square, square.T))[off_diagonal])


def _shift_by_median(multipliers: Floats, shares: Floats) -> Floats:
    """Shift signed multipliers along the direction in which rows around the overall rate agree.

    Adding ``t * share_g`` to every signed multiplier leaves the Lagrangian's first part unchanged;
    the share-weighted median is the shift with the smallest sum of absolute values.
    """
    size = len(shares)
    signed = multipliers[:size] - multipliers[size:]
    scaled = signed / shares
    order = np.argsort(scaled, kind="stable")
    half = np.searchsorted(np.cumsum(shares[order]), shares.sum() / 2)
    signed = signed - shares * scaled[order[half]]
    return np.concatenate([np.clip(signed, 0, None), np.clip(-signed, 0, None)])
