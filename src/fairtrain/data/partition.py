"""Arithmetic of combined columns: codes of several columns as one, and the names they make."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from fairtrain.exceptions import InvalidDataError

__all__ = [
    "MISSING",
    "MISSING_NAME",
    "compress",
    "group_names",
    "level_name",
    "mixed_radix",
    "split_radix",
]

MISSING_NAME = "(missing)"
MISSING = None  # the level that stands for a missing value; no real level is None


def level_name(level: Hashable) -> str:
    """Name of one level."""
    return MISSING_NAME if level is MISSING else str(level)


def group_names(
    levels: Sequence[Sequence[Hashable]], level_codes: NDArray[np.int64]
) -> tuple[str, ...]:
    """Names of groups: the names of their levels, made unique."""
    shown = [[level_name(level) for level in column] for column in levels]
    for i, column in enumerate(shown):
        if len(set(column)) < len(column):  # 1 and "1", or a real "(missing)"
            shown[i] = [repr(level) if level is not None else MISSING_NAME for level in levels[i]]
    names = tuple("/".join(shown[i][c] for i, c in enumerate(row)) for row in level_codes.tolist())
    if len(set(names)) == len(names):
        return names
    return tuple(  # "a/b" with "c" and "a" with "b/c"
        "/".join(shown[i][c].replace("\\", r"\\").replace("/", r"\/") for i, c in enumerate(row))
        for row in level_codes.tolist()
    )


def mixed_radix(
    level_codes: Sequence[NDArray[np.int64]], sizes: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Fold one code a column into one number a row; rows with a code of -1 are told apart."""
    if np.prod([float(size) for size in sizes]) >= 2**62:
        raise InvalidDataError("the sensitive columns have too many combinations (over 2^62).")
    keys = np.zeros(len(level_codes[0]), dtype=np.int64)
    outside = np.zeros(len(keys), dtype=bool)
    for codes, size in zip(level_codes, sizes, strict=True):
        keys = keys * size + codes
        outside |= codes < 0
    return keys, outside


def split_radix(keys: NDArray[np.int64], sizes: Sequence[int]) -> NDArray[np.int64]:
    """Undo :func:`mixed_radix`: one column of codes for each size."""
    columns = []
    for size in reversed(sizes):
        keys, codes = np.divmod(keys, size)
        columns.append(codes)
    return np.stack(columns[::-1], axis=1)


def compress(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct keys in order and each row's place: by counting where sorting costs more."""
    span = int(keys.max()) + 1
    if span > max(4 * len(keys), 1 << 16):
        distinct, codes = np.unique(keys, return_inverse=True)
        return distinct, codes.reshape(-1)
    present = np.bincount(keys, minlength=span) > 0
    place = np.cumsum(present) - 1
    return np.flatnonzero(present), place[keys]
