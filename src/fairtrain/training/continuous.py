"""Continuous sensitive columns: read, standardised, and cut into groups for reports."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import pairwise, product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairtrain.calibration.multicalibration.columns import binned
from fairtrain.constraints import Constraint
from fairtrain.data.groups import Groups, GroupScheme, match_columns
from fairtrain.data.inputs import Columns, as_vector, factorize, sensitive_columns
from fairtrain.data.partition import group_names
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.losses.distributed import gather_rows

__all__ = [
    "BinnedGroups",
    "ContinuousColumns",
    "column_by_column",
    "continuous_names",
    "learn_columns",
    "numbers_of",
    "read_columns",
]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

_SAMPLE = 100_000
"""Values of a loader that cut points are taken from, on each process."""


@dataclass(frozen=True, eq=False)
class ContinuousColumns:
    """What a model keeps of continuous sensitive columns: no row, only how they are scaled and cut.

    Attributes
    ----------
    names : tuple of str
        The k columns.
    edges : tuple of ndarray
        Where each is cut for reports: bin b holds ``edges[b - 1] <= value < edges[b]``.
    order : tuple of str
        All sensitive columns as they were given, for rows without names.
    mean, scale : ndarray of shape (k,)
        Of the training rows.
    """

    names: tuple[str, ...]
    edges: tuple[Floats, ...]
    order: tuple[str, ...]
    mean: Floats
    scale: Floats

    @classmethod
    def of(cls, columns: Columns, order: Sequence[str], bins: int) -> ContinuousColumns:
        """Cut columns into at most ``bins`` groups of about equal size; not yet scaled."""
        for name, values in columns.items():
            _check_spread(name, float(values.mean()), float(np.ptp(values)))
        edges = tuple(_edges(values, bins) for values in columns.values())
        k = len(columns)
        return cls(tuple(columns), edges, tuple(order), np.zeros(k), np.ones(k))

    def scaled_by(self, values: Tensor, weight: Tensor | None) -> ContinuousColumns:
        """The same, standardised by these rows of shape (n, k).

        Raises
        ------
        InvalidDataError
            If a column is the same in all rows.
        """
        return self._scaled(_moments(values, weight))

    def _scaled(self, moments: Tensor) -> ContinuousColumns:
        total, mean, squares = moments.numpy()
        scale = np.sqrt(squares / np.maximum(total, 1e-300))
        for name, middle, width in zip(self.names, mean, scale, strict=True):
            _check_spread(name, float(middle), float(width))
        return replace(self, mean=mean, scale=scale)

    def standardized(self, values: Tensor) -> Tensor:
        """Values with mean 0 and deviation 1 on the training rows, shape (n, k)."""
        mean, scale = (torch.from_numpy(part).to(values.device) for part in (self.mean, self.scale))
        return (values.double() - mean) / scale

    @property
    def sizes(self) -> tuple[int, ...]:
        """Bins of each column."""
        return tuple(len(edges) + 1 for edges in self.edges)

    def levels(self, j: int) -> tuple[str, ...]:
        """Names of a column's bins, such as ``"age in [28, 37)"``."""
        name, cuts = self.names[j], _shown(self.edges[j])
        between = [f"{name} in [{a}, {b})" for a, b in pairwise(cuts)]
        return (f"{name} < {cuts[0]}", *between, f"{name} >= {cuts[-1]}")

    def bins(self, values: Floats) -> Codes:
        """Bin of every value, shape (n, k)."""
        cut = map(partial(np.searchsorted, side="right"), self.edges, values.T)
        return np.stack(list(cut), axis=1).astype(np.int64)

    def extend(self, scheme: GroupScheme | None) -> GroupScheme:
        """Groups of categorical columns, or all rows as one, times the bins of these columns."""
        own = np.array(list(product(*(range(size) for size in self.sizes))), dtype=np.int64)
        levels: tuple[tuple[Any, ...], ...] = tuple(map(self.levels, range(len(self.names))))
        known = {"min_count": 30, "missing": "error"}
        columns, codes = self.names, own
        if scheme is not None:
            known = {"min_count": scheme.min_count, "missing": scheme.missing}
            columns, levels = (*scheme.columns, *columns), (*scheme.levels, *levels)
            codes = np.hstack([
                np.repeat(scheme.level_codes, len(own), axis=0), np.tile(own, (len(scheme), 1))
            ])  # fmt: skip
        counts = np.zeros(len(codes), dtype=np.int64)
        return GroupScheme(columns, levels, codes, group_names(levels, codes), counts, **known)  # type: ignore[arg-type]

    def codes(self, base: Codes, values: Floats) -> Codes:
        """Groups of :meth:`extend` from those of the categorical columns (-1: unknown)."""
        codes = base
        for size, column in zip(self.sizes, self.bins(values).T, strict=True):
            codes = np.where(base < 0, -1, codes * size + column)
        return codes

    def encode(self, scheme: GroupScheme, sensitive_features: Any) -> Groups:
        """Code later rows by an extended scheme, with the cut points of fit."""
        given = sensitive_columns(sensitive_features)
        columns = dict(zip(self.order, match_columns(given, self.order), strict=True))
        numbers = np.stack([numbers_of(columns[name], name) for name in self.names], axis=1)
        for j, (name, bins) in enumerate(zip(self.names, self.bins(numbers).T, strict=True)):
            columns[name] = np.array(self.levels(j), dtype=object)[bins]
        return Groups(scheme, scheme.encode({name: columns[name] for name in scheme.columns}))


