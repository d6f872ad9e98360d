"""The rounds of Lagrangian boosting: a tree against prices, prices against what the tree did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairtrain.boosting.backend import TreeRun
from fairtrain.boosting.objective import Lagrangian
from fairtrain.lagrangian import (
    Candidate,
    IterateChoice,
    RateFamily,
    Yielding,
    steering_rates,
    working_margins,
)
from fairtrain.lagrangian.multipliers import Multipliers, NuPI
from fairtrain.metrics.report import NEAR_CONSTANT

__all__ = ["RoundSettings", "Rounds", "run_rounds"]

Floats = NDArray[np.float64]

# Proportional part of the multipliers' step, and its memory: damps the lag of shrunken trees.
_PROPORTIONAL, _MEMORY = 2.0, 0.5
_WARM_UP = 0.1  # share of the rounds that are chosen only if there is nothing else
_YIELD_EVERY = 5
_AIM, _AIM_OF_LOSS = 0.1, 0.01  # of the bound


@dataclass(frozen=True)
class RoundSettings:
    """How rounds are made.

    Attributes
    ----------
    n_estimators : int
        Most rounds.
    dual_lr : float
        What a violation of 1 adds to a multiplier in one round.
    cap : float
        Largest sum of a bound's multipliers.
    confidence : float or None
        Steer for this confidence limit of a gap instead of the gap itself.
    min_count : int
        Groups with fewer steering rows are steadied by their parents.
    patience : int or None
        Rounds without a better choice after which to stop.
    """

    n_estimators: int
    dual_lr: float
    cap: float
    confidence: float | None = None
    min_count: int = 30
    patience: int | None = None


@dataclass(frozen=True, eq=False)
class Rounds:
    """What the rounds left behind.

    Attributes
    ----------
    kept : int
        Rounds that the chosen model holds.
    training_margin, steering_margin : ndarray
        Margins of the chosen round.
    best : Candidate
        How it did on the steering rows.
    multipliers : Multipliers
        Their last state.
    excess, pulls : ndarray of shape (T, n_families)
        Excess over the working bound and sum of multipliers, round by round.
    slack : ndarray of shape (n_families,)
        How far bounds gave way to others of higher priority.
    records : list of dict
        One a round.
    """

    kept: int
    training_margin: Floats
    steering_margin: Floats
    best: Candidate
    multipliers: Multipliers
    excess: Floats
    pulls: Floats
    slack: Floats
    records: list[dict[str, Any]]

    def history(self) -> pd.DataFrame:
        """One row a round."""
        return pd.DataFrame(self.records)


def run_rounds(
    trees: TreeRun,
    families: Sequence[RateFamily],
    training: Lagrangian,
    steering: Lagrangian,
    settings: RoundSettings,
    watched: Sequence[Lagrangian] = (),
) -> Rounds:
    """Grow trees against prices that move every round.

    Parameters
    ----------
    trees : TreeRun
        A booster in training.
    families : sequence of RateFamily
        What is compared.
    training, steering : Lagrangian
        The rows whose soft rates move trees, and those whose hard rates move multipliers.
    settings : RoundSettings
        How.
    watched : sequence of Lagrangian
        Further rows; the last of them judges performance.
    """
    multipliers = _multipliers(families, training, settings)
    # The centre of bounds around the overall rate is that of the rows that are priced.
    multipliers.set_shares(training.totals)
    yielding = Yielding(multipliers.bounds, patience=2)
    choice = IterateChoice(
        multipliers.bounds, warm_up=min(round(_WARM_UP * settings.n_estimators), 10)
    )
    aims = np.array([_aim(family) for family in families])
    kept, since, records, excess, pulls = 0, 0, [], [], []
    for number in range(settings.n_estimators):
        prices = multipliers.pull()
        if trees.can_go_plain and not prices.any():
            trees.plain_round()
        else:
            trees.round(partial(training.derivatives, prices=prices))
        margin = trees.steering_margin()
        rates = _steadied(families, steering, margin, settings.min_count)
        asked = _margins(families, rates, steering.counts, settings) - yielding.slack
        over, bounds = _excess(families, multipliers, rates, asked)
        performance = -steering.error(margin)
        record = _measured("held", steering, margin, performance)
        record |= _columns(families, multipliers, rates, bounds, prices)
        excess.append(over)
        pulls.append(multipliers.sums)
        for i, moved in enumerate(asked + aims):
            multipliers.set_margin(i, float(moved))
        multipliers.update(rates)
        if (number + 1) % _YIELD_EVERY == 0:
            yielding.look(multipliers, useless=-performance >= steering.constant_error - 1e-9)
        for i, rows in enumerate(watched):
            at = trees.watched_margin(i)
            performance = -rows.error(at)  # the last set judges
            record |= _measured(f"eval_{i}", rows, at, performance)
        alone = _near_constant(steering, margin)
        candidate = Candidate(number, performance, tuple(over.tolist()), alone)
        since += 1
        if choice.offer(candidate):
            kept, since = trees.n_rounds, 0
            margins = (trees.training_margin(), margin)
        record["feasible"] = choice.is_feasible(candidate)
        records.append({"round": number, **record})
        if settings.patience is not None and since >= settings.patience:
            break
    assert choice.best is not None
    return Rounds(
        kept=kept,
        training_margin=margins[0],
        steering_margin=margins[1],
        best=choice.best,
        multipliers=multipliers,
        excess=np.array(excess),
        pulls=np.array(pulls),
        slack=yielding.slack,
        records=records,
    )


def _multipliers(
    families: Sequence[RateFamily], training: Lagrangian, settings: RoundSettings
) -> Multipliers:
    rule = NuPI(settings.dual_lr, _PROPORTIONAL * settings.dual_lr, _MEMORY)
    bounds = [
        replace(family.bounds, importance=family.bounds.importance * unit)
        for family, unit in zip(families, training.dual_units(), strict=True)
    ]
    return Multipliers(bounds, rule, cap=settings.cap)


def _steadied(
    families: Sequence[RateFamily], rows: Lagrangian, margin: Floats, min_count: int
) -> Floats:
    rates = rows.hard_rates(margin)
    if not ((rows.counts > 0) & (rows.counts < min_count)).any():
        return rates
    sums = np.nan_to_num(rates) * rows.counts
    return steering_rates(families, sums, rows.counts, min_count=min_count)


def _margins(
    families: Sequence[RateFamily], rates: Floats, counts: Floats, settings: RoundSettings
) -> Floats:
    """How far bounds are tightened so that a confidence limit keeps them."""
    if settings.confidence is None:
        return np.zeros(len(families))
    return working_margins(families, rates, counts, settings.confidence)


def _aim(family: RateFamily) -> float:
    """How far inside its bound a rate is aimed: one that nears it from outside never arrives."""
    bounds = family.bounds
    return (_AIM_OF_LOSS if bounds.reference == "none" else _AIM) * bounds.room


def _excess(
    families: Sequence[RateFamily], multipliers: Multipliers, rates: Floats, margins: Floats
) -> tuple[Floats, Floats]:
    """Excess over the bounds that are asked for, without the aim, and these bounds."""
    asked = [
        replace(family.bounds, margin=float(margin))
        for family, margin in zip(families, margins, strict=True)
    ]
    excess = [b.excess(rates[part]) for b, part in zip(asked, multipliers.slices, strict=True)]
    return np.array(excess), np.array([b.bound for b in asked])


def _near_constant(rows: Lagrangian, margin: Floats) -> bool:
    if rows.task == "regression":
        return False
    share = rows.favourable_share(margin)
    return min(share, 1 - share) <= NEAR_CONSTANT + 1e-9


def _measured(name: str, rows: Lagrangian, margin: Floats, performance: float) -> dict[str, float]:
    """Loss, and accuracy or squared error."""
    if rows.task == "regression":
        return {f"{name}_loss": rows.loss(margin), f"{name}_squared_error": -performance}
    return {f"{name}_loss": rows.loss(margin), f"{name}_accuracy": 1 + performance}


def _columns(
    families: Sequence[RateFamily],
    multipliers: Multipliers,
    rates: Floats,
    bounds: Floats,
    prices: Floats,
) -> dict[str, float]:
    found, sums = {}, multipliers.sums
    for i, (family, part) in enumerate(zip(families, multipliers.slices, strict=True)):
        found[f"gap_held: {family.name}"] = family.bounds.achieved(rates[part])
        found[f"bound: {family.name}"] = float(bounds[i])
        found[f"multipliers: {family.name}"] = float(sums[i])
        for name, price in zip(family.scheme.names, prices[part], strict=True):
            found[f"price: {family.name}[{name}]"] = float(price)
    return found
