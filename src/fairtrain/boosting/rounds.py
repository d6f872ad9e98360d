"""The rounds of Lagrangian boosting: a tree against prices, prices against what the tree did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairtrain.boosting.backend import TreeRun
from fairtrain.boosting.objective import Lagrangian
from fairtrain.lagrangian import (
    BOOSTING,
    Candidate,
    DualController,
    DualSettings,
    Multipliers,
    NuPI,
    RateFamily,
)

__all__ = ["RoundSettings", "Rounds", "run_rounds"]

Floats = NDArray[np.float64]


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
    n_trees : int
        Rounds that the chosen model holds.
    training_margin, steering_margin : ndarray
        Margins of the chosen round.
    dual : DualController
        Its last state.
    records : list of dict
        One a round.
    """

    n_trees: int
    training_margin: Floats
    steering_margin: Floats
    dual: DualController
    records: list[dict[str, Any]]

    @property
    def best(self) -> Candidate:
        """How the chosen round did on the steering rows."""
        assert self.dual.choice.best is not None
        return self.dual.choice.best

    @property
    def multipliers(self) -> Multipliers:
        """Their last state."""
        return self.dual.multipliers

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
    dual = _controller(families, training, steering, settings)
    # At least: a rate of one label's rows has fewer than there are.
    n_steering = max(float(steering.counts[part].sum()) for part in dual.multipliers.slices)
    n_trees, since, records = 0, 0, []
    for number in range(settings.n_estimators):
        prices = dual.prices
        if trees.can_go_plain and not prices.any():
            trees.plain_round()
        else:
            trees.round(partial(training.derivatives, prices=prices))
        margin = trees.steering_margin()
        rates = steering.hard_rates(margin)
        performance = own = _performance(steering, margin)
        record = _measured("held", steering, margin, own)
        for i, rows in enumerate(watched):
            at = trees.watched_margin(i)
            performance = _performance(rows, at)  # the last set judges
            record |= _measured(f"eval_{i}", rows, at, performance)
        shrunk, minority = dual.shrunk(rates, steering.counts), _minority(steering, margin)
        since += 1
        if dual.offer(number, shrunk, steering.counts, performance, minority):
            n_trees, since = trees.n_rounds, 0
            margins = (trees.training_margin(), margin)
        record |= dual.record() | _columns(dual, shrunk, prices)
        records.append({"round": number, **record})
        dual.look(rates, steering.counts)
        dual.give_way(own, n_steering)
        if settings.patience is not None and since >= settings.patience:
            break
    return Rounds(n_trees, *margins, dual, records)


def _controller(
    families: Sequence[RateFamily],
    training: Lagrangian,
    steering: Lagrangian,
    settings: RoundSettings,
) -> DualController:
    lr, error = settings.dual_lr, steering.constant_error
    dual = DualController(
        families,
        NuPI(lr, BOOSTING.proportional * lr, BOOSTING.memory),
        DualSettings(
            BOOSTING,
            iterates=settings.n_estimators,
            cap=settings.cap,
            confidence=settings.confidence,
            min_count=settings.min_count,
            constant=-error if steering.task == "regression" else 1 - error,
        ),
        training.dual_units(),
    )
    # The centre of bounds around the overall rate is that of the rows that are priced.
    dual.multipliers.set_shares(training.totals)
    return dual


def _performance(rows: Lagrangian, margin: Floats) -> float:
    """Accuracy, or squared error with its sign turned."""
    error = rows.error(margin)
    return -error if rows.task == "regression" else 1 - error


def _minority(rows: Lagrangian, margin: Floats) -> float:
    """Share of the rarer decision; 1 where there are no decisions."""
    if rows.task == "regression":
        return 1.0
    share = rows.favourable_share(margin)
    return min(share, 1 - share)


def _measured(name: str, rows: Lagrangian, margin: Floats, performance: float) -> dict[str, float]:
    """Loss, and accuracy or squared error."""
    if rows.task == "regression":
        return {f"{name}_loss": rows.loss(margin), f"{name}_squared_error": -performance}
    return {f"{name}_loss": rows.loss(margin), f"{name}_accuracy": performance}


def _columns(dual: DualController, rates: Floats, prices: Floats) -> dict[str, float]:
    """Gap of every rate, and price of every group."""
    columns = {}
    for family, part in zip(dual.families, dual.multipliers.slices, strict=True):
        columns[f"gap_held: {family.name}"] = family.bounds.achieved(rates[part])
        for name, price in zip(family.scheme.names, prices[part], strict=True):
            columns[f"price: {family.name}[{name}]"] = float(price)
    return columns
