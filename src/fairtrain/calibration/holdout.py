"""Rows that decide when to stop."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fairtrain.exceptions import InvalidDataError

__all__ = ["held_out"]

Codes = NDArray[np.int64]


def held_out(
    codes: Codes, y: NDArray[np.int8], fraction: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Draw rows in proportion from every group and label."""
    order = np.lexsort((rng.permutation(len(y)), y, codes))
    held = np.zeros(len(y), dtype=bool)
    held[order] = (np.arange(len(y)) * fraction + rng.uniform()) % 1.0 < fraction
    if held.all() or not held.any() or len(np.unique(y[~held])) < 2:
        raise InvalidDataError(
            f"{len(y)} rows are too few to hold out {fraction:.0%} of them; pass more rows."
        )
    return held
