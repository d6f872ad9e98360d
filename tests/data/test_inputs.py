from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from fairtrain.data import inputs as v
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

CONTAINERS = [
    list,
    tuple,
    np.array,
    pd.Series,
    pl.Series,
    pa.array,
    lambda x: pa.chunked_array([x]),
    lambda x: pd.DataFrame({"c": x}),
    lambda x: pl.DataFrame({"c": x}),
    lambda x: np.array(x)[:, None],
]


@pytest.mark.parametrize("container", CONTAINERS)
def test_as_vector_reads_every_container(container: Callable[[Any], Any]) -> None:
    found = v.as_vector(container([3, 1, 2]), "y")
    assert (found.shape, found.tolist()) == ((3,), [3, 1, 2])


@pytest.mark.parametrize("values", [[[1, 2], [3, 4]], 3, pd.DataFrame({"a": [1], "b": [2]})])
def test_as_vector_wants_one_column(values: Any) -> None:
    with pytest.raises(InvalidDataError, match="y must have one column"):
        v.as_vector(values, "y")


def test_as_vector_turns_no_missing_label_into_text() -> None:
    assert pd.isna(v.as_vector(["yes", float("nan")], "y")).tolist() == [False, True]
    assert v.as_vector([1, "1"], "y").tolist() == [1, "1"]


def test_sample_weight_none_stays_none() -> None:
    assert v.as_sample_weight(None, 3) is None
    assert v.as_sample_weight([0, 1, 2], 3).tolist() == [0.0, 1.0, 2.0]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2], "has 2 rows, expected 3"),
        ([1, -1, 1], "not negative"),
        ([1, np.nan, 1], "finite"),
        ([1, np.inf, 1], "finite"),
        ([0, 0, 0], "in every row"),
        (["a", "b", "c"], "must hold numbers"),
        ([1, None, 1], "finite"),
    ],
)
def test_sample_weight_that_cannot_be_used(weights: Any, message: str) -> None:
    with pytest.raises(InvalidDataError, match=message):
        v.as_sample_weight(weights, 3)


@pytest.mark.parametrize(
    ("y", "positive", "expected"),
    [
        ([0, 1, 1], None, [0, 1, 1]),
        ([-1, 1, 1], None, [0, 1, 1]),
        ([True, False, True], None, [1, 0, 1]),
        ([0, 1, 1], 0, [1, 0, 0]),
        (["deny", "approve", "deny"], "approve", [0, 1, 0]),
        (["deny", "approve", "deny"], "deny", [1, 0, 1]),
        (pd.Series(["deny", "approve"], dtype="category"), "approve", [0, 1]),
        (pl.Series(["deny", "approve"]), "approve", [0, 1]),
        (np.array([1.0, 2.0]), 1, [1, 0]),
    ],
)
def test_binary_target(y: Any, positive: Any, expected: list[int]) -> None:
    y01, classes = v.binary_target(y, positive)
    assert y01.tolist() == expected
    assert classes[y01].tolist() == v.as_vector(y, "y").tolist()


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "y to be passed"),
        ([1, 1], "found 1 class"),
        ([0, 1, 2], "found 3 classes"),
        (np.array(["a", None, "b"], dtype=object), "missing labels"),
        (np.array([0, 1, np.nan]), "NaN"),
        (["a", float("nan"), "a"], "missing labels"),
    ],
)
def test_binary_target_that_cannot_be_used(y: Any, message: str) -> None:
    with pytest.raises(InvalidDataError, match=message):
        v.binary_target(y)


def test_positive_label_must_be_a_label() -> None:
    with pytest.raises(InvalidParameterError, match="'approved' is not a label of y"):
        v.binary_target(["deny", "approve"], "approved")


@pytest.mark.parametrize(
    ("classes", "needed"),
    [([0, 1], False), ([-1, 1], False), ([False, True], False), (["a", "b"], True), ([1, 2], True)],
)
def test_which_labels_go_without_a_name(classes: list[Any], needed: bool) -> None:
    assert v.needs_positive_label(np.array(classes)) is needed


