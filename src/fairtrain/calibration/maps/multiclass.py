"""Three classes and more: temperature or vector scaling, or one class against the rest."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from fairtrain.calibration.cells import CLIP, Cells, as_logits
from fairtrain.calibration.maps.assignment import fit_hierarchical
from fairtrain.calibration.maps.plain import PLAIN_METHODS, GroupMaps
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

__all__ = ["MulticlassMaps", "check_probabilities", "fit_multiclass"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

_PENALTY = 1e-3


@dataclass(frozen=True, eq=False)
class MulticlassMaps:
    r"""Maps of K class scores, one a group; the last one, everyone's, serves groups never seen.

    Attributes
    ----------
    slope, intercept : ndarray of shape (G + 1, K)
        Probabilities are softmax(slope * log p + intercept); slopes are equal over classes, and
        intercepts 0, for temperature scaling. Empty for one against the rest.
    binary : list of K GroupMaps
        Maps of each class against the rest, whose results are divided by their sum.
    """

    slope: Floats = field(default_factory=lambda: np.empty((0, 0)))
    intercept: Floats = field(default_factory=lambda: np.empty((0, 0)))
    binary: tuple[GroupMaps, ...] = ()

    def __call__(self, logits: Floats, codes: Codes) -> Floats:
        """Calibrate rows of log probabilities, shape (n, K)."""
        if not self.binary:
            return np.asarray(softmax(self.slope[codes] * logits + self.intercept[codes], axis=1))
        one_vs_rest = [
            maps(as_logits(np.exp(logits[:, k])), codes) for k, maps in enumerate(self.binary)
        ]
        found = np.maximum(np.stack(one_vs_rest, axis=1), CLIP)
        return np.asarray(found / found.sum(1, keepdims=True))


def check_probabilities(scores: NDArray[Any], scale: str) -> Floats:
    """Turn K class scores into log probabilities.

    Raises
    ------
    InvalidDataError
        If they are not finite, or, as probabilities, negative or not of sum 1.
    """
    if np.iscomplexobj(scores):
        raise InvalidDataError("scores must hold numbers.")
    scores = np.asarray(scores, dtype=np.float64)
    if not np.isfinite(scores).all():
        raise InvalidDataError("scores contain NaN or infinity.")
    if scale == "logit":
        return np.asarray(log_softmax(scores, axis=1))
    if scores.min(initial=0) < 0 or np.abs(scores.sum(1) - 1).max(initial=0) > 1e-3:
        raise InvalidDataError(
            "scores of several classes must be probabilities that sum to 1 in each row; "
            "pass scale='logit' if they are logits."
        )
    return np.asarray(log_softmax(np.log(np.maximum(scores, CLIP)), axis=1))


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
    if method != "hierarchical" and method not in PLAIN_METHODS:
        raise InvalidParameterError(f"method={method!r} takes two classes.")
    binary: list[GroupMaps] = []
    for k in range(rows.X.shape[1]):
        hit = np.asarray(rows.y == k, dtype=np.float64)
        cells = Cells.of(replace(rows, X=as_logits(np.exp(rows.X[:, k])), y=hit))
        everyone = cells.merged(np.zeros(cells.size, dtype=np.int64), 1)
        if method == "hierarchical":
            hierarchical = fit_hierarchical(cells, rows.groups.scheme)
            binary.append(_WithEveryone(hierarchical, PLAIN_METHODS["platt"](everyone)))
        else:
            fit_one = PLAIN_METHODS[method]
            binary.append(_WithEveryone(fit_one(cells), fit_one(everyone)))
    return MulticlassMaps(binary=tuple(binary))


@dataclass(frozen=True, eq=False)
class _WithEveryone:
    """Maps of groups, and everyone's for code -1."""

    own: GroupMaps
    everyone: GroupMaps

    def __call__(self, x: Floats, codes: Codes) -> Floats:
        strange = codes < 0
        if not strange.any():
            return self.own(x, codes)
        found = np.empty(len(x))
        found[~strange] = self.own(x[~strange], codes[~strange])
        found[strange] = self.everyone(x[strange], np.zeros(int(strange.sum()), dtype=np.int64))
        return found


def _parts(rows: Rows) -> tuple[Floats, Codes, Floats]:
    """Log probabilities, classes and weights."""
    assert rows.y is not None
    weight = np.ones(len(rows)) if rows.weight is None else rows.weight
    return rows.X, rows.y.astype(np.int64), weight


def _fit_temperature(rows: Rows) -> tuple[Floats, Floats]:
    logits, y, weight = _parts(rows)
    classes = logits.shape[1]
    own = np.arange(len(y)), y

    def loss(log_slope: Floats) -> tuple[float, Floats]:
        slope = np.exp(log_slope[0])
        log_q = log_softmax(slope * logits, axis=1)
        mean = (np.exp(log_q) * logits).sum(1)
        gradient = slope * (weight * (mean - logits[own])).sum()
        return float(-(weight * log_q[own]).sum()), np.array([gradient])

    limit = np.log(100.0)
    best: Any = minimize(loss, [0.0], jac=True, method="L-BFGS-B", bounds=[(-limit, limit)])
    return np.full(classes, np.exp(best.x[0])), np.zeros(classes)


def _fit_vector(rows: Rows) -> tuple[Floats, Floats]:
    logits, y, weight = _parts(rows)
    classes = logits.shape[1]
    total = max(float(weight.sum()), 1e-300)
    hit = np.zeros_like(logits)
    hit[np.arange(len(y)), y] = 1.0

    def loss(flat: Floats) -> tuple[float, Floats]:
        slope, intercept = flat.reshape(2, -1)
        log_q = log_softmax(slope * logits + intercept, axis=1)
        error = weight[:, None] * (np.exp(log_q) - hit) / total
        away = flat - start
        gradient = np.concatenate([(error * logits).sum(0), error.sum(0)])
        value = -(weight[:, None] * hit * log_q).sum() / total + _PENALTY * (away @ away)
        return float(value), gradient + 2 * _PENALTY * away

    start = np.concatenate([np.ones(classes), np.zeros(classes)])
    best: Any = minimize(loss, start, jac=True, method="L-BFGS-B")
    slope, intercept = best.x.reshape(2, -1)
    return slope, intercept
