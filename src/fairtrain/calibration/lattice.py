"""All subgroups of several attributes, as families of disjoint ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from fairtrain.data.groups import GroupScheme
from fairtrain.data.partition import compress

__all__ = ["Family", "families", "subgroup_names"]

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Family:
    """Subgroups that the levels of some attributes make.

    Attributes
    ----------
    columns : tuple of int
        Attributes.
    of_leaf : ndarray of int64, shape (L,)
        Subgroup of every leaf (intersection of all attributes).
    first : ndarray of int64, shape (G,)
        A leaf of every subgroup.
    """

    columns: tuple[int, ...]
    of_leaf: Codes
    first: Codes

    def __len__(self) -> int:
        return len(self.first)


def families(scheme: GroupScheme, depth: int) -> Iterator[Family]:
    """Go through the combinations of up to ``depth`` attributes, the coarsest first."""
    sizes = [len(levels) for levels in scheme.levels]
    for d in range(1, depth + 1):
        for columns in combinations(range(len(sizes)), d):
            keys = np.zeros(len(scheme), dtype=np.int64)
            for j in columns:
                keys = keys * sizes[j] + scheme.level_codes[:, j]
                # Kept dense, so that many attributes do not overflow.
                keys = compress(keys)[1]
            _, first = np.unique(keys, return_index=True)
            yield Family(columns, keys, first)


def subgroup_names(scheme: GroupScheme, family: Family) -> list[str]:
    """Names such as ``race=black & sex=female``; attributes are named, for any may be absent."""
    return [
        " & ".join(
            f"{scheme.columns[j]}={scheme.levels[j][scheme.level_codes[leaf, j]]}"
            for j in family.columns
        )
        for leaf in family.first.tolist()
    ]
