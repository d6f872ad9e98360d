"""The one dual loop: what prices are charged, how they move, and which iterate is kept.

NumPy only. Boosting and the network trainers measure rates and tell them here; prices come back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairtrain.constraints.families import RateFamily
from fairtrain.lagrangian.margins import steering_rates, working_margins
from fairtrain.lagrangian.multipliers import DualRule, Multipliers
from fairtrain.lagrangian.priority import Yielding, is_useless
from fairtrain.lagrangian.selection import Candidate, IterateChoice
from fairtrain.lagrangian.tuning import SPARE, Tuning
from fairtrain.metrics.report import NEAR_CONSTANT

__all__ = ["DualController", "DualSettings"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DualSettings:
    """How the dual loop is run.

    Attributes
    ----------
    tuning : Tuning
        What differs between networks and boosting.
    iterates : int
        Most iterates that will be offered.
    cap : float
        Largest sum of a bound's multipliers on either side.
    confidence : float or None
        Level at which bounds are to hold on the rows that steer; None: as measured.
    min_count : int
        Groups with fewer rows steer by their parents.
    constant : float
        Performance of the best constant prediction on the rows that steer; -inf if unknown.
    spare : float
        Share of a parity's bound (of 1 minus a ratio's) that multipliers leave unused.
    tolerance : float
        Excess that counts as none when an iterate is chosen, as a share of the bound.
    """

    tuning: Tuning
    iterates: int
    cap: float
    confidence: float | None
    min_count: int
    constant: float
    spare: float = SPARE
    tolerance: float = 0.0


class DualController:
    """Multipliers, the bounds they work on, the choice of an iterate, and the record of it all.

    A caller charges :attr:`prices`, tells the rates that came of it (:meth:`look`), offers what it
    could deploy (:meth:`offer`) and lets bounds give way (:meth:`give_way`).

    Parameters
    ----------
    families : sequence of RateFamily
        What is compared; cell ``i`` of all is a rate in a group.
    rule : DualRule
        How multipliers move.
    settings : DualSettings
        The rest.
    units : sequence of float, optional
        What a violation of each family counts; default: 1.

    Attributes
    ----------
    multipliers : Multipliers
        Their bounds are the working bounds: tightened by their uncertainty and by what is spared,
        loosened by what gave way.
    choice : IterateChoice
        Which iterate is kept.
    yielding : Yielding
        Which bounds gave way, and how far.
    candidate : Candidate or None
        The last iterate offered.
    excess, sums : list of ndarray of shape (n_families,)
        Excess over the working bounds that multipliers moved by, and their sums after it: one of
        each at every move.

    Examples
    --------
    >>> from fairtrain.constraints import DemographicParity
    >>> from fairtrain.data.groups import Groups
    >>> from fairtrain.lagrangian import NETWORKS, Ascent, families_of
    >>> scheme = Groups.from_sensitive(["a", "b"]).scheme
    >>> families = families_of([DemographicParity(difference_bound=0.1)], scheme)
    >>> settings = DualSettings(NETWORKS, 3, 50.0, confidence=None, min_count=30, constant=0.5)
    >>> dual = DualController(families, Ascent(lr=1.0), settings)
    >>> rates, rows = np.array([0.7, 0.3]), np.array([100.0, 100.0])
    >>> dual.look(rates, rows).round(3).tolist()  # push the first rate down, the second up
    [0.155, -0.155]
    >>> dual.offer(0, rates, rows, performance=0.8, minority=0.5)
    True
    >>> round(dual.record()["worst_excess"], 3)
    0.3
    """

    def __init__(
        self,
        families: Sequence[RateFamily],
        rule: DualRule,
        settings: DualSettings,
        units: Sequence[float] | Floats | None = None,
    ) -> None:
        self.families = list(families)
        self.settings = settings
        units = np.ones(len(self.families)) if units is None else units
        bounds = [
            replace(family.bounds, importance=family.bounds.importance * unit)
            for family, unit in zip(self.families, units, strict=True)
        ]
        tuning = settings.tuning
        self.multipliers = Multipliers(bounds, rule, cap=settings.cap)
        self.choice = IterateChoice(
            bounds, tolerance=settings.tolerance, warm_up=tuning.warm_up_of(settings.iterates)
        )
        self.yielding = Yielding(bounds)
        self.candidate: Candidate | None = None
        self.excess: list[Floats] = []
        self.sums: list[Floats] = []
        self._spare = np.array(
            [
                b.room * (tuning.spare_of_loss if b.reference == "none" else settings.spare)
                for b in bounds
            ]
        )
        self._promised = bounds
        self._until_yielding = tuning.yield_every

    @property
    def prices(self) -> Floats:
        """Derivative of the Lagrangian in every cell's rate, shape (n_cells,)."""
        return self.multipliers.prices()

    def shrunk(self, rates: Floats, rows: Floats) -> Floats:
        """Rates with those of small groups steadied by their parents."""
        return steering_rates(self.families, rates, rows, min_count=self.settings.min_count)

    def look(self, rates: Floats, rows: Floats) -> Floats:
        """Set the working bounds, move the multipliers by the rates, and return new prices.

        Parameters
        ----------
        rates, rows : ndarray of shape (n_cells,)
            Hard rates of the rows that steer (NaN: a group without rows), and the effective rows
            they rest on.
        """
        rates = self.shrunk(rates, rows)
        self._tighten(self._margins(rates, rows) + self._spare)
        return self.move(rates)

    def move(self, rates: Floats) -> Floats:
        """Move the multipliers by rates of the caller's own, and return new prices."""
        self.excess.append(self.multipliers.excess(rates))
        self.multipliers.update(rates)
        self.sums.append(self.multipliers.sums)
        return self.prices

    def offer(
        self, when: int, rates: Floats, rows: Floats, performance: float, minority: float
    ) -> bool:
        """Offer what could be deployed now; True if it is the best so far.

        Parameters
        ----------
        when : int
            Epoch or round, from 0.
        rates, rows : ndarray of shape (n_cells,)
            As in :meth:`look`.
        performance : float
            Larger is better.
        minority : float
            Share of rows that do not get the most frequent decision; 1 where there are none.
        """
        margins = self._margins(rates, rows)
        self._tighten(margins)
        self._promised = list(self.multipliers.bounds)
        excess = self.multipliers.excess(rates)
        self._tighten(margins + self._spare)
        near_constant = minority <= NEAR_CONSTANT + 1e-9
        self.candidate = Candidate(when, performance, tuple(excess.tolist()), near_constant)
        return self.choice.offer(self.candidate)

    def give_way(self, performance: float, rows: float) -> None:
        """Let bounds of low priority give way where all together cost everything.

        Parameters
        ----------
        performance : float
            Of the iterate just offered, on the rows that steer.
        rows : float
            Their number.
        """
        self._until_yielding -= 1
        if self._until_yielding == 0:
            self._until_yielding = self.settings.tuning.yield_every
            useless = is_useless(performance, self.settings.constant, rows)
            self.yielding.look(self.multipliers, useless=useless)

    def record(self) -> dict[str, Any]:
        """What an epoch's or a round's row says: the last offer, its bounds, and the multipliers.

        ``bound: ...`` is the bound that the offer was measured by: without what is spared.
        """
        assert self.candidate is not None
        known = [e for e in self.candidate.excess if np.isfinite(e)]
        record: dict[str, Any] = {
            "feasible": self.choice.is_feasible(self.candidate),
            "worst_excess": max(known, default=np.nan),
        }
        for family, bounds, total in zip(
            self.families, self._promised, self.multipliers.sums.tolist(), strict=True
        ):
            record[f"bound: {family.name}"] = bounds.bound
            record[f"multipliers: {family.name}"] = total
        return record

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on later, bit for bit."""
        return {
            "multipliers": self.multipliers.state_dict(),
            "choice": self.choice.state_dict(),
            "yielding": self.yielding.state_dict(),
            "excess": np.array(self.excess),
            "sums": np.array(self.sums),
            "until_yielding": self._until_yielding,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state of the same families."""
        self.multipliers.load_state_dict(state["multipliers"])
        self.choice.load_state_dict(state["choice"])
        self.yielding.load_state_dict(state["yielding"])
        self.excess, self.sums = list(state["excess"]), list(state["sums"])
        self._until_yielding = int(state["until_yielding"])

    def _margins(self, rates: Floats, rows: Floats) -> Floats:
        """How far bounds are tightened by their uncertainty, less what gave way."""
        margins = np.zeros(len(self.families))
        if self.settings.confidence is not None:
            margins = working_margins(self.families, rates, rows, self.settings.confidence)
        return margins - self.yielding.slack

    def _tighten(self, margins: Floats) -> None:
        for i, margin in enumerate(margins.tolist()):
            self.multipliers.set_margin(i, margin)
