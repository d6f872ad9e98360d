"""One training, on the rows that one process holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairtrain.boosting.backend import TreeData, TreeSettings, load_backend, stock_predict
from fairtrain.boosting.objective import GroupSums, Lagrangian, Task, predictions
from fairtrain.boosting.rounds import Rounds, RoundSettings, run_rounds
from fairtrain.constraints import Constraint
from fairtrain.data import inputs
from fairtrain.data.groups import GroupScheme, group_sums
from fairtrain.lagrangian import RateFamily, families_of

__all__ = ["Job", "JobRows", "Trained", "predict_all", "train"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Job:
    """What to train; small, and the same in every process."""

    booster: str
    constraints: tuple[Constraint, ...]
    scheme: GroupScheme
    trees: TreeSettings
    rounds: RoundSettings

    @property
    def families(self) -> list[RateFamily]:
        """What is compared."""
        return families_of(self.constraints, self.scheme)


@dataclass(frozen=True, eq=False)
class JobRows:
    """Rows, and which of them train and steer.

    Attributes
    ----------
    X : array, CSR matrix or frame of n rows
        As the booster takes it.
    y : ndarray of shape (n,)
        Labels 0 and 1, or values.
    codes : ndarray of int64, shape (n,)
        Finest groups.
    weight : ndarray of shape (n,) or None
        Weights.
    training, steering : ndarray of int64
        Positions; with no steering rows in any process the training rows steer.
    watched : sequence of (X, y)
        Rows that are followed.
    """

    X: Any
    y: Floats
    codes: NDArray[np.int64]
    weight: Floats | None
    training: NDArray[np.int64]
    steering: NDArray[np.int64] | None
    watched: Sequence[tuple[Any, Floats]] = ()


@dataclass(frozen=True, eq=False)
class Trained:
    """A stock model and how it came about."""

    model: Any
    rounds: Rounds
    steering_counts: Floats
    base_rates: Floats


def train(job: Job, rows: JobRows, sums: GroupSums = group_sums) -> Trained:
    """Train on these rows.

    Parameters
    ----------
    job : Job
        What.
    rows : JobRows
        On which rows.
    sums : callable
        Where there are several processes, sums over the rows of all of them.
    """
    families, task = job.families, job.trees.task

    def lagrangian(part: NDArray[np.int64], dtype: Any) -> Lagrangian:
        weight = None if rows.weight is None else rows.weight[part]
        return Lagrangian(
            families, rows.y[part], rows.codes[part], weight, task=task, sums=sums, dtype=dtype
        )

    steering = rows.steering
    trees = load_backend(job.booster)(
        TreeData(
            X=inputs.take_rows(rows.X, rows.training),
            y=rows.y[rows.training],
            weight=None if rows.weight is None else rows.weight[rows.training],
            steering=None if steering is None else inputs.take_rows(rows.X, steering),
            watched=[X for X, _ in rows.watched],
        ),
        job.trees,
    )
    training = lagrangian(rows.training, np.float32)
    steers = training if steering is None else lagrangian(steering, np.float64)
    watched = [
        Lagrangian([], y, np.full(len(y), -1, dtype=np.int64), task=task) for _, y in rows.watched
    ]
    found = run_rounds(trees, families, training, steers, job.rounds, watched)
    return Trained(trees.model(found.kept), found, steers.counts, _base_rates(job, rows, sums))


def predict_all(found: Trained, rows: JobRows, task: Task) -> Floats:
    """Predictions for all rows, shape (n,); margins of the chosen round spare most of the work."""
    predicted = np.full(len(rows.y), np.nan)
    predicted[rows.training] = predictions(found.rounds.training_margin, task)
    if rows.steering is not None:
        predicted[rows.steering] = predictions(found.rounds.steering_margin, task)
    left = np.flatnonzero(np.isnan(predicted))
    if len(left):
        predicted[left] = stock_predict(found.model, inputs.take_rows(rows.X, left))
    return predicted


def _base_rates(job: Job, rows: JobRows, sums: GroupSums) -> Floats:
    """Share of favourable labels in every finest group."""
    size = len(job.scheme)
    weight = np.ones(len(rows.y)) if rows.weight is None else rows.weight
    total = sums(weight, rows.codes, size)
    favourable = sums(weight * rows.y, rows.codes, size)
    rates: Floats = np.divide(favourable, total, out=np.full(size, np.nan), where=total > 0)
    return rates
