"""Rows that several tests of boosting share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def make_rows(
    n: int, groups: int = 2, seed: int = 0, shift: float = 1.0
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Features that reveal the group, labels that depend on it, and the group."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, groups, n)
    X = rng.normal(size=(n, 5)) + shift * group[:, None] / groups
    y = (X[:, 0] + X[:, 1] / 2 + rng.normal(size=n) > 0.8).astype(int)
    return X, y, group
