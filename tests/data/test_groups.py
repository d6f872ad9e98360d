from __future__ import annotations

import datetime as dt
import pickle
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairtrain.data.groups import Groups, group_sums
from fairtrain.exceptions import InvalidDataError, InvalidParameterError, UnseenGroupError

Rows = list[tuple[str, ...]]

rows_of_two = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", "a/b"]), st.sampled_from(["x", "y", "b/x"])),
    min_size=1,
    max_size=60,
)


def columns_of(rows: Sequence[tuple[str, ...]], names: Sequence[str]) -> dict[str, list[str]]:
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def made(rows: Sequence[tuple[str, ...]], **settings: Any) -> Groups:
    return Groups.from_sensitive(columns_of(rows, ("race", "sex")), **settings)


def levels_of(groups: Groups, g: int) -> tuple[Any, ...]:
    """Levels of group ``g``, read back from the scheme."""
    scheme = groups.scheme
    return tuple(scheme.levels[i][c] for i, c in enumerate(scheme.level_codes[g]))


@settings(deadline=None, max_examples=60)
@given(rows_of_two)
def test_partition_is_that_of_the_distinct_rows(rows: Rows) -> None:
    groups = made(rows)
    distinct = sorted(set(rows))
    assert [levels_of(groups, g) for g in range(len(groups))] == distinct
    assert groups.codes.tolist() == [distinct.index(row) for row in rows]
    assert groups.counts.tolist() == [Counter(rows)[row] for row in distinct]
    assert groups.scheme.counts.tolist() == groups.counts.tolist()
    assert len(set(groups.names)) == len(groups)


@settings(deadline=None, max_examples=40)
@given(rows_of_two)
def test_marginals_and_parents_agree_with_the_columns(rows: Rows) -> None:
    groups = made(rows)
    assert groups.intersections.names == groups.names
    for i, column in enumerate(("race", "sex")):
        marginal = groups.marginals[column]
        levels = sorted({row[i] for row in rows})
        assert marginal.names == tuple(levels)
        assert marginal.codes.tolist() == [levels.index(row[i]) for row in rows]
        scheme, parent = groups.parents[(column,)]
        assert parent[groups.codes].tolist() == marginal.codes.tolist()
        assert scheme.counts.tolist() == marginal.counts.tolist()


@settings(deadline=None, max_examples=40)
@given(rows_of_two, rows_of_two)
def test_later_rows_get_the_codes_of_fit(rows: Rows, later: Rows) -> None:
    groups = made(rows)
    place = {levels_of(groups, g): g for g in range(len(groups))}
    expected = [place.get(row, -1) for row in later]
    frame = pd.DataFrame(columns_of(later, ("race", "sex")))[["sex", "race"]]
    assert groups.encode(frame, unseen="ignore").tolist() == expected
    if -1 in expected:
        with pytest.raises(UnseenGroupError, match="never"):
            groups.encode(frame)
    else:
        assert groups.encode(frame).tolist() == expected


def test_a_batch_that_lacks_a_group_keeps_the_other_codes() -> None:
    groups = Groups.from_sensitive(["a", "b", "c"])
    assert groups.encode(["c", "b", "c"]).tolist() == [2, 1, 2]
    batch = groups.take(np.array([1, 2]))
    assert batch.codes.tolist() == [1, 2]
    assert batch.counts.tolist() == [0, 1, 1]
    assert batch.names == ("a", "b", "c")


def test_integer_codes_with_holes_keep_their_meaning() -> None:
    groups = Groups.from_sensitive(np.array([7, 2, 2]))
    assert (groups.names, groups.codes.tolist()) == (("2", "7"), [1, 0, 0])
    assert groups.encode(np.array([7])).tolist() == [1]


def _category(values: list[str]) -> pd.Series:
    return pd.Series(values, dtype=pd.CategoricalDtype(["z", "b", "a"]))


