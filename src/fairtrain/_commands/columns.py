"""The columns that say what was decided and about whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairtrain._commands.tables import each_once, require_columns
from fairtrain._text import listed, one_line
from fairtrain.data.groups import Groups
from fairtrain.data.labels import LabelCoding
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

__all__ = ["SensitiveColumns", "as_words", "check_groups", "parse_bins", "read_label"]

Bins = tuple[tuple[str, tuple[float, ...]], ...]

MOST_LEVELS = 20
"""A numeric sensitive column with more distinct values counts as continuous."""


def read_label(
    frame: pd.DataFrame, name: str, positive: str | None
) -> tuple[NDArray[np.float64], LabelCoding]:
    """Read the label column and find the favourable outcome in it.

    Parameters
    ----------
    frame : DataFrame
        The table.
    name : str
        The label column.
    positive : str or None
        The favourable value as it was typed; may be left out for 0/1, -1/1 and truth values.

    Returns
    -------
    target : ndarray of shape (n,)
        1 where the label is the favourable one.
    labels : LabelCoding
        Which is which.

    Raises
    ------
    InvalidDataError, InvalidParameterError
        If there are missing values, not two values, or ``positive`` is none of them.
    """
    require_columns(frame, (name,), what="label column")
    shown = f"label '{one_line(name)}'"
    column = frame[name]
    if column.isna().any():
        raise InvalidDataError(
            f"{shown} is missing in {int(column.isna().sum())} rows; drop those rows."
        )
    values = _integers_if_whole(column).to_numpy()
    labels = sorted(pd.unique(values).tolist(), key=lambda v: (str(type(v)), v))
    if len(labels) == 1:
        raise InvalidDataError(f"{shown} has one value only, {listed(labels)}; expected two.")
    if len(labels) != 2:
        raise InvalidDataError(
            f"{shown} is not binary: it has {len(labels)} values, {listed(labels)}; expected two. "
            "Numbers and several classes are for LagrangianFairnessTrainer in Python."
        )
    chosen = _find(labels, positive, shown)
    other = labels[1] if chosen == labels[0] else labels[0]
    coding = LabelCoding(np.array([other, chosen], dtype=values.dtype), named=True)
    return (values == chosen).astype(np.float64), coding


def _integers_if_whole(column: pd.Series) -> pd.Series:
    if pd.api.types.is_float_dtype(column):
        numbers = column.to_numpy()
        if np.isfinite(numbers).all() and (numbers == np.round(numbers)).all():
            return column.astype(np.int64)
    return column


def _find(labels: list[Any], positive: str | None, shown: str) -> Any:
    if positive is None:
        if set(labels) in ({0, 1}, {-1, 1}):
            return labels[1]
        raise InvalidParameterError(
            f"--positive is missing: which of {listed(labels)} is the favourable outcome?"
        )
    for label in labels:
        same_word = isinstance(label, bool) and str(label).lower() == positive.lower()
        if str(label) == positive or same_word or _same_number(label, positive):
            return label
    raise InvalidParameterError(
        f"--positive '{one_line(positive)}' is not a value of {shown}, which has {listed(labels)}."
    )


def _same_number(label: Any, word: str) -> bool:
    try:
        return not isinstance(label, str) and float(label) == float(word)
    except (TypeError, ValueError):
        return False


def parse_bins(items: Sequence[str]) -> Bins:
    """Read ``"age=25,45,65"``.

    Examples
    --------
    >>> parse_bins(["age=25,45,65"])
    (('age', (25.0, 45.0, 65.0)),)
    """
    bins = []
    for item in items:
        name, _, edges = item.rpartition("=")
        try:
            numbers = tuple(float(edge) for edge in edges.split(","))
        except ValueError:
            numbers = ()
        rising = all(a < b for a, b in pairwise(numbers))
        if not name or not numbers or not rising or not np.isfinite(numbers).all():
            raise InvalidParameterError(
                f"--bin '{one_line(item)}' cannot be read; write a column and rising edges, such "
                "as --bin age=25,45,65."
            )
        bins.append((name.strip(), numbers))
    return tuple(bins)


@dataclass(frozen=True)
class SensitiveColumns:
    """How to read the sensitive columns, the same at training and later.

    Attributes
    ----------
    columns : tuple of str
        Names.
    bins : tuple of (str, tuple of float)
        Edges that cut a continuous column into groups: below the first, between two, from the
        last on.
    missing : {"error", "group"}
        Missing values raise, or stay missing (and form a group of their own).
    """

    columns: tuple[str, ...]
    bins: Bins = ()
    missing: Literal["error", "group"] = "error"

    def read(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Read the columns as words, None where missing.

        Raises
        ------
        InvalidDataError
            If a column is absent, continuous, or has missing values that are an error.
        """
        require_columns(frame, self.columns, what="sensitive column")
        edges = dict(self.bins)
        strangers = [name for name in edges if name not in self.columns]
        if strangers:
            raise InvalidParameterError(
                f"--bin names {listed(strangers)}, not among the sensitive columns "
                f"{listed(self.columns)}."
            )
        return pd.DataFrame(
            {name: self._read_column(frame[name], name, edges.get(name)) for name in self.columns}
        )

    def _read_column(
        self, column: pd.Series, name: str, edges: tuple[float, ...] | None
    ) -> pd.Series:
        shown = f"sensitive column '{one_line(name)}'"
        absent = int(column.isna().sum())
        if absent and self.missing == "error":
            raise InvalidDataError(
                f"{shown} is missing in {absent} rows; drop them, or make them a group of their "
                "own with --missing group."
            )
        numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
        if edges is not None:
            if not numeric:
                raise InvalidDataError(f"{shown} holds text; --bin cuts numbers.")
            return _cut(column, edges)
        if numeric and column.nunique() > MOST_LEVELS:
            raise InvalidDataError(
                f"{shown} is continuous ({column.nunique()} different numbers); cut it into "
                f"groups, such as --bin {one_line(name)}={_edges(column)}."
            )
        return as_words(column)


