"""One training, on the rows that one process holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairtrain.boosting.backend import TreeData, TreeSettings
from fairtrain.boosting.objective import GroupSums, Lagrangian, predictions
from fairtrain.boosting.registry import load_backend, stock_predict
from fairtrain.boosting.rounds import Rounds, RoundSettings, run_rounds
from fairtrain.constraints import Constraint
from fairtrain.data.groups import GroupScheme, group_sums
from fairtrain.data.rows import Rows
from fairtrain.lagrangian import RateFamily, families_of

__all__ = ["Job", "Trained", "predict_all", "train"]

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
class Trained:
    """A stock model and how it came about."""

    model: Any
    rounds: Rounds
    steering_counts: Floats
    base_rates: Floats

    def without_margins(self) -> Trained:
        """Leave out what is as long as the rows."""
        none = np.empty(0)
        return replace(
            self, rounds=replace(self.rounds, training_margin=none, steering_margin=none)
        )


def train(
    job: Job,
    rows: Rows,
    watched: Sequence[tuple[Any, Floats]] = (),
    sums: GroupSums = group_sums,
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
    """
    families, task = job.families, job.trees.task

    def lagrangian(part: Rows, dtype: Any) -> Lagrangian:
        return Lagrangian(
            families,
            _target(part),
            part.groups.codes,
            part.weight,
            task=task,
            sums=sums,
            dtype=dtype,
        )

    own, held = rows.part("training"), rows.part("steering")
    n_held = sums(np.ones(len(held)), np.zeros(len(held), dtype=np.int64), 1)[0]
    trees = load_backend(job.booster).start(
        TreeData(
            X=own.X,
            y=_target(own),
            weight=own.weight,
            steering=held.X if n_held else None,
            watched=[X for X, _ in watched],
        ),
        job.trees,
    )
    training = lagrangian(own, np.float32)
    steering = lagrangian(held, np.float64) if n_held else training
    followed = [
        Lagrangian([], y, np.full(len(y), -1, dtype=np.int64), task=task) for _, y in watched
    ]
    found = run_rounds(trees, families, training, steering, job.rounds, followed)
    return Trained(trees.model(found.n_trees), found, steering.counts, _base_rates(job, rows, sums))


def predict_all(job: Job, found: Trained, rows: Rows) -> Floats:
    """Predictions for all rows, shape (n,); margins of the chosen round spare most of the work."""
    assert rows.split is not None
    predicted = np.empty(len(rows))
    predicted[rows.split.training] = predictions(found.rounds.training_margin, job.trees.task)
    if len(rows.split.steering):
        predicted[rows.split.steering] = predictions(found.rounds.steering_margin, job.trees.task)
    if len(rows.split.certification):
        left = rows.part("certification").X
        predicted[rows.split.certification] = stock_predict(found.model, left)
    return predicted


def _target(rows: Rows) -> Floats:
    assert rows.y is not None
    return rows.y


def _base_rates(job: Job, rows: Rows, sums: GroupSums) -> Floats:
    """Share of favourable labels in every finest group."""
    size, codes = len(job.scheme), rows.groups.codes
    weight = np.ones(len(rows)) if rows.weight is None else rows.weight
    total = sums(weight, codes, size)
    favourable = sums(weight * _target(rows), codes, size)
    rates: Floats = np.divide(favourable, total, out=np.full(size, np.nan), where=total > 0)
    return rates
