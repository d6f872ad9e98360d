"""Which boosters there are: a module each, imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairtrain.boosting.backend import Backend
from fairtrain.exceptions import InvalidParameterError

__all__ = ["feature_gains", "load_backend", "stock_predict"]

Floats = NDArray[np.float64]

# A booster's name is that of its package. A module here defines ``BACKEND``.
_MODULES = {
    "xgboost": "fairtrain.boosting.xgboost",
    "lightgbm": "fairtrain.boosting.lightgbm",
}


def load_backend(booster: str) -> Backend:
    """Find the back end of a booster.

    Raises
    ------
    InvalidParameterError
        If there is none of that name.
    MissingDependencyError
        If it is not installed.
    """
    if booster not in _MODULES:
        known = " or ".join(repr(name) for name in _MODULES)
        raise InvalidParameterError(f"booster must be {known}, got {booster!r}.")
    backend: Backend = import_module(_MODULES[booster]).BACKEND
    return backend


def _owner(model: Any) -> Backend:
    """Find the back end that a stock model belongs to."""
    return load_backend(type(model).__module__.partition(".")[0])


def stock_predict(model: Any, X: Any) -> Floats:
    """Probabilities of the favourable label, or values, shape (n,)."""
    return _owner(model).predict(model, X)


def feature_gains(model: Any, n_features: int) -> Floats:
    """Gain of every feature over all its splits, shape (d,)."""
    return _owner(model).gains(model, n_features)
