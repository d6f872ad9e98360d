"""Tables larger than memory: their rows, some at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from fairtrain._commands.csv_types import CsvTypes, find_types, open_blocks
from fairtrain._commands.formats import ArrowSource, check_lines, open_source
from fairtrain._commands.tables import (
    as_frame,
    check_file,
    check_flat,
    check_names,
    readable,
)
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

__all__ = ["Chunk", "ChunkedTable", "read_chunks"]

_COUNTED = 1 << 16


@dataclass(frozen=True)
class Chunk:
    """Some rows, next to each other in the file.

    Attributes
    ----------
    table : pyarrow.Table
        The rows as the file holds them.
    frame : DataFrame
        The same as :func:`fairtrain._commands.tables.read_table` gives them.
    """

    table: pa.Table
    frame: pd.DataFrame


class ChunkedTable:
    """A table that is read in chunks, each with the types that the whole table has.

    Attributes
    ----------
    names : tuple of str
        All columns of the file.
    n_rows : int
        Rows of the file.
    """

    def __init__(self, path: Path, rows: int, columns: Sequence[str], multiline: bool) -> None:
        self.path, self.rows = path, rows
        self._shown = check_file(path)
        self._csv: CsvTypes | None = None
        with readable(self._shown):
            self._source = open_source(path)
            if self._source is not None:
                self._open_source(self._source, columns)
            else:
                self._csv = find_types(path, columns, self._shown)
                self.names, self.n_rows = self._csv.names, self._csv.n_rows
                self._gaps = self._csv.with_gaps
                if not multiline:
                    check_lines(path, self._csv.form, self.n_rows, self._shown)
        self.columns = tuple(name for name in self.names if name in set(columns))
        if not self.n_rows:
            raise InvalidDataError(f"{self._shown} has a header but no rows.")

    def _open_source(self, source: ArrowSource, columns: Sequence[str]) -> None:
        self.names, self.n_rows = tuple(source.schema.names), source.n_rows
        check_names(self.names, self._shown)
        check_flat(source.schema, self._shown)
        wanted = set(columns)
        whole = [f.name for f in source.schema if f.name in wanted and pa.types.is_integer(f.type)]
        batches = source.batches(_COUNTED, whole) if whole else ()
        self._gaps = frozenset(
            name for batch in batches for name in whole if batch.column(name).null_count
        )

    def __iter__(self) -> Iterator[Chunk]:
        """Read the file from its beginning."""
        with readable(self._shown):
            for table in _in_pieces(self._batches(), self.rows):
                yield Chunk(table, as_frame(self._typed(table), self._shown))

    def _batches(self) -> Iterator[pa.RecordBatch]:
        if self._csv is not None:
            known = self._csv
            with open_blocks(
                self.path, known.form, known.block, known.types, only=self.columns
            ) as reader:
                yield from reader
        elif self._source is not None:
            for batch in self._source.batches(self.rows, self.columns):
                yield batch.select(self.columns)

    def _typed(self, table: pa.Table) -> pa.Table:
        """Whole numbers of a column with gaps are floats, in the chunks without a gap too."""
        for i, column in enumerate(table.schema):
            if column.name in self._gaps and pa.types.is_integer(column.type):
                floats = table.column(i).cast(pa.float64(), safe=False)
                table = table.set_column(i, column.name, floats)
        return table


def read_chunks(
    path: Path, *, rows: int, columns: Sequence[str], multiline: bool = False
) -> ChunkedTable:
    """Open a table to read some columns in chunks.

    Parameters
    ----------
    path : Path
        As for :func:`fairtrain._commands.tables.read_table`.
    rows : int
        Rows of a chunk; the last has what is left.
    columns : sequence of str
        Columns to read; those the file lacks are left out.
    multiline : bool, default=False
        Let fields in quotes hold line breaks.

    Returns
    -------
    ChunkedTable
        Iterate over it for chunks, as often as you like.

    Raises
    ------
    InvalidDataError
        If the file is missing, empty, no table or ragged, or a quote that nobody closed swallows
        lines.

    Notes
    -----
    A CSV file is read twice: once for the types of its columns (and the number of rows), which
    must not depend on where chunks end, and once for its rows.
    """
    if rows < 1:
        raise InvalidParameterError(f"--chunk-rows must be at least 1, got {rows}.")
    return ChunkedTable(path, rows, columns, multiline)


def _in_pieces(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    n = 0
    for batch in batches:
        start = 0
        while start < batch.num_rows:
            part = batch.slice(start, rows - n)
            held.append(part)
            start, n = start + part.num_rows, n + part.num_rows
            if n == rows:
                yield pa.Table.from_batches(held)
                held, n = [], 0
    if held:
        yield pa.Table.from_batches(held)
