"""The one place where group rates are computed in NumPy: the mean of a quantity over an event.

A *cell* is one rate in one group, within one stratum if a constraint is given some. Hard groups are
summed by ``bincount``, memberships by a matrix product; the torch side of the same sentence is
:mod:`fairtrain.losses.functional`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fairtrain.constraints.base import Constraint
from fairtrain.constraints.families import RateFamily, families_of
from fairtrain.constraints.limits import linearised
from fairtrain.data.groups import Groups, group_sums
from fairtrain.exceptions import InvalidDataError

__all__ = ["CellRates", "CellRows", "GroupSums", "RateTable", "standardised"]

Floats = NDArray[np.float64]

GroupSums = Callable[[NDArray[Any], NDArray[Any], int], Floats]
"""Sum of values in every group, over all rows there are: the one place where rows meet.

With rows spread over several processes this is where sums are all-reduced.
"""


class CellRows:
    r"""The rows a mean is taken over in every group: those of an event that belong to one.

    .. math:: \bar v_g = \frac{\sum_i w_i m_{ig} v_i}{\sum_i w_i m_{ig}}

    Parameters
    ----------
    members : ndarray of int64, shape (n,), or of shape (n, G)
        Group of each row, -1 for none; or the probability :math:`m_{ig}` that it belongs to each.
    size : int
        Number of groups G.
    weight : ndarray of shape (n,), optional
        Weights of the rows.
    inside : ndarray of bool, shape (n,), optional
        Rows of the event; all by default.
    sums : callable, default=group_sums
        See :data:`GroupSums`.

    Attributes
    ----------
    rows : ndarray of int64, shape (m,), or slice
        Which of the n rows these are.
    totals : ndarray of shape (G,)
        Sum of weights; the count where there are none.
    effective : ndarray of shape (G,)
        Kish's effective count ``(sum w)^2 / sum w^2``; the count where weights are equal.
    """

    def __init__(
        self,
        members: NDArray[Any],
        size: int,
        weight: NDArray[Any] | None = None,
        inside: NDArray[np.bool_] | None = None,
        *,
        sums: GroupSums = group_sums,
    ) -> None:
        self.hard = members.ndim == 1
        keep = members >= 0 if self.hard else np.ones(len(members), dtype=bool)
        if inside is not None:
            keep &= inside
        self.rows: Any = slice(None) if keep.all() else np.flatnonzero(keep)
        self.members = members[self.rows]
        self.size = size
        self.weight = None if weight is None else weight[self.rows]
        self._sums = sums
        # Summed here, not on demand: processes that add their sums must ask in the same order.
        if self.hard and weight is None and sums is group_sums:
            self.totals = self.count.astype(np.float64)
        else:
            self.totals = self.sum(np.ones(len(self.members)))
        equal = self.hard and weight is None
        self.effective = self.totals if equal else self._kish()

    @cached_property
    def count(self) -> NDArray[np.int64]:
        """Number of rows in every group, shape (G,); of memberships the sum, rounded down."""
        if self.hard:
            return np.bincount(self.members, minlength=self.size)
        return np.asarray(np.floor(self.members.sum(axis=0) + 1e-9), dtype=np.int64)

    def sum(self, values: NDArray[Any]) -> Floats:
        """Weighted sum in every group, shape (G,), of one value for each of the m rows."""
        weighted = values if self.weight is None else values * self.weight
        return self._sums(weighted, self.members, self.size)

    def mean(self, values: NDArray[Any]) -> Floats:
        """Weighted mean in every group, shape (G,); NaN where it has no row."""
        return self._over_totals(self.sum(values))

    def variance(self, values: NDArray[Any]) -> Floats:
        """Sample variance in every group, by its effective count; NaN below two rows."""
        if self.hard:
            biased = self.mean((values - self.mean(values)[self.members]) ** 2)
        else:  # a row has as many deviations as groups; centred first, against cancellation
            centred = values - values.mean()
            biased = self.mean(centred**2) - self.mean(centred) ** 2
        n = self.effective
        share = np.divide(n, n - 1, out=np.full(self.size, np.nan), where=n > 1)
        return np.asarray(biased * share)

    def price(self, cell_weights: Floats, dtype: Any = np.float64) -> NDArray[Any]:
        """Derivative of ``sum(cell_weights * means)`` in each row's weighted value, shape (m,)."""
        scale = np.divide(cell_weights, self.totals, out=np.zeros(self.size), where=self.totals > 0)
        return self._spread(scale, dtype)

    def _spread(self, scale: Floats, dtype: Any) -> NDArray[Any]:
        """A number a group, for each of the m rows."""
        scale = scale.astype(dtype)
        return np.asarray(scale[self.members] if self.hard else self.members @ scale)

    def _kish(self) -> Floats:
        weight = np.ones(len(self.members)) if self.weight is None else self.weight
        members = self.members if self.hard else self.members**2
        squares = self._sums(weight**2, members, self.size)
        return np.divide(self.totals**2, squares, out=np.zeros(self.size), where=squares > 0)

    def _over_totals(self, sums: Floats) -> Floats:
        unknown = np.full(self.size, np.nan)
        return np.asarray(np.divide(sums, self.totals, out=unknown, where=self.totals > 0))


