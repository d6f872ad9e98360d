"""Randomised decisions that belong to the row, not to the call, and seeds.

A generator seeded in every call turns a mixture into one fixed rule when rows come one by one. Here
the draw is a keyed hash of the row's own values: a person's decision depends neither on their place
in a batch nor on how many are asked at once.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairtrain.data.inputs import factorize, feature_columns, number_of_rows

__all__ = ["keyed_hash", "keyed_uniform", "mixed", "new_key", "seeded"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MISSING = np.uint64(0xD1B54A32D192ED03)


def new_key(rng: np.random.RandomState) -> int:
    """Draw the secret of a model, 64 bits."""
    high, low = (int(rng.randint(0, 2**32, dtype=np.uint64)) for _ in range(2))
    return high << 32 | low


def seeded(estimator: Any, rng: np.random.RandomState | None) -> Any:
    """Set every ``random_state=None`` inside to a number, so that a seed repeats a fit.

    Parameters
    ----------
    estimator : estimator
        A clone of one's own; it is changed, and returned.
    rng : RandomState or None
        Source of the numbers; None leaves all as they are.
    """
    if rng is None or not hasattr(estimator, "get_params"):
        return estimator
    unset = {
        name: int(rng.randint(2**31 - 1))
        for name, value in sorted(estimator.get_params(deep=True).items())
        if name.rpartition("__")[2] == "random_state" and value is None
    }
    return estimator.set_params(**unset) if unset else estimator


def keyed_uniform(X: Any, key: int) -> NDArray[np.float64]:
    """Draw one number in [0, 1) for each row, a function of the key and the row's values only.

    Parameters
    ----------
    X : array, sparse matrix or frame of shape (n, d)
        Feature rows. Column order counts, column names do not; integers, whole floats and
        booleans of equal value count as the same, so do dense and sparse.
    key : int
        Secret of the model, in [0, 2^64).

    Returns
    -------
    ndarray of shape (n,)
    """
    return np.asarray((keyed_hash(X, key) >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def keyed_hash(X: Any, key: int) -> NDArray[np.uint64]:
    """Hash each row under a key, as :func:`keyed_uniform` does, to 64 bits."""
    state = np.zeros(number_of_rows(X), dtype=np.uint64)
    key_bytes = int(key).to_bytes(8, "little")
    with np.errstate(over="ignore"):
        for j, column in enumerate(feature_columns(X)):
            salt = _mix(np.uint64(key) + np.uint64(j + 1) * _GOLDEN)
            bits = _value_bits(column, key_bytes)
            # A zero adds nothing, so a sparse row and its dense twin draw the same number.
            state += np.where(bits == 0, np.uint64(0), _mix(bits ^ salt))
        state = _mix(state + _mix(np.uint64(key)))
    return np.asarray(state)


def mixed(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash 64 bits to 64 others."""
    with np.errstate(over="ignore"):
        return np.asarray(_mix(bits))


def _mix(x: Any) -> Any:
    """Finalise 64 bits (splitmix64: Steele, Lea & Flood, 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _value_bits(column: NDArray[Any], key: bytes) -> NDArray[np.uint64]:
    if column.dtype.kind in "biuf":
        return _number_bits(column.astype(np.float64))
    if column.dtype.kind in "mM":
        return column.astype("int64").view(np.uint64)
    levels, codes = factorize(column)
    hashed = np.array([_level_bits(level, key) for level in levels] + [_MISSING], dtype=np.uint64)
    return hashed[codes]


def _number_bits(numbers: NDArray[np.float64]) -> NDArray[np.uint64]:
    bits = np.where(numbers == 0, 0.0, numbers).view(np.uint64)  # -0.0 is 0.0
    return np.where(np.isnan(numbers), _MISSING, bits)


def _level_bits(level: Any, key: bytes) -> np.uint64:
    if isinstance(level, bool | int | float):
        return np.uint64(_number_bits(np.array([level], dtype=np.float64))[0])
    digest = hashlib.blake2b(str(level).encode("utf-8", "surrogatepass"), digest_size=8, key=key)
    return np.uint64(int.from_bytes(digest.digest(), "little"))
