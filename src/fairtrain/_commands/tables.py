"""Tables in: CSV and Parquet files, read strictly."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv, parquet

from fairtrain._text import listed, one_line
from fairtrain.exceptions import InvalidDataError

__all__ = ["MISSING_WORDS", "file_hash", "read_table", "require_columns"]

MISSING_WORDS = ("", "?", "NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL")
"""What stands for a missing value in a CSV file."""

_PARQUET = (".parquet", ".pq")
_LARGEST_BLOCK = 2**31 - 1


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV or Parquet file.

    Parameters
    ----------
    path : Path
        ``.parquet`` and ``.pq`` are Parquet, everything else is CSV in UTF-8 with a header.

    Returns
    -------
    DataFrame
        Numbers as float64 or int64, truth values as bool or object, text as object; None or NaN
        where a value is missing.

    Raises
    ------
    InvalidDataError
        If the file is missing, empty, no table, ragged or not UTF-8.
    """
    name = f"'{one_line(path)}'"
    if not path.exists():
        raise InvalidDataError(f"{name} does not exist.")
    if path.is_dir():
        raise InvalidDataError(f"{name} is a folder, not a CSV or Parquet file.")
    if not path.stat().st_size:
        raise InvalidDataError(f"{name} is empty.")
    is_parquet = path.suffix.lower() in _PARQUET
    try:
        table = parquet.read_table(path) if is_parquet else _read_csv(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InvalidDataError(f"{name} cannot be read: {_reason(error)}") from None
    repeated = pd.Index(table.column_names)
    if repeated.has_duplicates:
        twice = listed(repeated[repeated.duplicated()].unique())
        raise InvalidDataError(f"{name} has columns of the same name: {twice}.")
    if not table.num_rows:
        raise InvalidDataError(f"{name} has a header but no rows.")
    return _as_frame(table, name)


def _read_csv(path: Path) -> pa.Table:
    return csv.read_csv(
        path,
        # One block: types are guessed from the whole column, not from its first megabyte.
        read_options=csv.ReadOptions(block_size=min(path.stat().st_size + 1, _LARGEST_BLOCK)),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            null_values=[*MISSING_WORDS, *(f" {word}" for word in MISSING_WORDS)],
            strings_can_be_null=True,
        ),
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


def _as_frame(table: pa.Table, name: str) -> pd.DataFrame:
    columns: dict[str, pd.Series] = {}
    for column, values in zip(table.column_names, table.columns, strict=True):
        kind = values.type
        if pa.types.is_nested(kind):
            raise InvalidDataError(
                f"{name}: column '{one_line(column)}' holds lists or records, not single values."
            )
        if pa.types.is_dictionary(kind):
            values = values.cast(kind.value_type)  # noqa: PLW2901
        if pa.types.is_decimal(kind) or pa.types.is_null(kind):
            values = values.cast(pa.float64())  # noqa: PLW2901
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            # Columns that are not UTF-8 come as bytes.
            raise InvalidDataError(
                f"{name} cannot be read: column '{one_line(column)}' is not UTF-8 text; save it "
                "as UTF-8 (or Parquet)."
            )
        columns[column] = _clean(values.to_pandas())
    return pd.DataFrame(columns)


def _clean(values: pd.Series) -> pd.Series:
    if pd.api.types.is_bool_dtype(values) or pd.api.types.is_numeric_dtype(values):
        return values
    if pd.api.types.is_datetime64_any_dtype(values):
        return values
    stripped = [v.strip() if isinstance(v, str) else v for v in values.astype(object)]
    absent = [pd.isna(v) or v in MISSING_WORDS for v in stripped]
    objects = np.array([None if a else v for v, a in zip(stripped, absent, strict=True)], object)
    return pd.Series(objects, dtype=object)


def require_columns(frame: pd.DataFrame, names: tuple[str, ...], *, what: str) -> None:
    """Raise unless the table has these columns."""
    absent = [name for name in names if name not in frame.columns]
    if absent:
        raise InvalidDataError(
            f"{what} {listed(absent)} not found; the columns are {listed(frame.columns, most=12)}."
        )


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
