"""Train, steer, certify, and folds: rows divided so that groups and labels stay in proportion.

Rows of one cluster stay together. Balance is then what can be had: clusters that hold more than one
row in 2,000 go, the largest first, where they bring the cells nearest to their shares; the many
small ones are dealt out by the rarest cell that they hold. A part's share of the rows, and of each
cell, is off by about the size of a cluster or two; nothing is ever torn apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairtrain.exceptions import InvalidDataError, InvalidParameterError

__all__ = ["RowSplit", "split_rows", "stratified_folds", "value_strata"]

Rows = NDArray[np.int64]
Random = np.random.RandomState | np.random.Generator

_VALUE_STRATA = 8
_GOLDEN_RATIO = 0.6180339887498949
_LARGE = 2000  # clusters that hold more than one row in so many are placed one by one


@dataclass(frozen=True)
class RowSplit:
    """Positions of the rows that train, steer and certify, each in ascending order."""

    training: Rows
    steering: Rows
    certification: Rows

    @property
    def out_of_fold(self) -> RowSplit:
        """The same, where out-of-fold decisions let the rows that train steer."""
        return RowSplit(self.training[:0], self.training, self.certification)


def split_rows(
    codes: NDArray[Any],
    y: NDArray[Any],
    *,
    validation_fraction: float | None,
    certification_fraction: float | None,
    random_state: Random,
    clusters: NDArray[np.int64] | None = None,
) -> RowSplit:
    """Split rows so that every group and label is spread over the three parts in proportion.

    Parameters
    ----------
    codes : ndarray of int, shape (n,)
        Group of each row.
    y : ndarray of shape (n,)
        Labels, 0 or 1, or class numbers.
    validation_fraction, certification_fraction : float in [0, 1) or None
        Shares of the rows that steer and that certify; the rest trains.
    random_state : RandomState or Generator
        Source of chance.
    clusters : ndarray of int64, shape (n,), optional
        Cluster of each row: all of its rows go to one part.

    Raises
    ------
    InvalidParameterError
        If a fraction is out of range or nothing would be left to train on.
    InvalidDataError
        If a part that was asked for would be empty.
    """
    steer = _checked_fraction("validation_fraction", validation_fraction)
    certify = _checked_fraction("certification_fraction", certification_fraction)
    if steer + certify >= 1:
        raise InvalidParameterError(
            f"validation_fraction + certification_fraction = {steer + certify:g} leaves no row to "
            "train on; their sum must stay below 1."
        )
    n = len(codes)
    if steer == certify == 0:
        none = np.empty(0, dtype=np.int64)
        return RowSplit(np.arange(n), none, none)
    if clusters is not None:
        shares = np.array([1 - steer - certify, steer, certify])
        part = _whole_clusters((codes, y), clusters, shares, random_state)
        return _filled(RowSplit(*(np.flatnonzero(part == k) for k in range(3))), steer, certify)
    order = _by_cell((codes, y), random_state)
    # Steps of the golden ratio fill [0, 1) evenly over any run of consecutive rows, hence in every
    # cell; which row of a cell gets which place is random.
    place = np.empty(n)
    place[order] = (random_state.uniform() + np.arange(n) * _GOLDEN_RATIO) % 1.0
    parts = RowSplit(
        training=np.flatnonzero(place >= steer + certify),
        steering=np.flatnonzero(place < steer),
        certification=np.flatnonzero((place >= steer) & (place < steer + certify)),
    )
    return _filled(parts, steer, certify)


def _filled(parts: RowSplit, steer: float, certify: float) -> RowSplit:
    """The parts, if those that were asked for have rows."""
    n = sum(map(len, (parts.training, parts.steering, parts.certification)))
    for name, share, rows in (
        ("validation_fraction", steer, parts.steering),
        ("certification_fraction", certify, parts.certification),
        ("the rest", 1.0, parts.training),
    ):
        if share and not len(rows):
            raise InvalidDataError(f"{name} of {n} rows is empty; pass more rows.")
    return parts


def stratified_folds(
    strata: Sequence[NDArray[Any]],
    folds: int,
    random_state: Random,
    clusters: NDArray[np.int64] | None = None,
) -> list[tuple[Rows, Rows]]:
    """Divide rows into folds over which every cell of the strata is spread in proportion.

    Parameters
    ----------
    strata : sequence of ndarray of int, shape (n,)
        Such as groups and class numbers. The first is spread most evenly: what occurs in it at
        least twice is in two folds or more.
    folds : int
        How many, at least 2.
    random_state : RandomState or Generator
        Source of chance.
    clusters : ndarray of int64, shape (n,), optional
        Cluster of each row: all of its rows are in one fold.

    Returns
    -------
    list of (training, test)
        Positions of the rows outside and inside each fold, ascending.

    Raises
    ------
    InvalidDataError
        If there are fewer rows, or clusters, than folds.

    Examples
    --------
    >>> y = np.array([0, 0, 0, 0, 1, 1])
    >>> folds = stratified_folds([y], 2, np.random.RandomState(0))
    >>> [y[test].tolist() for _, test in folds]
    [[0, 0, 1], [0, 0, 1]]
    """
    if len(strata[0]) < folds:
        raise InvalidDataError(
            f"{len(strata[0])} rows cannot make {folds} folds; pass more rows or ask for fewer."
        )
    if clusters is not None:
        fold = _whole_clusters(strata, clusters, np.full(folds, 1 / folds), random_state)
        return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(folds)]
    order = _by_cell(strata, random_state)
    fold = np.empty(len(order), dtype=np.int64)
    fold[order] = np.arange(len(order)) % folds
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(folds)]


def _whole_clusters(
    strata: Sequence[NDArray[Any]],
    clusters: NDArray[np.int64],
    shares: NDArray[np.float64],
    random_state: Random,
) -> Rows:
    """Part of each row, clusters whole; every part that has a share gets at least one cluster."""
    _, at = np.unique(clusters, return_inverse=True)
    size = np.bincount(at)
    wanted = np.flatnonzero(shares)
    if len(size) < len(wanted):
        raise InvalidDataError(
            f"{len(size)} clusters cannot be divided into {len(wanted)} parts without tearing one "
            "apart; pass rows of more clusters, or ask for fewer parts."
        )
    _, cell = np.unique(np.stack(strata, axis=1), axis=0, return_inverse=True)
    cell = cell.reshape(-1)
    # Sizes in powers of two: what is drawn within them keeps the split from following the size.
    magnitude, chance = np.log2(size).astype(np.int64), random_state.permutation(len(size))
    few = max(len(at) / _LARGE, 1) if len(size) > 2 * len(wanted) else 0
    large = size > few
    order = np.lexsort((chance, -magnitude))
    part = np.full(len(size), -1, dtype=np.int64)
    filled = _place_large(part, order[large[order]], (at, cell), shares)
    if large.all():
        return part[at]
    rarity = np.argsort(np.argsort(np.bincount(cell), kind="stable"))
    rarest = np.full(len(size), len(rarity))
    np.minimum.at(rarest, at, rarity[cell])
    small = np.lexsort((chance, magnitude, rarest))
    small = small[~large[small]]
    room = np.maximum(shares - filled / len(at), 0.0)
    ends = np.cumsum(room[wanted] / room.sum())
    place = (random_state.uniform() + np.arange(len(small)) * _GOLDEN_RATIO) % 1.0
    part[small] = wanted[np.minimum(np.searchsorted(ends, place, "right"), len(wanted) - 1)]
    return part[at]


def _place_large(
    part: Rows, order: Rows, rows: tuple[Rows, Rows], shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Place clusters one by one; return how many rows each part then has."""
    at, cell = rows
    n_cells, place = int(cell.max()) + 1, np.full(len(part), -1)
    place[order] = np.arange(len(order))
    of_large = place[at] >= 0
    counts = np.bincount(
        place[at[of_large]] * n_cells + cell[of_large], minlength=len(order) * n_cells
    ).reshape(-1, n_cells)
    totals = np.bincount(cell, minlength=n_cells)
    held, goal = np.zeros((len(shares), n_cells)), np.outer(shares, totals)
    empty = shares > 0
    for left, cluster, count in zip(range(len(order), 0, -1), order, counts, strict=True):
        # How much nearer to its goal each part comes, every cell counted in shares of itself.
        gain = ((2 * (goal - held) - count) * count / totals / np.maximum(goal, 1e-9)).sum(axis=1)
        open_to = empty if left <= empty.sum() else shares > 0
        best = int(np.where(open_to, gain, -np.inf).argmax())
        part[cluster], empty[best] = best, False
        held[best] += count
    return np.asarray(held.sum(axis=1))


def value_strata(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Eighths of the values of a regression, (n,), which a split keeps in proportion."""
    inner = np.quantile(values, np.linspace(0, 1, _VALUE_STRATA + 1)[1:-1])
    return np.asarray(np.searchsorted(inner, values), dtype=np.int64)


def _by_cell(strata: Sequence[NDArray[Any]], random_state: Random) -> Rows:
    """Rows in the order of their cells, in random order within each."""
    chance = random_state.permutation(len(strata[0]))
    return np.lexsort((chance, *reversed([s.astype(np.int64) for s in strata])))


def _checked_fraction(name: str, value: float | None) -> float:
    if value is None:
        return 0.0
    given: Any = value
    if isinstance(given, bool | str) or not 0 <= given < 1:
        raise InvalidParameterError(f"{name} must lie in [0, 1), got {value!r}.")
    return float(value)
