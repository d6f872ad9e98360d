"""Rows that several tests of the reductions share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def make_rows(
    n: int, groups: int, seed: int = 0
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Features that reveal the group, labels that depend on it, and the group."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, groups, n)
    X = rng.normal(size=(n, 5)) + 0.6 * group[:, None] / groups
    y = (X[:, 0] + X[:, 1] / 2 + rng.normal(size=n) > 0.6).astype(int)
    return X, y, group