class CellRates(CellRows):
    r"""One rate in every group, as a function of the decisions of all rows.

    For decisions :math:`p_i \in \{0, 1\}`, or probabilities of one, any quantity is
    :math:`q(y_i, 0) + p_i\,(q(y_i, 1) - q(y_i, 0))`, so that rates are linear in them.

    Parameters
    ----------
    family : RateFamily
        What is measured, and over which groups.
    start : int
        Place of its first cell among those of a table.
    y : ndarray of shape (n,)
        Labels, 1 for the favourable one.
    members : ndarray of int64, shape (n,), or of shape (n, G)
        Finest group of each row, or memberships in them.
    weight, sums
        See :class:`CellRows`.
    linear : bool, default=True
        Whether it is measured at decisions. Otherwise the quantity is taken of predictions as it
        is: a loss of probabilities, or of values in regression.

    Attributes
    ----------
    part : slice
        Its cells among those of a table.
    slope : ndarray of shape (m,) or None
        Derivative of each row's weighted quantity in its decision; None if not linear.
    at_decisions : bool
        As ``linear`` said.
    y : ndarray of shape (m,)
        Labels of its rows.
    """

    def __init__(
        self,
        family: RateFamily,
        start: int,
        y: NDArray[Any],
        members: NDArray[Any],
        weight: NDArray[Any] | None = None,
        *,
        sums: GroupSums = group_sums,
        linear: bool = True,
    ) -> None:
        event = family.rate.event
        inside = None if event is None else np.asarray(event(y), dtype=bool)
        if family.strata is not None:
            if family.factor is None:
                rows = CellRows(members, len(family.parent), weight, inside, sums=sums)
                family = replace(family, factor=family.standard_weights(rows.totals))
            members, weight, inside = standardised(family, members, weight, inside)
        super().__init__(family.merged(members), len(family.scheme), weight, inside, sums=sums)
        self.family = family
        self.part = slice(start, start + self.size)
        self.y = y[self.rows]
        self.at_decisions = linear
        self.slope: NDArray[Any] | None = None
        if linear and family.rate.among is None:
            kind, quantity = self.y.dtype, family.rate.quantity
            base = np.asarray(quantity(self.y, np.zeros_like(self.y)), dtype=kind)
            slope = np.asarray(quantity(self.y, np.ones_like(self.y)), dtype=kind) - base
            self.slope = slope if self.weight is None else slope * self.weight
            self._base = self.sum(base)

    def __call__(self, decisions: NDArray[Any]) -> Floats:
        """Rate of every group, shape (G,); NaN where the event has no row."""
        chosen = decisions[self.rows]
        if self.family.rate.among is not None:
            return self._ratio(chosen)[0]
        if self.slope is None:
            return self.mean(np.asarray(self.family.rate.quantity(self.y, chosen)))
        return self._over_totals(
            self._base + self._sums(self.slope * chosen, self.members, self.size)
        )

    def effective_at(self, decisions: NDArray[Any]) -> Floats:
        """Effective count behind every rate, shape (G,): of those alone who are among some."""
        among = self.family.rate.among
        if among is None:
            return self.effective
        share = np.asarray(among(self.y, decisions[self.rows]))
        squared = share**2 if self.weight is None else (share * self.weight) ** 2
        members = self.members if self.hard else self.members**2
        total, squares = self.sum(share), self._sums(squared, members, self.size)
        return np.divide(total**2, squares, out=np.zeros(self.size), where=squares > 0)

    def pull(self, decisions: NDArray[Any], cell_weights: Floats) -> NDArray[Any]:
        """Derivative of ``sum(cell_weights * rates)`` in each row's decision, shape (m,).

        Parameters
        ----------
        decisions : ndarray of shape (n,)
            Where it is taken; of no import for a linear rate.
        cell_weights : ndarray of shape (G,)
            Weight of every rate.
        """
        if self.slope is not None:
            return np.asarray(self.price(cell_weights, self.y.dtype) * self.slope)
        rate, kind = self.family.rate, self.y.dtype
        assert rate.among is not None  # the ratio of two linear functions
        rates, counted = self._ratio(decisions[self.rows])
        scale = np.divide(cell_weights, counted, out=np.zeros(self.size), where=counted > 0)
        hits, shares = (
            of_one - of_none
            for of_none, of_one in zip(*(self._hits(end) for end in (0.0, 1.0)), strict=True)
        )
        slope = self._spread(scale, kind) * hits
        slope = slope - self._spread(scale * np.nan_to_num(rates), kind) * shares
        return np.asarray(slope if self.weight is None else slope * self.weight)

    def _hits(self, chosen: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """What the rows add above and below the line of a rate among some."""
        rate, chosen = self.family.rate, np.broadcast_to(chosen, self.y.shape)
        assert rate.among is not None
        share = np.asarray(rate.among(self.y, chosen), dtype=self.y.dtype)
        return share * np.asarray(rate.quantity(self.y, chosen), dtype=self.y.dtype), share

    def _ratio(self, chosen: NDArray[Any]) -> tuple[Floats, Floats]:
        """Rates among those who are decided one way, and the sum of these."""
        hits, shares = self._hits(chosen)
        counted, unknown = self.sum(shares), np.full(self.size, np.nan)
        rates = np.divide(self.sum(hits), counted, out=unknown, where=counted > 0)
        return np.asarray(rates), counted

    def sweep(
        self, order: NDArray[np.int64], start: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> Floats:
        """Rates at decisions that favour the first rows of every group; see `RateTable.sweep`."""
        assert self.slope is not None  # rates of decisions
        gain = np.zeros(len(order))
        gain[self.rows] = self.slope
        running = np.append(0.0, np.cumsum(gain[order]))
        sums = self._base[:, None] + running[ends] - running[start][:, None]
        unknown, known = np.full(sums.shape, np.nan), self.totals[:, None] > 0
        return np.asarray(np.divide(sums, self.totals[:, None], out=unknown, where=known))

    @cached_property
    def present(self) -> NDArray[np.int64]:
        """Groups that have rows in the event and take part (weight above 0)."""
        return np.flatnonzero((self.totals > 0) & (self.family.bounds.importance > 0))

    @cached_property
    def shares(self) -> Floats:
        """Share of every group among the event's rows."""
        return np.asarray(self.totals / self.totals.sum())


def standardised(
    family: RateFamily,
    members: NDArray[Any],
    weight: NDArray[Any] | None,
    inside: NDArray[np.bool_] | None,
) -> tuple[NDArray[Any], NDArray[Any] | None, NDArray[np.bool_] | None]:
    """Weigh rows so that every group has the same strata: a mean is then one over the strata.

    Parameters
    ----------
    family : RateFamily
        With ``strata``.
    members, weight, inside
        See :class:`CellRows`; groups are the finest ones.

    Returns
    -------
    members, weight, inside
        The same, weighed; of memberships these are, and not the rows.
    """
    factor = family.factor
    if factor is None:
        factor = family.standard_weights(
            CellRows(members, len(family.parent), weight, inside).totals
        )
    if members.ndim == 2:
        return members * factor, weight, inside
    own = np.where(members >= 0, factor[members], 0.0)
    if weight is not None:
        own = (own * weight).astype(weight.dtype)
    met = own > 0
    return members, own, met if inside is None else inside & met


class RateTable:
    """All rates that a list of families compares, one after the other.

    Parameters
    ----------
    families : sequence of RateFamily
        What is compared.
    y, members, weight, sums
        The rows; see :class:`CellRates`.
    linear : sequence of bool, optional
        For each family, whether it is measured at decisions; all are by default.

    Attributes
    ----------
    cells : list of CellRates
        One entry a family.
    n_cells : int
        Length of a vector of rates.
    """

    def __init__(
        self,
        families: Sequence[RateFamily],
        y: NDArray[Any],
        members: NDArray[Any],
        weight: NDArray[Any] | None = None,
        *,
        sums: GroupSums = group_sums,
        linear: Sequence[bool] | None = None,
    ) -> None:
        self.y, self.weight = y, weight
        self.cells: list[CellRates] = []
        self.n_cells = 0
        for i, family in enumerate(families):
            at_decisions = linear is None or linear[i]
            cells = CellRates(
                family, self.n_cells, y, members, weight, sums=sums, linear=at_decisions
            )
            self.cells.append(cells)
            self.n_cells = cells.part.stop

    @classmethod
    def comparing(
        cls,
        constraints: Sequence[Constraint],
        y: NDArray[Any],
        groups: Groups,
        weight: Floats | None = None,
    ) -> Self:
        """Rates of a list of constraints, each with something to compare.

        Raises
        ------
        InvalidDataError
            If a parity is left with fewer than two groups that have rows in its event.
        """
        families = families_of(linearised(constraints), groups.scheme)
        table = cls(families, np.asarray(y, dtype=np.float64), groups.members, weight)
        # In some strata there may be nothing to compare.
        compared = {
            (id(c.family.constraint), c.family.rate)
            for c in table.cells
            if len(c.present) > 1 or c.family.constraint.absolute
        }
        for cells in table.cells:
            constraint = cells.family.constraint
            if (id(constraint), cells.family.rate) not in compared:
                raise InvalidDataError(
                    f"{constraint.name} compares the {cells.family.rate.name} of at least two "
                    f"groups, but only {len(cells.present)} of {cells.size} groups has rows it is "
                    "defined on."
                )
        return table

    @cached_property
    def totals(self) -> Floats:
        """Sum of weights behind every rate, shape (n_cells,)."""
        return np.array([total for cells in self.cells for total in cells.totals])

    @cached_property
    def effective(self) -> Floats:
        """Effective number of rows behind every rate (Kish), shape (n_cells,)."""
        return np.array([n for cells in self.cells for n in cells.effective])

    def __call__(self, decisions: NDArray[Any], predictions: NDArray[Any] | None = None) -> Floats:
        """Rates of all cells, shape (n_cells,); NaN for an empty one.

        Parameters
        ----------
        decisions : ndarray of shape (n,)
            Decisions, or probabilities of one.
        predictions : ndarray of shape (n,), optional
            What families that are not linear are measured at; the decisions by default.
        """
        soft = decisions if predictions is None else predictions
        return np.concatenate([c(decisions if c.at_decisions else soft) for c in self.cells])

    def effective_at(self, decisions: NDArray[Any]) -> Floats:
        """Effective number of rows behind every rate at some decisions, shape (n_cells,)."""
        return np.concatenate([cells.effective_at(decisions) for cells in self.cells])

    def sweep(
        self, order: NDArray[np.int64], start: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> Floats:
        """Rates at many cuts of every group at once: its best rows decided favourably, no others.

        One running sum a family, where a call for each of K cuts would read all rows K times.

        Parameters
        ----------
        order : ndarray of int64, shape (n,)
            Rows, group by group, those that are favoured first in front.
        start : ndarray of int64, shape (G,)
            Place in it where each group begins.
        ends : ndarray of int64, shape (G, K)
            Places behind the last row that is favoured, for every cut.

        Returns
        -------
        ndarray of shape (F, G, K)
            For every family; NaN where the event has no row. All families must compare the same
            hard groups.
        """
        return np.stack([cells.sweep(order, start, ends) for cells in self.cells])

    def error(self, decisions: NDArray[Any]) -> float:
        """Weighted share of wrong decisions."""
        return float(np.average(np.abs(self.y - decisions), weights=self.weight))

    def pull_back(self, cell_weights: Floats) -> Floats:
        """Gradient of ``sum(cell_weights * rates)`` in the decisions, shape (n,)."""
        gradient = np.zeros(len(self.y))
        for cells in self.cells:
            assert cells.slope is not None  # rates of decisions
            gradient[cells.rows] += cells.price(cell_weights[cells.part]) * cells.slope
        return gradient
