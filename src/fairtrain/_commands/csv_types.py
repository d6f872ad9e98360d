"""Types of CSV columns, found without holding the file: what a column holds decides, all of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import csv

from fairtrain._commands.formats import TextForm, text_form
from fairtrain._commands.tables import (
    LARGEST_BLOCK,
    check_names,
    csv_conversion,
    csv_parsing,
    not_utf8,
)

__all__ = ["CsvTypes", "find_types", "open_blocks"]

_BLOCK = 1 << 21  # bytes parsed at once; also the longest row, until one turns out longer
_CONVERSION = re.compile(r"In CSV column #(\d+): (?:Row #\d+: )?CSV conversion error")

# From narrow to wide, in the order in which pyarrow tries them on a whole column.
_ORDER: tuple[pa.DataType, ...] = (
    pa.null(),
    pa.int64(),
    pa.bool_(),
    pa.date32(),
    pa.time32("s"),
    pa.timestamp("s"),
    pa.timestamp("s", tz="UTC"),
    pa.timestamp("ns"),
    pa.timestamp("ns", tz="UTC"),
    pa.float64(),
    pa.string(),
)


@dataclass(frozen=True)
class CsvTypes:
    """What one pass over a CSV file found.

    Attributes
    ----------
    names : tuple of str
        All columns, in order.
    types : dict of str to DataType
        Types of the wanted columns, as if each had been read whole.
    with_gaps : frozenset of str
        Wanted columns that have missing values somewhere.
    n_rows : int
        Rows of the file.
    block : int
        Bytes that hold the longest row.
    form : TextForm
        How the file is written.
    """

    names: tuple[str, ...]
    types: dict[str, pa.DataType]
    with_gaps: frozenset[str]
    n_rows: int
    block: int
    form: TextForm


def find_types(path: Path, wanted: Sequence[str], shown: str) -> CsvTypes:
    """Read a CSV file once, block by block, and find what its columns hold.

    The first block proposes types; a later value that does not fit widens its column's type, and
    reading starts again, so that a million whole numbers before a word make a column of text.

    Parameters
    ----------
    path : Path
        The file.
    wanted : sequence of str
        Columns whose types matter; of the others only the encoding is checked.
    shown : str
        The file's name in messages.

    Raises
    ------
    InvalidDataError
        If columns share a name or are not UTF-8.
    pyarrow.ArrowInvalid
        If the file is no table: ragged, without a header.
    """
    block = min(path.stat().st_size + 1, _BLOCK)
    form = text_form(path)
    while True:
        try:
            return _find(path, form, set(wanted), shown, block)
        except pa.ArrowInvalid as error:
            if "straddling object" not in str(error) or block >= LARGEST_BLOCK:
                raise
            block = min(4 * block, LARGEST_BLOCK)


def _find(path: Path, form: TextForm, wanted: set[str], shown: str, block: int) -> CsvTypes:
    proposed = open_blocks(path, form, block).schema
    names = tuple(proposed.names)
    check_names(names, shown)
    types = {f.name: f.type if f.name in wanted else pa.string() for f in proposed}
    for column in proposed:
        if column.type not in _ORDER:
            raise not_utf8(shown, column.name)
    while True:
        try:
            n_rows, gaps = _count(path, form, types, wanted, block)
        except pa.ArrowInvalid as error:
            match = _CONVERSION.search(str(error))
            if match is None:
                raise
            name = names[int(match[1])]
            types[name] = _wider(path, form, name, types[name], block, shown)
            continue
        wanted_types = {name: types[name] for name in names if name in wanted}
        return CsvTypes(names, wanted_types, gaps, n_rows, block, form)


def _count(
    path: Path, form: TextForm, types: dict[str, pa.DataType], wanted: set[str], block: int
) -> tuple[int, frozenset[str]]:
    n_rows, gaps = 0, set[str]()
    for batch in open_blocks(path, form, block, types):
        n_rows += batch.num_rows
        gaps |= {name for name in wanted & set(types) - gaps if batch.column(name).null_count}
    return n_rows, frozenset(gaps)


def _wider(
    path: Path, form: TextForm, name: str, now: pa.DataType, block: int, shown: str
) -> pa.DataType:
    """The next type that at least the first block fits."""
    for wider in _ORDER[_ORDER.index(now) + 1 :]:
        try:
            open_blocks(path, form, block, {name: wider}, only=(name,))
        except pa.ArrowInvalid:
            continue
        return wider
    raise not_utf8(shown, name)


def open_blocks(
    path: Path,
    form: TextForm,
    block: int,
    types: dict[str, pa.DataType] | None = None,
    only: Sequence[str] = (),
) -> csv.CSVStreamingReader:
    """Open a CSV file for reading block by block."""
    reading, parsing = csv_parsing(form, block)
    return csv.open_csv(
        path,
        read_options=reading,
        parse_options=parsing,
        convert_options=csv_conversion(types, only, decimal=form.decimal),
    )
