"""Which iterate is kept: the best one that keeps every bound, else the least violating."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairtrain.constraints.bounds import RateBounds

__all__ = ["Candidate", "IterateChoice"]


@dataclass(frozen=True)
class Candidate:
    """One iterate, as it did on the rows that choose.

    Attributes
    ----------
    when : int
        Epoch or round, from 0.
    performance : float
        Larger is better: accuracy, or a loss with its sign turned.
    excess : tuple of float
        Amount by which each bound is exceeded, in units of its rate; 0 or below where it is kept,
        NaN where there is nothing to compare.
    near_constant : bool
        Whether (almost) everybody gets the same decision.
    """

    when: int
    performance: float
    excess: tuple[float, ...]
    near_constant: bool = False


class IterateChoice:
    """Keep the best candidate seen so far.

    A candidate that keeps every bound beats one that does not; among those that keep them one that
    tells people apart beats one that is near constant, then the better performance decides. Where
    none keeps every bound, the bound of highest priority decides first, by how far it is exceeded.

    Parameters
    ----------
    bounds : sequence of RateBounds
        The bounds, for their priorities.
    tolerance : float, default=0
        Excess that still counts as kept, as a share of the bound (of 1 minus the bound, for a
        ratio).
    warm_up : int, default=0
        Candidates before this one are looked at only while there is no other: early iterates are
        near constant, and keep any parity.

    Attributes
    ----------
    best : Candidate or None
        The choice so far.
    """

    def __init__(
        self, bounds: Sequence[RateBounds], *, tolerance: float = 0.0, warm_up: int = 0
    ) -> None:
        self.priority = np.array([b.constraint.priority for b in bounds])
        self.allowed = np.array([1e-9 + tolerance * b.room for b in bounds])
        self.warm_up = warm_up
        self.best: Candidate | None = None

    def offer(self, candidate: Candidate) -> bool:
        """Look at a candidate; True if it becomes the best."""
        if self.best is None or self._key(candidate) > self._key(self.best):
            self.best = candidate
            return True
        return False

    def is_feasible(self, candidate: Candidate) -> bool:
        """Whether every bound is kept, within the tolerance."""
        return bool((self._over(candidate) <= 0).all())

    def state_dict(self) -> dict[str, Any]:
        """Return what has to be kept to go on later."""
        return {"best": None if self.best is None else asdict(self.best)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        best = state["best"]
        self.best = None if best is None else Candidate(**{**best, "excess": tuple(best["excess"])})

    def _over(self, candidate: Candidate) -> NDArray[np.float64]:
        excess = np.nan_to_num(np.array(candidate.excess), nan=-math.inf)
        return np.asarray(np.maximum(excess - self.allowed, 0.0))

    def _key(self, candidate: Candidate) -> tuple[Any, ...]:
        over = self._over(candidate)
        levels = sorted(set(self.priority.tolist()), reverse=True)
        worst = tuple(-round(float(over[self.priority == level].max()), 12) for level in levels)
        feasible = not over.any()
        performance = candidate.performance
        return (
            candidate.when >= self.warm_up,
            feasible,
            feasible and not candidate.near_constant,
            worst,
            performance if math.isfinite(performance) else -math.inf,
        )
