"""Where decisions go, chunk by chunk: a CSV stream or a Parquet file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from fairtrain._commands.formats import is_parquet
from fairtrain._commands.tables import each_once
from fairtrain._text import no_formula

__all__ = ["CsvSink", "ParquetSink", "Sink", "open_sink", "without_formulas"]


class CsvSink:
    """CSV with a header; text that a spreadsheet would take for a formula gets an apostrophe.

    Parameters
    ----------
    stream : text file
        Where to write.
    keep : sequence of str
        Columns of the table to copy before the decisions.
    """

    def __init__(self, stream: TextIO, keep: Sequence[str]) -> None:
        self.stream, self.keep = stream, tuple(keep)
        self._started = False

    def write(self, table: pa.Table, decisions: pd.DataFrame) -> None:
        """Append a chunk."""
        copied = [_values(table.column(name)) for name in self.keep]
        columns = [*copied, *(decisions[name] for name in decisions)]
        names = [*self.keep, *decisions.columns]
        shown = pd.concat([_without_formulas(c) for c in columns], axis=1)
        shown.columns = pd.Index([no_formula(name) for name in names])
        shown.to_csv(self.stream, index=False, header=not self._started, lineterminator="\n")
        self._started = True


class ParquetSink:
    """Parquet with the types of the table; opened with the first chunk.

    Parameters
    ----------
    path : Path
        File to write.
    keep : sequence of str
        Columns of the table to copy before the decisions.
    """

    def __init__(self, path: Path, keep: Sequence[str]) -> None:
        self.path, self.keep = path, tuple(keep)
        self._writer: parquet.ParquetWriter | None = None

    def write(self, table: pa.Table, decisions: pd.DataFrame) -> None:
        """Append a chunk."""
        arrays = [_plain(table.column(name)) for name in self.keep]
        made = [pa.array(decisions[name].to_numpy()) for name in decisions]
        names = [*self.keep, *decisions.columns]
        rows = pa.table([*arrays, *made], names=names)
        if self._writer is None:
            self._writer = parquet.ParquetWriter(self.path, rows.schema)
        self._writer.write_table(rows)

    def close(self) -> None:
        """Write the footer."""
        if self._writer is not None:
            self._writer.close()


Sink = CsvSink | ParquetSink
"""Takes the rows of a chunk and what was decided for them."""


@contextmanager
def open_sink(path: Path, keep: Sequence[str]) -> Iterator[Sink]:
    """Open a file for decisions; its name says whether it is Parquet or CSV."""
    if is_parquet(path):
        sink = ParquetSink(path, keep)
        try:
            yield sink
        finally:
            sink.close()
        return
    with path.open("w", encoding="utf-8", newline="") as stream:
        yield CsvSink(stream, keep)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values instead of a dictionary; a column without any value is one of numbers."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return column.cast(kind.value_type)
    return column.cast(pa.float64()) if pa.types.is_null(kind) else column


def _values(column: pa.ChunkedArray) -> pd.Series:
    """Values as they are: whole numbers stay whole beside gaps."""
    column = _plain(column)
    if pa.types.is_integer(column.type) and column.null_count:
        return pd.Series(column.to_pylist(), dtype=object)
    values: pd.Series = column.to_pandas()
    return values


def without_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """Put an apostrophe before text that a spreadsheet would take for a formula."""
    columns = {no_formula(name): _without_formulas(column) for name, column in table.items()}
    return pd.DataFrame(columns)


def _without_formulas(column: pd.Series) -> pd.Series:
    column = column.reset_index(drop=True)
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return column
    if pd.api.types.infer_dtype(column, skipna=True) != "string":
        return pd.Series([no_formula(value) for value in column], dtype=object)
    return each_once(column, no_formula)
