"""Train, steer, certify, and folds: rows divided so that groups and labels stay in proportion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairtrain.exceptions import InvalidDataError, InvalidParameterError

__all__ = ["RowSplit", "split_rows", "stratified_folds"]

Rows = NDArray[np.int64]
Random = np.random.RandomState | np.random.Generator

_GOLDEN_RATIO = 0.6180339887498949


@dataclass(frozen=True)
class RowSplit:
    """Positions of the rows that train, steer and certify, each in ascending order."""

    training: Rows
    steering: Rows
    certification: Rows


def split_rows(
    codes: NDArray[Any],
    y: NDArray[Any],
    *,
    validation_fraction: float | None,
    certification_fraction: float | None,
    random_state: Random,
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
    for name, share, rows in (
        ("validation_fraction", steer, parts.steering),
        ("certification_fraction", certify, parts.certification),
        ("the rest", 1.0, parts.training),
    ):
        if share and not len(rows):
            raise InvalidDataError(f"{name} of {n} rows is empty; pass more rows.")
    return parts


def stratified_folds(
    strata: Sequence[NDArray[Any]], folds: int, random_state: Random
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

    Returns
    -------
    list of (training, test)
        Positions of the rows outside and inside each fold, ascending.

    Raises
    ------
    InvalidDataError
        If there are fewer rows than folds.

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
    order = _by_cell(strata, random_state)
    fold = np.empty(len(order), dtype=np.int64)
    fold[order] = np.arange(len(order)) % folds
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(folds)]


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
