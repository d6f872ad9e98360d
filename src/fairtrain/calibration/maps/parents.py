"""The parent of every group: the coarser group whose map it might share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairtrain.calibration.cells import Cells
from fairtrain.calibration.significance import ScoreTest, compare_with_parent
from fairtrain.data.groups import GroupScheme

__all__ = ["EVERYONE", "Parents", "compare_with_parents", "find_parents"]

Codes = NDArray[np.int64]

EVERYONE = "everyone"


@dataclass(frozen=True)
class Parents:
    """Coarser partitions, and which of them holds the parent of each group.

    Attributes
    ----------
    partitions : tuple of (names, codes) pairs
        Names of the coarse groups, and the coarse group of every group, shape (G,).
    choice : ndarray of int64, shape (G,)
        Partition in which each group's parent is.
    """

    partitions: tuple[tuple[tuple[str, ...], Codes], ...]
    choice: Codes

    @property
    def names(self) -> tuple[str, ...]:
        """Name of every group's parent."""
        return tuple(
            self.partitions[p][0][self.partitions[p][1][g]] for g, p in enumerate(self.choice)
        )


def find_parents(scheme: GroupScheme) -> Parents:
    """Choose the parent of every group: one column left out, whichever leaves most other rows.

    With one column, or where a group is alone in all coarser groups, the parent is everyone.
    """
    partitions = [(c.names, codes) for c, codes in scheme.parents.values()]
    others = [np.bincount(codes, scheme.counts)[codes] - scheme.counts for _, codes in partitions]
    everyone = ((EVERYONE,), np.zeros(len(scheme), dtype=np.int64))
    partitions.append(everyone)
    choice = np.full(len(scheme), len(partitions) - 1)
    if others:
        best = np.argmax(others, axis=0)
        choice = np.where(np.max(others, axis=0) > 0, best, choice)
    return Parents(tuple(partitions), choice)


def compare_with_parents(
    cells: Cells, parents: Parents, rng: np.random.Generator | None = None
) -> ScoreTest:
    """Test every group against its own parent's other rows."""
    size = cells.size
    found = ScoreTest(
        np.zeros(size), np.zeros(size, np.int64), np.full(size, np.nan), np.zeros(size, bool)
    )
    for p, (_, codes) in enumerate(parents.partitions):
        mine = parents.choice == p
        if mine.any():
            here = compare_with_parent(cells, codes, wanted=mine, random_state=rng)
            for name in ("statistic", "df", "p_value", "simulated"):
                getattr(found, name)[mine] = getattr(here, name)[mine]
    return found