def _edges(column: pd.Series) -> str:
    if "age" in str(column.name).lower():
        return "25,45,65"
    quartiles = np.unique(column.quantile([0.25, 0.5, 0.75]).to_numpy())
    return ",".join(f"{edge:.4g}" for edge in quartiles)


def _cut(column: pd.Series, edges: tuple[float, ...]) -> pd.Series:
    middle = [f"{a:g} to {b:g}" for a, b in pairwise(edges)]
    names = np.array([f"under {edges[0]:g}", *middle, f"{edges[-1]:g} and over"], dtype=object)
    absent = column.isna().to_numpy()
    place = np.searchsorted(np.array(edges), column.to_numpy(dtype=np.float64), side="right")
    words = names[np.minimum(place, len(edges))]
    words[absent] = None
    return pd.Series(words, index=column.index, dtype=object)


def as_words(column: pd.Series) -> pd.Series:
    """Write every value as text (1 and 1.0 alike), None where missing."""
    values = column.astype(object)
    if column.dtype != object or pd.api.types.infer_dtype(values, skipna=True) == "string":
        # Values of one type are looked at once each; among several, 1 and True would be one.
        return each_once(values, _word)
    words = [None if pd.isna(v) else _word(v) for v in values]
    return pd.Series(words, index=column.index, dtype=object)


def _word(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def check_groups(groups: Groups) -> None:
    """Raise where groups cannot be compared: there is one only, or one has a single row.

    Raises
    ------
    InvalidDataError
    """
    names = " and ".join(f"'{one_line(name)}'" for name in groups.columns)
    if len(groups) < 2:
        raise InvalidDataError(f"{names}: there is one group only, {listed(groups.names)}.")
    single = [n for n, c in zip(groups.names, groups.counts, strict=True) if c == 1]
    if single:
        raise InvalidDataError(
            f"{names}: {'a group has' if len(single) == 1 else f'{len(single)} groups have'} one "
            f"row only ({listed(single)}); merge or drop it, or name fewer columns."
        )
