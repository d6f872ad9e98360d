"""Calibration maps: from logits to probabilities, one map a group, all groups fitted at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fairtrain.calibration.cells import Cells
from fairtrain.calibration.logistic import fit_logistic
from fairtrain.calibration.maps.steps import fit_histogram, fit_isotonic
from fairtrain.calibration.maps.venn_abers import fit_venn_abers

__all__ = [
    "PLAIN_METHODS",
    "BetaMaps",
    "GroupMaps",
    "LogisticMaps",
    "fit_beta",
    "fit_platt",
    "fit_temperature",
    "platt_targets",
]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


class GroupMaps(Protocol):
    """Maps of G groups: logits and groups of n rows in, n probabilities out."""

    def __call__(self, x: Floats, codes: Codes) -> Floats:
        """Calibrate."""


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
    design = (np.ones_like(cells.x), cells.x)
    found = fit_logistic(cells, design, np.array([0.0, 1.0]), events=platt_targets(cells))
    return LogisticMaps(found[:, 0], found[:, 1])


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
    found: Floats = fit_logistic(cells, design, np.array([1.0, 1.0, 0.0]), events=targets)
    for _ in range(2):
        falling = found[:, :2].min(axis=1) < 0
        if not falling.any():
            break
        free = np.column_stack([found[:, :2] > 0, np.ones(cells.size, dtype=bool)])
        again = fit_logistic(cells, design, np.zeros(3), events=targets, free=free)
        found = np.where(falling[:, None], again, found)
    return BetaMaps(np.maximum(found[:, 0], 0), np.maximum(found[:, 1], 0), found[:, 2])


def _beta_design(x: Floats) -> tuple[Floats, Floats]:
    """ln s and -ln(1 - s) of logits."""
    return -np.logaddexp(0.0, -x), np.logaddexp(0.0, x)


PLAIN_METHODS: dict[str, Callable[[Cells], GroupMaps]] = {
    "platt": fit_platt,
    "isotonic": fit_isotonic,
    "temperature": fit_temperature,
    "beta": fit_beta,
    "histogram": fit_histogram,
    "venn_abers": fit_venn_abers,
}
"""Methods that fit each group by itself."""
