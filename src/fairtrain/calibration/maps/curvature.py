"""What a logistic map leaves over: found by a test, corrected by a blended rising curve."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit, logit

from fairtrain.calibration.cells import CLIP, Cells
from fairtrain.calibration.logistic import information
from fairtrain.calibration.maps.steps import GroupTables, fit_isotonic

__all__ = ["Curvature", "curvature_test", "fit_curvature"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

SMALLEST = 100
LEVEL = 0.01
HALF_WEIGHT = 1000.0


@dataclass(frozen=True, eq=False)
class Curvature:
    """Corrections of calibrated probabilities: first of everybody's, then of single groups'.

    Attributes
    ----------
    shared : GroupTables or None
        Curve of all groups together; None where no curvature was found.
    shared_weight : float
        Its weight n / (n + 1000).
    own : GroupTables
        Curves of the groups in which curvature is left.
    weight : ndarray of shape (G,)
        Their weights; 0 for groups without one.
    """

    shared: GroupTables | None
    shared_weight: float
    own: GroupTables
    weight: Floats

    @property
    def groups(self) -> NDArray[np.bool_]:
        """Groups with a curve of their own, shape (G,)."""
        return self.weight > 0

    def __call__(self, eta: Floats, codes: Codes) -> Floats:
        """Correct probabilities given as logits ``eta`` of rows; code -1 has no curve of its own.

        Returns
        -------
        ndarray of shape (n,)
            Probabilities.
        """
        q = expit(eta)
        if self.shared is not None:
            everyone = np.zeros(len(eta), dtype=np.int64)
            q = _blended(q, self.shared(eta, everyone), self.shared_weight)
        corrected = (codes >= 0) & (self.weight[codes] > 0)
        if corrected.any():
            group = codes[corrected]
            before = q[corrected]
            curve = self.own(_logit(before), group)
            q[corrected] = _blended(before, curve, self.weight[group])
        return q


def curvature_test(cells: Cells, eta: Floats) -> Floats:
    r"""P-value of curvature in every group, shape (G,).

    Score test of terms :math:`z^2, z^3` added to the logistic regression on 1 and z, where z is
    the standardised logit ``eta``: two degrees of freedom, and the two terms already there are
    taken out of the score, so that an intercept or slope that was shrunk is not curvature.

    Parameters
    ----------
    cells : Cells
        Rows as sums.
    eta : ndarray of shape (m,)
        Calibrated logit of each cell.
    """
    total = np.maximum(cells.sums(cells.weight), 1e-300)
    mean = cells.sums(cells.weight * eta) / total
    centred = eta - mean[cells.group]
    deviation = np.sqrt(cells.sums(cells.weight * centred**2) / total)
    z = centred / np.maximum(deviation, 1e-6)[cells.group]
    z = np.clip(z, -4, 4)
    design = (np.ones_like(z), z, z**2, z**3)
    q = expit(eta)
    residual = cells.events - cells.weight * q
    score = np.stack([cells.sums(residual * d) for d in design], axis=1)
    found = information(cells, design, cells.weight * q * (1 - q))
    found[:, range(4), range(4)] += 1e-9 * total[:, None]
    linear, cross, extra = found[:, :2, :2], found[:, 2:, :2], found[:, 2:, 2:]
    solved = np.linalg.solve(linear, cross.transpose(0, 2, 1)).transpose(0, 2, 1)
    left = score[:, 2:] - np.einsum("gij,gj->gi", solved, score[:, :2])
    variance = extra - solved @ cross.transpose(0, 2, 1)
    variance[:, range(2), range(2)] += 1e-9 * total[:, None]
    statistic = np.einsum("gi,gi->g", left, np.linalg.solve(variance, left[..., None])[..., 0])
    return np.asarray(stats.chi2.sf(np.maximum(statistic, 0.0), 2))


def fit_curvature(
    cells: Cells,
    eta: Floats,
    *,
    level: float = LEVEL,
    smallest: int = SMALLEST,
    half_weight: float = HALF_WEIGHT,
) -> Curvature:
    """Correct where curvature is detected, by isotonic curves blended in by n / (n + 1000).

    Without the test a correction costs more than it gains where there is no curvature.

    Parameters
    ----------
    cells : Cells
        Rows as sums.
    eta : ndarray of shape (m,)
        Calibrated logit of each cell.
    level : float, default=0.01
        Of the tests.
    smallest : int, default=100
        Fewest rows for a curve.
    half_weight : float, default=1000
        Rows at which the curve counts half.
    """
    none = np.zeros(cells.size)
    everyone = replace(cells, group=np.zeros_like(cells.group), x=eta, size=1)
    count = _effective(everyone)[0]
    shared, weight = None, 0.0
    if count >= smallest and curvature_test(everyone, eta)[0] < level:
        shared, weight = fit_isotonic(everyone), float(count / (count + half_weight))
    corrected = Curvature(shared, weight, fit_isotonic(cells.take(none[:0].astype(int))), none)
    if cells.size == 1 and shared is not None:
        return corrected
    moved = _logit(corrected(eta, cells.group))
    rows = _effective(cells)
    curved = (rows >= smallest) & (curvature_test(cells, moved) < level)
    if not curved.any():
        return corrected
    own = fit_isotonic(replace(cells, x=moved).take(curved[cells.group]))
    return replace(corrected, own=own, weight=np.where(curved, rows / (rows + half_weight), 0.0))


def _effective(cells: Cells) -> Floats:
    """Kish's effective number of rows of every group."""
    squares = cells.sums(cells.squares)
    return np.asarray(cells.sums(cells.weight) ** 2 / np.maximum(squares, 1e-300))


def _blended(q: Floats, curve: Floats, weight: Floats | float) -> Floats:
    return np.asarray((1 - weight) * q + weight * curve)


def _logit(q: Floats) -> Floats:
    return np.asarray(logit(np.clip(q, CLIP, 1 - CLIP)))
