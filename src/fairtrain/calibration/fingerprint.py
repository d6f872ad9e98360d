"""Know the rows of a fit again without keeping any of them."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["fingerprint", "fitted_here", "remember"]

_FITTED: weakref.WeakSet[Any] = weakref.WeakSet()


def fingerprint(scores: NDArray[np.float64], y: NDArray[Any]) -> int:
    """One number for a set of scored and labelled rows, whatever their order.

    The sum of the rows' 64-bit hashes: it tells whether two sets are equal, and no row.
    """
    rounded = np.round(np.asarray(scores, dtype=np.float64), 9)
    hashes = pd.util.hash_array(rounded + 2.0 * np.asarray(y, dtype=np.float64))
    return int(hashes.sum(dtype=np.uint64))


def remember(calibrator: Any) -> None:
    """Let audits in this process know a fitted calibrator, for as long as it lives."""
    _FITTED.add(calibrator)


def fitted_here(scores: NDArray[np.float64], y: NDArray[Any]) -> bool:
    """Whether a living calibrator was fitted on these rows, and these are its outputs for them."""
    if not len(_FITTED):
        return False
    found = fingerprint(scores, y)
    return any(found in getattr(c, "_fingerprints", ()) for c in list(_FITTED))
