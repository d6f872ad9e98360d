"""A table with its outcome and its groups, as every command that trains reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fairtrain._commands.asked import Features, People
from fairtrain._commands.columns import (
    Label,
    SensitiveColumns,
    check_groups,
    parse_bins,
    read_label,
)
from fairtrain._commands.features import numeric_columns
from fairtrain._commands.tables import file_hash, read_table, require_columns
from fairtrain._text import flatten
from fairtrain.data.groups import Groups
from fairtrain.exceptions import InvalidDataError

__all__ = ["Data", "choose_features", "data_of", "read_data", "sensitive_of"]


@dataclass(frozen=True, eq=False)
class Data:
    """A table that was read.

    Attributes
    ----------
    frame : DataFrame
        All columns.
    label : Label
        The outcome.
    sensitive : SensitiveColumns
        How the groups are read.
    who : DataFrame
        The sensitive columns as words.
    groups : Groups
        The groups that they make.
    outcome : str
        The favourable outcome in words.
    name : str
        Where the rows came from.
    digest : str
        SHA-256 of the file.
    """

    frame: pd.DataFrame
    label: Label
    sensitive: SensitiveColumns
    who: pd.DataFrame
    groups: Groups
    outcome: str
    name: str
    digest: str


def sensitive_of(people: People) -> SensitiveColumns:
    """How the sensitive columns shall be read."""
    return SensitiveColumns(flatten(people.sensitive), parse_bins(people.bin), people.missing)


def read_data(path: Path, people: People) -> Data:
    """Read a file.

    Raises
    ------
    InvalidDataError, InvalidParameterError
        If the file, its outcome or its groups cannot be used.
    """
    return data_of(read_table(path), people, name=path.name, digest=file_hash(path))


def data_of(frame: pd.DataFrame, people: People, *, name: str, digest: str) -> Data:
    """Read outcome and groups of a table."""
    sensitive = sensitive_of(people)
    label = read_label(frame, people.label, people.positive)
    who = sensitive.read(frame)
    groups = Groups.from_sensitive(who, missing=sensitive.missing)
    check_groups(groups)
    return Data(
        frame=frame,
        label=label,
        sensitive=sensitive,
        who=who,
        groups=groups,
        outcome=people.positive_name or f"{people.label} = {label.positive}",
        name=f"{name}: {len(frame):,} rows",
        digest=digest,
    )


def choose_features(
    data: Data, asked: Features, *, without: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Numeric and categorical columns among those that nobody took out.

    Raises
    ------
    InvalidDataError
        If a named column is absent, or none is left.
    """
    known = tuple(data.frame.columns)
    dropped = flatten(asked.drop, known)
    codes = flatten(asked.categorical, known)
    require_columns(data.frame, (*dropped, *codes), what="column")
    out = {*without, *data.sensitive.columns, *dropped}
    names = [name for name in known if name not in out]
    numbers = numeric_columns(data.frame, [name for name in names if name not in codes])
    if not names and not asked.use_sensitive:
        raise InvalidDataError("no feature column is left.")
    return numbers, tuple(name for name in names if name not in set(numbers))
