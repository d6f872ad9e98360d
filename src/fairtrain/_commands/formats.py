"""How a table is written: its format, and for text its encoding, separator and decimal mark."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import pyarrow as pa
from pyarrow import dataset, parquet

from fairtrain._imports import require
from fairtrain._text import listed, one_line
from fairtrain.exceptions import InvalidDataError

__all__ = [
    "ArrowSource",
    "TextForm",
    "check_lines",
    "is_parquet",
    "is_text",
    "open_source",
    "text_form",
]

_SAMPLE = 1 << 16
_BUFFER = 1 << 20
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_FEATHER, _EXCEL = (".feather", ".arrow"), (".xlsx", ".xlsm")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class ArrowSource(Protocol):
    """A table whose columns have types of their own, read in batches."""

    schema: pa.Schema
    n_rows: int

    def batches(self, rows: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Read some columns from the beginning, at most so many rows at a time."""
        ...


def is_parquet(path: Path) -> bool:
    """Whether the name of a file says Parquet."""
    return path.suffix.lower() in (".parquet", ".pq")


def is_text(path: Path) -> bool:
    """Whether the name of a file says none of the other formats."""
    return not (path.is_dir() or is_parquet(path) or path.suffix.lower() in _FEATHER + _EXCEL)


def open_source(path: Path) -> ArrowSource | None:
    """Open a Parquet file, a folder of Parquet parts, a Feather file or a sheet; None for text."""
    if is_text(path):
        return None
    if path.is_dir():
        return _Dataset(path, "parquet")
    if path.suffix.lower() in _FEATHER:
        return _Dataset(path, "feather")
    return _ParquetFile(path) if is_parquet(path) else _Sheet(path)


