"""A sample of rows as a few noisy bits: it is known again, and who is in it is not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairtrain.data import inputs
from fairtrain.data.draws import keyed_hash, mixed
from fairtrain.data.rows import Rows

__all__ = [
    "BITS",
    "EPSILON",
    "Hashes",
    "RowSketch",
    "exact_bits",
    "noisy_bits",
    "row_hashes",
    "shared_rows",
]

Bits = NDArray[np.uint8]
Hashes = NDArray[np.uint64]

BITS = 2048
"""Bits of a sketch: 256 bytes a sample, however many rows it has."""

EPSILON = 1.0
"""Privacy loss of one person by one stored sketch (differential privacy, pure)."""

_TRUTH = 1 / (1 + np.exp(-EPSILON))  # chance that a stored bit is the true one
_SIGNAL = 2 * _TRUTH - 1
_SURE = 4.5  # standard errors above what other rows of the same population would share
_WIDE = 64  # columns from which hashing whole rows is cheaper than hashing columns
_MOST = 4096  # evenly spaced numbers of a row that are hashed: they tell images apart

_NONE: Hashes = np.empty(0, dtype=np.uint64)

RowSketch = tuple[Bits, Bits]
"""Bits, and which of them some row stands for, each of shape (:data:`BITS`,)."""


def exact_bits(parts: Iterable[Rows | Hashes], key: int) -> tuple[RowSketch, float] | None:
    r"""One bit for each bucket of hashed rows: that of the smallest hash in it.

    One-permutation hashing (Li, Owen & Zhang, 2012) with b = 1 bit (Li & König, 2010): two samples
    agree in a bit with chance :math:`(1 + J) / 2`, where J is the share of their rows in common.

    Parameters
    ----------
    parts : iterable of Rows, or of their hashes
        A sample, as the method reads it, in parts. Equal rows are numbered, and so told apart. Of a
        part no more is kept than its hashes: eight bytes a row.
    key : int
        Secret of the model, in [0, 2^64).

    Returns
    -------
    (bits, occupied), chance : or None
        And the share of rows that another sample of the same people would have in common by chance,
        0 where no two rows are alike. None where the rows are not at hand.
    """
    found = [part if isinstance(part, np.ndarray) else row_hashes(part, key) for part in parts]
    hashes = np.concatenate([_NONE, *found])
    if not len(hashes):
        return None
    distinct, first, count = np.unique(hashes, return_inverse=True, return_counts=True)
    order = np.argsort(first, kind="stable")
    number = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
    hashes = mixed(distinct[first[order]] + number.astype(np.uint64) * np.uint64(key | 1))
    bucket, rank = hashes % np.uint64(BITS), hashes // np.uint64(BITS)
    least = np.full(BITS, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(least, bucket.astype(np.int64), rank)
    occupied = (least < np.iinfo(np.uint64).max).astype(np.uint8)
    return ((mixed(least) & np.uint64(1)).astype(np.uint8), occupied), _by_chance(count)


def noisy_bits(sketch: RowSketch, rng: np.random.Generator) -> Bits:
    r"""The bits as they may be stored: randomised response.

    A row decides one bit at most, and each is told truthfully with chance
    :math:`e^\varepsilon / (1 + e^\varepsilon)` only (Warner, 1965). So whoever has the stored bits,
    and the key, and every other row, learns about the presence of one row no more than a factor
    :math:`e^\varepsilon = 2.7` of the odds, at :data:`EPSILON` = 1.

    Returns
    -------
    ndarray of uint8, shape (:data:`BITS` / 8,)
    """
    bits, occupied = sketch
    true = np.where(occupied == 1, bits, rng.integers(0, 2, BITS))
    lie = rng.random(BITS) >= _TRUTH
    return np.packbits((true ^ lie).astype(np.uint8))


def shared_rows(sketch: RowSketch, stored: Bits, chance: float) -> float:
    """Estimated share of rows (of both samples together) in common; 0 where it may be chance.

    Of samples that were read before, one of 100 rows is missed in one case of two, one of 200 in 2
    %, one of 400 in one of 10^5; fresh ones pass for others in one of 10^5.
    """
    bits, occupied = sketch
    at = occupied == 1
    agreed = float((bits[at] == np.unpackbits(stored)[at]).mean())
    error = np.sqrt(0.25 / at.sum())
    if agreed <= (1 + chance * _SIGNAL) / 2 + _SURE * error:
        return 0.0
    return float(min(1.0, (2 * agreed - 1) / _SIGNAL))


def _by_chance(count: NDArray[np.int64]) -> float:
    """Rows in common of two samples, if both came from where this one did.

    A row that came c times comes again as often, give or take: c less the mean shortfall of two
    Poisson counts, sqrt(c / pi). Of rows that came once, those come again of which pairs tell: 2 f2
    / f1 each (Good, 1953).
    """
    once, twice = (count == 1).sum(), (count == 2).sum()
    again = np.where(count > 1, count - np.sqrt(count / np.pi), 0.0).sum()
    if once:
        again += once * -np.expm1(-2 * twice / once)
    total = count.sum()
    return float(again / (2 * total - again))


def row_hashes(rows: Rows, key: int) -> Hashes:
    """Keyed hashes of features, outcome and group of each row; none where they are not at hand."""
    X = rows.X
    if X is None or inputs.is_lazy(X) or not (hasattr(X, "shape") or hasattr(X, "columns")):
        return _NONE
    if not hasattr(X, "__getitem__"):
        return _NONE  # rows on the workers of a cluster
    if hasattr(X, "detach"):
        X = (X.float() if X.is_floating_point() else X).detach().cpu().numpy()
    ndim = getattr(X, "ndim", 2)
    if getattr(getattr(X, "dtype", None), "kind", "") == "f":
        X = X.astype(np.float32, copy=False)  # networks keep no more
    if isinstance(X, np.ndarray) and X.dtype.kind in "biuf" and (ndim != 2 or X.shape[1] > _WIDE):
        hashes = _hash_whole(X, key)
    else:
        hashes = keyed_hash(X, key)
    rest = np.column_stack([rows.outcomes.astype(np.float32), rows.groups.codes])
    return np.asarray(mixed(hashes ^ keyed_hash(rest, key)))


def _hash_whole(X: NDArray[Any], key: int) -> Hashes:
    flat = X.reshape(len(X), -1)
    flat = np.ascontiguousarray(flat[:, :: -(-flat.shape[1] // _MOST) or 1], dtype=np.float64)
    secret = key.to_bytes(8, "little")
    digests = [hashlib.blake2b(row.tobytes(), digest_size=8, key=secret).digest() for row in flat]
    return np.frombuffer(b"".join(digests), dtype=np.uint64)
