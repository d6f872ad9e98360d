"""Which rates are compared over which groups: the cells that multipliers belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairtrain.constraints.base import Constraint
from fairtrain.constraints.bounds import RateBounds
from fairtrain.constraints.rates import Rate, of_true_class
from fairtrain.data.groups import GroupScheme, merge_members

__all__ = ["RateFamily", "families_of"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RateFamily:
    """One rate of one constraint over its groups.

    Attributes
    ----------
    constraint : Constraint
        The constraints that decisions are to keep.
    rate : Rate
        What is measured.
    scheme : GroupScheme
        The groups the constraint speaks about.
    parent : ndarray of int64, shape (G_finest,)
        Group here of every finest group.
    outcome : label, optional
        The class that counts as favourable, where there are more than two.
    """

    constraint: Constraint
    rate: Rate
    scheme: GroupScheme
    parent: NDArray[np.int64]
    outcome: Any = None

    @property
    def name(self) -> str:
        """Constraint, rate where it has several, and outcome where there are several."""
        parts = [self.constraint.name]
        if len(self.constraint.rates) > 1:
            parts.append(self.rate.name)
        if self.outcome is not None:
            parts.append(str(self.outcome))
        return ": ".join(parts)

    @cached_property
    def bounds(self) -> RateBounds:
        """The bound as signed inequalities."""
        names = self.scheme.names
        return RateBounds(
            self.constraint,
            self.constraint.group_weights(names),
            shift=self.constraint.shifts(names),
        )

    def merged(self, members: NDArray[Any]) -> NDArray[Any]:
        """Groups here, or memberships in them, of rows given by their finest groups."""
        if np.array_equal(self.parent, np.arange(len(self.scheme))):
            return members
        return merge_members(members, self.parent, len(self.scheme))

    @cached_property
    def coarser(self) -> tuple[tuple[int, NDArray[np.int64]], ...]:
        """The next coarser partitions, as a size and the coarse group of every group."""
        parents = self.scheme.parents
        if not parents:
            return ((1, np.zeros(len(self.scheme), dtype=np.int64)),)
        return tuple((len(coarse), parent) for coarse, parent in parents.values())


def families_of(
    constraints: Sequence[Constraint], scheme: GroupScheme, outcomes: Sequence[Any] | None = None
) -> list[RateFamily]:
    """All rates that a list of constraints compares.

    Parameters
    ----------
    constraints : sequence of Constraint
        The constraints that decisions are to keep.
    scheme : GroupScheme
        The finest groups.
    outcomes : sequence of labels, optional
        Classes, where there are more than two: each is an outcome of its own, except under rates
        that treat all labels alike (errors and losses), which compare the true class.

    Returns
    -------
    list of RateFamily
        By constraint, then rate, then outcome.
    """
    found = []
    for constraint in constraints:
        coarse, parent = constraint.partition(scheme)
        for rate in constraint.rates:
            several = () if outcomes is None or of_true_class(rate) else tuple(outcomes)
            found += [
                RateFamily(constraint, rate, coarse, parent, outcome)
                for outcome in several or (None,)
            ]
    return found
