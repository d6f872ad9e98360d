"""How a reduction went: one row an iteration."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairtrain.constraints.table import RateTable
from fairtrain.reductions.moments import BincountMoment

__all__ = ["iteration_history"]

Floats = NDArray[np.float64]


def _widest_gap(table: RateTable, rates: Floats) -> float:
    """Largest difference between two groups over all rates that are compared."""
    gaps = [np.ptp(rates[cells.part][cells.present]) for cells in table.cells]
    return float(max(gaps))


def iteration_history(moment: BincountMoment, asked: Floats, *, norm: float) -> pd.DataFrame:
    """Rebuild the iterations of the exponentiated gradient from its oracle calls.

    Parameters
    ----------
    moment : BincountMoment
        The constraints, with the log of the calls.
    asked : ndarray of shape (rows, iterations)
        Multipliers at each iteration.
    norm : float
        Largest sum of multipliers (fairlearn's B).

    Returns
    -------
    DataFrame
        ``error``, ``gap`` (pairwise), ``violation`` (of the worst row, 0 or below when all hold)
        and ``duality_gap`` of the average over all iterations so far, ``best_gap`` (smallest
        duality gap so far), then one multiplier a constraint row.
    """
    errors, rates = np.array(moment.calls.errors), np.array(moment.calls.rates)
    excess = rates @ moment.rows.matrix.T - moment.rows.limits
    rows, chosen, call = [], np.zeros(len(errors)), -1
    for t in range(asked.shape[1]):
        call = _next_call(moment.calls.multipliers, asked[:, t], call + 1)
        seen = slice(0, call + 1)
        values = errors[seen] + excess[seen] @ asked[:, t]
        chosen[int(np.argmin(values))] += 1
        share = chosen / chosen.sum()
        mean = asked[:, : t + 1].mean(axis=1)
        error, violation = float(share @ errors), float((share @ excess).max())
        here = error + float(mean @ (share @ excess))
        low = float((errors[seen] + excess[seen] @ mean).min())
        high = error + norm * max(violation, 0.0)
        rows.append(
            {
                "error": error,
                "gap": _widest_gap(moment.table, share @ rates),
                "violation": violation,
                "duality_gap": max(here - low, high - here),
            }
        )
    frame = pd.DataFrame(rows)
    frame.index.name = "iteration"
    frame.insert(4, "best_gap", frame["duality_gap"].cummin())
    multipliers = pd.DataFrame(
        asked.T, columns=[f"multiplier {name}" for name in moment.rows.names]
    )
    return frame.join(multipliers)


def _next_call(multipliers: list[Floats], wanted: Floats, start: int) -> int:
    for call in range(start, len(multipliers)):
        if np.array_equal(multipliers[call], wanted):
            return call
    return len(multipliers) - 1
