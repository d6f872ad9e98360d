"""Many small logistic regressions at once, one a group, by damped Newton steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fairtrain.calibration.cells import Cells

__all__ = ["fit_logistic", "information", "log_likelihood"]

Floats = NDArray[np.float64]

_RIDGE = 1e-9
_STEPS = 100
_LONGEST = 4.0
_DECREMENT = 1e-9


def information(cells: Cells, design: Sequence[Floats], values: Floats) -> Floats:
    """Sums of ``values * design_i * design_j`` in every group, shape (G, p, p)."""
    p = len(design)
    found = np.empty((cells.size, p, p))
    for i in range(p):
        for j in range(i + 1):
            found[:, i, j] = found[:, j, i] = cells.sums(values * design[i] * design[j])
    return found


def log_likelihood(cells: Cells, eta: Floats, events: Floats) -> Floats:
    """Bernoulli log likelihood of every group at logits ``eta``, shape (G,)."""
    return cells.sums(events * eta - cells.weight * np.logaddexp(0.0, eta))


def fit_logistic(
    cells: Cells,
    design: Sequence[Floats],
    start: Floats,
    *,
    events: Floats | None = None,
    free: NDArray[np.bool_] | None = None,
    ridge: float = 0.0,
) -> Floats:
    r"""Maximise the likelihood of :math:`\operatorname{logit} q = \sum_i c_{gi} d_i` in each group.

    Newton's steps are halved, group by group, until the likelihood does not fall. A ridge of 1e-9
    towards ``start`` decides what the rows leave open, such as the slope where all scores agree.

    Parameters
    ----------
    cells : Cells
        Rows as sums.
    design : sequence of p ndarrays of shape (m,)
        Regressors, one value a cell.
    start : ndarray of shape (p,)
        First guess, the same for every group.
    events : ndarray of shape (m,), optional
        Other targets than the cells' own events, such as Platt's.
    free : ndarray of bool, shape (G, p), optional
        Coefficients that may move; all by default. Others stay at ``start``.
    ridge : float, default=0
        Half the penalty of each squared distance from ``start``; a little keeps separated groups
        finite.

    Returns
    -------
    ndarray of shape (G, p)
    """
    yes = cells.events if events is None else events
    p = len(design)
    total = np.maximum(cells.sums(cells.weight), 1.0)
    pull = _RIDGE * total[:, None] + ridge
    found = np.tile(np.asarray(start, dtype=np.float64), (cells.size, 1))
    fixed = np.zeros((cells.size, p), dtype=bool) if free is None else ~free

    def objective(coefficients: Floats) -> tuple[Floats, Floats]:
        eta = _linear(coefficients, design, cells.group)
        penalty = 0.5 * (pull * (coefficients - start) ** 2).sum(1)
        return eta, log_likelihood(cells, eta, yes) - penalty

    eta, value = objective(found)
    for _ in range(_STEPS):
        q = expit(eta)
        residual = yes - cells.weight * q
        gradient = np.stack([cells.sums(residual * d) for d in design], axis=1)
        gradient = np.where(fixed, 0.0, gradient - pull * (found - start))
        hessian = information(cells, design, cells.weight * q * (1 - q))
        hessian[:, range(p), range(p)] += np.maximum(pull, 1e-12)
        hessian[fixed[:, :, None] | fixed[:, None, :]] = 0.0
        hessian[:, range(p), range(p)] += fixed
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        step *= np.minimum(1.0, _LONGEST / np.maximum(np.abs(step).max(1), 1e-300))[:, None]
        scale = np.ones(cells.size)
        for _ in range(30):
            trial = found + scale[:, None] * step
            trial_eta, trial_value = objective(trial)
            worse = trial_value < value - 1e-12 * np.abs(value)
            if not worse.any():
                break
            scale[worse] /= 2
        improved = trial_value >= value
        found = np.where(improved[:, None], trial, found)
        if not improved.all():
            trial_eta, trial_value = objective(found)
        eta, value = trial_eta, trial_value
        if (gradient * step).sum(axis=1).max(initial=0.0) < _DECREMENT:
            break  # and the step just taken squares what was left
    return found


def _linear(coefficients: Floats, design: Sequence[Floats], group: NDArray[np.int64]) -> Floats:
    eta = np.zeros(len(group))
    for i, column in enumerate(design):
        eta += coefficients[group, i] * column
    return eta
