"""What calibrators and audits are given: scores, outcomes and people, read as ``Rows``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, log_softmax

from fairtrain.calibration.cells import CLIP, Floats, clipped_logit
from fairtrain.data import inputs
from fairtrain.data.groups import Missing
from fairtrain.data.labels import LabelCoding
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

__all__ = ["as_logits", "fingerprint", "later_scores", "logits_of", "read_scored"]


def read_scored(
    scores: Any,
    y: Any,
    sensitive_features: Any,
    sample_weight: Any = None,
    *,
    clusters: Any = None,
    scale: str = "probability",
    positive_label: Any = None,
    missing: Missing = "error",
    min_count: int = 30,
) -> Rows:
    """Read scored and labelled rows.

    Parameters
    ----------
    scores : array-like of shape (n,), (n, 2) or (n, K)
        Probability (or logit) of the favourable label; of both labels; or of K classes, sorted.
    y, sensitive_features, sample_weight, clusters
        As in ``Rows.read``.
    scale : {"probability", "logit"}
        What scores are.
    positive_label, missing, min_count
        As in ``Rows.read``.

    Returns
    -------
    Rows
        ``X`` holds logits (n,) and ``score`` probabilities; of several classes, ``X`` holds log
        probabilities (n, K).

    Raises
    ------
    InvalidDataError
        If indexes or lengths differ, or scores are not what they should be.
    InvalidParameterError
        If nobody said which label the scores are probabilities of.
    """
    inputs.require_same_index(
        scores=scores,
        y=y,
        sensitive_features=sensitive_features,
        sample_weight=sample_weight,
        clusters=clusters,
    )
    values = np.asarray(inputs.as_features(scores))
    columns = values.shape[1] if values.ndim == 2 else 1
    rows = Rows.read(
        values,
        y,
        sensitive_features,
        sample_weight,
        clusters=clusters,
        positive_label=positive_label,
        several_classes=columns > 2,
        missing=missing,
        min_count=min_count,
    )
    labels = rows.labels
    assert labels is not None
    if columns > 2 and len(labels.labels) != columns:
        raise InvalidDataError(
            f"scores have {columns} columns but y has {len(labels.labels)} classes; pass one "
            "column for each class, sorted."
        )
    logits = logits_of(rows.X, scale, labels)
    if columns > 2:
        return replace(rows, X=logits)
    labels.require_named("what scores are probabilities of")
    inputs.require_two_classes(rows.outcomes)
    given = expit(logits) if scale == "logit" else _favourable(rows.X, labels)
    return replace(rows, X=logits, score=given)


def logits_of(scores: Any, scale: str, labels: LabelCoding) -> Floats:
    """Logits of the favourable label, (n,), or log probabilities of K classes, (n, K)."""
    values = np.asarray(inputs.as_features(scores))
    if len(labels.labels) == 2:
        if values.ndim == 2 and values.shape[1] == 2 and scale == "logit":
            raise InvalidDataError("scores must be one column of logits, got two columns.")
        return as_logits(_favourable(values, labels), scale)
    if values.ndim != 2 or values.shape[1] != len(labels.labels):
        raise InvalidDataError(f"scores must have {len(labels.labels)} columns, as in fit.")
    return _log_probabilities(values, scale)


_ROUNDED = 1e-3


def _favourable(values: NDArray[Any], labels: LabelCoding) -> Floats:
    """Pick the favourable label's column."""
    if values.ndim != 2 or values.shape[1] != 2:
        return inputs.as_float_column(values, "scores")
    both = [inputs.as_float_column(values[:, i], "scores") for i in range(2)]
    if (off := np.abs(both[0] + both[1] - 1) > _ROUNDED).any():
        row = int(np.argmax(off))
        raise InvalidDataError(
            f"scores of both labels must sum to 1, got {both[0][row]:g} and {both[1][row]:g} in "
            f"row {row}; pass predict_proba(X), or its column of the favourable label."
        )
    return both[labels.column]


def later_scores(scores: Any, sensitive_features: Any) -> None:
    """Check scores and groups that come after ``fit``.

    Raises
    ------
    InvalidDataError
        If the groups are missing or carry another index.
    """
    if sensitive_features is None:
        raise InvalidDataError(
            "transform needs sensitive_features: the map depends on the group. "
            "distill(X, scores, ...) makes one that does not."
        )
    inputs.require_same_index(scores=scores, sensitive_features=sensitive_features)


def as_logits(scores: Any, scale: str = "probability") -> Floats:
    """Read scores of one class as logits, clipped to those of ``CLIP`` and 1 - ``CLIP``.

    Parameters
    ----------
    scores : array-like of shape (n,)
        Probabilities, or logits.
    scale : {"probability", "logit"}
        Which of the two. Probabilities are never used as if they were logits.

    Raises
    ------
    InvalidDataError
        If scores are missing or, as probabilities, outside [0, 1].
    InvalidParameterError
        If ``scale`` is neither.
    """
    values = inputs.as_float_column(scores, "scores")
    if scale == "logit":
        limit = float(clipped_logit(np.ones(1))[0])
        return np.clip(values, -limit, limit)
    if scale != "probability":
        raise InvalidParameterError(f"scale must be 'probability' or 'logit', got {scale!r}.")
    if len(values) and (values.min() < 0 or values.max() > 1):
        raise InvalidDataError(
            f"scores must be probabilities in [0, 1], got {values.min():.4g} to "
            f"{values.max():.4g}; pass scale='logit' if they are logits."
        )
    return clipped_logit(values)


def _log_probabilities(scores: NDArray[Any], scale: str) -> Floats:
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


def fingerprint(scores: Floats, y: Floats) -> int:
    """One number for a set of scored and labelled rows, whatever their order.

    The sum of the rows' 64-bit hashes: it tells whether two sets are equal, and no row.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Calibrated probabilities; compared to nine places.
    y : ndarray of shape (n,)
        0 or 1.
    """
    hashes = pd.util.hash_array(np.round(scores, 9) + 2.0 * y)
    return int(hashes.sum(dtype=np.uint64))
