"""Rows that tests of the trainers share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn


def make_rows(
    n: int = 2000, groups: int = 2, seed: int = 0
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Features that reveal the group, labels that depend on it, and the group."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, groups, n)
    X = rng.normal(size=(n, 4)) + 0.8 * group[:, None] / groups
    y = (X[:, 0] + X[:, 1] + rng.normal(size=n) > 0.8).astype(int)
    return X.astype(np.float32), y, group


def linear(features: int, outputs: int) -> nn.Module:
    """A factory of the smallest module."""
    return nn.Linear(features, outputs)


def two_layers(features: int, outputs: int) -> nn.Module:
    """A factory of a small network."""
    return nn.Sequential(nn.Linear(features, 16), nn.ReLU(), nn.Linear(16, outputs))
