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

from fairtrain.constraints import BoundedGroupLoss, ParityConstraint
from fairtrain.constraints.table import Family, RateTable

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
    blocks = [_row_block(family) for family in table.families]
    order = _fairlearn_order(table.families, blocks)
    names = [name for block in blocks for name in block.names]
    ends = np.cumsum([len(block.limit) for block in blocks])[:-1]
    places = np.split(np.argsort(order), ends)
    return ConstraintRows(
        matrix=block_diag(*(block.matrix for block in blocks))[order],
        limits=np.concatenate([block.limit for block in blocks])[order],
        names=[names[row] for row in order],
        blocks=list(zip(blocks, places, strict=True)),
    )


def _fairlearn_order(families: Sequence[Family], blocks: Sequence[RowBlock]) -> NDArray[np.int64]:
    """Within a constraint, upper rows of all its rates first, as fairlearn stacks them.

    The order decides which of several equally good vertices a linear program returns.
    """
    owners: list[int] = []
    for i, family in enumerate(families):
        same = i > 0 and family.constraint is families[i - 1].constraint
        owners.append(owners[-1] if same else i)
    keys = [
        (owner, 2 * row >= len(block.limit))
        for owner, block in zip(owners, blocks, strict=True)
        for row in range(len(block.limit))
    ]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


def _row_block(family: Family) -> RowBlock:
    """Write one family's bound as rows."""
    constraint, present = family.constraint, family.present
    shares = family.shares[present]
    names = [family.cells.scheme.names[g] for g in present]
    weights = constraint.group_weights(family.cells.scheme.names)[present]
    rate = family.cells.rate.name
    if isinstance(constraint, BoundedGroupLoss):
        block = _upper_rows(names, rate, constraint.bound, shares)
        scale = weights
    else:
        assert isinstance(constraint, ParityConstraint)
        if constraint.reference == "pairwise" and len(present) <= MOST_PAIRED_GROUPS:
            block = _pair_rows(names, rate, constraint, shares)
            first, second = _pairs(len(present))
            scale = np.sqrt(weights[first] * weights[second])
        else:
            block = _overall_rows(names, rate, constraint, shares)
            scale = np.concatenate([weights, weights])
    matrix = np.zeros((len(block.limit), len(family.cells.scheme)))
    matrix[:, present] = block.matrix * scale[:, None]
    project = block.project if np.all(weights == weights[0]) else "none"
    return RowBlock(matrix, block.limit * scale, block.names, project, shares)


def _upper_rows(names: list[str], rate: str, bound: float, shares: Floats) -> RowBlock:
    said = [f"{rate}[{name}] <= {bound:g}" for name in names]
    return RowBlock(np.eye(len(names)), np.full(len(names), bound), said, "none", shares)


def _overall_rows(
    names: list[str], rate: str, constraint: ParityConstraint, shares: Floats
) -> RowBlock:
    """Write rows as fairlearn does: ratio * r_g - r <= eps, then ratio * r - r_g <= eps."""
    halved = constraint.reference == "pairwise"
    if constraint.kind == "ratio":
        ratio = math.sqrt(constraint.bound) if halved else constraint.bound
        slack = constraint.ratio_slack
    else:
        ratio, slack = 1.0, constraint.bound / 2 if halved else constraint.bound
    eye = np.eye(len(names))
    above, below = ratio * eye - shares, ratio * shares - eye
    said = [f"+{rate}[{name}]" for name in names] + [f"-{rate}[{name}]" for name in names]
    matrix = np.vstack([above, below])
    project = "median" if ratio == 1.0 else "none"
    return RowBlock(matrix, np.full(len(matrix), slack), said, project, shares)


def _pairs(size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    first, second = np.nonzero(~np.eye(size, dtype=bool))
    return first, second


def _pair_rows(
    names: list[str], rate: str, constraint: ParityConstraint, shares: Floats
) -> RowBlock:
    """Write rows over ordered pairs: r_g - r_h <= b, or tau * r_g - r_h <= 0."""
    first, second = _pairs(len(names))
    ratio, slack = (
        (1.0, constraint.bound) if constraint.kind == "difference" else (constraint.bound, 0.0)
    )
    matrix = np.zeros((len(first), len(names)))
    at = np.arange(len(first))
    matrix[at, first] = ratio
    matrix[at, second] = -1.0
    said = [f"{rate}[{names[g]}]-[{names[h]}]" for g, h in zip(first, second, strict=True)]
    project = "pairs" if ratio == 1.0 else "none"
    return RowBlock(matrix, np.full(len(first), slack), said, project, shares)


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
