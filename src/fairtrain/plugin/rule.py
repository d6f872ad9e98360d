"""From scores to a rule: prices whose decisions keep the bounds, counted where rows suffice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fairtrain.constraints.bounds import RateBounds
from fairtrain.constraints.families import RateFamily
from fairtrain.constraints.rates import SELECTION_RATE
from fairtrain.lagrangian.margins import working_margins
from fairtrain.lagrangian.multipliers import Multipliers
from fairtrain.plugin.linear import LinearRates
from fairtrain.plugin.prices import (
    TEMPERATURE,
    DualProblem,
    multipliers_of,
    smooth_step,
    solve_dual,
)

__all__ = ["PricedRule", "RuleSettings", "ScoredRows", "explain_broken", "find_rule", "sketch_rule"]

Floats = NDArray[np.float64]

CORRECTIONS = 12
"""Rounds in which smoothed rates learn what was counted; the best is nearly always among six."""

LOTTERY = 0.001
"""Temperature of the lot among people whose scores tie: their margins agree to a thousandth."""

_COARSE = 20_000  # rows of the first solution, from which the one on more rows starts

_ENOUGH = 100_000
"""Rows on which the dual is solved. What decisions do is counted on all rows all the same, and
corrects the dual: on all of a million rows the gain would differ by 2e-5."""

_SKETCHED = 4  # rounds that tell which of several questions costs less
_DRAWS = 400  # of the noise, for the expected gap; fixed, so that the same rows give the same aim
_SLACK = 5e-4  # of a rate: an excess that no rows could show
_TOLD = 2e-3  # of a rate: an excess that is worth a sentence
_HALVINGS = 7  # of an interval: to a hundredth of it
_OFF = (
    "no decision that reads these features keeps it at a price worth paying; the nearest one is "
    "off by {:.3f}. Loosen it, or give features that tell more."
)
_WORTH_A_LOT = 1e-3  # gain that a lot among ties must bring over a rule without one
_DISTINCT = 0.5  # share of distinct scores below which rows count as tied
_FEW = 100  # distinct scores: each then stands for many people, however few rows there are
_SETTLED = 2e-4  # of a rate: corrections below this change nothing
_DAMPED = 0.7  # share of a correction: whole ones swing where few rows lie near the threshold
_LEAST_AIM = 0.2  # of a bound: aiming lower would buy what a constant gives


@dataclass(frozen=True)
class RuleSettings:
    """How a rule is sought.

    Attributes
    ----------
    mixing : float
        Rows k of a cell at which its counted rate weighs as much as the score-weighted one.
    aim : bool
        Aim at the bound at which the expected gap under the rates' noise is the bound asked for.
    confidence : float or None
        Tighten bounds so that this confidence limit keeps them.
    """

    mixing: float = 100.0
    aim: bool = True
    confidence: float | None = None


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """Rows with out-of-fold scores, and the cells they fall into.

    Attributes
    ----------
    gain : ndarray of shape (n,)
        What the favourable decision gains.
    rates : LinearRates
        Score-weighted rates.
    counted : callable
        ``counted(decisions)`` -> rates of the rows as labelled, shape (m,).
    counts : ndarray of shape (m,)
        Effective rows of every cell.
    """

    gain: Floats
    rates: LinearRates
    counted: Any
    counts: Floats

    def mixed(self, decisions: Floats, mixing: float) -> Floats:
        r"""Rates :math:`s + \frac{n}{n + k} (r - s)` between score-weighted s and counted r.

        Counted rates of small cells are noise, score-weighted ones are biased where P(g | x) is.
        """
        soft, hard = self.rates(decisions), self.counted(decisions)
        trust = self.counts / (self.counts + mixing)
        return np.asarray(np.where(self.counts > 0, soft + trust * (hard - soft), np.nan))

    def of_cells(self, cells: NDArray[np.int64]) -> ScoredRows:
        """The same rows and some of the cells."""
        rates = LinearRates(
            self.rates.slopes[:, cells],
            self.rates.base[cells],
            self.rates.share,
            self.rates.scale[cells],
        )
        return replace(
            self, rates=rates, counted=lambda d: self.counted(d)[cells], counts=self.counts[cells]
        )


@dataclass(frozen=True, eq=False)
class PricedRule:
    """A rule of features alone: decide where the gain exceeds what the groups' prices ask.

    Attributes
    ----------
    prices : ndarray of shape (m,)
        Price of every cell.
    scale : ndarray of shape (m,)
        Share of the rows in each cell.
    temperature : float
        0, or the width within which people whose margins tie are decided by lot.
    gain : float
        Mean gain of its decisions on the rows that chose it.
    rates : ndarray of shape (m,)
        Mixed rates there.
    excess : ndarray of shape (n_families,)
        By how much each bound is exceeded there.
    multipliers : ndarray of shape (2, m)
        From which prices are made.
    """

    prices: Floats
    scale: Floats
    temperature: float
    gain: float
    rates: Floats
    excess: Floats
    multipliers: Floats

    @property
    def broken(self) -> NDArray[np.bool_]:
        """Which bounds are not kept, by more than rows could hide."""
        return self.excess > _TOLD

    def share(self, margin: Floats) -> Floats:
        """Chance of the favourable decision at a margin."""
        if self.temperature:
            return np.asarray(expit(margin / self.temperature))
        return (margin > 0).astype(np.float64)


def find_rule(
    families: Sequence[RateFamily],
    rows: ScoredRows,
    settings: RuleSettings,
    start: Floats | None = None,
) -> PricedRule:
    """Find prices whose decisions keep every bound by mixed rates at the largest gain.

    Parameters
    ----------
    families : sequence of RateFamily
        What is compared, with its bounds.
    rows : ScoredRows
        All rows there are.
    settings : RuleSettings
        How.
    start : ndarray of shape (2, m), optional
        Multipliers of a nearby problem.
    """
    asked = [family.bounds for family in families]
    working = _inside(asked)
    rule = _best(working, rows, settings, start)
    if rule.broken.any():
        rule, working = _yielded(working, rows, settings, rule)
    margins = _margins(families, rule.rates, rows.counts, settings)
    if margins.any():
        tightened = [
            replace(b, margin=b.margin + float(m)) for b, m in zip(working, margins, strict=True)
        ]
        rule = _best(tightened, rows, settings, rule.multipliers)
    return replace(rule, excess=_excess(multipliers_of(asked, rule.scale), rule.rates))


def sketch_rule(
    families: Sequence[RateFamily],
    rows: ScoredRows,
    settings: RuleSettings,
    start: Floats | None = None,
) -> PricedRule:
    """As :func:`find_rule`, without lots and giving way: enough to compare what is asked."""
    bounds = [family.bounds for family in families]
    return _corrected(_inside(bounds), rows, settings, start, lot=False, rounds=_SKETCHED)


def _inside(asked: Sequence[RateBounds]) -> list[RateBounds]:
    """Caps and floors are stated to be kept, not nearly: what counts as settled lies inside."""
    return [replace(b, margin=_SLACK) if b.constraint.absolute else b for b in asked]


def explain_broken(
    families: Sequence[RateFamily], rows: ScoredRows, settings: RuleSettings, rule: PricedRule
) -> list[str]:
    """Say of every bound that a rule breaks whether it could be kept alone, and beside which.

    A bound of several rates counts as one. What is tried are prices of the other bounds' cells
    left at 0, so that the answer is about decisions that read the same features.
    """
    constraints = list(dict.fromkeys(f.constraint for f in families))
    owner = np.array([constraints.index(f.constraint) for f in families])
    if len(constraints) == 1 and rule.broken.any():
        return [f"{constraints[0].name}: {_OFF.format(rule.excess.max())}"]

    def excess(*members: int) -> float:
        kept = np.flatnonzero(np.isin(owner, members)).tolist()
        sizes = np.array([len(f.scheme) for f in families])
        cells = np.flatnonzero(np.isin(np.repeat(np.arange(len(sizes)), sizes), kept))
        bounds = [families[i].bounds for i in kept]
        return float(_best(bounds, rows.of_cells(cells), settings, None).excess.max())

    said, told = [], set[frozenset[int]]()
    for i in dict.fromkeys(owner[rule.broken].tolist()):
        name, others = constraints[i].name, set(range(len(constraints))) - {i}
        alone = excess(i)
        against = [j for j in sorted(others) if excess(i, j) > _TOLD] if alone <= _TOLD else []
        pairs = {frozenset((i, j)) for j in against}
        if alone > _TOLD:
            said.append(f"{name}: {_OFF.format(alone)}")
        elif not against or not pairs <= told:
            beside = " or with ".join(constraints[j].name for j in against)
            said.append(
                f"{name} cannot hold together with {beside or 'all the others at once'}, though "
                "it can alone: loosen one of them, or give it the lower priority."
            )
        told |= pairs
    return said


def _yielded(
    bounds: Sequence[RateBounds], rows: ScoredRows, settings: RuleSettings, rule: PricedRule
) -> tuple[PricedRule, list[RateBounds]]:
    """Loosen bounds of lower priority, by as little as possible, until the others hold."""
    priority = np.array([b.constraint.priority for b in bounds])
    for level in np.unique(priority)[:-1]:
        low, high, best = 0.0, 1.0, None
        for _ in range(_HALVINGS):
            slack = high if best is None else (low + high) / 2
            loosened = [
                replace(b, margin=b.margin - slack) if p <= level else b
                for b, p in zip(bounds, priority, strict=True)
            ]
            tried = _corrected(loosened, rows, settings, rule.multipliers, lot=False)
            if not tried.broken.any():
                best, high = loosened, slack
            elif best is None:
                break
            else:
                low = slack
        if best is not None:
            return _best(best, rows, settings, rule.multipliers), best
    return rule, list(bounds)


def _best(
    bounds: Sequence[RateBounds], rows: ScoredRows, settings: RuleSettings, start: Floats | None
) -> PricedRule:
    """Decide by threshold; by lot among people whose scores tie where no threshold keeps bounds."""
    rule = _corrected(bounds, rows, settings, start, lot=False)
    distinct = len(np.unique(rows.gain))
    tied = distinct < max(_DISTINCT * len(rows.gain), _FEW)
    if not tied and (rule.excess <= _SLACK).all():
        return rule
    drawn = _corrected(bounds, rows, settings, start, lot=True)
    return drawn if _better(drawn, rule) else rule


def _corrected(
    bounds: Sequence[RateBounds],
    rows: ScoredRows,
    settings: RuleSettings,
    start: Floats | None,
    *,
    lot: bool,
    rounds: int = CORRECTIONS,
) -> PricedRule:
    """Solve, compare smoothed rates with those of the decisions, correct, and keep the best."""
    temperature = LOTTERY if lot else TEMPERATURE
    problem = DualProblem(rows.gain, rows.rates, bounds, np.zeros(len(rows.counts)), temperature)
    if len(rows.gain) > 2 * _ENOUGH:
        drawn = np.random.default_rng(0).choice(len(rows.gain), _ENOUGH, replace=False)
        problem = problem.take(np.sort(drawn))
    values, best = start, None
    if values is None and len(problem.gain) > 2 * _COARSE:
        spread = np.linspace(0, len(problem.gain) - 1, _COARSE).astype(np.int64)
        values = solve_dual(problem.take(spread)).values
    if lot:  # a step that sharp is hard to solve from afar
        first = replace(problem, temperature=TEMPERATURE)
        values = solve_dual(first, values, iterations=300).values
    beyond: PricedRule | None = None
    for _ in range(rounds):
        solution = solve_dual(problem, values, iterations=300 if lot else 100)
        values = solution.values
        rule = _rule_at(solution, rows, settings, temperature, lot=lot)
        if best is None or _better(rule, best):
            best = rule
        elif rule.gain > best.gain and (beyond is None or rule.excess.max() < beyond.excess.max()):
            beyond = rule
        missed = np.nan_to_num(rule.rates - problem.smoothed(rule.prices))
        if np.abs(missed).max(initial=0.0) < _SETTLED and (rule.excess <= _SLACK).all():
            break
        problem = replace(problem, offset=problem.offset + _DAMPED * missed)
    assert best is not None
    if beyond is None or lot or not any(b.constraint.absolute for b in bounds):
        return best
    # Corrections may jump to and fro over a limit, and what they leave unused is people.
    for _ in range(_HALVINGS):
        solution.values = (best.multipliers + beyond.multipliers) / 2
        rule = _rule_at(solution, rows, settings, temperature, lot=lot)
        best, beyond = (rule, beyond) if _better(rule, best) else (best, rule)
    return best


def _rule_at(
    solution: Multipliers,
    rows: ScoredRows,
    settings: RuleSettings,
    temperature: float,
    *,
    lot: bool,
) -> PricedRule:
    """Give the rule of some multipliers: what its decisions gain and do, on all rows."""
    price = solution.prices()
    margin = rows.gain - rows.rates.slopes @ price
    share = smooth_step(margin / temperature)[0] if lot else (margin > 0).astype(np.float64)
    rates = rows.mixed(share, settings.mixing)
    return PricedRule(
        prices=price,
        scale=rows.rates.scale,
        temperature=temperature if lot else 0.0,
        gain=float(rows.rates.share @ (rows.gain * share)),
        rates=rates,
        excess=_excess(solution, rates),
        multipliers=solution.values.copy(),
    )


def _better(new: PricedRule, old: PricedRule) -> bool:
    """Whether a rule keeps the bounds better, or as well at a larger gain."""
    over_new, over_old = (float(np.maximum(r.excess - _SLACK, 0).max()) for r in (new, old))
    if (over_new > 0) != (over_old > 0):
        return over_old > 0
    if over_new > 0:
        return over_new < over_old - 1e-12
    extra = _WORTH_A_LOT * (bool(new.temperature) - bool(old.temperature))
    return new.gain > old.gain + extra


def _excess(multipliers: Multipliers, rates: Floats) -> Floats:
    """Excess over every bound; where there is nothing to compare it is kept."""
    return np.asarray(np.nan_to_num(multipliers.excess(rates), nan=-np.inf))


def _margins(
    families: Sequence[RateFamily], rates: Floats, counts: Floats, settings: RuleSettings
) -> Floats:
    if settings.confidence is not None:
        return working_margins(families, rates, counts, settings.confidence)
    margins, start = np.zeros(len(families)), 0
    for i, family in enumerate(families):
        part = slice(start, start + len(family.scheme))
        start = part.stop
        parity = family.bounds.reference == "free" and family.constraint.kind == "difference"
        if settings.aim and parity and family.rate is SELECTION_RATE:
            margins[i] = _aim(family.bounds, rates[part], counts[part])
    return margins


def _aim(bounds: RateBounds, rates: Floats, counts: Floats) -> float:
    """How far below a bound b to aim, so that the expected gap of noisy rates is b.

    The largest of G noisy rates less the smallest exceeds the true gap on average, the more so the
    smaller the groups are.
    """
    known = bounds.present(rates) & (counts > 0)
    if known.sum() < 2:
        return 0.0
    rates, counts = np.clip(rates[known], 0, 1), counts[known]
    noise = np.random.default_rng(0).standard_normal((_DRAWS, len(rates)))
    noise = noise * np.sqrt(rates * (1 - rates) / counts)
    middle, width = (rates.max() + rates.min()) / 2, max(float(np.ptp(rates)), 1e-9)

    def expected(target: float) -> float:
        shrunk = middle + (rates - middle) * min(1.0, target / width)
        return float(np.mean(np.ptp(shrunk + noise, axis=1)))

    bound = bounds.bound
    low, high = _LEAST_AIM * bound, bound
    if expected(high) <= bound:
        return 0.0
    for _ in range(30):
        middle_of = (low + high) / 2
        low, high = (middle_of, high) if expected(middle_of) <= bound else (low, middle_of)
    return bound - low
