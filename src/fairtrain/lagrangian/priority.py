"""Bounds that cannot all hold: those of lower priority give way first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairtrain.constraints.bounds import RateBounds
from fairtrain.lagrangian.multipliers import Multipliers

__all__ = ["Yielding", "is_useless"]


def is_useless(performance: float, constant: float, rows: float) -> bool:
    """Whether predictions are no better than the best constant, within a standard error.

    Parameters
    ----------
    performance, constant : float
        Accuracy, or a loss with its sign turned (which counts as free of noise); -inf where the
        constant's is unknown.
    rows : float
        Effective rows they rest on.
    """
    noise = np.sqrt(max(constant * (1 - constant), 0.0) / max(rows, 1.0))
    return bool(performance <= constant + noise + 1e-9)


class Yielding:
    """Loosen the bounds of lowest priority while keeping all of them costs everything.

    Called once an epoch (or every so many rounds). When the model predicts no better than the best
    constant, or a bound is at its cap, although ``patience`` calls have passed, the working bound
    of the lowest priority that still has a price is loosened, each time by more, and its
    multipliers are halved so that the model recovers soon. Constraints of equal priority have the
    same claim: with a single level nothing gives way, and the outcome says what is broken.

    Parameters
    ----------
    bounds : sequence of RateBounds
        The bounds, with the priorities of their constraints.
    step : float, default=0.5
        First loosening, as a share of the bound (of 1 - bound, for a ratio).
    patience : int, default=2
        Calls that must agree before something gives way.

    Attributes
    ----------
    slack : ndarray of shape (n_bounds,)
        How far each bound has given way, in its own units.
    """

    def __init__(
        self, bounds: Sequence[RateBounds], *, step: float = 0.5, patience: int = 2
    ) -> None:
        self.priority = np.array([b.constraint.priority for b in bounds])
        self.slack = np.zeros(len(bounds))
        self._step = step * np.array(
            [b.room if b.constraint.kind == "ratio" else max(b.room, 0.01) for b in bounds]
        )
        self._patience = patience
        self._stuck = 0

    def look(self, multipliers: Multipliers, *, useless: bool) -> NDArray[np.float64]:
        """Decide whether something has to give way.

        Parameters
        ----------
        multipliers : Multipliers
            The multipliers of the same bounds.
        useless : bool
            Whether the model predicts no better than the best constant.

        Returns
        -------
        ndarray of shape (n_bounds,)
            The slack of every bound, which a caller takes off its margins.
        """
        if len(set(self.priority.tolist())) < 2:
            return self.slack
        self._stuck = self._stuck + 1 if useless or multipliers.at_cap.any() else 0
        if self._stuck < self._patience:
            return self.slack
        self._stuck = 0
        lower = (multipliers.sums > 0) & (self.priority < self.priority.max())
        if lower.any():
            first = lower & (self.priority == self.priority[lower].min())
            self.slack = np.where(first, 2 * self.slack + self._step, self.slack)
            for i in np.flatnonzero(first):
                multipliers.values[:, multipliers.slices[i]] *= 0.5
        return self.slack

    def state_dict(self) -> dict[str, Any]:
        """Return what has to be kept to go on later."""
        return {"slack": self.slack.copy(), "stuck": self._stuck}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        self.slack, self._stuck = np.array(state["slack"], dtype=np.float64), int(state["stuck"])
