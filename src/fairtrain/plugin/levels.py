"""The level that all groups share under a parity of precision: the one number that is searched.

Precision at least c and at most c + b are linear in decisions for a known c, and prices keep them;
which c costs least is found by trying some.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fairtrain.constraints import Constraint, PredictiveParity
from fairtrain.constraints.limits import between
from fairtrain.exceptions import InvalidParameterError
from fairtrain.plugin.prices import CAP

__all__ = ["Levels", "best_levels", "parity_of", "with_levels"]

Levels = tuple[float, float]
"""Between which rates of all groups are kept."""

_COARSE = 7
"""Levels between the ends: what lies best is between two neighbours of the best of them."""

_FINE = 3  # rounds that halve the distance of neighbours: to a fiftieth of the range
_NARROWED = 3  # times that the range is narrowed by what counted rates exceed it
_ROOM = 1e-4  # of a rate, beyond what is exceeded
_DIGITS = 4


def parity_of(constraints: Sequence[Constraint]) -> PredictiveParity | None:
    """The parity whose level is to be searched, if there is one.

    Raises
    ------
    InvalidParameterError
        If there are several levels to search.
    """
    found = [c for c in constraints if isinstance(c, PredictiveParity)]
    if len(found) > 1 or any(c.given is not None for c in found):
        raise InvalidParameterError(
            f"{found[-1].name}: one level is searched, and here every parity and stratum has its "
            f"own; state it, as AtLeast({found[-1].rate!r}, level) and AtMost({found[-1].rate!r}, "
            "level + bound), which take over= and given=."
        )
    return found[0] if found else None


def with_levels(constraints: Sequence[Constraint], levels: Levels | None) -> tuple[Constraint, ...]:
    """The constraints, with a floor and a cap for the parity."""
    if levels is None:
        return tuple(constraints)
    return tuple(
        limit
        for c in constraints
        for limit in (between(c, *levels) if isinstance(c, PredictiveParity) else (c,))
    )


def best_levels(
    parity: PredictiveParity,
    free: NDArray[np.float64],
    tried: Callable[[Levels], tuple[float, float]],
    *,
    alone: bool,
) -> Levels:
    """Search the smallest rate of any group, and the largest with it.

    Below the free rates of all groups less the bound every cap pulls, and beyond all of them every
    floor does: the best level lies between.

    Parameters
    ----------
    parity : PredictiveParity
        What is asked.
    free : ndarray of shape (G,)
        Rates of unconstrained decisions; NaN where nobody is decided that way.
    tried : callable
        ``tried(levels)`` -> by how much bounds are exceeded, and the gain, which that is weighed
        against at the highest price that prices have: narrowing mends a small excess.
    alone : bool
        Whether nothing else is asked, which could move rates anywhere, up or down.
    """
    known = free[np.isfinite(free)]
    low, high = (float(known.min()), float(known.max())) if alone and len(known) else (0.0, 1.0)
    low = max(low - parity.bound, 0.0) if parity.kind == "difference" else low * parity.bound
    found: dict[float, float] = {}

    def look(level: float) -> None:
        level = round(min(max(level, 0.0), 1.0), _DIGITS)
        if level not in found:
            over, gain = tried((level, _top(parity, level)))
            found[level] = gain - CAP * max(over, 0.0)

    step = (high - low) / (_COARSE - 1)
    for k in range(_COARSE):
        look(low + k * step)
    for _ in range(_FINE):
        best, step = max(found, key=found.__getitem__), step / 2
        look(best - step)
        look(best + step)
    best = max(found, key=found.__getitem__)
    return _narrowed((best, _top(parity, best)), tried)


def _top(parity: PredictiveParity, level: float) -> float:
    top = level + parity.bound if parity.kind == "difference" else level / parity.bound
    return min(top, 1.0)


def _narrowed(levels: Levels, tried: Callable[[Levels], tuple[float, float]]) -> Levels:
    """The range less what decisions exceed it by, where that helps."""
    outcomes = {levels: tried(levels)[0]}
    for _ in range(_NARROWED):
        over = outcomes[levels]
        if over <= 0:
            break
        half = min((over + _ROOM) / 2, (levels[1] - levels[0]) / 4)
        levels = (levels[0] + half, levels[1] - half)
        outcomes[levels] = tried(levels)[0]
    return min(outcomes, key=outcomes.__getitem__)