@settings(deadline=None, max_examples=40)
@given(st.permutations(range(6)))
def test_an_index_in_another_order_is_refused(order: list[int]) -> None:
    X = pd.DataFrame({"x": range(6)}, index=list("abcdef"))
    permuted = pd.Series(range(6), index=X.index).iloc[order]
    for who in (permuted, permuted.to_frame(), {"column": permuted}):
        if order == sorted(order):
            v.require_same_index(X=X, y=None, who=who)
            continue
        with pytest.raises(InvalidDataError, match=r"who.* carries another index than X \(row"):
            v.require_same_index(X=X, y=None, who=who)


def test_without_an_index_position_counts() -> None:
    permuted = pd.Series(["a", "b"], index=[1, 0])
    v.require_same_index(X=np.zeros((2, 1)), who=permuted)
    v.require_same_index(X=pd.DataFrame({"x": [1, 2]}), who=["a", "b"], y=None)


def test_the_message_says_what_to_do() -> None:
    y = pd.Series([0, 1], index=[1, 0])
    with pytest.raises(
        InvalidDataError, match=r"y_pred\.loc\[y\.index\], or pass y_pred\.to_numpy"
    ):
        v.require_same_index(y=y, y_pred=pd.Series([0, 1]))
    v.require_same_index(y=y, y_pred=np.array([0, 1]), y_score=None, sample_weight=y * 2)


mixed = st.lists(
    st.one_of(st.integers(-3, 3), st.sampled_from(["a", "b", "1"]), st.none()), max_size=25
)


@settings(deadline=None, max_examples=60)
@given(mixed)
def test_factorize_is_a_dictionary_of_levels(values: list[Any]) -> None:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    levels, codes = v.factorize(column)
    assert [None if c < 0 else levels[c] for c in codes] == values
    assert len(levels) == len(set(levels)) == len({x for x in values if x is not None})


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=False, width=16), max_size=20))
def test_factorize_sorts_numbers(values: list[float]) -> None:
    levels, codes = v.factorize(np.array(values, dtype=float))
    assert levels == sorted({x for x in values if not np.isnan(x)})
    assert (codes < 0).tolist() == [bool(np.isnan(x)) for x in values]


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame, pa.table])
def test_drop_columns_keeps_the_kind_of_frame(frame: Callable[[Any], Any]) -> None:
    X = frame({"x": [1, 2], "sex": ["f", "m"]})
    rest, columns = v.drop_columns(X, "sex")
    assert type(rest) is type(X)
    assert columns["sex"].tolist() == ["f", "m"]
    assert v.number_of_rows(rest) == 2
    assert type(v.drop_if_present(rest, "sex")) is type(X)
    with pytest.raises(InvalidDataError, match="X has no column 'race'"):
        v.drop_columns(X, ["sex", "race"])


def test_drop_columns_of_an_array() -> None:
    with pytest.raises(InvalidDataError, match="X must be a data frame"):
        v.drop_columns(np.zeros((2, 2)), "sex")


@pytest.mark.parametrize(
    "X",
    [
        [[1.0, 2.0], [3.0, 4.0]],
        np.array([[1.0, 2.0], [3.0, 4.0]]),
        sparse.csr_array([[1.0, 2.0], [3.0, 4.0]]),
        pd.DataFrame({"a": [1.0, 3.0], "b": [2.0, 4.0]}),
        pl.DataFrame({"a": [1.0, 3.0], "b": [2.0, 4.0]}),
        pa.table({"a": [1.0, 3.0], "b": [2.0, 4.0]}),
    ],
)
def test_features_row_counts_and_columns(X: Any) -> None:
    assert v.number_of_rows(X) == 2
    passed = v.as_features(X)
    assert [column.tolist() for column in v.feature_columns(passed)] == [[1.0, 3.0], [2.0, 4.0]]
    assert v.number_of_rows(v.take_rows(passed, np.array([1]))) == 1


def test_number_of_rows_of_something_else() -> None:
    with pytest.raises(InvalidDataError, match="got int"):
        v.number_of_rows(3)


@pytest.mark.parametrize("values", [[0.1, np.nan], [np.inf, 1.0], ["a", "b"]])
def test_float_column_is_finite(values: Any) -> None:
    with pytest.raises(InvalidDataError, match="y_score"):
        v.as_float_column(values, "y_score")
