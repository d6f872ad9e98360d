"""Rows are read once, belong together, and are passed on whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.model_selection import GroupKFold, KFold

from fairtrain.data.groups import Groups
from fairtrain.data.rows import Rows
from fairtrain.exceptions import (
    FairtrainError,
    InvalidDataError,
    InvalidParameterError,
    UnseenGroupError,
)

N = 12


def people(index: Any = None) -> dict[str, Any]:
    """One set of rows, every part with the same index."""
    index = pd.RangeIndex(N) if index is None else index
    return {
        "X": pd.DataFrame({"a": np.arange(N), "b": np.arange(N) % 5}, index=index),
        "y": pd.Series(np.arange(N) % 2, index=index),
        "sensitive_features": pd.Series(list("fm") * (N // 2), index=index, name="sex"),
        "sample_weight": pd.Series(np.ones(N), index=index),
    }


@settings(deadline=None, max_examples=40)
@given(
    which=st.sampled_from(["X", "y", "sensitive_features", "sample_weight"]),
    order=st.permutations(range(N)),
)
def test_no_part_may_come_in_another_order(which: str, order: list[int]) -> None:
    given_rows = people()
    given_rows[which] = given_rows[which].iloc[order]
    if order == sorted(order):
        assert len(Rows.read(**given_rows)) == N
        return
    with pytest.raises(InvalidDataError, match="carries another index than"):
        Rows.read(**given_rows)


def test_one_index_in_any_order_is_fine_and_parts_without_one_count_by_position() -> None:
    index = pd.Index(list("lkjihgfedcba"))
    rows = Rows.read(**people(index))
    assert rows.y is not None
    assert rows.y.tolist() == [0.0, 1.0] * (N // 2)
    bare = {name: part.to_numpy() for name, part in people().items() if name != "X"}
    again = Rows.read(people(index)["X"], **bare)
    assert again.groups.codes.tolist() == rows.groups.codes.tolist()


def test_rows_of_weight_zero_are_gone_from_every_part() -> None:
    parts = people()
    parts["sample_weight"] = np.r_[np.zeros(4), np.full(N - 4, 2.0)]
    rows = Rows.read(**parts)
    assert len(rows) == len(rows.X) == N - 4
    assert rows.weight is not None
    assert rows.weight.tolist() == [2.0] * (N - 4)
    assert rows.X["a"].tolist() == list(range(4, N))


@pytest.mark.parametrize("kind", ["frame", "array", "sparse"])
def test_parts_partition_the_rows(kind: str) -> None:
    rng = np.random.RandomState(0)
    X: Any = np.arange(400.0).reshape(200, 2)
    X = {"frame": pd.DataFrame(X), "array": X, "sparse": sparse.csr_matrix(X)}[kind]
    y, who = rng.randint(0, 2, 200), rng.choice(["a", "b", "c"], 200)
    rows = Rows.read(X, y, who)
    assert rows.roles == ("training",)
    assert rows.part("training") is rows
    rows = rows.divided(validation_fraction=0.2, certification_fraction=0.3, random_state=rng)
    assert rows.roles == ("training", "steering", "certification")
    firsts = []
    for role in rows.roles:
        part = rows.part(role)
        own = np.asarray(part.X.todense() if kind == "sparse" else part.X)[:, 0]
        at = (own / 2).astype(int)
        assert part.y is not None
        assert part.y.tolist() == y[at].tolist()
        assert part.groups.codes.tolist() == rows.groups.codes[at].tolist()
        firsts += own.tolist()
    assert sorted(firsts) == np.arange(0, 400, 2).tolist()


def test_later_rows_are_coded_by_what_fit_saw() -> None:
    fitted = Rows.read([[1], [2], [3]], ["no", "yes", "no"], ["a", "b", "c"])
    later = Rows.read(
        [[4], [5]], ["yes", "yes"], ["c", "b"], scheme=fitted.groups.scheme, labels=fitted.labels
    )
    assert later.groups.codes.tolist() == [2, 1]
    assert later.y is not None
    assert later.y.tolist() == [1.0, 1.0]
    with pytest.raises(UnseenGroupError, match="'d'"):
        Rows.read([[4]], ["yes"], ["d"], scheme=fitted.groups.scheme, labels=fitted.labels)


def test_columns_of_x_are_read_and_dropped() -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0], "sex": ["f", "m"]})
    rows = Rows.read(frame, [0, 1], None, columns="sex")
    assert list(rows.X.columns) == ["x"]
    assert rows.groups.columns == ("sex",)
    with pytest.raises(InvalidParameterError, match="given twice"):
        Rows.read(frame, [0, 1], frame["sex"], columns="sex")
    with pytest.raises(InvalidDataError, match="sensitive_features is missing"):
        Rows.read(frame, [0, 1], None)


def test_lengths_must_agree() -> None:
    for part in ("y", "sensitive_features", "sample_weight"):
        parts = people()
        parts[part] = parts[part].to_numpy()[:-1]
        with pytest.raises(InvalidDataError, match=f"{N - 1} rows, expected|{N} rows, expected"):
            Rows.read(**parts)


def test_values_of_a_regression() -> None:
    rows = Rows.read([[1], [2]], [0.5, 2.5], ["a", "b"], regression=True)
    assert rows.y is not None
    assert rows.y.tolist() == [0.5, 2.5]
    assert rows.labels is None
    assert rows.favourable is None


def test_tensors_are_read_like_arrays() -> None:
    X = torch.arange(12.0).reshape(4, 3).requires_grad_(True)
    y, who, weight = torch.tensor([0, 1, 0, 1]), torch.tensor([5, 5, 7, 7]), torch.ones(4)
    weight[1] = 0.0
    rows = Rows.read(X, y, who, weight)
    assert rows.X.tolist() == X[[0, 2, 3]].tolist()
    assert rows.y is not None
    assert rows.y.tolist() == [0, 0, 1]
    assert rows.groups.names == ("5", "7")
    assert rows.groups.codes.tolist() == [0, 1, 1]


def test_a_method_may_group_its_own_way() -> None:
    ages = [20.0, 30.5, 61.0]
    rows = Rows.read(
        np.ones((3, 1)), [1, 0, 1], ages, group=lambda a: Groups.from_sensitive(np.array(a) > 60)
    )
    assert rows.groups.codes.tolist() == [0, 0, 1]


def test_regression_wants_values() -> None:
    with pytest.raises(InvalidDataError, match="requires y to be passed"):
        Rows.read(np.ones((2, 1)), None, ["a", "b"], regression=True)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_nothing_is_decided_by_a_number_that_is_none(wrong: float) -> None:
    rows = Rows.read(np.ones((3, 1)), [1, 0, 1], ["a", "b", "b"])
    for decision in (np.array([1.0, wrong, 0.0]), np.array([[0.5, 0.5], [wrong, 1], [0, 1]])):
        with pytest.raises(FairtrainError, match="1 of 3 predictions are NaN or infinite"):
            rows.decided(decision)


def test_clusters_are_read_from_values_or_a_column_and_travel_with_their_rows() -> None:
    parts = people()
    named = {**parts, "X": parts["X"].assign(branch=list("zzyyxxzzyyxx"))}
    by_name = Rows.read(**named, clusters="branch")
    by_value = Rows.read(**parts, clusters=named["X"]["branch"])
    assert list(by_name.X.columns) == ["a", "b"]
    for rows in (by_name, by_value):
        assert rows.clusters is not None
        assert rows.clusters.tolist() == [2, 2, 1, 1, 0, 0] * 2
        assert rows.take([0, 4]).clusters.tolist() == [2, 0]  # type: ignore[union-attr]


def test_rows_that_all_stand_alone_have_no_clusters() -> None:
    assert Rows.read(**people(), clusters=np.arange(N)).clusters is None


def test_clusters_are_checked_like_other_columns() -> None:
    parts, branch = people(), pd.Series(list("ab") * (N // 2))
    with pytest.raises(InvalidDataError, match="clusters carries another index than X"):
        Rows.read(**parts, clusters=branch.iloc[::-1])
    with pytest.raises(InvalidDataError, match="clusters is missing in row 1"):
        Rows.read(**parts, clusters=branch.replace("b", np.nan))
    with pytest.raises(InvalidDataError, match="clusters"):
        Rows.read(**parts, clusters=["a"] * (N - 1))
    with pytest.raises(InvalidDataError, match="no column 'shop'"):
        Rows.read(**parts, clusters="shop")
    with pytest.raises(InvalidDataError, match=r"fit\(\.\.\., clusters="):
        Rows.read(**{**parts, "X": parts["X"].to_numpy()}, clusters="shop")


def test_no_cluster_is_split_within_one_fit() -> None:
    rng = np.random.default_rng(0)
    n, cluster = 600, rng.integers(0, 90, 600)
    rows = Rows.read(
        rng.normal(size=(n, 2)), rng.integers(0, 2, n), rng.integers(0, 2, n), clusters=cluster
    ).divided(
        validation_fraction=0.25,
        certification_fraction=0.25,
        random_state=np.random.RandomState(0),
    )
    roles = [set(rows.part(role).clusters.tolist()) for role in rows.roles]  # type: ignore[union-attr]
    assert all(roles)
    assert not (roles[0] & roles[1] | roles[0] & roles[2] | roles[1] & roles[2])
    for training, held in rows.part("training").folds(4, np.random.RandomState(1)):
        own = rows.part("training").clusters
        assert own is not None
        assert not set(own[training].tolist()) & set(own[held].tolist())


def test_splitters_are_given_clusters_and_may_not_tear_them_apart() -> None:
    parts = {**people(), "sample_weight": None}
    rows = Rows.read(**parts, clusters=np.arange(N) // 3)
    state = np.random.RandomState(0)
    assert len(rows.folds(GroupKFold(4), state)) == 4
    with pytest.raises(InvalidParameterError, match="all rows of a cluster or none"):
        rows.folds(list(KFold(4, shuffle=True, random_state=0).split(np.zeros(N))), state)


def test_a_splitter_that_knows_no_groups_is_asked_for_none() -> None:
    class Halves:
        def split(self, X: Any, y: Any) -> Any:
            first, second = np.arange(6), np.arange(6, N)
            return [(first, second), (second, first)]

    assert len(Rows.read(**people()).folds(Halves(), np.random.RandomState(0))) == 2
