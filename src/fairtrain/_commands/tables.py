"""Tables in: text, Parquet, Feather and Excel files, read strictly."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv

from fairtrain._commands.formats import TextForm, check_lines, open_source, text_form
from fairtrain._text import listed, one_line
from fairtrain.exceptions import InvalidDataError

__all__ = [
    "LARGEST_BLOCK",
    "MISSING_WORDS",
    "as_frame",
    "check_file",
    "check_flat",
    "check_names",
    "csv_conversion",
    "csv_parsing",
    "each_once",
    "file_hash",
    "not_utf8",
    "read_table",
    "readable",
    "require_columns",
]

MISSING_WORDS = ("", "?", "NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL")
"""What stands for a missing value in a CSV file."""

LARGEST_BLOCK = 2**31 - 1
"""Bytes of CSV that can be parsed at once."""

_LONGEST_NAME = 1000
"""Characters of a column's name: it is said wherever the column is."""


def read_table(path: Path, *, multiline: bool = False) -> pd.DataFrame:
    """Read a table.

    Parameters
    ----------
    path : Path
        ``.parquet`` and ``.pq`` are Parquet, and a folder holds parts of it; ``.feather``,
        ``.arrow`` and ``.xlsx`` are what they say. Everything else is text with a header: CSV, or
        with semicolons, tabs or bars between the fields, in UTF-8 or UTF-16, also compressed
        (``.gz``).
    multiline : bool, default=False
        Let fields in quotes hold line breaks.

    Returns
    -------
    DataFrame
        Numbers as float64 or int64, truth values as bool or object, text as object; None or NaN
        where a value is missing.

    Raises
    ------
    InvalidDataError
        If the file is missing, empty, no table, ragged or in another encoding, or if a quote that
        nobody closed swallows lines.
    """
    name = check_file(path)
    with readable(name):
        source = open_source(path)
        if source is None:
            form = text_form(path)
            table = _read_csv(path, form)
            if not multiline:
                check_lines(path, form, table.num_rows, name)
        else:
            batches = source.batches(2**17, source.schema.names)
            table = pa.Table.from_batches(batches, source.schema)
        check_names(table.column_names, name)
    if not table.num_rows:
        raise InvalidDataError(f"{name} has a header but no rows.")
    check_flat(table.schema, name)
    return as_frame(table, name)


def check_file(path: Path) -> str:
    """Raise unless there is a file with something in it; return its name for messages."""
    name = f"'{one_line(path)}'"
    if not path.exists():
        raise InvalidDataError(f"{name} does not exist.")
    if path.is_dir():
        if not any(path.rglob("*.parquet")):
            raise InvalidDataError(f"{name} is a folder, not a CSV or Parquet file.")
    elif not path.stat().st_size:
        raise InvalidDataError(f"{name} is empty.")
    return name


def check_names(columns: Sequence[str], name: str) -> None:
    """Raise if two columns share a name, or one is too long to be said."""
    if long := [column for column in columns if len(column) > _LONGEST_NAME]:
        raise InvalidDataError(
            f"{name} has a column whose name is longer than {_LONGEST_NAME:,} characters, "
            f"{listed(long)}: is the first line the header?"
        )
    repeated = pd.Index(columns)
    if repeated.has_duplicates:
        twice = listed(repeated[repeated.duplicated()].unique())
        raise InvalidDataError(f"{name} has columns of the same name: {twice}.")


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Say in one line why a file cannot be read."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InvalidDataError(f"{name} cannot be read: {_reason(error)}") from None


def _read_csv(path: Path, form: TextForm) -> pa.Table:
    # One block: types are guessed from the whole column, not from its first megabyte.
    reading, parsing = csv_parsing(form, min(path.stat().st_size + 1, LARGEST_BLOCK))
    return csv.read_csv(
        path,
        read_options=reading,
        parse_options=parsing,
        convert_options=csv_conversion(decimal=form.decimal),
    )


def csv_parsing(form: TextForm, block: int) -> tuple[csv.ReadOptions, csv.ParseOptions]:
    """How bytes become fields, so many bytes at a time."""
    return (
        csv.ReadOptions(block_size=block, encoding=form.encoding),
        csv.ParseOptions(delimiter=form.separator, newlines_in_values=True),
    )


