"""Groups measured, beside what the measures would be under perfect calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from fairtrain.calibration.audit.errors import (
    MEASURES,
    GroupCells,
    brier_parts,
    debiased_ece,
    drawn_events,
    make_cells,
    measures_of,
)
from fairtrain.calibration.cells import Floats, Mask, effective, gather, residual_effects
from fairtrain.calibration.lattice import Family, subgroup_names
from fairtrain.calibration.maps.logistic import fit_logistic, line
from fairtrain.calibration.significance import score_test
from fairtrain.data.rows import Rows

__all__ = ["Measuring", "NullReference", "ece_interval", "null_reference"]


_LEVEL = 0.95
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
    a_time = max(len(cells.weight), cells.size * cells.n_fine * 3, 1)
    block = max(1, _NUMBERS_AT_ONCE // a_time)
    parts: dict[str, list[Floats]] = {name: [] for name in observed}
    for first in range(0, simulations, block):
        result = measures_of(cells, cells.drawn(min(block, simulations - first), rng))
        for name, values in result.items():
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
    bins, events = cells.bins, cells.by_mass(cells.events)
    distance, noise = bins.distance(events), bins.noise(events)
    observed = debiased_ece(bins.share, distance, noise)
    pattern = _smoothed(distance)
    plug_in, smoothed = ((bins.share * np.abs(d)).sum(-1) for d in (distance, pattern))
    reach = plug_in + 6 * np.sqrt((bins.share**2 * noise**2).sum(-1))
    scales = np.linspace(0, 1, _SCALES)[:, None] * reach / np.maximum(smoothed, 1e-12)
    rates = np.clip(np.nan_to_num(bins.mean + scales[..., None] * pattern), 0.0, 1.0)
    truth = (bins.share * np.abs(rates - bins.mean)).sum(-1)
    above, below = np.zeros_like(scales), np.zeros_like(scales)
    block = max(1, _NUMBERS_AT_ONCE // (cells.size * cells.n_bins * 6))
    for i, rate in enumerate(rates):
        for first in range(0, simulations, block):
            count = min(block, simulations - first)
            drawn = drawn_events(bins.weight, bins.rows, rate, count, rng)
            result = debiased_ece(bins.share, bins.distance(drawn), bins.noise(drawn))
            above[i] += (result >= observed - 1e-12).sum(axis=0) / simulations
            below[i] += (result <= observed + 1e-12).sum(axis=0) / simulations
    tail = (1 - confidence) / 2
    lower = _crossing(truth, np.maximum.accumulate(above, axis=0) > tail, above, tail)
    falling = np.maximum.accumulate(below[::-1], axis=0)[::-1]
    upper = _crossing(truth[::-1], falling[::-1] > tail, below[::-1], tail)
    return lower, upper


def _smoothed(distance: Floats) -> Floats:
    """Weights 1/4, 1/2, 1/4 over neighbouring bins: much of a bin's own distance is noise."""
    padded = np.pad(distance, ((0, 0), (1, 1)), mode="edge")
    return padded[:, :-2] / 4 + distance / 2 + padded[:, 2:] / 4


def _crossing(truth: Floats, over: Mask, share: Floats, tail: float) -> Floats:
    """Error at which ``share`` first passes ``tail`` on the way along axis 0, interpolated."""
    groups = np.arange(truth.shape[1])
    at = np.where(over.any(axis=0), np.argmax(over, axis=0), len(truth) - 1)
    before = np.maximum(at - 1, 0)
    start, end = share[before, groups], share[at, groups]
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.where(end > start, (tail - start) / (end - start), 1.0)
    part = np.clip(part, 0.0, 1.0)
    return np.asarray((1 - part) * truth[before, groups] + part * truth[at, groups])


@dataclass(frozen=True, eq=False)
class FamilyMeasures:
    """Measures of one family, or of some of its subgroups, and the leaves that make each."""

    table: pd.DataFrame
    disparities: pd.DataFrame
    bins: pd.DataFrame
    whole: bool
    members: Mask


