"""Rates of cells, as linear functions of the decisions.

A *cell* is one rate of one notion in one group. One ``bincount`` per rate replaces fairlearn's
dense frame of rows x constraints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairtrain.constraints import BoundedGroupLoss, Constraint
from fairtrain.constraints.rates import Rate
from fairtrain.data.groups import Groups, group_sums
from fairtrain.exceptions import InvalidDataError

__all__ = ["CellRates", "Family", "RateTable"]

Floats = NDArray[np.float64]


class CellRates:
    r"""One rate in every group, as a linear function of the decisions of all rows.

    For decisions :math:`p_i \in \{0, 1\}` any quantity is
    :math:`q(y_i, 0) + p_i\,(q(y_i, 1) - q(y_i, 0))`, so

    .. math:: r_g = \frac{\sum_{i \in g} w_i (a_i + b_i p_i)}{\sum_{i \in g} w_i}

    over the event's rows of group g.

    Parameters
    ----------
    rate : Rate
        Quantity and event.
    y : ndarray of shape (n,)
        Labels, 1 for the favourable one.
    groups : Groups
        Groups of the rows; rows with code -1 are left out.
    sample_weight : ndarray of shape (n,), optional
        Weights of the rows.
    """

    def __init__(
        self, rate: Rate, y: NDArray[Any], groups: Groups, sample_weight: Floats | None = None
    ) -> None:
        y = np.asarray(y, dtype=np.float64)
        inside = np.asarray(rate.mask(y), dtype=bool) & (groups.codes >= 0)
        self.rate = rate
        self.scheme = groups.scheme
        self.n_rows = len(y)
        self._rows = None if inside.all() else np.flatnonzero(inside)
        pick = slice(None) if self._rows is None else self._rows
        self._codes = groups.codes[pick]
        weight = np.ones(len(y)) if sample_weight is None else sample_weight
        weight = weight[pick]
        base = np.asarray(rate.quantity(y[pick], np.zeros(len(weight))), dtype=np.float64)
        slope = np.asarray(rate.quantity(y[pick], np.ones(len(weight))), dtype=np.float64) - base
        self._slope = weight * slope
        self.totals = self._sum(weight)
        self._base = self._sum(weight * base)

    def _sum(self, values: Floats) -> Floats:
        return group_sums(values, self._codes, len(self.scheme))

    def __call__(self, decisions: NDArray[Any]) -> Floats:
        """Rate of every group, shape (G,); NaN where the event has no row."""
        chosen = decisions if self._rows is None else decisions[self._rows]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((self._base + self._sum(self._slope * chosen)) / self.totals)

    def pull_back(self, cell_weights: Floats) -> Floats:
        """Gradient of ``sum(cell_weights * rates)`` in the decisions, shape (n,)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            scale = np.where(self.totals > 0, cell_weights / self.totals, 0.0)
        gradient = self._slope * scale[self._codes]
        if self._rows is None:
            return gradient
        full = np.zeros(self.n_rows)
        full[self._rows] = gradient
        return full


@dataclass(frozen=True)
class Family:
    """One rate of one constraint: its cells and the part of the rate vector that holds them."""

    constraint: Constraint
    cells: CellRates
    start: int

    @cached_property
    def present(self) -> NDArray[np.int64]:
        """Groups that have rows in the event and take part (weight above 0)."""
        weights = self.constraint.group_weights(self.cells.scheme.names)
        return np.flatnonzero((self.cells.totals > 0) & (weights > 0))

    @cached_property
    def shares(self) -> Floats:
        """Share of every group among the event's rows."""
        return np.asarray(self.cells.totals / self.cells.totals.sum())


class RateTable:
    """All rates that a list of constraints compares, one after the other.

    Parameters
    ----------
    constraints : sequence of Constraint
        What is compared.
    y, groups, sample_weight
        The rows; see :class:`CellRates`.
    """

    def __init__(
        self,
        constraints: Sequence[Constraint],
        y: NDArray[Any],
        groups: Groups,
        sample_weight: Floats | None = None,
    ) -> None:
        self.n_rows = len(y)
        self._labels = np.asarray(y, dtype=np.float64)
        self._weight = np.ones(self.n_rows) if sample_weight is None else sample_weight
        self.families: list[Family] = []
        start = 0
        for constraint in constraints:
            coarse = groups.over(constraint.over)
            for rate in constraint.rates:
                cells = CellRates(rate, y, coarse, sample_weight)
                family = Family(constraint, cells, start)
                _check_present(family)
                self.families.append(family)
                start += len(coarse)
        self.n_cells = start

    def __call__(self, decisions: NDArray[Any]) -> Floats:
        """Rates of all cells, shape (n_cells,)."""
        decisions = np.asarray(decisions, dtype=np.float64)
        return np.concatenate([family.cells(decisions) for family in self.families])

    def error(self, decisions: NDArray[Any]) -> float:
        """Weighted share of wrong decisions."""
        wrong = np.abs(self._labels - decisions)
        return float(self._weight @ wrong / self._weight.sum())

    def pull_back(self, cell_weights: Floats) -> Floats:
        """Gradient of ``sum(cell_weights * rates)`` in the decisions, shape (n_rows,)."""
        gradient = np.zeros(self.n_rows)
        for family in self.families:
            part = cell_weights[family.start : family.start + len(family.cells.scheme)]
            gradient += family.cells.pull_back(part)
        return gradient


def _check_present(family: Family) -> None:
    if len(family.present) >= 2 or isinstance(family.constraint, BoundedGroupLoss):
        return
    name = family.cells.rate.name
    raise InvalidDataError(
        f"{family.constraint.name} compares the {name} of at least two groups, but only "
        f"{len(family.present)} of {len(family.cells.scheme)} groups has rows it is defined on."
    )
