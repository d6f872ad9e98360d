"""Logistic maps: many small regressions at once, one a group, by damped Newton steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from fairtrain.calibration.cells import Cells, Codes, Floats, Mask

__all__ = [
    "BetaMaps",
    "LogisticMaps",
    "fit_beta",
    "fit_logistic",
    "fit_platt",
    "fit_temperature",
    "information",
    "line",
    "log_likelihood",
    "platt_targets",
    "score_of",
]


_RIDGE = 1e-9
_STEPS = 100
_LONGEST = 4.0
_DECREMENT = 1e-9


def information(cells: Cells, design: Sequence[Floats], values: Floats) -> Floats:
    """Sums of ``values * design_i * design_j`` in every group, shape (G, p, p)."""
    p = len(design)
    matrix = np.empty((cells.size, p, p))
    for i in range(p):
        for j in range(i + 1):
            matrix[:, i, j] = matrix[:, j, i] = cells.sums(values * design[i] * design[j])
    return matrix


def score_of(cells: Cells, design: Sequence[Floats], residual: Floats) -> Floats:
    """Sums of ``residual * design_i`` in every group, shape (G, p)."""
    return np.stack([cells.sums(residual * column) for column in design], axis=1)


def line(cells: Cells) -> tuple[Floats, Floats]:
    """Regressors of an intercept and a slope: 1 and the logit."""
    return np.ones_like(cells.x), cells.x


def log_likelihood(cells: Cells, eta: Floats, events: Floats | None = None) -> Floats:
    """Bernoulli log likelihood of every group at logits ``eta``, shape (G,)."""
    yes = cells.events if events is None else events
    return cells.sums(yes * eta - cells.weight * np.logaddexp(0.0, eta))


def fit_logistic(
    cells: Cells,
    design: Sequence[Floats],
    start: Floats,
    *,
    events: Floats | None = None,
    free: Mask | None = None,
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
    p, columns = len(design), np.stack(design)
    total = np.maximum(cells.sums(cells.weight), 1.0)
    ridges = _RIDGE * total[:, None] + ridge
    estimate = np.tile(np.asarray(start, dtype=np.float64), (cells.size, 1))
    fixed = np.zeros_like(estimate, dtype=bool) if free is None else ~free

    def objective(coefficients: Floats) -> tuple[Floats, Floats]:
        eta = np.einsum("im,mi->m", columns, coefficients[cells.group])
        penalty = 0.5 * (ridges * (coefficients - start) ** 2).sum(1)
        return eta, log_likelihood(cells, eta, yes) - penalty

    eta, value = objective(estimate)
    for _ in range(_STEPS):
        q = expit(eta)
        rise = score_of(cells, design, yes - cells.weight * q) - ridges * (estimate - start)
        slope = np.where(fixed, 0.0, rise)
        hessian = information(cells, design, cells.weight * q * (1 - q))
        hessian[:, range(p), range(p)] += np.maximum(ridges, 1e-12)
        hessian[fixed[:, :, None] | fixed[:, None, :]] = 0.0
        hessian[:, range(p), range(p)] += fixed
        step = np.linalg.solve(hessian, slope[..., None])[..., 0]
        step *= np.minimum(1.0, _LONGEST / np.maximum(np.abs(step).max(1), 1e-300))[:, None]
        scale = np.ones(cells.size)
        for _ in range(30):
            trial = estimate + scale[:, None] * step
            trial_eta, trial_value = objective(trial)
            worse = trial_value < value - 1e-12 * np.abs(value)
            if not worse.any():
                break
            scale[worse] /= 2
        improved = trial_value >= value
        estimate = np.where(improved[:, None], trial, estimate)
        if not improved.all():
            trial_eta, trial_value = objective(estimate)
        eta, value = trial_eta, trial_value
        if (slope * step).sum(axis=1).max(initial=0.0) < _DECREMENT:
            break  # and the step just taken squares what was left
    return estimate


@dataclass(frozen=True, eq=False)
class LogisticMaps:
    r"""Maps :math:`q = \sigma(a_g + b_g x)`.

    Attributes
    ----------
    intercept, slope : ndarray of shape (G,)
        a and b.
    """

    intercept: Floats
    slope: Floats

    def __call__(self, x: Floats, codes: Codes) -> Floats:
        """Calibrate logits of rows."""
        return np.asarray(expit(self.intercept[codes] + self.slope[codes] * x))


@dataclass(frozen=True, eq=False)
class BetaMaps:
    r"""Maps :math:`q = \sigma(c_g + a_g \ln s - b_g \ln(1 - s))` (Kull et al., 2017).

    Attributes
    ----------
    a, b : ndarray of shape (G,)
        Not negative, so that the maps rise.
    c : ndarray of shape (G,)
        Intercepts.
    """

    a: Floats
    b: Floats
    c: Floats

    def __call__(self, x: Floats, codes: Codes) -> Floats:
        """Calibrate logits of rows."""
        upper, lower = _beta_design(x)
        eta = self.c[codes] + self.a[codes] * upper + self.b[codes] * lower
        return np.asarray(expit(eta))


def platt_targets(cells: Cells) -> Floats:
    """Smoothed events: a positive counts (n1 + 1) / (n1 + 2), a negative 1 / (n0 + 2).

    References
    ----------
    Platt (1999), "Probabilistic outputs for support vector machines", section 2.2.
    """
    positive = cells.sums(cells.events)
    negative = cells.sums(cells.weight) - positive
    high = ((positive + 1) / (positive + 2))[cells.group]
    low = (1 / (negative + 2))[cells.group]
    return np.asarray(cells.events * high + (cells.weight - cells.events) * low)


def fit_platt(cells: Cells) -> LogisticMaps:
    """Fit intercept and slope on smoothed targets: scikit-learn's "sigmoid" of the logit."""
    estimate = fit_logistic(cells, line(cells), np.array([0.0, 1.0]), events=platt_targets(cells))
    return LogisticMaps(estimate[:, 0], estimate[:, 1])


def fit_temperature(cells: Cells) -> LogisticMaps:
    r"""Fit :math:`q = \sigma(x / T)` (Guo et al., 2017), with 1/T in [0, 100].

    Groups whose rows do not bound T (each score on the right side of 1/2) meet the limit.
    """
    slope = fit_logistic(cells, (cells.x,), np.array([1.0]))[:, 0]
    return LogisticMaps(np.zeros(cells.size), np.clip(slope, 0.0, 100.0))


def fit_beta(cells: Cells) -> BetaMaps:
    """Fit beta calibration; a negative a or b is set to 0 and the rest fitted again.

    References
    ----------
    Kull, Silva Filho and Flach (2017), "Beta calibration", AISTATS.
    """
    design = (*_beta_design(cells.x), np.ones_like(cells.x))
    targets = platt_targets(cells)
    estimate: Floats = fit_logistic(cells, design, np.array([1.0, 1.0, 0.0]), events=targets)
    for _ in range(2):
        falling = estimate[:, :2].min(axis=1) < 0
        if not falling.any():
            break
        free = np.column_stack([estimate[:, :2] > 0, np.ones(cells.size, dtype=bool)])
        again = fit_logistic(cells, design, np.zeros(3), events=targets, free=free)
        estimate = np.where(falling[:, None], again, estimate)
    return BetaMaps(np.maximum(estimate[:, 0], 0), np.maximum(estimate[:, 1], 0), estimate[:, 2])


def _beta_design(x: Floats) -> tuple[Floats, Floats]:
    """ln s and -ln(1 - s) of logits."""
    return -np.logaddexp(0.0, -x), np.logaddexp(0.0, x)
