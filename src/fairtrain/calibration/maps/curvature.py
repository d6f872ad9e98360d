"""What a logistic map leaves over: found by a test, corrected by a blended rising curve."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import stats
from scipy.special import expit

from fairtrain.calibration.cells import Cells, Codes, Floats, Mask, clipped_logit
from fairtrain.calibration.maps.logistic import information, score_of
from fairtrain.calibration.maps.steps import GroupTables, fit_isotonic

__all__ = ["Curvature", "curvature_test", "fit_curvature"]


SMALLEST = 100
"""Fewest rows for a curve."""
LEVEL = 0.01
"""Of the tests."""
HALF_WEIGHT = 1000.0
"""Rows at which a curve counts half."""


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
    def groups(self) -> Mask:
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
            group, before = codes[corrected], q[corrected]
            curve = self.own(clipped_logit(before), group)
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
    score = score_of(cells, design, cells.events - cells.weight * q)
    matrix = information(cells, design, cells.weight * q * (1 - q))
    matrix[:, range(4), range(4)] += 1e-9 * total[:, None]
    linear, cross, extra = matrix[:, :2, :2], matrix[:, 2:, :2], matrix[:, 2:, 2:]
    solved = np.linalg.solve(linear, cross.transpose(0, 2, 1)).transpose(0, 2, 1)
    left = score[:, 2:] - np.einsum("gij,gj->gi", solved, score[:, :2])
    variance = extra - solved @ cross.transpose(0, 2, 1)
    variance[:, range(2), range(2)] += 1e-9 * total[:, None]
    statistic = np.einsum("gi,gi->g", left, np.linalg.solve(variance, left[..., None])[..., 0])
    return np.asarray(stats.chi2.sf(np.maximum(statistic, 0.0), 2))


def fit_curvature(cells: Cells, eta: Floats) -> Curvature:
    """Correct where curvature is detected, by isotonic curves blended in by n / (n + 1000).

    Without the test a correction costs more than it gains where there is no curvature.

    Parameters
    ----------
    cells : Cells
        Rows as sums.
    eta : ndarray of shape (m,)
        Calibrated logit of each cell.
    """
    none = np.zeros(cells.size)
    everyone = replace(cells, group=np.zeros_like(cells.group), x=eta, size=1)
    count = everyone.effective[0]
    shared, weight = None, 0.0
    if count >= SMALLEST and curvature_test(everyone, eta)[0] < LEVEL:
        shared, weight = fit_isotonic(everyone), float(count / (count + HALF_WEIGHT))
    corrected = Curvature(shared, weight, fit_isotonic(cells.take(none[:0].astype(int))), none)
    if cells.size == 1 and shared is not None:
        return corrected
    moved = clipped_logit(corrected(eta, cells.group))
    rows = cells.effective
    curved = (rows >= SMALLEST) & (curvature_test(cells, moved) < LEVEL)
    if not curved.any():
        return corrected
    own = fit_isotonic(replace(cells, x=moved).take(curved[cells.group]))
    return replace(corrected, own=own, weight=np.where(curved, rows / (rows + HALF_WEIGHT), 0.0))


def _blended(q: Floats, curve: Floats, weight: Floats | float) -> Floats:
    return np.asarray((1 - weight) * q + weight * curve)