def csv_conversion(
    types: Mapping[str, pa.DataType] | None = None,
    only: Sequence[str] = (),
    *,
    decimal: str = ".",
) -> csv.ConvertOptions:
    """How words of a CSV file become values: types that are known, columns that are wanted."""
    return csv.ConvertOptions(
        column_types=dict(types or {}),
        include_columns=list(only),
        decimal_point=decimal,
        null_values=[*MISSING_WORDS, *(f" {word}" for word in MISSING_WORDS)],
        strings_can_be_null=True,
    )


def not_utf8(name: str, column: str) -> InvalidDataError:
    """Make the error for a column in another encoding."""
    return InvalidDataError(
        f"{name} cannot be read: column '{one_line(column)}' is not UTF-8 text; save it "
        "as UTF-8 (or Parquet)."
    )


def _reason(error: Exception) -> str:
    text = one_line(error)
    if "UTF8" in text or "utf-8" in text.lower():
        return "it is not UTF-8 text; save it as UTF-8 (or Parquet)."
    if "Expected" in text and "columns" in text:
        return (
            "rows differ in their number of columns "
            f"({text.partition('CSV parse error: ')[2] or text})."
        )
    return text if text.endswith(".") else f"{text}."


def check_flat(schema: pa.Schema, name: str) -> None:
    """Raise if a column holds something else than single values."""
    for column in schema:
        if pa.types.is_nested(column.type):
            raise InvalidDataError(
                f"{name}: column '{one_line(column.name)}' holds lists or records, not single "
                "values."
            )


def as_frame(table: pa.Table, name: str) -> pd.DataFrame:
    """Make a frame with one way to be missing; ``name`` is the file's in messages."""
    columns: dict[str, pd.Series] = {}
    for column, values in zip(table.column_names, table.columns, strict=True):
        kind = values.type
        if pa.types.is_dictionary(kind):
            values = values.cast(kind.value_type)  # noqa: PLW2901
        if pa.types.is_decimal(kind) or pa.types.is_null(kind):
            values = values.cast(pa.float64())  # noqa: PLW2901
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            # Columns that are not UTF-8 come as bytes.
            raise not_utf8(name, column)
        columns[column] = _clean(values.to_pandas())
    return pd.DataFrame(columns, index=pd.RangeIndex(table.num_rows))


def _clean(values: pd.Series) -> pd.Series:
    if pd.api.types.is_bool_dtype(values) or pd.api.types.is_numeric_dtype(values):
        return values
    if pd.api.types.is_datetime64_any_dtype(values):
        return values
    objects = values.astype(object)
    if pd.api.types.infer_dtype(objects, skipna=True) == "string":
        return each_once(objects, _word_or_none)
    return pd.Series([None if pd.isna(v) else _word_or_none(v) for v in objects], dtype=object)


def each_once(column: pd.Series, change: Callable[[Any], Any]) -> pd.Series:
    """Change values that repeat, each distinct one once; None where missing."""
    codes, distinct = pd.factorize(column.to_numpy(dtype=object), use_na_sentinel=True)
    changed = np.array([*(change(value) for value in distinct), None], dtype=object)
    return pd.Series(changed[codes], index=column.index, dtype=object)


def _word_or_none(value: Any) -> Any:
    stripped = value.strip() if isinstance(value, str) else value
    return None if stripped in MISSING_WORDS else stripped


def require_columns(
    table: pd.DataFrame | Sequence[str], names: Sequence[str], *, what: str
) -> None:
    """Raise unless the table, or the list of its columns, has these."""
    columns = list(table.columns) if isinstance(table, pd.DataFrame) else list(table)
    absent = [name for name in names if name not in columns]
    if absent:
        near = _similar(absent[0], columns) if len(absent) == 1 else None
        meant = f" did you mean '{one_line(near)}'?" if near else ""
        raise InvalidDataError(
            f"{what} {listed(absent)} not found;{meant} the columns are {listed(columns, most=12)}."
        )


def _similar(name: str, columns: Sequence[str]) -> str | None:
    """The column whose name is the same but for its case, or nearly so."""
    plain = {column.casefold().strip(): column for column in map(str, columns)}
    near = difflib.get_close_matches(name.casefold().strip(), plain, n=1, cutoff=0.75)
    return plain[near[0]] if near else None


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes; of a folder, of its files' digests in the order of their names."""
    if path.is_dir():
        parts = sorted(part for part in path.rglob("*") if part.is_file())
        return hashlib.sha256("".join(map(file_hash, parts)).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
