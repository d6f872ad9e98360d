"""Tables in chunks: the same values as whole, whatever the chunk; the same errors."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from fairtrain._commands import csv_types
from fairtrain._commands.chunks import read_chunks
from fairtrain._commands.columns import as_words
from fairtrain._commands.csv_types import find_types
from fairtrain._commands.tables import read_table
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

LATE = {  # thousands of values of one kind, then something else
    "text_after_numbers": [*["1.50", "02"] * 1000, "x"],
    "float_after_ints": [*["1", "2"] * 1000, "2.5"],
    "int_after_bools": [*["true", "false"] * 1000, "7"],
    "bool_after_ints": [*["1", "0"] * 1000, "true"],
    "text_after_dates": [*["2024-01-05", "2023-02-01"] * 1000, "soon"],
    "time_after_dates": [*["2024-01-05", "2023-02-01"] * 1000, "2024-01-05 10:00:00"],
    "number_after_gaps": [*["?", ""] * 1000, "3"],
    "word_after_gaps": [*["NA", " ?"] * 1000, "é"],
    "gap_after_ints": [*["9007199254740993", "5"] * 1000, ""],
    "long": [*["9", "8"] * 1000, "99999999999999999999"],
    "lines": [*['"a\nb"', " b "] * 1000, '"say ""no"""'],
}


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_types, "_BLOCK", 4096)


@pytest.fixture
def late(tmp_path: Path) -> Path:
    path = tmp_path / "late.csv"
    lines = [",".join(LATE), *(",".join(row) for row in zip(*LATE.values(), strict=True))]
    path.write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("rows", [7, 999, 10**6])
def test_csv_types_are_those_of_the_whole_column(late: Path, rows: int) -> None:
    whole = read_table(late, multiline=True)
    table = read_chunks(late, rows=rows, columns=list(LATE), multiline=True)
    assert table.names == tuple(LATE)
    assert table.n_rows == 2001
    frames = [chunk.frame for chunk in table]
    assert {len(f) for f in frames[:-1]} <= {rows}
    for name in LATE:
        words = pd.concat([as_words(f[name]) for f in frames], ignore_index=True)
        pd.testing.assert_series_equal(words, as_words(whole[name]), check_names=False)
    assert table.columns == tuple(LATE)


@pytest.mark.usefixtures("small_blocks")
def test_types_of_the_scan_are_arrows_own(late: Path) -> None:
    from fairtrain._commands.formats import TextForm
    from fairtrain._commands.tables import _read_csv

    found = find_types(late, list(LATE), "'late.csv'")
    expected = {f.name: f.type for f in _read_csv(late, TextForm()).schema}
    assert found.types == expected
    assert found.with_gaps >= {"number_after_gaps", "gap_after_ints"}
    assert "long" not in found.with_gaps


def test_one_row_chunks_and_wanted_columns_only(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b,c\n1,x,\n,y,2\n3,?,4\n", encoding="utf-8")
    frames = [chunk.frame for chunk in read_chunks(path, rows=1, columns=["c", "a", "none"])]
    assert [list(f) for f in frames] == [["a", "c"]] * 3
    assert pd.concat(frames)["a"].tolist()[::2] == [1.0, 3.0]
    assert all(f["a"].dtype == np.float64 for f in frames)


@pytest.mark.usefixtures("small_blocks")
def test_a_row_longer_than_a_block(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,x\n" * 1 + "2," + "y" * 30000 + "\n" + "3,z\n" * 4000)
    table = read_chunks(path, rows=3000, columns=["a", "b"])
    assert table.n_rows == 4002
    assert len(next(iter(table)).frame["b"][1]) == 30000


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    frame = pd.DataFrame(
        {
            "n": pd.array([2**53 + 1, *range(98), None], dtype="Int64"),
            "a.b": ["x", "?"] * 50,
            "a": pd.Categorical(["u", "v"] * 50),
            "day": [dt.date(2024, 1, 5)] * 100,
        }
    )
    frame.to_parquet(path, row_group_size=30)
    whole = read_table(path)
    table = read_chunks(path, rows=7, columns=["n", "a", "day"])
    assert table.columns == ("n", "a", "day")
    parts = pd.concat([c.frame for c in table], ignore_index=True)
    pd.testing.assert_frame_equal(parts, whole[["n", "a", "day"]])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty"),
        (b"a,b\n", "has a header but no rows"),
        (b"a,b\n1,2\n3\n", "rows differ in their number of columns"),
        (b"a,b,a\n1,2,3\n", "columns of the same name: 'a'"),
        (b"a,b\n1,x\n2,\xff\n", "column 'b' is not UTF-8"),
        (b"a,b\n" + b"1,x\n" * 5000 + b"2,\xff\n", "column 'b' is not UTF-8"),
        (b"a,b\n" + b"1,x\n" * 5000 + b"\xff,x\n", "column 'a' is not UTF-8"),
        (b"a,\xff\n1,2\n", "not UTF-8"),
        (b"a,b\n" + b"1,x\n" * 5000 + b"2\n", "rows differ in their number of columns"),
    ],
)
@pytest.mark.usefixtures("small_blocks")
def test_errors_are_those_of_whole_tables(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    for read in (read_table, lambda p: list(read_chunks(p, rows=10, columns=["a"]))):
        with pytest.raises(InvalidDataError, match=expected) as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_errors_of_files_and_settings(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match="does not exist"):
        read_chunks(tmp_path / "none.csv", rows=10, columns=[])
    with pytest.raises(InvalidParameterError, match="at least 1, got 0"):
        read_chunks(tmp_path / "none.csv", rows=0, columns=[])
    lists = tmp_path / "l.parquet"
    parquet.write_table(pa.table({"a": [[1], [2]], "b": [1, 2]}), lists)
    with pytest.raises(InvalidDataError, match="column 'a' holds lists"):
        read_chunks(lists, rows=10, columns=["b"])
    broken = tmp_path / "b.parquet"
    broken.write_bytes(b"PAR1 no")
    with pytest.raises(InvalidDataError, match="cannot be read"):
        read_chunks(broken, rows=10, columns=["b"])
