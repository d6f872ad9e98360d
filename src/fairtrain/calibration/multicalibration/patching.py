"""Cells of subgroup and probability bin, moved one at a time until none is off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.special import expit, logit

from fairtrain.calibration.cells import CLIP
from fairtrain.calibration.lattice import Family, families, subgroup_names
from fairtrain.calibration.maps.steps import GroupTables
from fairtrain.data.groups import group_sums
from fairtrain.data.rows import Rows

__all__ = ["CellPatches", "PatchSettings", "fit_patches"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

_KNOTS = 40


@dataclass(frozen=True)
class PatchSettings:
    """Which cells move, how far, and when to stop; see ``Multicalibrator``."""

    depth: int | None
    n_bins: int
    z: float
    min_rows: int
    shrinkage: float
    max_iter: int
    patience: int


@dataclass(frozen=True, eq=False)
class CellPatches:
    """What is added to the logits of each group, as a table over the starting logit.

    Attributes
    ----------
    shift : GroupTables
        Logits to add.
    steps : list of dict
        Steps kept: ``subgroup``, ``low`` and ``high`` probability, ``z`` and ``shift``.
    """

    shift: GroupTables
    steps: list[dict[str, Any]]

    def __call__(self, x: Floats, codes: Codes) -> Floats:
        """Logits to add to rows; none for groups never seen."""
        known = codes >= 0
        found = np.zeros(len(x))
        found[known] = self.shift(x[known], codes[known])
        return found


def fit_patches(rows: Rows, held: NDArray[np.bool_], settings: PatchSettings) -> CellPatches:
    """Move the worst cell, again and again (Hebert-Johnson et al., 2018).

    Works on sums of leaf x knot: knots are bins of the starting probability.

    Parameters
    ----------
    rows : Rows
        ``X`` holds starting logits, ``y`` 0 or 1.
    held : ndarray of bool, shape (n,)
        Rows that decide when to stop.
    settings : PatchSettings
        The rest.
    """
    x, groups = rows.X, rows.groups
    assert rows.y is not None
    edges = np.unique(np.quantile(x, np.linspace(0, 1, _KNOTS + 1)[1:-1]))
    knots, leaves = len(edges) + 1, len(groups)
    at = groups.codes * knots + np.searchsorted(edges, x, side="right")

    def table(values: Floats, part: NDArray[np.bool_]) -> Floats:
        return group_sums(values[part], at[part], leaves * knots).reshape(leaves, knots)

    ones = np.ones(len(x))
    counts, hits = table(ones, ~held), table(rows.y, ~held)
    held_counts, held_hits = table(ones, held), table(rows.y, held)
    middle = group_sums(x, at % knots, knots) / np.maximum(np.bincount(at % knots), 1)
    curve = np.tile(middle, (leaves, 1))  # logit at every knot of every leaf
    width = len(groups.columns)
    depth = width if settings.depth is None else min(settings.depth, width)
    found = [_everyone(leaves), *families(groups.scheme, depth)]
    steps: list[dict[str, Any]] = []
    best, best_loss, kept = curve.copy(), _loss(curve, held_counts, held_hits), 0
    for step in range(1, settings.max_iter + 1):
        patch = _worst_cell(curve, counts, hits, found, settings)
        if patch is None:
            break
        family, g, b, z, shift = patch
        q = expit(curve)
        inside = (family.of_leaf == g)[:, None] & (_bin_of(q, settings.n_bins) == b)
        moved = np.where(inside, np.clip(q + shift, CLIP, 1 - CLIP), q)
        for leaf in np.flatnonzero(inside.any(axis=1)):
            moved[leaf] = isotonic_regression(moved[leaf], weights=counts[leaf] + 1e-3).x
        curve = np.asarray(logit(np.clip(moved, CLIP, 1 - CLIP)))
        low, high = b / settings.n_bins, (b + 1) / settings.n_bins
        name = subgroup_names(groups.scheme, family)[g] or "everyone"
        steps.append({"subgroup": name, "low": low, "high": high, "z": z, "shift": shift})
        loss = _loss(curve, held_counts, held_hits)
        if loss < best_loss:
            best, best_loss, kept = curve.copy(), loss, step
        elif step - kept >= settings.patience:
            break
    leaf, _ = np.indices(best.shape)
    shift_table = GroupTables.make(
        leaf.ravel(), np.tile(middle, leaves), (best - middle).ravel(), leaves
    )
    return CellPatches(shift_table, steps[:kept])


def _worst_cell(
    curve: Floats, rows: Floats, hits: Floats, found: list[Family], settings: PatchSettings
) -> tuple[Family, int, int, float, float] | None:
    q, n_bins = expit(curve), settings.n_bins
    bins = _bin_of(q, n_bins)
    best: tuple[Family, int, int, float, float] | None = None
    for family in found:
        cell = (family.of_leaf[:, None] * n_bins + bins).ravel()
        size = len(family) * n_bins
        n = group_sums(rows.ravel(), cell, size)
        residual = group_sums((hits - rows * q).ravel(), cell, size)
        variance = group_sums((rows * q * (1 - q)).ravel(), cell, size)
        z = np.where(n >= settings.min_rows, residual / np.sqrt(np.maximum(variance, 1e-9)), 0.0)
        worst = int(np.argmax(np.abs(z)))
        if abs(z[worst]) > max(settings.z, abs(best[3]) if best else 0.0):
            shift = float(residual[worst] / (n[worst] + settings.shrinkage))
            g, b = divmod(worst, n_bins)
            best = (family, g, b, float(z[worst]), shift)
    return best


def _everyone(leaves: int) -> Family:
    return Family((), np.zeros(leaves, dtype=np.int64), np.zeros(1, dtype=np.int64))


def _bin_of(q: Floats, n_bins: int) -> Codes:
    return np.minimum((q * n_bins).astype(np.int64), n_bins - 1)


def _loss(curve: Floats, rows: Floats, hits: Floats) -> float:
    """Log loss of rows and hits at knots."""
    total = (rows * np.logaddexp(0.0, curve) - hits * curve).sum()
    return float(total / max(rows.sum(), 1.0))
