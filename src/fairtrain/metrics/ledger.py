r"""Which rows a model has seen: what trained it, what certified it how often, at what level.

A certificate is worth its level once: who reads the same rows again, after a look at what they
said, and changes the bound or the model, chooses by them. The first reading has its level
:math:`\alpha`, and the k-th of the same rows

.. math:: \alpha_k = \frac{\alpha}{k (k - 1)}, \qquad k \ge 2,
          \qquad \sum_{k \ge 2} \alpha_k = \alpha,

so that whatever is done between them, all later readings together say ``met`` wrongly in at most
another :math:`\alpha` of samples (alpha-spending: Foster & Stine, 2008; the series is that of
Robbins, 1970). Rows that trained or steered certify nothing at any level.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from fairtrain.data.rows import Role, Rows
from fairtrain.data.sketch import (
    Hashes,
    RowSketch,
    exact_bits,
    noisy_bits,
    row_hashes,
    shared_rows,
)

__all__ = ["MOST_SAMPLES", "Ledger", "Look", "Reading", "spent_confidence"]

MOST_SAMPLES = 128
"""Samples that a ledger knows again; the oldest are forgotten."""

_SAME = 0.8  # less in common, and the sample is sketched for itself


def spent_confidence(confidence: float, reading: int) -> float:
    """Confidence level at which rows may be read for the k-th time.

    Parameters
    ----------
    confidence : float in (0, 1)
        Level of the first reading.
    reading : int
        k, from 1 on.

    Examples
    --------
    >>> [round(spent_confidence(0.95, k), 4) for k in (1, 2, 3, 4)]
    [0.95, 0.975, 0.9917, 0.9958]
    """
    share = 1 if reading < 2 else reading * (reading - 1)
    return 1 - (1 - confidence) / share


@dataclass
class Reading:
    """A sample that was read.

    Attributes
    ----------
    bits : ndarray of uint8
        Its noisy sketch, see :mod:`fairtrain.data.sketch`.
    count : int
        How often.
    """

    bits: NDArray[np.uint8]
    count: int


class Look(NamedTuple):
    """What a ledger says of rows that come to certify.

    Attributes
    ----------
    role : {"certification", "steering", "training"}
        What they are good for: rows that trained or steered are known again.
    reading : int
        How often they have certified now (1: fresh); 1 where they cannot.
    """

    role: Role
    reading: int


@dataclass
class Ledger:
    """Which samples have trained, steered and certified a model, and the last how often.

    Samples are known again by 2,048 noisy bits of keyed hashes each, which is 1-differentially
    private: with ledger, key and all other rows in hand, the odds that a person was among the rows
    change by a factor of 2.7 at most (a sample that overlaps another partly is sketched anew, and
    the factors multiply). So the folder of a model that holds one tells little of anybody. Not
    known again are rows that stay on the workers of a cluster, many samples of less than two
    hundred rows, rows so alike that another sample would be the same, and less than about a
    quarter of a sample, or a sample that makes up less than that of what is read.

    Attributes
    ----------
    key : int
        Secret of the hashes.
    readings : list of Reading
        No more than :data:`MOST_SAMPLES`.
    forgotten : int
        How many were, to make room.
    learned : dict of str to ndarray of uint8
        Sketches of the rows that trained and of those that steered.
    """

    key: int = field(default_factory=lambda: secrets.randbits(64))
    readings: list[Reading] = field(default_factory=list)
    forgotten: int = 0
    learned: dict[Role, NDArray[np.uint8]] = field(default_factory=dict)

    def hashes(self, rows: Rows) -> Hashes:
        """What rows that come in batches leave behind for the methods below: eight bytes each."""
        return row_hashes(rows, self.key)

    def enter(self, role: Role, *parts: Rows | Hashes) -> None:
        """Note what a fit did with rows, in one part or more."""
        if role == "certification":
            self.read(*parts)
        else:
            self.learn(role, *parts)

    def learn(self, role: Role, *parts: Rows | Hashes) -> None:
        """Note that rows, in one part or more, trained or steered."""
        found = exact_bits(parts, self.key)
        if found is not None:
            self.learned[role] = _noisy(found[0])

    def look(self, *parts: Rows | Hashes) -> Look:
        """Note that rows, in one part or more, are to certify now; say what they are good for."""
        found = exact_bits(parts, self.key)
        if found is None:
            return Look("certification", 1)
        shared = {role: shared_rows(found[0], b, found[1]) for role, b in self.learned.items()}
        role: Role = max(shared, key=shared.__getitem__, default="certification")
        return Look(role if shared.get(role) else "certification", self._read(*found))

    def read(self, *parts: Rows | Hashes) -> int:
        """Note that rows, in one part or more, certify now; say how often they have (1: fresh).

        Where some of the rows were in several samples, the one that was read most often counts: of
        any row, the readings that it took part in spend at most what their numbers say.
        """
        found = exact_bits(parts, self.key)
        return 1 if found is None else self._read(*found)

    def _read(self, sketch: RowSketch, chance: float) -> int:
        shared = [shared_rows(sketch, known.bits, chance) for known in self.readings]
        known = [reading for reading, share in zip(self.readings, shared, strict=True) if share]
        count = 1 + max((reading.count for reading in known), default=0)
        for reading in known:
            reading.count = count
        if max(shared, default=0.0) < _SAME:
            self.readings.append(Reading(_noisy(sketch), count))
        over = max(0, len(self.readings) - MOST_SAMPLES)
        self.forgotten += over
        del self.readings[:over]
        return count

    def summary(self) -> dict[str, Any]:
        """How often each sample was read, and what is known to have trained; no sketches."""
        readings = [r.count for r in self.readings]
        return {"readings": readings, "forgotten": self.forgotten, "learned": [*self.learned]}

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain values for JSON."""
        readings = [{"bits": r.bits.tobytes().hex(), "count": r.count} for r in self.readings]
        learned = {role: bits.tobytes().hex() for role, bits in self.learned.items()}
        return {
            "key": f"{self.key:016x}",
            "readings": readings,
            "forgotten": self.forgotten,
            "learned": learned,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` gave."""
        readings = [Reading(_from_hex(r["bits"]), int(r["count"])) for r in values["readings"]]
        learned = {role: _from_hex(bits) for role, bits in values.get("learned", {}).items()}
        return cls(int(values["key"], 16), readings, int(values["forgotten"]), learned)


def _noisy(sketch: RowSketch) -> NDArray[np.uint8]:
    # The noise must not follow from a seed that somebody knows.
    return noisy_bits(sketch, np.random.default_rng(secrets.randbits(128)))


def _from_hex(bits: str) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex(bits), dtype=np.uint8)