@pytest.mark.parametrize(
    "as_column",
    [
        list,
        tuple,
        np.array,
        lambda v: np.array(v, dtype=object),
        lambda v: np.array(v)[:, None],
        pd.Series,
        pd.Index,
        pd.Categorical,
        _category,
        lambda v: pd.Series(v, dtype="string"),
        lambda v: pd.DataFrame({"group": v}),
        pl.Series,
        lambda v: pl.Series("group", v, dtype=pl.Categorical),
        lambda v: pl.DataFrame({"group": v}),
        lambda v: pa.table({"group": v}),
        lambda v: pa.table({"group": pa.array(v).dictionary_encode()}),
        lambda v: pa.chunked_array([v[:1], v[1:]]),
        lambda v: {"group": v},
        lambda v: {"group": pd.Series(v)},
    ],
)
def test_every_container_gives_the_same_groups(as_column: Callable[[list[str]], Any]) -> None:
    groups = Groups.from_sensitive(as_column(["b", "a", "b"]))
    assert (groups.columns, groups.names) == (("group",), ("a", "b"))
    assert groups.codes.tolist() == [1, 0, 1]
    assert groups.encode(as_column(["b", "b", "a"])).tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    "column",
    [
        ["a", None, "b"],
        ["a", float("nan"), "b"],
        {"group": ["a", float("nan"), "b"]},
        {"group": ["a", None, "b"]},
        np.array(["a", None, "b"], dtype=object),
        pd.Series(["a", None, "b"]),
        pd.Series(["a", pd.NA, "b"], dtype="string"),
        pd.Series(["a", None, "b"], dtype="category"),
        pl.Series(["a", None, "b"]),
        pl.Series(["a", None, "b"], dtype=pl.Categorical),
        pa.table({"group": ["a", None, "b"]}),
        pa.table({"group": pa.array(["a", None, "b"]).dictionary_encode()}),
    ],
)
def test_missing_value_raises_or_is_a_group_never_silent(column: Any) -> None:
    with pytest.raises(InvalidDataError, match="1 missing values"):
        Groups.from_sensitive(column)
    groups = Groups.from_sensitive(column, missing="group")
    assert (groups.names, groups.codes.tolist()) == (("a", "b", "(missing)"), [0, 2, 1])
    assert groups.encode(column).tolist() == [0, 2, 1]


@pytest.mark.parametrize(
    ("column", "names"),
    [
        (np.array([True, False]), ("False", "True")),
        (pd.Series([True, None, False], dtype="boolean"), ("False", "True", "(missing)")),
        (pl.Series([True, None, False]), ("False", "True", "(missing)")),
        (pd.Series([3, None, 10], dtype="Int64"), ("3", "10", "(missing)")),
        (pl.Series([3, None, 10]), ("3", "10", "(missing)")),
        (np.array([3.0, np.nan, 10.0]), ("3", "10", "(missing)")),
        ([dt.date(2020, 1, 1)], ("2020-01-01",)),
    ],
)
def test_types_of_values(column: Any, names: tuple[str, ...]) -> None:
    assert Groups.from_sensitive(column, missing="group").names == names


@pytest.mark.parametrize("later", [[1, 0], [1.0, 0.0], [True, False], np.array([1, 0], np.int8)])
def test_a_number_is_the_same_level_in_every_type(later: Any) -> None:
    assert Groups.from_sensitive([0, 1]).encode(later).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("columns", "n_groups"),
    [
        ({"x": [1, "1", 1]}, 2),
        ({"x": np.array([1, "1", None], dtype=object)}, 3),
        ({"x": ["(missing)", None]}, 2),
        ({"x": ["a/b", "a"], "y": ["c", "b/c"]}, 2),
        ({"x": ["a\\", "a/b\\", "a"], "y": ["b/c", "c", "b\\/c"]}, 3),
    ],
)
def test_names_that_would_collide_stay_apart(columns: dict[str, Any], n_groups: int) -> None:
    groups = Groups.from_sensitive(columns, missing="group")
    assert len(set(groups.names)) == len(groups) == n_groups
    assert groups.encode(columns).tolist() == groups.codes.tolist()


def test_text_one_is_not_the_number_one_later() -> None:
    groups = Groups.from_sensitive([1, 2])
    with pytest.raises(UnseenGroupError, match="'1'"):
        groups.encode(["1", "2"])


