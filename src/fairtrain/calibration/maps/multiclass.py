"""Three classes and more: temperature or vector scaling, or one class against the rest."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from fairtrain.calibration.cells import CLIP, Cells, Codes, Floats, clipped_logit
from fairtrain.calibration.maps.assignment import METHODS, Assignment, assign
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidParameterError

__all__ = ["MulticlassMaps", "fit_multiclass"]


_PENALTY = 1e-3


@dataclass(frozen=True, eq=False)
class MulticlassMaps:
    r"""Maps of K class scores, one a group; the last one, everyone's, serves groups never seen.

    Attributes
    ----------
    slope, intercept : ndarray of shape (G + 1, K)
        Probabilities are softmax(slope * log p + intercept); slopes are equal over classes, and
        intercepts 0, for temperature scaling. Empty for one against the rest.
    binary : tuple of K Assignments
        Maps of each class against the rest, whose results are divided by their sum.
    """

    slope: Floats = field(default_factory=lambda: np.empty((0, 0)))
    intercept: Floats = field(default_factory=lambda: np.empty((0, 0)))
    binary: tuple[Assignment, ...] = ()

    def __call__(self, logits: Floats, codes: Codes) -> Floats:
        """Calibrate rows of log probabilities, shape (n, K)."""
        if not self.binary:
            return np.asarray(softmax(self.slope[codes] * logits + self.intercept[codes], axis=1))
        one_vs_rest = [maps(_logit_of(logits, k), codes) for k, maps in enumerate(self.binary)]
        result = np.maximum(np.stack(one_vs_rest, axis=1), CLIP)
        return np.asarray(result / result.sum(1, keepdims=True))


def fit_multiclass(rows: Rows, method: str) -> MulticlassMaps:
    """Fit one map a group.

    Parameters
    ----------
    rows : Rows
        ``X`` holds log probabilities (n, K), ``y`` the class of each row, 0 to K - 1.
    method : str
        "temperature"; "vector" (slope and intercept for each class, with a ridge of 1e-3 towards
        the identity); any other method is fitted to each class against the rest.

    References
    ----------
    Guo, Pleiss, Sun and Weinberger (2017), "On calibration of modern neural networks", ICML.
    """
    if method in ("temperature", "vector"):
        order = np.argsort(rows.groups.codes, kind="stable")
        bounds = np.searchsorted(rows.groups.codes[order], np.arange(len(rows.groups) + 1))
        parts = [*(order[a:b] for a, b in pairwise(bounds.tolist())), order]
        fit = _fit_temperature if method == "temperature" else _fit_vector
        slopes, intercepts = zip(*(fit(rows.take(part)) for part in parts), strict=True)
        return MulticlassMaps(np.stack(slopes), np.stack(intercepts))
    if method not in METHODS or method == "auto":
        raise InvalidParameterError(f"method={method!r} takes two classes.")
    scheme = rows.groups.scheme
    binary = []
    for k in range(rows.X.shape[1]):
        hit = np.asarray(rows.outcomes == k, dtype=np.float64)
        cells = Cells.of(replace(rows, X=_logit_of(rows.X, k), y=hit))
        binary.append(assign(cells, scheme, [method] * len(scheme)))
    return MulticlassMaps(binary=tuple(binary))


def _logit_of(logits: Floats, k: int) -> Floats:
    """Logit of one class against the rest."""
    return clipped_logit(np.exp(logits[:, k]))


def _cross_entropy(rows: Rows, slope: Any, intercept: Any) -> tuple[float, Floats, Floats]:
    """Sum of weighted log losses of softmax(slope * X + intercept), and its two gradients."""
    weight = rows.weights[:, None]
    hit = np.eye(rows.X.shape[1])[rows.outcomes.astype(np.int64)]
    log_q = log_softmax(slope * rows.X + intercept, axis=1)
    error = weight * (np.exp(log_q) - hit)
    value = -float((weight * hit * log_q).sum())
    return value, (error * rows.X).sum(0), error.sum(0)


def _fit_temperature(rows: Rows) -> tuple[Floats, Floats]:
    def loss(log_slope: Floats) -> tuple[float, Floats]:
        slope = np.exp(log_slope[0])
        value, by_slope, _ = _cross_entropy(rows, slope, 0.0)
        return value, np.array([slope * by_slope.sum()])

    limit = np.log(100.0)
    best: Any = minimize(loss, [0.0], jac=True, method="L-BFGS-B", bounds=[(-limit, limit)])
    classes = rows.X.shape[1]
    return np.full(classes, np.exp(best.x[0])), np.zeros(classes)


def _fit_vector(rows: Rows) -> tuple[Floats, Floats]:
    start = np.repeat([1.0, 0.0], rows.X.shape[1])
    total = max(float(rows.weights.sum()), 1e-300)

    def loss(flat: Floats) -> tuple[float, Floats]:
        value, *gradients = _cross_entropy(rows, *flat.reshape(2, -1))
        away = flat - start
        gradient = np.concatenate(gradients) / total + 2 * _PENALTY * away
        return value / total + _PENALTY * float(away @ away), gradient

    best: Any = minimize(loss, start, jac=True, method="L-BFGS-B")
    slope, intercept = best.x.reshape(2, -1)
    return slope, intercept
