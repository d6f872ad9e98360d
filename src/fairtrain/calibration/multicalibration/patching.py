"""Cells of subgroup and probability bin, moved one at a time until none is off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.special import expit

from fairtrain.calibration.cells import CLIP, Codes, Floats, Mask, clipped_logit, effective
from fairtrain.calibration.lattice import Family, families, subgroup_names
from fairtrain.calibration.maps.steps import GroupTables
from fairtrain.calibration.multicalibration.columns import Settings
from fairtrain.data.groups import group_sums
from fairtrain.data.rows import Rows

__all__ = ["CellPatches", "fit_patches"]


_KNOTS = 40


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
        result = np.zeros(len(x))
        result[known] = self.shift(x[known], codes[known])
        return result


def fit_patches(rows: Rows, held: Mask, settings: Settings) -> CellPatches:
    """Move the worst cell, again and again (Hebert-Johnson et al., 2018).

    Works on sums of leaf x knot: knots are bins of the starting probability.

    Parameters
    ----------
    rows : Rows
        ``X`` holds starting logits, ``y`` 0 or 1.
    held : ndarray of bool, shape (n,)
        Rows that decide when to stop.
    settings : Settings
        The rest.
    """
    x, groups, w = rows.X, rows.groups, rows.weights
    edges = np.unique(np.quantile(x, np.linspace(0, 1, _KNOTS + 1)[1:-1]))
    knots, leaves = len(edges) + 1, len(groups)
    at = groups.codes * knots + np.searchsorted(edges, x, side="right")
    fitting, judging = (
        _Sums(
            *(
                group_sums(values[part], at[part], leaves * knots).reshape(leaves, knots)
                for values in (w, w * rows.outcomes, w**2)
            )
        )
        for part in (~held, held)
    )
    middle = group_sums(w * x, at % knots, knots) / np.maximum(
        group_sums(w, at % knots, knots), 1e-300
    )
    curve = np.tile(middle, (leaves, 1))  # logit at every knot of every leaf
    little = 1e-3 * w.mean()  # so that knots without rows rise with the others
    width = len(groups.columns)
    depth = width if settings.depth is None else min(settings.depth, width)
    lattice = [_everyone(leaves), *families(groups.scheme, depth)]
    steps: list[dict[str, Any]] = []
    best, best_loss, best_step = curve.copy(), judging.loss(curve), 0
    for step in range(1, settings.max_iter + 1):
        patch = _worst_cell(curve, fitting, lattice, settings)
        if patch is None:
            break
        family, g, b, z, shift = patch
        q = expit(curve)
        inside = (family.of_leaf == g)[:, None] & (_bin_of(q, settings.n_bins) == b)
        moved = np.where(inside, np.clip(q + shift, CLIP, 1 - CLIP), q)
        for leaf in np.flatnonzero(inside.any(axis=1)):
            moved[leaf] = isotonic_regression(moved[leaf], weights=fitting.weight[leaf] + little).x
        curve = clipped_logit(moved)
        low, high = b / settings.n_bins, (b + 1) / settings.n_bins
        name = subgroup_names(groups.scheme, family)[g] or "everyone"
        steps.append({"subgroup": name, "low": low, "high": high, "z": z, "shift": shift})
        loss = judging.loss(curve)
        if loss < best_loss:
            best, best_loss, best_step = curve.copy(), loss, step
        elif step - best_step >= settings.patience:
            break
    leaf, _ = np.indices(best.shape)
    shift_table = GroupTables.make(
        leaf.ravel(), np.tile(middle, leaves), (best - middle).ravel(), leaves
    )
    return CellPatches(shift_table, steps[:best_step])


@dataclass(frozen=True)
class _Sums:
    """Sums over the rows at every knot of every leaf: weights, those of events, and squares."""

    weight: Floats
    events: Floats
    squares: Floats

    def loss(self, curve: Floats) -> float:
        """Log loss of logits at the knots."""
        total = (self.weight * np.logaddexp(0.0, curve) - self.events * curve).sum()
        return float(total / max(self.weight.sum(), 1e-300))


def _worst_cell(
    curve: Floats, rows: _Sums, lattice: list[Family], settings: Settings
) -> tuple[Family, int, int, float, float] | None:
    q, n_bins = expit(curve), settings.n_bins
    bins = _bin_of(q, n_bins)
    own = (rows.weight, rows.squares, rows.events - rows.weight * q, rows.squares * q * (1 - q))
    best: tuple[Family, int, int, float, float] | None = None
    for family in lattice:
        cell = (family.of_leaf[:, None] * n_bins + bins).ravel()
        weight, squares, residual, variance = (
            group_sums(values.ravel(), cell, len(family) * n_bins) for values in own
        )
        n = effective(weight, squares)
        z = np.where(n >= settings.min_rows, residual / np.sqrt(np.maximum(variance, 1e-9)), 0.0)
        worst = int(np.argmax(np.abs(z)))
        if abs(z[worst]) > max(settings.z, abs(best[3]) if best else 0.0):
            shrunk = n[worst] / (n[worst] + settings.shrinkage)
            shift = float(residual[worst] / weight[worst] * shrunk)
            best = (family, *divmod(worst, n_bins), float(z[worst]), shift)
    return best


def _everyone(leaves: int) -> Family:
    return Family((), np.zeros(leaves, dtype=np.int64), np.zeros(1, dtype=np.int64))


def _bin_of(q: Floats, n_bins: int) -> Codes:
    return np.minimum((q * n_bins).astype(np.int64), n_bins - 1)