@dataclass(frozen=True, eq=False, kw_only=True)
class BinnedGroups(Groups):
    """Groups of rows in memory, and the numbers that continuous columns were cut from.

    Attributes
    ----------
    continuous : ContinuousColumns
        What is kept of these columns.
    values : ndarray of float64, shape (n, k)
        Their values.
    """

    continuous: ContinuousColumns
    values: Floats

    def take(self, rows: NDArray[Any]) -> BinnedGroups:
        """Keep only some rows; groups and codes stay as they are."""
        return replace(self, codes=self.codes[rows], values=self.values[rows])


def read_columns(
    sensitive_features: Any,
    names: tuple[str, ...],
    *,
    bins: int,
    missing: str,
    min_count: int,
) -> Groups:
    """Groups of categorical columns and of bins of numbers, and the numbers.

    Parameters
    ----------
    sensitive_features : frame, series, mapping or array of n rows
        The sensitive features: which group each person belongs to.
    names : tuple of str
        The continuous columns; without any these are ordinary groups.
    bins : int
        Groups that each is cut into at most.
    missing, min_count
        As in :class:`~fairtrain.data.groups.Groups`.

    Raises
    ------
    InvalidDataError, InvalidParameterError
        If a name is no column, its values are no numbers, or a column of fractions is not named.
    """
    given = sensitive_columns(sensitive_features)
    if absent := [name for name in names if name not in given]:
        raise InvalidParameterError(
            f"continuous={absent[0]!r} is not a sensitive column; there are {list(given)}."
        )
    others = {name: column for name, column in given.items() if name not in names}
    if number := next((name for name, column in others.items() if _fractional(column)), None):
        raise InvalidDataError(
            f"sensitive column {number!r} is continuous: name it in "
            f"continuous={(*names, number)!r}, or cut it into groups with pandas.cut."
        )
    how: dict[str, Any] = {"missing": missing, "min_count": min_count}
    if not names:
        return Groups.from_sensitive(sensitive_features, **how)
    numbers = {name: numbers_of(given[name], name) for name in names}
    columns = ContinuousColumns.of(numbers, tuple(given), bins)
    values = np.stack(list(numbers.values()), axis=1)
    groups = Groups.from_sensitive(others, **how) if others else None
    base = np.zeros(len(values), dtype=np.int64) if groups is None else groups.codes
    codes = columns.codes(base, values)
    scheme = columns.extend(None if groups is None else groups.scheme)
    counts = np.bincount(codes[codes >= 0], minlength=len(scheme))
    scheme = replace(scheme, counts=counts, min_count=min_count)
    return BinnedGroups(scheme, codes, continuous=columns, values=values)


def column_by_column(
    constraints: Sequence[Constraint], scheme: GroupScheme, names: tuple[str, ...]
) -> tuple[Constraint, ...]:
    """Constraints over the categorical columns together, and over each continuous one."""
    grouped = tuple(name for name in scheme.columns if name not in names)
    families = [*([grouped] if grouped else []), *((name,) for name in names)]
    if len(families) == 1:
        return tuple(constraints)
    return tuple(
        replace(constraint, over=over)
        for constraint in constraints
        for over in (families if constraint.over is None else [constraint.over])
    )