def test_unseen_value_and_combination_are_named() -> None:
    groups = made([("a", "x"), ("b", "y")])
    with pytest.raises(UnseenGroupError, match="'race' has the value 'martian' in 2 rows"):
        groups.encode({"race": ["a", "martian", "martian"], "sex": ["x"] * 3})
    with pytest.raises(UnseenGroupError, match="combination 'a/y' \\(1 rows"):
        groups.encode({"race": ["a"], "sex": ["y"]})


def test_missing_value_that_fit_never_saw_is_unseen() -> None:
    groups = Groups.from_sensitive(["a", "b"], missing="group")
    with pytest.raises(UnseenGroupError, match="missing"):
        groups.encode(["a", None])
    assert groups.encode(["a", None], unseen="ignore").tolist() == [0, -1]


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: s.to_frame(), lambda s: {"sex": s}])
def test_a_permuted_index_is_refused_not_re_ordered(wrap: Callable[[Any], Any]) -> None:
    X = pd.DataFrame({"x": [1, 2, 3]}, index=["p", "q", "r"])
    sensitive = pd.Series(["f", "m", "f"], index=X.index, name="sex")
    permuted = wrap(sensitive.loc[["q", "r", "p"]])
    groups = Groups.from_sensitive(wrap(sensitive), like=X)
    assert groups.codes.tolist() == [0, 1, 0]
    for read in (Groups.from_sensitive, groups.encode):
        with pytest.raises(InvalidDataError, match="carries another index than X"):
            read(permuted, like=X)


@pytest.mark.parametrize("index", [["p", "q", "z"], ["p", "p", "q"], [0, 1, 2]])
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"sex": s}])
def test_foreign_index_is_rejected(index: list[Any], wrap: Callable[[Any], Any]) -> None:
    X = pd.DataFrame({"x": [1, 2, 3]}, index=["p", "q", "r"])
    with pytest.raises(InvalidDataError, match=r"sensitive_features.* another index than X"):
        Groups.from_sensitive(wrap(pd.Series(["f", "m", "f"], index=index)), like=X)


@pytest.mark.parametrize(
    ("sensitive", "message"),
    [
        (None, "sensitive_features is missing"),
        ([], "no rows"),
        ({}, "no column"),
        ("race", "one column or several, got str"),
        (np.zeros((2, 2, 2)), "got shape"),
        ([["a"], ["a", "b"]], "rows of one length"),
        (pd.Series([["a"], ["b"]]), "not lists"),
        (np.array([0.1, 0.2, 0.3]), "'group' is continuous"),
        (np.array([0.0, 0.2, 1.0]), "0.2, like probabilities of belonging to a group"),
        ({"female": [0.3, 0.7, 0.3]}, "'female' holds two fractions that sum to 1 .0.3 and 0.7."),
        (np.float32([0.9, 0.1]), "two fractions that sum to 1"),
        ({"a": [1, 2], "b": [1]}, "b has 1 rows, expected 2"),
        (pd.DataFrame([[1, 2]], columns=[1, "1"]), "names a column twice"),
    ],
)
def test_what_makes_no_groups(sensitive: Any, message: str) -> None:
    with pytest.raises(InvalidDataError, match=message):
        Groups.from_sensitive(sensitive)


def test_columns_are_chosen_by_name() -> None:
    frame = pd.DataFrame({"race": ["a", "b"], "sex": ["f", "m"], "age": [1.5, 2.5]})
    assert Groups.from_sensitive(frame, "sex").names == ("f", "m")
    assert Groups.from_sensitive(frame, ["sex", "race"]).names == ("f/a", "m/b")
    with pytest.raises(InvalidDataError, match="no column 'religion'"):
        Groups.from_sensitive(frame, "religion")


def test_encode_finds_columns_by_name_and_arrays_by_position() -> None:
    groups = made([("a", "x"), ("b", "y")])
    assert groups.encode(np.array([["b", "y"]])).tolist() == [1]
    with pytest.raises(InvalidDataError, match="lacks the column 'sex'"):
        groups.encode({"race": ["a"], "gender": ["x"]})


