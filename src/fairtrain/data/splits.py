"""Train, steer, certify: three sets of rows, split by group and label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairtrain.exceptions import InvalidDataError, InvalidParameterError

__all__ = ["RowSplit", "split_rows", "stratified_folds"]

Rows = NDArray[np.int64]

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
    random_state: np.random.RandomState,
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
    random_state : RandomState
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
    labels = y.astype(np.int64)
    cells = codes.astype(np.int64) * (int(labels.max()) + 1) + labels
    order = np.lexsort((random_state.permutation(n), cells))
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
    codes: NDArray[Any], y: NDArray[Any], n_folds: int, *, random_state: np.random.RandomState
) -> list[tuple[Rows, Rows]]:
    """Spread every group and label over folds of nearly equal size.

    Parameters
    ----------
    codes, y : ndarray of int, shape (n,)
        Group and label of each row.
    n_folds : int
        Number of folds K.
    random_state : RandomState
        Source of chance.

    Returns
    -------
    list of K pairs (training, held-out) of row numbers, each ascending
    """
    n = len(codes)
    if n < n_folds:
        raise InvalidDataError(f"{n} rows cannot make {n_folds} folds; pass more rows.")
    cells = codes.astype(np.int64) * (int(y.max()) + 1) + y.astype(np.int64)
    order = np.lexsort((random_state.permutation(n), cells))
    fold = np.empty(n, dtype=np.int64)
    fold[order] = np.arange(n) % n_folds
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(n_folds)]


def _checked_fraction(name: str, value: float | None) -> float:
    if value is None:
        return 0.0
    given: Any = value
    if isinstance(given, bool | str) or not 0 <= given < 1:
        raise InvalidParameterError(f"{name} must lie in [0, 1), got {value!r}.")
    return float(value)
