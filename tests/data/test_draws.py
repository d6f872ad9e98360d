"""Randomised decisions belong to the row."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse, stats

from fairtrain.data.draws import keyed_uniform


def rows(n: int = 5000) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, 3))


def test_a_row_alone_draws_what_it_draws_in_a_batch_in_any_order() -> None:
    X = rows(200)
    whole = keyed_uniform(X, 5)
    alone = np.concatenate([keyed_uniform(X[[i]], 5) for i in range(len(X))])
    order = np.random.default_rng(1).permutation(len(X))
    np.testing.assert_array_equal(whole, alone)
    np.testing.assert_array_equal(whole[order], keyed_uniform(X[order], 5))


def test_draws_are_uniform_and_unrelated_under_another_key() -> None:
    X = rows()
    first, second = keyed_uniform(X, 1), keyed_uniform(X, 2)
    assert stats.kstest(first, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05
    assert abs(np.corrcoef(first, X[:, 0])[0, 1]) < 0.05


@pytest.mark.parametrize(
    "as_type",
    [
        lambda X: pd.DataFrame(X.astype(int)),
        lambda X: pd.DataFrame(X, columns=list("abc")),
        lambda X: pl.DataFrame(X.astype(int)),
        sparse.csr_array,
        np.asfortranarray,
    ],
)
def test_the_container_does_not_matter(as_type: object) -> None:
    X = np.random.default_rng(0).integers(-2, 3, (100, 3)).astype(float)
    np.testing.assert_array_equal(keyed_uniform(X, 9), keyed_uniform(as_type(X), 9))  # type: ignore[operator]


def test_text_and_missing_values_are_values() -> None:
    frame = pd.DataFrame({"a": ["x", "y", None, "x"], "b": [1.0, 1.0, 1.0, np.nan]})
    drawn = keyed_uniform(frame, 3)
    assert len(set(drawn.tolist())) == 4
    np.testing.assert_array_equal(drawn, keyed_uniform(frame.iloc[::-1], 3)[::-1])


def test_swapped_columns_draw_differently() -> None:
    X = rows(50)
    assert (keyed_uniform(X, 3) != keyed_uniform(X[:, ::-1], 3)).all()
