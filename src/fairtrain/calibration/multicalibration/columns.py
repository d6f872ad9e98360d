"""What corrections go by: their settings, and columns as whole numbers."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fairtrain.calibration.cells import Codes, Floats, Mask
from fairtrain.data.groups import match_columns
from fairtrain.data.inputs import as_float_column, factorize
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

__all__ = ["ColumnScheme", "Settings", "binned", "is_continuous", "read_columns"]

Columns = dict[str, NDArray[Any]]

_MOST_NUMBERS = 30
_COLUMN_BINS = 32


@dataclass(frozen=True)
class Settings:
    """What is corrected, how far, and when to stop; see ``Multicalibrator``."""

    depth: int | None
    n_bins: int
    z: float
    min_rows: int
    shrinkage: float
    max_iter: int
    patience: int
    num_leaves: int
    rounds: int


@dataclass(frozen=True, eq=False)
class ColumnScheme:
    """How columns become codes: what a model keeps of them, without any row.

    Attributes
    ----------
    names : tuple of str
        Columns.
    levels : tuple of (tuple or None)
        Levels of each categorical column, sorted; None for continuous ones.
    edges : tuple of (ndarray or None)
        Where each continuous column is cut; None for categorical ones.
    absent : tuple of (bool or None)
        Whether missing values were seen, and have a code of their own; None where they raise.
    """

    names: tuple[str, ...]
    levels: tuple[tuple[Hashable, ...] | None, ...]
    edges: tuple[Floats | None, ...]
    absent: tuple[bool | None, ...]

    @property
    def categorical(self) -> tuple[bool, ...]:
        """Which columns are categorical."""
        return tuple(edges is None for edges in self.edges)

    @classmethod
    def of(cls, columns: Columns, continuous: Collection[str], incomplete: Collection[str]) -> Self:
        """Read columns: continuous ones are cut, only incomplete ones may have missing values."""
        levels: list[tuple[Hashable, ...] | None] = []
        edges: list[Floats | None] = []
        absent: list[bool | None] = []
        for name, column in columns.items():
            values, codes = factorize(column)
            absent.append(bool((codes < 0).any()) if name in incomplete else None)
            _check_missing(name, codes, absent[-1])
            if name in continuous:
                numbers = as_float_column(column[codes >= 0], name)
                levels.append(None)
                edges.append(binned(numbers, _COLUMN_BINS)[0])
            else:
                levels.append(tuple(values))
                edges.append(None)
        return cls(tuple(columns), tuple(levels), tuple(edges), tuple(absent))

    def encode(self, columns: Columns) -> tuple[Codes, Mask]:
        """Code rows.

        Returns
        -------
        codes : ndarray of int64, shape (n, k)
        known : ndarray of bool, shape (n,)
            False where a category, or a missing value, was never seen in that column.
        """
        matched = match_columns(columns, self.names)
        codes = np.zeros((len(matched[0]), len(matched)), dtype=np.int64)
        for j, column in enumerate(matched):
            levels, edges = self.levels[j], self.edges[j]
            values, own = factorize(column)
            _check_missing(self.names[j], own, self.absent[j])
            missing = own < 0
            if edges is not None:
                numbers = as_float_column(column[~missing], self.names[j])
                codes[~missing, j] = np.searchsorted(edges, numbers, side="right")
                last = len(edges) + 1
            else:
                known = {level: code for code, level in enumerate(levels or ())}
                lookup = np.array([known.get(v, -1) for v in values] + [-1], dtype=np.int64)
                codes[:, j] = lookup[own]
                last = len(known)
            codes[missing, j] = last if self.absent[j] else -1
        return codes, np.asarray((codes >= 0).all(axis=1))


def _check_missing(name: str, codes: Codes, absent: bool | None) -> None:
    if absent is None and (codes < 0).any():
        raise InvalidDataError(
            f"sensitive column {name!r} has {int((codes < 0).sum())} missing values; drop those "
            "rows or make them a group of their own with missing='group'."
        )


def is_continuous(column: NDArray[Any]) -> bool:
    """Whether a column holds numbers with a fraction, or more than 30 whole ones."""
    levels, _ = factorize(column)
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in levels):
        return False
    fractions = any(isinstance(v, float) for v in levels)
    return len(levels) > (2 if fractions else _MOST_NUMBERS)


def read_columns(
    sensitive: Columns, more: Columns, continuous: Sequence[str] | None, missing: str
) -> ColumnScheme:
    """Settle which columns are numbers, and how all are coded.

    Parameters
    ----------
    sensitive, more : dict of str to ndarray of shape (n,)
        Sensitive columns, and others.
    continuous : sequence of str, optional
        The sensitive ones to take as numbers; by default those that look it.
    missing : {"error", "group"}
        Policy of the sensitive ones; others may have missing values.
    """
    if absent := [name for name in continuous or () if name not in sensitive]:
        raise InvalidParameterError(
            f"continuous={absent[0]!r} is not a sensitive column; there are {list(sensitive)}."
        )
    looked_at = sensitive | more if continuous is None else more
    numbers = {name for name, column in looked_at.items() if is_continuous(column)}
    incomplete = [*more, *(sensitive if missing == "group" else ())]
    return ColumnScheme.of(sensitive | more, numbers | set(continuous or ()), incomplete)


def binned(values: Floats, n_bins: int) -> tuple[Floats, Codes]:
    """Cut values into at most ``n_bins`` bins of about equal mass, none of them empty.

    Edges are rounded to a thousandth of the spread: they need not be the value of a row.

    Returns
    -------
    edges : ndarray of shape (K - 1,)
    bins : ndarray of int64, shape (n,)
    """
    inner = np.linspace(0, 1, n_bins + 1)[1:-1]
    edges = np.quantile(values, inner) if len(values) else np.zeros(0)
    spread = float(np.ptp(edges)) if len(edges) else 0.0
    if spread > 0:
        step = 10.0 ** np.floor(np.log10(spread)) / 1000
        edges = np.round(edges / step) * step
    edges = np.unique(edges)
    used, bins = np.unique(np.searchsorted(edges, values, side="right"), return_inverse=True)
    return edges[used[1:] - 1], bins.reshape(-1).astype(np.int64)
