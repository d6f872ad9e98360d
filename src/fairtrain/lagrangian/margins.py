"""What steering rows tell the multipliers: rates with small groups shrunk, and margins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fairtrain.constraints.bounds import cell_parts
from fairtrain.constraints.families import RateFamily
from fairtrain.constraints.rates import Excess
from fairtrain.exceptions import InvalidParameterError
from fairtrain.metrics.cells import Cells
from fairtrain.metrics.limits import limited

__all__ = ["steering_rates", "working_margins"]

Floats = NDArray[np.float64]

_LEAST_BOUND = 0.1
"""Share of a bound that a margin leaves: a bound of 0 could be kept by a constant alone.

Of boosting's fits at .95 (demographic parity, `benchmarks/margins.py`) .1, .25 and .5 broke the
bound in 57, 60 and 52 % of 42 on 2,000 rows, and in 20, 43 and 64 % of 14 on 8,000, at accuracies
of .786, .788, .792 and .799, .798, .802.
"""


def steering_rates(
    families: Sequence[RateFamily], rates: Floats, rows: Floats, *, min_count: int = 0
) -> Floats:
    r"""Rates of all cells, those of small groups shrunk towards their parents.

    .. math:: \tilde r_g = c_g + \min(1, n_g / m)\,(r_g - c_g)

    with :math:`c_g` the mean rate of the next coarser groups that contain g (all rows, for a single
    column) and m ``min_count``. A multiplier that followed the rate of five rows would follow
    their noise.

    Parameters
    ----------
    families : sequence of RateFamily
        Whose rates.
    rates, rows : ndarray of shape (n_cells,)
        Rates (NaN where a group has no rows), and the (effective) rows they rest on.
    min_count : int, default=0
        Groups with fewer rows are shrunk.

    Returns
    -------
    ndarray of shape (n_cells,)
        NaN where a group has no rows.
    """
    if not ((rows > 0) & (rows < min_count)).any():
        return rates
    parts = cell_parts(len(family.scheme) for family in families)
    return np.concatenate(
        [
            _shrunk(family, rates[part], rows[part], min_count)
            for family, part in zip(families, parts, strict=True)
        ]
    )


def _shrunk(family: RateFamily, rates: Floats, rows: Floats, min_count: int) -> Floats:
    sums, above = np.nan_to_num(rates) * rows, []
    for size, parent in family.coarser:
        total = np.bincount(parent, weights=sums, minlength=size)
        below = np.bincount(parent, weights=rows, minlength=size)
        above.append((total / np.where(below > 0, below, 1.0))[parent])
    centre = np.mean(above, axis=0)
    trust = np.minimum(1.0, rows / min_count)
    return np.asarray(centre + trust * (rates - centre))


def working_margins(
    families: Sequence[RateFamily], rates: Floats, counts: Floats, confidence: float
) -> Floats:
    """How much each bound must be tightened so that its confidence limit keeps it.

    The distance from what was achieved to its limit on the far side, at most nine tenths of the
    bound: rows that leave less room cannot show the bound to be kept by any model.

    Parameters
    ----------
    families : sequence of RateFamily
        Whose bounds.
    rates, counts : ndarray of shape (n_cells,)
        Rates and the effective rows they rest on.
    confidence : float in (0, 1)
        Level of the limit.

    Returns
    -------
    ndarray of shape (n_families,)
        0 where there is nothing to compare.
    """
    parts = cell_parts(len(family.scheme) for family in families)
    return np.array(
        [
            _margin(family, rates[part], counts[part], confidence)
            for family, part in zip(families, parts, strict=True)
        ]
    )


def _margin(family: RateFamily, rates: Floats, counts: Floats, confidence: float) -> float:
    constraint = family.constraint
    kept = np.isfinite(rates) & (counts > 0) & (family.bounds.importance > 0)
    if kept.sum() < (1 if constraint.absolute else 2):
        return 0.0
    if isinstance(family.rate.quantity, Excess):
        raise InvalidParameterError(
            f"confidence knows no limits of {constraint.name} while a model is trained: leave it "
            "out and state a stricter number."
        )
    seen, rows = rates[kept], counts[kept]
    if not ((seen >= 0) & (seen <= 1)).all():
        return 0.0
    cells = Cells(mean=seen, count=rows.astype(np.int64), effective=rows, total=rows, variance=None)
    shift = constraint.shifts(family.scheme.names)[kept]
    limits = limited(constraint, cells, confidence, len(constraint.rates), shift)
    least = constraint.larger_is_fairer
    needed = limits.achieved - limits.lower if least else limits.upper - limits.achieved
    return float(min(needed, (1 - _LEAST_BOUND) * family.bounds.room))