@dataclass(frozen=True)
class Measuring:
    """Rows sorted by score, and how they are measured."""

    rows: Rows
    n_bins: int
    confidence: float
    simulations: int
    rng: np.random.Generator

    def __call__(self, family: Family, chosen: Sequence[int] | None) -> FamilyMeasures:
        """Measure a family, or some of its subgroups."""
        rows, groups = self.rows, self.rows.groups
        wanted = np.arange(len(family)) if chosen is None else np.asarray(chosen)
        size, place = len(wanted), np.full(len(family), -1)
        place[wanted] = np.arange(size)
        codes = place[family.of_leaf][groups.codes]
        # Rows are sorted by score already: a stable sort of small integers is one linear pass.
        order = np.argsort(codes.astype(np.int32), kind="stable")
        order = order[np.searchsorted(codes[order], 0) :]
        here, codes = rows.take(order), codes[order]
        cells = make_cells(here.scores, here.outcomes, codes, size, self.n_bins, here.weight)
        effect = residual_effects(here, codes, size)
        cells = replace(cells, squares=cells.squares * effect[cells.group])
        names = subgroup_names(groups.scheme, family)
        names = [names[g] for g in wanted]
        over = " x ".join(groups.columns[j] for j in family.columns)
        null = null_reference(cells, self.simulations, self.rng)
        lower, upper = ece_interval(cells, self.confidence, self.simulations, self.rng)
        table: dict[str, Any] = {
            "group": names,
            "over": over,
            "rows": np.bincount(codes, minlength=size),
            "events": np.bincount(codes, here.outcomes, size).astype(np.int64),
            "mean_score": cells.totals(cells.score) / cells.total,
            "event_rate": cells.totals(cells.events) / cells.total,
        }
        if here.weight is not None or here.clusters is not None:
            squares = cells.totals(cells.squares)
            table["effective_rows"] = effective(cells.totals(cells.weight), squares)
        for name in MEASURES:
            table[name] = null.observed[name]
            if name == "ece":
                table["ece_lower"] = np.minimum(lower, null.observed[name])
                table["ece_upper"] = np.maximum(upper, null.observed[name])
            table[f"{name}_null"] = null.quantile(name, _LEVEL)
            table[f"{name}_p"] = null.p_value(name)
        table |= brier_parts(cells)
        sums = gather(here.X, here.outcomes, codes, size, here.weight)
        sums = replace(sums, squares=sums.squares * effect[sums.group])
        cox = fit_logistic(sums, line(sums), np.array([0.0, 1.0]), ridge=0.1)
        table["intercept"], table["slope"] = cox[:, 0], cox[:, 1]
        table["calibration_p"] = score_test(sums, random_state=self.rng).p_value
        return FamilyMeasures(
            pd.DataFrame(table),
            _disparities(null, names, over),
            _bins(cells, names),
            chosen is None,
            family.of_leaf == wanted[:, None],
        )


def _disparities(null: NullReference, names: list[str], over: str) -> pd.DataFrame:
    lines = []
    for measure in ("ece", "ece_equal_width", "smooth_ece", "mce"):
        gap, level, p_value = null.disparity(measure, _LEVEL)
        values = null.observed[measure]
        lines.append(
            {
                "over": over,
                "measure": measure,
                "groups": len(names),
                "disparity": gap,
                "null": level,
                "p_value": p_value,
                "highest": names[int(np.nanargmax(values))],
                "lowest": names[int(np.nanargmin(values))],
            }
        )
    return pd.DataFrame(lines)


def _bins(cells: GroupCells, names: list[str]) -> pd.DataFrame:
    bins = cells.bins
    g, b = np.nonzero(bins.weight)
    return pd.DataFrame(
        {
            "group": np.array(names, dtype=object)[g],
            "bin": b,
            "rows": bins.rows[g, b].round().astype(np.int64),
            "mean_score": bins.mean[g, b],
            "event_rate": (cells.by_mass(cells.events)[g, b] / bins.weight[g, b]),
        }
    )
