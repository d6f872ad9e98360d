"""A table of people with its outcome and its groups, as every command reads and divides it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairtrain._commands.columns import SensitiveColumns, check_groups, parse_bins, read_label
from fairtrain._commands.formats import is_text, text_form
from fairtrain._commands.options import People
from fairtrain._commands.output import note
from fairtrain._commands.tables import file_hash, read_table, require_columns
from fairtrain._text import flatten, one_line
from fairtrain.data import inputs
from fairtrain.data.groups import Groups
from fairtrain.data.rows import Rows
from fairtrain.data.splits import RowSplit
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

__all__ = ["Data", "data_of", "read_data", "sensitive_of", "split_seed"]

_IDENTIFIERS = {"id", "ids", "uuid", "key", "number", "no", "nr", "code", "judge", "branch"}
_MANY = 20  # values that a column which tells rows apart has at least

_DOING = {"training": "train", "steering": "steer", "certification": "certify"}


@dataclass(frozen=True, eq=False)
class Data:
    """A table that was read.

    Attributes
    ----------
    rows : Rows
        All columns of the table as ``X``, outcome, groups, and what its labels mean.
    sensitive : SensitiveColumns
        How the groups are read.
    outcome : str
        The favourable outcome in words.
    name : str
        Where the rows came from.
    digest : str
        SHA-256 of the file.
    """

    rows: Rows
    sensitive: SensitiveColumns
    outcome: str
    name: str
    digest: str

    @property
    def favourable(self) -> Any:
        """The favourable label, a plain value: it goes into models and their reports."""
        assert self.rows.labels is not None
        return self.rows.labels.labels.tolist()[1]

    def divided(
        self,
        *,
        validation: float | None = None,
        certification: float,
        seed: int,
        training_does: str = "train",
    ) -> Data:
        """Split by group and label, as every method does under the same seed and shares.

        Parameters
        ----------
        validation, certification : float
            Shares of the rows that steer (if any do) and that certify.
        seed : int
            Same seed, same rows.
        training_does : str, default="train"
            What the other rows do, in messages.

        Raises
        ------
        InvalidDataError, InvalidParameterError
            If a share is out of range, or a part would have one label only.
        """
        for name, share in (("validation", validation), ("certification", certification)):
            if share is not None and not 0 < share < 1:
                raise InvalidParameterError(f"--{name} must lie between 0 and 1, got {share:g}.")
        if (validation or 0.0) + certification >= 1:
            raise InvalidParameterError(
                f"--validation {validation:g} and --certification {certification:g} "
                "leave no row to train on; their sum must stay below 1."
            )
        _check_seed(seed)
        divided = self.rows.divided(
            validation_fraction=validation,
            certification_fraction=certification,
            random_state=np.random.RandomState(split_seed(seed)),
        )
        for role in divided.roles:
            at = getattr(divided.split, role)
            if len(np.unique(divided.outcomes[at])) < 2:
                does = {**_DOING, "training": training_does}[role]
                raise InvalidDataError(
                    f"the {len(at)} rows that {does} have one label only; more rows are needed."
                )
        return replace(self, rows=divided)

    def undivided(self, *, seed: int) -> Data:
        """Let every row train, steer and certify."""
        _check_seed(seed)
        everybody = np.arange(len(self.rows))
        return replace(
            self, rows=replace(self.rows, split=RowSplit(everybody, everybody, everybody))
        )


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise InvalidParameterError(f"--seed must lie in 0 .. 4294967295, got {seed}.")


def sensitive_of(people: People) -> SensitiveColumns:
    """How the sensitive columns shall be read."""
    strata = _strata(people)
    bins = tuple(pair for pair in parse_bins(people.bin) if pair[0] not in strata)
    return SensitiveColumns(flatten(people.sensitive), bins, people.missing)


def _strata(people: People) -> tuple[str, ...]:
    """Columns of strata that are no sensitive columns."""
    named = flatten(people.sensitive)
    return tuple(name for name in flatten(people.given) if name not in named)


def read_data(path: Path, people: People) -> Data:
    """Read a file.

    Raises
    ------
    InvalidDataError, InvalidParameterError
        If the file, its outcome or its groups cannot be used.
    """
    frame = read_table(path, multiline=people.multiline)
    form = str(text_form(path)) if is_text(path) else ""
    name = f"{path.name} ({form})" if form else path.name
    return data_of(frame, people, name=name, digest=file_hash(path))


def data_of(frame: pd.DataFrame, people: People, *, name: str, digest: str) -> Data:
    """Read outcome and groups of a table."""
    sensitive = sensitive_of(people)
    if people.label in sensitive.columns:
        raise InvalidParameterError(
            f"--sensitive '{one_line(people.label)}' is the label: groups made by the outcome "
            "differ in it entirely; name another column."
        )
    clusters = _clusters(frame, people, sensitive.columns)
    given = flatten(people.given)
    if people.label in given:
        raise InvalidParameterError(f"--given '{one_line(people.label)}' is the label.")
    if set(sensitive.columns) <= set(given):
        raise InvalidParameterError(
            "--given names every sensitive column, so there are no groups to compare; name one "
            "more with --sensitive."
        )
    target, labels = read_label(frame, people.label, people.positive)
    require_columns(frame, _strata(people), what="--given column")
    columns = replace(
        sensitive, columns=sensitive.columns + _strata(people), bins=parse_bins(people.bin)
    )
    groups = Groups.from_sensitive(
        columns.read(frame), missing=sensitive.missing, given=tuple((name, ()) for name in given)
    )
    check_groups(groups.over(groups.scheme.people))
    return Data(
        rows=Rows(frame, target, groups, labels=labels, clusters=clusters),
        sensitive=sensitive,
        outcome=people.positive_name or f"{people.label} = {labels.favourable}",
        name=f"{name}: {len(frame):,} rows read, all used",
        digest=digest,
    )


def _clusters(
    frame: pd.DataFrame, people: People, sensitive: Sequence[str]
) -> NDArray[np.int64] | None:
    """Clusters of the rows; where nobody named any, ask about a column that looks like it."""
    name = people.cluster
    if name is None:
        for column in _repeating(frame, {people.label, *sensitive}):
            note(
                f"'{one_line(column)}' has {frame[column].nunique():,} values in "
                f"{frame[column].count():,} rows: if rows of one value belong together, say "
                f"--cluster {one_line(column)}."
            )
        return None
    if name == people.label or name in sensitive:
        raise InvalidParameterError(
            f"--cluster '{one_line(name)}' is the label or a sensitive column; name the column "
            "that tells customers, branches or judges apart."
        )
    require_columns(frame, (name,), what="cluster column")
    if frame[name].isna().any():
        raise InvalidDataError(
            f"the cluster column '{one_line(name)}' has gaps; give a row that stands alone a value "
            "of its own."
        )
    return inputs.as_clusters(frame[name], len(frame))


def _repeating(frame: pd.DataFrame, known: set[str]) -> list[str]:
    """The first column named like an identifier, of many values that come again."""
    for name in frame.columns:
        words = re.split(r"[^a-z0-9]+|(?<=[a-z])(?=[A-Z])", str(name), flags=re.ASCII)
        if name in known or not _IDENTIFIERS & {word.lower() for word in words}:
            continue
        values = frame[name].nunique()
        if _MANY <= values <= 0.95 * frame[name].count():  # rows without one are no cluster
            return [str(name)]
    return []


def split_seed(seed: int) -> int:
    """Seed of the split that every method makes of the same rows under ``--seed``.

    It is the number that the trainers of networks draw first from their ``random_state``.
    """
    return int(np.random.RandomState(seed).randint(0, 2**31 - 1))
