"""What a fitted model decides, and how sure it is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["decisions"]

Floats = NDArray[np.float64]


def decisions(model: Any, X: Any, favourable: Any) -> tuple[Floats, Floats | None]:
    """Decide about rows.

    Parameters
    ----------
    model : estimator
        A fitted classifier.
    X : ndarray of shape (n, d)
        Features.
    favourable : label
        The favourable outcome.

    Returns
    -------
    decision : ndarray of shape (n,)
        1 for the favourable decision, or its probability where decisions are drawn.
    score : ndarray of shape (n,) or None
        Probability of the favourable label; None where the model knows that of its decisions only.
    """
    column = np.asarray(model.classes_).tolist().index(favourable)
    shares = getattr(model, "decision_proba", None)
    if shares is None:
        decision = (np.asarray(model.predict(X)) == favourable).astype(np.float64)
    else:
        decision = np.asarray(shares(X))[:, column]
    score = np.asarray(model.predict_proba(X), dtype=np.float64)[:, column]
    return decision, None if np.array_equal(score, decision) else score
