"""Which rates are compared over which groups: the cells that multipliers belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairtrain.constraints.base import Constraint
from fairtrain.constraints.bounds import RateBounds
from fairtrain.constraints.rates import Rate, of_true_class
from fairtrain.data.groups import GroupScheme, merge_members
from fairtrain.data.strata import read_given
from fairtrain.exceptions import InvalidDataError

__all__ = ["RateFamily", "families_of", "strata_not_compared"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RateFamily:
    """One rate of one constraint over its groups, in one stratum if it is given some.

    Attributes
    ----------
    constraint : Constraint
        The constraints that decisions are to keep.
    rate : Rate
        What is measured.
    scheme : GroupScheme
        The groups the constraint speaks about.
    parent : ndarray of int64, shape (G_finest,)
        Group here of every finest group, -1 outside the stratum.
    stratum : str, optional
        The stratum, where each has a bound of its own.
    strata : ndarray of int64, shape (G_finest,), optional
        Stratum of every finest group, where rates are averaged over all of them.
    factor : ndarray of shape (G_finest,), optional
        What :meth:`standard_weights` gave for the rows of a fit; otherwise it is asked of the rows
        that are measured.
    cells : tuple of str, optional
        Names of the groups within the stratum, where they differ from the groups'.
    outcome : label, optional
        The class that counts as favourable, where there are more than two.
    """

    constraint: Constraint
    rate: Rate
    scheme: GroupScheme
    parent: NDArray[np.int64]
    outcome: Any = None
    stratum: str | None = None
    strata: NDArray[np.int64] | None = None
    factor: Floats | None = None
    cells: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """Constraint, stratum if there is one, and which of several rates and outcomes."""
        parts = [self.constraint.name]
        if self.stratum is not None:
            parts.append(self.stratum)
        if len(self.constraint.rates) > 1:
            parts.append(self.rate.name)
        if self.outcome is not None:
            parts.append(str(self.outcome))
        return ": ".join(parts)

    @property
    def cell_names(self) -> tuple[str, ...]:
        """Names of the groups; within a stratum those of its cells."""
        return self.scheme.names if self.cells is None else self.cells

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

    def standard_weights(self, totals: Floats) -> Floats:
        """Factors that give every group the same strata, shape (G_finest,).

        Parameters
        ----------
        totals : ndarray of shape (G_finest,)
            Weight of the event's rows in every finest group.

        Returns
        -------
        ndarray
            A group keeps its total; 0 in strata where one of the compared groups has no row.
        """
        assert self.strata is not None
        rows = np.zeros((len(self.scheme), self.strata.max() + 1))
        np.add.at(rows, (self.parent, self.strata), totals)
        whole = rows.sum(axis=1)
        compared = rows[(whole > 0) & (self.bounds.importance > 0)]
        met = (compared > 0).all(axis=0)
        share = np.zeros(rows.shape[1])
        share[met] = 1 / (1 / compared[:, met]).sum(axis=0)
        share /= max(share.sum(), np.finfo(float).tiny)
        factor = np.divide(whole[:, None] * share, rows, out=np.zeros_like(rows), where=rows > 0)
        return np.asarray(factor[self.parent, self.strata])

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
        By constraint, then rate, then outcome, then stratum.

    Raises
    ------
    InvalidDataError
        If a constraint is given strata in none of which two groups meet.
    """
    found = []
    for constraint in constraints:
        parts = _parts(constraint, scheme)
        for rate in constraint.rates:
            several = () if outcomes is None or of_true_class(rate) else tuple(outcomes)
            found += [
                RateFamily(constraint, rate, outcome=outcome, **part)
                for outcome in several or (None,)
                for part in parts
            ]
    return found


def _parts(constraint: Constraint, scheme: GroupScheme) -> list[dict[str, Any]]:
    """Groups of a constraint, once for every stratum in which there is something to compare."""
    coarse, parent = constraint.partition(scheme)
    if constraint.given is None:
        return [{"scheme": coarse, "parent": parent}]
    scheme.require_given(read_given(constraint.given))
    strata, stratum_of = scheme.coarsen(constraint.given_columns)
    if constraint.pooled:
        return [{"scheme": coarse, "parent": parent, "strata": stratum_of}]
    names, cell_of = _cells(coarse, strata, scheme)
    weighed = constraint.group_weights(coarse.names) > 0
    parts = []
    for s, stratum in enumerate(strata.names):
        inside = stratum_of == s
        counts = np.bincount(parent[inside], scheme.counts[inside], len(coarse)).astype(np.int64)
        present = np.isin(np.arange(len(coarse)), parent[inside & _occurring(scheme)])
        if (present & weighed).sum() < (1 if constraint.absolute else 2):
            continue
        cells = [f"{group}/{stratum}" for group in coarse.names]
        for finest in np.flatnonzero(inside):
            cells[parent[finest]] = names[cell_of[finest]]
        parts.append(
            {
                "scheme": replace(coarse, counts=counts),
                "parent": np.where(inside, parent, -1),
                "stratum": stratum,
                "cells": tuple(cells),
            }
        )
    if not parts:
        raise InvalidDataError(
            f"{constraint.name} compares groups within strata, but no two of them meet in any; "
            "cut the strata more coarsely."
        )
    return parts


def strata_not_compared(constraint: Constraint, scheme: GroupScheme) -> tuple[str, ...]:
    """Strata with rows in which a constraint compares nothing.

    Those of one group alone; where it averages over strata, those that lack a group.
    """
    if constraint.given is None or constraint.absolute:
        return ()
    strata, stratum_of = scheme.coarsen(constraint.given_columns)
    coarse, parent = constraint.partition(scheme)
    weighed, known = constraint.group_weights(coarse.names) > 0, _occurring(scheme)
    present = np.zeros((len(strata), len(coarse)), dtype=bool)
    present[stratum_of[known], parent[known]] = True
    groups = (present & weighed).sum(axis=1)
    needed = weighed.sum() if constraint.pooled else 2
    return tuple(np.array(strata.names)[(groups > 0) & (groups < needed)].tolist())


def _cells(
    coarse: GroupScheme, strata: GroupScheme, scheme: GroupScheme
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Names of groups within strata, as those of all these columns together, and finest codes."""
    columns = {*coarse.columns, *strata.columns}
    cells, cell_of = scheme.coarsen([name for name in scheme.columns if name in columns])
    return cells.names, cell_of


def _occurring(scheme: GroupScheme) -> NDArray[np.bool_]:
    """Groups with rows; all of them where nobody counted."""
    return scheme.counts > 0 if scheme.counts.any() else np.ones(len(scheme), dtype=bool)
