"""A table whose labels and features depend on the group."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd


class Rows(NamedTuple):
    X: pd.DataFrame
    y: np.ndarray
    who: np.ndarray


def make_rows(n: int = 1500, seed: int = 0, groups: int = 2) -> Rows:
    rng = np.random.default_rng(seed)
    who = rng.integers(0, groups, n)
    X = rng.normal(size=(n, 3)) + 0.5 * who[:, None]
    y = (X.sum(axis=1) + rng.normal(size=n) > 0.7).astype(int)
    return Rows(pd.DataFrame(X, columns=["a", "b", "c"]), y, np.array(list("pqrs"))[who])