class _ParquetFile:
    def __init__(self, path: Path) -> None:
        self.path = path
        with parquet.ParquetFile(path) as file:
            self.schema, self.n_rows = file.schema_arrow, file.metadata.num_rows

    def batches(self, rows: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        # Without pre-buffering a row group passes through a small buffer, however large it is.
        with parquet.ParquetFile(self.path, pre_buffer=False, buffer_size=_BUFFER) as file:
            yield from file.iter_batches(rows, columns=list(columns))


class _Dataset:
    """Parts in the order of their names; folders such as ``year=2024`` are a column."""

    def __init__(self, path: Path, kind: str) -> None:
        self.data = dataset.dataset(path, format=kind, partitioning="hive")
        self._check_parts(path)
        self.schema, self.n_rows = self.data.schema, self.data.count_rows()

    def _check_parts(self, path: Path) -> None:
        """Raise unless there is a part, and all have the same columns."""
        parts = list(self.data.get_fragments())
        if not parts:
            raise InvalidDataError(f"'{path}' is a folder without a Parquet file.")
        first = set(parts[0].physical_schema.names)
        for part in parts:
            if other := first ^ set(part.physical_schema.names):
                raise InvalidDataError(
                    f"'{path}': '{Path(part.path).name}' and '{Path(parts[0].path).name}' do not "
                    f"have the same columns: {listed(sorted(other))}."
                )

    def batches(self, rows: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        yield from self.data.to_batches(
            columns=list(columns), batch_size=rows, batch_readahead=1, fragment_readahead=1
        )


def _sheets(path: Path) -> dict[str, pd.DataFrame]:
    try:
        return pd.read_excel(path, sheet_name=None, engine="openpyxl")
    except Exception as error:  # noqa: BLE001 - of zip, XML and openpyxl, errors of all kinds
        raise InvalidDataError(f"'{one_line(path)}' is no workbook: {one_line(error)}.") from None


class _Sheet:
    """The one sheet of a workbook that has rows, in memory: a sheet has a million rows at most."""

    def __init__(self, path: Path) -> None:
        require("openpyxl", extra="excel")
        sheets = _sheets(path)
        filled = {name: sheet for name, sheet in sheets.items() if len(sheet.columns)}
        if len(filled) != 1:
            raise InvalidDataError(
                f"'{path}' has {len(filled)} sheets with rows, expected 1: {listed(filled)}; save "
                "the one that is meant as a workbook or CSV file of its own."
            )
        (sheet,) = filled.values()
        self.table = pa.table({str(name): _one_kind(sheet[name]) for name in sheet})
        self.schema, self.n_rows = self.table.schema, self.table.num_rows

    def batches(self, rows: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        yield from self.table.select(list(columns)).to_batches(rows)


def _one_kind(column: pd.Series) -> pa.Array:
    """A column of cells as Arrow's; words beside numbers make words of all."""
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if kind.startswith("mixed"):
        column = column.map(str, na_action="ignore")
    return pa.array(column, from_pandas=True)


@dataclass(frozen=True)
class TextForm:
    """How a text file writes its rows.

    Attributes
    ----------
    separator : str
        Between fields.
    decimal : str
        Before the decimals of a number.
    encoding : str
        ``"utf8"`` or ``"utf-16"``.
    """

    separator: str = ","
    decimal: str = "."
    encoding: str = "utf8"

    def __str__(self) -> str:
        """Whatever is not plain CSV, in words; empty where it is."""
        said = [f"separated by {_SEPARATORS[self.separator]}"] if self.separator != "," else []
        said += ["decimal commas"] if self.decimal == "," else []
        return ", ".join(said + (["UTF-16"] if self.encoding != "utf8" else []))


def text_form(path: Path) -> TextForm:
    """Find how a text file is written, from its first 64 KiB.

    The separator is the one that every record has equally often, the most frequent of several; a
    number is written with a decimal comma if some field is such a number and none has a point.
    """
    with _open(path) as file:
        start = file.read(_SAMPLE)
    encoding = "utf-16" if start[:2] in _UTF16 else "utf8"
    text = _QUOTED.sub("", start.decode(encoding, errors="replace").lstrip("\ufeff"))
    records = [line for line in text.splitlines() if line.strip()]
    if len(start) == _SAMPLE and len(records) > 1:
        records = records[:-1]  # the last is cut off
    separator = _separator(records)
    fields = [field.strip() for line in records[1:] for field in line.split(separator)]
    commas = separator != "," and any(re.fullmatch(r"-?\d+,\d+", field) for field in fields)
    points = any(re.fullmatch(r"-?\d+\.\d+", field) for field in fields)
    return TextForm(separator, "," if commas and not points else ".", encoding)


def _separator(records: Sequence[str]) -> str:
    counts = {sign: [line.count(sign) for line in records] for sign in _SEPARATORS}
    heads = {sign: count[0] for sign, count in counts.items() if count and count[0]}
    even = {sign: n for sign, n in heads.items() if set(counts[sign]) == {n}}
    likely = even or heads
    return max(likely, key=lambda sign: likely[sign]) if likely else ","


def check_lines(path: Path, form: TextForm, n_rows: int, shown: str) -> None:
    """Raise if fields hold line breaks, as they do after a quote that nobody closed.

    Such a quote makes one field of all the lines up to the next quote: their rows are lost, and
    nothing else tells.

    Parameters
    ----------
    path : Path
        The file.
    form : TextForm
        How it is written.
    n_rows : int
        Rows that were read from it.
    shown : str
        Its name in messages.

    Raises
    ------
    InvalidDataError
        If the file has more lines than rows, or a NUL character.
    """
    lines, opening = 0, 0
    for number, line in enumerate(_lines(path, form), 1):
        if b"\0" in line:
            raise InvalidDataError(
                f"{shown}: line {number:,} holds a NUL character: the file is damaged or in "
                "another encoding; save it as UTF-8."
            )
        lines += bool(line.strip())
        if not opening and line.count(b'"') % 2:
            opening = number
    if n_rows < lines - 1:
        raise InvalidDataError(
            f"{shown}: line {opening:,} opens a quote that it does not close, so that "
            f"{lines - 1:,} lines make only {n_rows:,} rows; close it, or add --multiline if "
            "fields of this file do hold line breaks."
        )


def _lines(path: Path, form: TextForm) -> Iterator[bytes]:
    with _open(path) as file:
        if form.encoding == "utf8":
            yield from file
        else:
            text = io.TextIOWrapper(file, encoding=form.encoding, newline="\n")
            yield from (line.encode() for line in text)


def _open(path: Path) -> Any:
    """The bytes of a file, also where its name says that they are compressed."""
    return io.BufferedReader(pa.input_stream(str(path), compression="detect"))