def test_a_named_column_is_never_taken_for_another() -> None:
    groups = Groups.from_sensitive({"group_home": ["a", "b"]})
    with pytest.raises(InvalidDataError, match="lacks the column 'group_home'"):
        groups.encode({"race": ["a"]})


@pytest.mark.parametrize("over", ["religion", ("race", "religion")])
def test_over_an_unknown_column(over: Any) -> None:
    with pytest.raises(InvalidParameterError, match="'religion' is not a sensitive column"):
        made([("a", "x")]).over(over)


def test_over_nothing_twice_and_all() -> None:
    groups = made([("a", "x"), ("b", "x"), ("b", "y")])
    assert groups.over(None) is groups
    assert groups.over(("race", "race")).names == ("a", "b")
    assert groups.over(("sex", "race")).names == ("x/a", "x/b", "y/b")
    with pytest.raises(InvalidParameterError, match="names no column"):
        groups.over(())


def test_rows_of_no_group_stay_outside_when_groups_merge() -> None:
    groups = made([("a", "x"), ("b", "y")])
    codes = groups.encode({"race": ["b", "q"], "sex": ["y", "x"]}, unseen="ignore")
    merged = Groups(groups.scheme, codes).over("race")
    assert merged.codes.tolist() == [1, -1]
    assert merged.counts.tolist() == [0, 1]


def test_small_groups_are_those_under_min_count() -> None:
    groups = Groups.from_sensitive(["a"] * 5 + ["b"] * 2, min_count=3)
    assert groups.small.tolist() == [False, True]
    assert groups.take(np.arange(2)).small.tolist() == [True, True]


@pytest.mark.parametrize(
    "call",
    [
        lambda: Groups.from_sensitive(["a"], missing="drop"),  # type: ignore[arg-type]
        lambda: Groups.from_sensitive(["a"]).encode(["a"], unseen="skip"),  # type: ignore[arg-type]
    ],
)
def test_policies_are_checked(call: Callable[[], Any]) -> None:
    with pytest.raises(InvalidParameterError, match="must be 'error' or"):
        call()


def test_too_many_combinations() -> None:
    columns = {f"c{i}": np.arange(2) for i in range(63)}
    with pytest.raises(InvalidDataError, match="too many combinations"):
        Groups.from_sensitive(columns)


def test_a_pickled_scheme_codes_as_before_and_holds_no_rows() -> None:
    groups = Groups.from_sensitive(["a", "b", None] * 5000, missing="group")
    stored = pickle.dumps(groups.scheme)
    assert len(stored) < 2000
    assert pickle.loads(stored).encode([None, "b"]).tolist() == [2, 1]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 4), st.floats(-5, 5)), max_size=30))
def test_group_sums_are_sums(rows: list[tuple[int, float]]) -> None:
    codes = np.array([c for c, _ in rows], dtype=np.int64)
    sums = group_sums(np.array([v for _, v in rows]), codes, 5)
    assert sums.tolist() == pytest.approx([sum(v for c, v in rows if c == g) for g in range(5)])


def test_two_numbers_that_are_no_probabilities_are_categories() -> None:
    assert Groups.from_sensitive([0.5, 1.5]).names == ("0.5", "1.5")
    assert Groups.from_sensitive([0.0, 1.0]).names == ("0", "1")


def test_memberships_stay_with_their_rows_and_merge_with_their_groups() -> None:
    hard = Groups.from_sensitive({"race": ["a", "a", "b"], "sex": ["f", "m", "f"]})
    soft = np.array([[0.4, 0.3, 0.3], [0.1, 0.4, 0.5], [0.0, 0.2, 0.8]])
    groups = Groups(hard.scheme, soft.argmax(axis=1), soft)
    assert groups.members is soft
    assert hard.members is hard.codes
    np.testing.assert_array_equal(groups.take(np.array([2, 0])).members, soft[[2, 0]])
    race = groups.over("race")
    np.testing.assert_allclose(race.members, [[0.7, 0.3], [0.5, 0.5], [0.2, 0.8]])
    np.testing.assert_array_equal(race.codes, [0, 0, 1])
