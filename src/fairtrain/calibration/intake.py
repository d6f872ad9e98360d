"""What calibrators and audits are given: scores, outcomes and people, read as ``Rows``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fairtrain.calibration.cells import as_logits
from fairtrain.calibration.maps.multiclass import check_probabilities
from fairtrain.data import inputs
from fairtrain.data.groups import Missing
from fairtrain.data.labels import LabelCoding
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidDataError

__all__ = ["later_scores", "logits_of", "read_scored"]

Floats = NDArray[np.float64]


def read_scored(
    scores: Any,
    y: Any,
    sensitive_features: Any,
    sample_weight: Any = None,
    *,
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
    y, sensitive_features, sample_weight
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
        scores=scores, y=y, sensitive_features=sensitive_features, sample_weight=sample_weight
    )
    values = np.asarray(inputs.as_features(scores))
    columns = values.shape[1] if values.ndim == 2 else 1
    rows = Rows.read(
        values,
        y,
        sensitive_features,
        sample_weight,
        positive_label=positive_label,
        several_classes=columns > 2,
        missing=missing,
        min_count=min_count,
    )
    labels = rows.labels
    assert labels is not None
    assert rows.y is not None
    if columns > 2 and len(labels.labels) != columns:
        raise InvalidDataError(
            f"scores have {columns} columns but y has {len(labels.labels)} classes; pass one "
            "column for each class, sorted."
        )
    logits = logits_of(rows.X, scale, labels)
    if columns > 2:
        return replace(rows, X=logits)
    labels.require_named("what scores are probabilities of")
    inputs.require_two_classes(rows.y)
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
    return check_probabilities(values, scale)


def _favourable(values: NDArray[Any], labels: LabelCoding) -> Floats:
    """Pick the favourable label's column."""
    two = values.ndim == 2 and values.shape[1] == 2
    return inputs.as_float_column(values[:, labels.column] if two else values, "scores")


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
