"""Whatever is in a file: a table, or one line; whole and in chunks alike."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairtrain._commands.chunks import read_chunks
from fairtrain._commands.tables import read_table
from fairtrain.exceptions import FairtrainError

FEW = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
WORDS = st.one_of(
    st.sampled_from(["", "NA", "?", "1", "-2.5", "1,5", "true", "0x1", "1e999", "nan", "inf",
                     "2024-01-05", '"', '""', '"a', "é", "\x00", "\r", "a;b", " 7 ", "=1+1"]),
    st.text(max_size=6),
)  # fmt: skip
ROWS = st.lists(st.lists(WORDS, min_size=1, max_size=4), min_size=1, max_size=6)
SEPARATED = st.builds(
    lambda rows, between, end: end.join(between.join(row) for row in rows),
    ROWS,
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["\n", "\r\n"]),
)
BYTES = st.one_of(
    st.binary(max_size=60),
    st.builds(lambda text: text.encode("utf-8", "replace"), SEPARATED),
    st.builds(lambda text: text.encode("utf-16", "replace"), SEPARATED),
    st.builds(lambda tail: b"a,b\n1,2\n" + tail, st.binary(max_size=20)),
)


def read(path: Path, *, rows: int | None = None, columns: list[str] | None = None) -> object:
    """The table, or the line that says why there is none."""
    try:
        if rows is None:
            return read_table(path)
        parts = [chunk.frame for chunk in read_chunks(path, rows=rows, columns=columns or [])]
        return pd.concat(parts, ignore_index=True)
    except FairtrainError as error:
        said = str(error)
    assert "\n" not in said
    return said


def agree(path: Path) -> None:
    whole = read(path)
    if isinstance(whole, pd.DataFrame):
        for rows in (1, 3):
            parts = read(path, rows=rows, columns=list(whole.columns))
            assert isinstance(parts, pd.DataFrame), parts
            assert list(parts.columns) == list(whole.columns)
            pd.testing.assert_frame_equal(parts, whole, check_dtype=False)
    else:
        assert isinstance(read(path, rows=2, columns=["a", "b"]), str), whole


@FEW
@given(content=BYTES)
@pytest.mark.parametrize("ending", ["csv"])
def test_both_readers_agree_on_any_text(ending: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"any.{ending}"
    path.write_bytes(content)
    agree(path)


@settings(FEW, max_examples=12)
@given(content=st.binary(max_size=80))
@pytest.mark.parametrize("ending", ["parquet", "feather", "xlsx", "csv.gz"])
def test_any_bytes_under_another_name_are_one_line(
    ending: str, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / f"any.{ending}"
    path.write_bytes(content)
    assert isinstance(read(path), str)
    assert isinstance(read(path, rows=2, columns=["a"]), str)
