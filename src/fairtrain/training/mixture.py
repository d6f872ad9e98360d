"""The best mixture of two iterates (Cotter et al., 2019: shrinking)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairtrain.constraints.bounds import RateBounds

__all__ = ["TwoPoints", "best_mixture"]

Floats = NDArray[np.float64]

_SHARES = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class TwoPoints:
    """Two iterates and the share of decisions that the first one makes.

    Attributes
    ----------
    first, second : int
        Places among the iterates.
    share : float
        Share of the first, in [0, 1]; 1 where one iterate alone is best.
    """

    first: int
    second: int
    share: float


def best_mixture(
    rates: Floats, performance: Floats, bounds: Sequence[RateBounds], tolerance: float = 1e-9
) -> TwoPoints | None:
    r"""Find the most accurate mixture of two iterates that keeps every bound.

    Rates of a mixture are mixtures of rates, so :math:`q\, r_s + (1 - q)\, r_t` may keep a bound
    that neither iterate keeps. All pairs are tried at shares of 0, 0.01, ... 1.

    Parameters
    ----------
    rates : ndarray of shape (T, n_cells)
        Hard rates of every iterate.
    performance : ndarray of shape (T,)
        Accuracy of every iterate.
    bounds : sequence of RateBounds
        The bounds, in the order of the cells.
    tolerance : float, default=1e-9
        Excess that counts as none.

    Returns
    -------
    TwoPoints or None
        None where no mixture keeps every bound.
    """
    best: tuple[float, TwoPoints] | None = None
    for s in range(len(rates)):
        for t in range(s, len(rates)):
            mixed = np.outer(_SHARES, rates[s]) + np.outer(1 - _SHARES, rates[t])
            kept = np.ones(len(_SHARES), dtype=bool)
            start = 0
            for b in bounds:
                part = slice(start, start + b.n_groups)
                start = part.stop
                excess = b.excess(mixed[:, part])
                kept &= ~(excess > tolerance)  # NaN: there is nothing to compare
            if not kept.any():
                continue
            gain = _SHARES * performance[s] + (1 - _SHARES) * performance[t]
            place = int(np.argmax(np.where(kept, gain, -np.inf)))
            if best is None or gain[place] > best[0] + 1e-12:
                best = float(gain[place]), TwoPoints(s, t, float(_SHARES[place]))
    return None if best is None else best[1]
