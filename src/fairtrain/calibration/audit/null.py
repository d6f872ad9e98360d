"""What measures would be under perfect calibration, and intervals that allow for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairtrain.calibration.audit.binning import GroupCells
from fairtrain.calibration.audit.errors import debiased_ece, measures_of, noise_of

__all__ = ["NullReference", "ece_interval", "null_reference"]

Floats = NDArray[np.float64]

_SCALES = 25
_NUMBERS_AT_ONCE = 20_000_000


@dataclass(frozen=True, eq=False)
class NullReference:
    """Observed measures beside simulated ones.

    Attributes
    ----------
    observed : dict of str to ndarray of shape (G,)
        Measures.
    simulated : dict of str to ndarray of shape (S, G)
        The same for outcomes drawn from the scores.
    """

    observed: dict[str, Floats]
    simulated: dict[str, Floats]

    def quantile(self, measure: str, level: float) -> Floats:
        """Quantile of a measure under perfect calibration, shape (G,)."""
        return np.asarray(np.quantile(self.simulated[measure], level, axis=0))

    def p_value(self, measure: str) -> Floats:
        """Share of simulations, the observation counted in, that are as large; shape (G,)."""
        drawn = self.simulated[measure]
        return _share_above(drawn, self.observed[measure])

    def disparity(self, measure: str, level: float) -> tuple[float, float, float]:
        """Give the largest minus the smallest value, its null quantile and its p-value."""
        values, drawn = self.observed[measure], self.simulated[measure]
        there = ~np.isnan(values)
        if there.sum() < 2:
            return float("nan"), float("nan"), float("nan")
        values, drawn = values[there], drawn[:, there]
        gap, gaps = np.ptp(values), np.ptp(drawn, axis=1)
        p_value = _share_above(gaps[:, None], np.array([gap]))[0]
        return float(gap), float(np.quantile(gaps, level)), float(p_value)


def _share_above(drawn: Floats, observed: Floats) -> Floats:
    beyond = (drawn >= observed * (1 - 1e-9)).sum(axis=0)
    return np.where(np.isnan(observed), np.nan, (1 + beyond) / (1 + len(drawn)))


def null_reference(cells: GroupCells, simulations: int, rng: np.random.Generator) -> NullReference:
    """Simulate y ~ Bernoulli(score) and measure it as the observed outcomes are measured."""
    observed = measures_of(cells, cells.events)
    a_time = max(len(cells.rows), cells.size * cells.n_fine * 3, 1)
    block = max(1, _NUMBERS_AT_ONCE // a_time)
    parts: dict[str, list[Floats]] = {name: [] for name in observed}
    for first in range(0, simulations, block):
        found = measures_of(cells, cells.drawn(min(block, simulations - first), rng))
        for name, values in found.items():
            parts[name].append(values)
    return NullReference(observed, {name: np.concatenate(p) for name, p in parts.items()})


def ece_interval(
    cells: GroupCells, confidence: float, simulations: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    r"""Interval of the expected calibration error over bins of equal mass, shape (G,) each.

    Tests are inverted along the family :math:`\bar s_b + t \hat d_b` of event rates, the observed
    distances scaled by t: a value of the error belongs to the interval if the debiased estimate is
    not extreme, at half the error rate on either side, among those of outcomes drawn from these
    rates. At t = 0 this is the test of perfect calibration, so that a true zero is covered as
    often as promised; a percentile bootstrap never covers it.

    References
    ----------
    On the two regimes, degenerate at 0 and normal elsewhere: Sun, Chaudhari, Barnett and Dobriban
    (2024), "A confidence interval for the l2 expected calibration error", arXiv 2408.08998.
    """
    rows = cells.by_mass(cells.rows.astype(np.float64))
    safe = np.maximum(rows, 1.0)
    share = rows / np.maximum(cells.count, 1.0)[:, None]
    events, score = cells.by_mass(cells.events), cells.by_mass(cells.score) / safe
    distance, noise = events / safe - score * (rows > 0), noise_of(cells, events)
    observed = debiased_ece(share, distance, noise)
    plug_in = (share * np.abs(distance)).sum(-1)
    reach = (plug_in + 6 * np.sqrt((share**2 * noise**2).sum(-1))) / np.maximum(
        (share * np.abs(_smoothed(distance))).sum(-1), 1e-12
    )
    scales = np.linspace(0, 1, _SCALES)[:, None] * reach
    pattern = _smoothed(distance)
    rates = np.clip(score + scales[..., None] * pattern, 0.0, 1.0)
    truth = (share * np.abs(rates - score)).sum(-1)
    above, below = np.zeros_like(scales), np.zeros_like(scales)
    block = max(1, _NUMBERS_AT_ONCE // (cells.size * cells.n_bins * 6))
    for i, rate in enumerate(rates):
        for first in range(0, simulations, block):
            size = (min(block, simulations - first), *rate.shape)
            drawn = rng.binomial(rows.astype(np.int64), rate, size).astype(np.float64)
            found = debiased_ece(share, drawn / safe - score * (rows > 0), noise_of(cells, drawn))
            above[i] += (found >= observed - 1e-12).sum(axis=0) / simulations
            below[i] += (found <= observed + 1e-12).sum(axis=0) / simulations
    tail = (1 - confidence) / 2
    lower = _crossing(truth, np.maximum.accumulate(above, axis=0) > tail, above, tail)
    falling = np.maximum.accumulate(below[::-1], axis=0)[::-1]
    upper = _crossing(truth[::-1], falling[::-1] > tail, below[::-1], tail)
    lower[cells.count == 0] = upper[cells.count == 0] = np.nan
    return lower, upper


def _smoothed(distance: Floats) -> Floats:
    """Weights 1/4, 1/2, 1/4 over neighbouring bins: much of a bin's own distance is noise."""
    padded = np.pad(distance, ((0, 0), (1, 1)), mode="edge")
    return padded[:, :-2] / 4 + distance / 2 + padded[:, 2:] / 4


def _crossing(truth: Floats, over: NDArray[np.bool_], share: Floats, tail: float) -> Floats:
    """Error at which ``share`` first passes ``tail`` on the way along axis 0, interpolated."""
    groups = np.arange(truth.shape[1])
    at = np.where(over.any(axis=0), np.argmax(over, axis=0), len(truth) - 1)
    before = np.maximum(at - 1, 0)
    start, end = share[before, groups], share[at, groups]
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.where(end > start, (tail - start) / (end - start), 1.0)
    part = np.clip(part, 0.0, 1.0)
    return np.asarray((1 - part) * truth[before, groups] + part * truth[at, groups])