def continuous_names(given: Any) -> tuple[str, ...]:
    """The constructor's ``continuous`` as a tuple of names."""
    names = (given,) if isinstance(given, str) else tuple(given)
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise InvalidParameterError(
            f"continuous must name sensitive columns, each once, such as ('age',); got {given!r}."
        )
    return names


def numbers_of(column: NDArray[Any], name: str) -> Floats:
    """A continuous column as float64, shape (n,).

    Raises
    ------
    InvalidDataError
        If it holds text, or values are missing.
    """
    try:
        values = as_vector(column, name).astype(np.float64)
    except (TypeError, ValueError):
        raise InvalidDataError(
            f"sensitive column {name!r} holds values that are no numbers; take it out of "
            "continuous= to compare its levels."
        ) from None
    if absent := int((~np.isfinite(values)).sum()):
        raise InvalidDataError(
            f"sensitive column {name!r} has {absent} missing or infinite values; fill them in or "
            "drop those rows: a continuous column has no group for them."
        )
    return values


def learn_columns(
    values: Iterable[tuple[Tensor, Tensor | None]],
    names: tuple[str, ...],
    order: Sequence[str],
    bins: int,
) -> ContinuousColumns:
    """Learn scale and cut points from one pass over the training rows of all processes.

    Parameters
    ----------
    values : iterable of (Tensor of shape (n, k), weight or None)
        Batches of this process.
    names, order, bins
        See :class:`ContinuousColumns`.
    """
    moments = torch.zeros(3, len(names), dtype=torch.float64)
    sample, priority = torch.zeros(0, len(names), dtype=torch.float64), torch.zeros(0)
    draw = torch.Generator().manual_seed(0)
    for part, weight in values:
        moments = _joined(moments, _moments(part, weight))
        sample = torch.cat([sample, part.double().cpu()])
        priority = torch.cat([priority, torch.rand(len(part), generator=draw)])
        if len(sample) > 2 * _SAMPLE:
            priority, at = priority.topk(_SAMPLE, largest=False)
            sample = sample[at]
    moments = reduce(_joined, gather_rows(moments.unsqueeze(0)))
    if not len(sample := gather_rows(sample)):
        raise InvalidDataError("the training loader gave no batch.")
    columns = dict(zip(names, sample.T.numpy(), strict=True))
    return ContinuousColumns.of(columns, order, bins)._scaled(moments)


def _moments(values: Tensor, weight: Tensor | None) -> Tensor:
    """Weight, mean and summed squared deviation of every column, shape (3, k)."""
    values = values.detach().double().cpu()
    used = torch.ones(len(values)) if weight is None else weight.detach().cpu()
    used = used.double().unsqueeze(1).expand_as(values)
    total = used.sum(0)
    mean = (values * used).sum(0) / total.clamp(min=1e-300)
    return torch.stack([total, mean, ((values - mean) ** 2 * used).sum(0)])


def _joined(a: Tensor, b: Tensor) -> Tensor:
    """Moments of two sets of rows together (Chan, Golub & LeVeque, 1983)."""
    total = a[0] + b[0]
    share = b[0] / total.clamp(min=1e-300)
    apart = b[1] - a[1]
    return torch.stack([total, a[1] + apart * share, a[2] + b[2] + apart**2 * a[0] * share])


def _fractional(column: NDArray[Any]) -> bool:
    """Whether :class:`~fairtrain.data.groups.Groups` would refuse a column as continuous."""
    levels, _ = factorize(column)
    return len(levels) > 2 and any(isinstance(level, float) for level in levels)


def _check_spread(name: str, middle: float, width: float) -> None:
    if not width > 1e-12 * max(abs(middle), 1e-300):
        raise InvalidDataError(
            f"sensitive column {name!r} is the same in all training rows, so there is nothing to "
            "hide; leave it out."
        )


def _shown(edges: Floats) -> list[str]:
    """Cut points in as few digits as tell them apart."""
    for digits in (6, 9, 12):
        shown = [f"{edge:.{digits}g}" for edge in edges]
        if len(set(shown)) == len(shown):
            return shown
    return [repr(float(edge)) for edge in edges]


def _edges(values: Floats, bins: int) -> Floats:
    edges = binned(values, bins)[0]
    middle = float(values.mean())
    if not len(edges) and values.min() < middle < math.inf:  # most rows share one value
        return np.array([middle])
    return edges
