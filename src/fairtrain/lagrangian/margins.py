"""What steering rows tell the multipliers: rates with small groups steadied, and margins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fairtrain.constraints import BoundedGroupLoss
from fairtrain.constraints.families import RateFamily
from fairtrain.metrics.cells import Cells
from fairtrain.metrics.limits import limited

__all__ = ["steering_rates", "working_margins"]

Floats = NDArray[np.float64]

_LEAST_BOUND = 0.1
"""Share of a bound that a margin leaves: a bound of 0 could be kept by a constant alone."""


def steering_rates(
    families: Sequence[RateFamily], sums: Floats, counts: Floats, *, min_count: int = 0
) -> Floats:
    r"""Rates of all cells, those of small groups pulled towards their parents.

    .. math:: \tilde r_g = c_g + \min(1, n_g / m)\,(r_g - c_g)

    with :math:`c_g` the mean rate of the next coarser groups that contain g (all rows, for a single
    column) and m ``min_count``. A multiplier that followed the rate of five rows would follow
    their noise.

    Parameters
    ----------
    families : sequence of RateFamily
        Whose rates.
    sums, counts : ndarray of shape (n_cells,)
        Sum of the quantity over the event's rows, and their (effective) number.
    min_count : int, default=0
        Groups with fewer rows are pulled.

    Returns
    -------
    ndarray of shape (n_cells,)
        NaN where a group has no rows.
    """
    rates: Floats = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
    if not ((counts > 0) & (counts < min_count)).any():
        return rates
    start = 0
    for family in families:
        part = slice(start, start + len(family.scheme))
        rates[part] = _pulled(family, rates[part], sums[part], counts[part], min_count)
        start = part.stop
    return rates


def _pulled(
    family: RateFamily, rates: Floats, sums: Floats, counts: Floats, min_count: int
) -> Floats:
    above = []
    for size, parent in family.coarser:
        total = np.bincount(parent, weights=sums, minlength=size)
        rows = np.bincount(parent, weights=counts, minlength=size)
        above.append((total / np.where(rows > 0, rows, 1.0))[parent])
    centre = np.mean(above, axis=0)
    trust = np.minimum(1.0, counts / min_count)
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
    margins, start = np.zeros(len(families)), 0
    for i, family in enumerate(families):
        part = slice(start, start + len(family.scheme))
        start = part.stop
        margins[i] = _margin(family, rates[part], counts[part], confidence)
    return margins


def _margin(family: RateFamily, rates: Floats, counts: Floats, confidence: float) -> float:
    constraint = family.constraint
    kept = np.isfinite(rates) & (counts > 0) & (family.bounds.importance > 0)
    absolute = isinstance(constraint, BoundedGroupLoss)
    if kept.sum() < (1 if absolute else 2):
        return 0.0
    rows = np.where(kept, counts, 0.0)
    cells = Cells(
        mean=np.where(kept, rates, np.nan),
        count=rows.astype(np.int64),
        effective=rows,
        total=rows,
        variance=None,
    )
    if not ((rates[kept] >= 0) & (rates[kept] <= 1)).all():
        return 0.0
    found = limited(constraint, cells, confidence, len(constraint.rates))
    if constraint.kind == "ratio":
        return float(min(found.achieved - found.lower, (1 - _LEAST_BOUND) * (1 - constraint.bound)))
    return float(min(found.upper - found.achieved, (1 - _LEAST_BOUND) * constraint.bound))
