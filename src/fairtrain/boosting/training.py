"""One training, on the rows that one process holds: trees against prices, prices against trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairtrain.boosting.backend import (
    Settings,
    TreeData,
    TreeRun,
    backend_of,
    load_backend,
)
from fairtrain.boosting.crossfit import CrossFitted, Folds
from fairtrain.boosting.objective import GroupSums, Lagrangian, predictions
from fairtrain.constraints import Constraint, Objective
from fairtrain.constraints.objectives import OBJECTIVES
from fairtrain.constraints.table import CellRows
from fairtrain.data.groups import GroupScheme, group_sums
from fairtrain.data.rows import Rows
from fairtrain.lagrangian import (
    BOOSTING,
    Candidate,
    DualController,
    DualSettings,
    NuPI,
    RateFamily,
    families_of,
)
from fairtrain.metrics.clusters import design_effects

__all__ = ["Job", "Trained", "predict_all", "run_rounds", "scored", "train", "train_here"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Job:
    """What to train; small, and the same in every process."""

    settings: Settings
    constraints: tuple[Constraint, ...]
    scheme: GroupScheme
    objective: Objective = OBJECTIVES["accuracy"]

    @property
    def families(self) -> list[RateFamily]:
        """What is compared."""
        return families_of(self.constraints, self.scheme)


@dataclass(frozen=True, eq=False)
class Trained:
    """A stock model and how it came about.

    Attributes
    ----------
    model : Booster
        Cut after the chosen round.
    n_trees : int
        Rounds that it holds.
    training_margin, steering_margin : ndarray
        Margins of the chosen round.
    steering_counts : ndarray of shape (n_cells,)
        Effective rows behind each rate that steered.
    dual : DualController
        Its last state.
    records : list of dict
        One a round.
    base_rates : ndarray of shape (G,)
        Share of favourable labels in every finest group of all rows, or mean value.
    """

    model: Any
    n_trees: int
    training_margin: Floats
    steering_margin: Floats
    steering_counts: Floats
    dual: DualController
    records: list[dict[str, Any]]
    base_rates: Floats = field(default_factory=lambda: np.empty(0))

    @property
    def best(self) -> Candidate:
        """How the chosen round did on the steering rows."""
        assert self.dual.choice.best is not None
        return self.dual.choice.best

    def history(self) -> pd.DataFrame:
        """One row a round."""
        return pd.DataFrame(self.records)

    def without_margins(self) -> Trained:
        """Leave out what is as long as the rows."""
        none = np.empty(0)
        return replace(self, training_margin=none, steering_margin=none)


def train(
    job: Job,
    rows: Rows,
    watched: Sequence[tuple[Any, Floats]] = (),
    sums: GroupSums = group_sums,
    folds: Folds = (),
) -> Trained:
    """Train on these rows.

    Parameters
    ----------
    job : Job
        What.
    rows : Rows
        On which rows, with ``X`` as the booster takes it. Where no process has steering rows, the
        training rows steer.
    watched : sequence of (X, y)
        Rows that are followed.
    sums : callable
        Where there are several processes, sums over the rows of all of them.
    folds : sequence of (training, held-out) positions
        Of the training rows, which then steer by what twins of the model say of their own folds.
    """
    families, task = job.families, job.settings.task

    def lagrangian(part: Rows, dtype: Any) -> Lagrangian:
        y, codes = _target(part), part.groups.codes
        made = Lagrangian(families, y, codes, part.weight, task=task, sums=sums, dtype=dtype)
        made.counts = made.counts / design_effects(made.table, y, codes, part.clusters)
        return made

    own, held = rows.part("training"), rows.part("steering")
    training = lagrangian(own, np.float32)
    if task == "classification":
        training.charge(job.objective.costs(training.share))
    n_held = sums(np.ones(len(held)), np.zeros(len(held), dtype=np.int64), 1)[0]
    data = TreeData(
        X=own.X,
        y=_target(own),
        weight=training.loss_weight,
        steering=held.X if n_held else None,
        watched=[X for X, _ in watched],
    )
    start = load_backend(job.settings.booster).start
    settings = job.settings
    trees = CrossFitted(start, data, settings, folds) if folds else start(data, settings)
    steering = lagrangian(held, np.float64) if n_held else training
    if folds:
        steering = lagrangian(own, np.float64)
    followed = [
        Lagrangian([], y, np.full(len(y), -1, dtype=np.int64), task=task) for _, y in watched
    ]
    sought = job.objective
    trained = run_rounds(trees, families, training, steering, job.settings, followed, sought)
    everyone = CellRows(rows.groups.codes, len(job.scheme), rows.weight, sums=sums)
    return replace(trained, base_rates=everyone.mean(_target(rows)))


def train_here(
    job: Job, rows: Rows, watched: Sequence[tuple[Any, Floats]], folds: Folds = ()
) -> tuple[Trained, Rows]:
    """Train on these rows and predict for all of them; see :func:`train`."""
    trained = train(job, rows, watched, folds=folds)
    if folds:  # judged are the out-of-fold decisions by which the training rows steered
        assert rows.split is not None
        rows = replace(rows, split=rows.split.out_of_fold)
    return trained, scored(rows, predict_all(job, trained, rows))


def predict_all(job: Job, trained: Trained, rows: Rows) -> Floats:
    """Predictions for all rows, shape (n,); margins of the chosen round spare most of the work."""
    assert rows.split is not None
    task, split, predicted = job.settings.task, rows.split, np.empty(len(rows))
    if len(split.training):
        predicted[split.training] = predictions(trained.training_margin, task)
    if len(split.steering):
        predicted[split.steering] = predictions(trained.steering_margin, task)
    if len(split.certification):
        left = rows.part("certification").X
        predicted[split.certification] = backend_of(trained.model).predict(trained.model, left)
    return predicted


def scored(rows: Rows, values: Floats) -> Rows:
    """Add what is decided at these values, and in classification the values; features go."""
    rows = replace(rows, X=None)
    if rows.labels is None:
        return rows.decided(values)
    return rows.decided((values > 0.5).astype(np.float64), values)


def run_rounds(
    trees: TreeRun,
    families: Sequence[RateFamily],
    training: Lagrangian,
    steering: Lagrangian,
    settings: Settings,
    watched: Sequence[Lagrangian] = (),
    objective: Objective = OBJECTIVES["accuracy"],
) -> Trained:
    """Grow trees against prices that move every round.

    Parameters
    ----------
    trees : TreeRun
        A booster in training.
    families : sequence of RateFamily
        What is compared.
    training, steering : Lagrangian
        The rows whose soft rates move trees, and those whose hard rates move multipliers.
    settings : Settings
        How.
    watched : sequence of Lagrangian
        Further rows; the last of them judges performance.
    objective : Objective
        What it is judged by. Costs that follow from its own value move with it.
    """
    dual = _controller(families, training, steering, settings, steering.best_constant(objective))
    # At least: a rate of one label's rows has fewer than there are.
    n_steering = max(float(steering.counts[part].sum()) for part in dual.multipliers.slices)
    n_trees, since, records = 0, 0, []
    for number in range(settings.n_estimators):
        prices = dual.prices
        if trees.can_go_plain and objective.settled and not prices.any():
            trees.plain_round()
        else:
            trees.round(partial(training.derivatives, prices=prices))
        margin = trees.steering_margin()
        rates = steering.hard_rates(margin)
        performance = own = steering.value_of(objective, margin)
        record = _measured("held", steering, margin, objective, own)
        for i, rows in enumerate(watched):
            at = trees.watched_margin(i)
            performance = rows.value_of(objective, at)  # the last set judges
            record |= _measured(f"eval_{i}", rows, at, objective, performance)
        counts = steering.counts_at(margin)
        shrunk, minority = dual.shrunk(rates, counts), _minority(steering, margin)
        since += 1
        if dual.offer(number, shrunk, counts, performance, minority):
            n_trees, since = trees.n_rounds, 0
            margins = (trees.training_margin(), margin)
        record |= dual.record() | _columns(dual, shrunk, prices)
        records.append({"round": number, **record})
        dual.look(rates, counts)
        dual.give_way(own, n_steering)
        if not objective.settled:
            training.charge(objective.costs(training.share, own))
        if settings.patience is not None and since >= settings.patience:
            break
    return Trained(trees.model(n_trees), n_trees, *margins, steering.counts, dual, records)


def _controller(
    families: Sequence[RateFamily],
    training: Lagrangian,
    steering: Lagrangian,
    settings: Settings,
    constant: float,
) -> DualController:
    lr = settings.dual_lr
    dual = DualController(
        families,
        NuPI(lr, BOOSTING.proportional * lr, BOOSTING.memory),
        DualSettings(
            BOOSTING,
            iterates=settings.n_estimators,
            cap=settings.cap,
            confidence=settings.confidence,
            min_count=settings.min_count,
            constant=constant,
        ),
        training.dual_units(),
    )
    # The centre of bounds around the overall rate is that of the rows that are priced.
    dual.multipliers.set_shares(training.totals)
    return dual


def _minority(rows: Lagrangian, margin: Floats) -> float:
    """Share of the rarer decision; 1 where there are no decisions."""
    if rows.task == "regression":
        return 1.0
    share = rows.favourable_share(margin)
    return min(share, 1 - share)


def _measured(
    name: str, rows: Lagrangian, margin: Floats, objective: Objective, performance: float
) -> dict[str, float]:
    """Loss, and squared error, or accuracy and the objective."""
    loss = {f"{name}_loss": rows.loss(margin)}
    if rows.task == "regression":
        return {**loss, f"{name}_squared_error": -performance}
    if objective.is_accuracy:
        return {**loss, f"{name}_accuracy": performance}
    return {**loss, f"{name}_accuracy": 1 - rows.error(margin), f"{name}_objective": performance}


def _columns(dual: DualController, rates: Floats, prices: Floats) -> dict[str, float]:
    """Gap of every rate, and price of every group."""
    columns = {}
    for family, part in zip(dual.families, dual.multipliers.slices, strict=True):
        columns[f"gap_held: {family.name}"] = family.bounds.achieved(rates[part])
        for name, price in zip(family.scheme.names, prices[part], strict=True):
            columns[f"price: {family.name}[{name}]"] = float(price)
    return columns


def _target(rows: Rows) -> Floats:
    return rows.outcomes
