"""The one training loop. It knows epochs, batches and callbacks, and nothing of fairness."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from torch import Tensor

from fairtrain.exceptions import FairtrainError, InvalidDataError
from fairtrain.training.batch import Batch, Source
from fairtrain.training.steps import Losses, PrimalStep

__all__ = ["LoopHooks", "TrainingLoop"]

Record = dict[str, Any]


class LoopHooks(Protocol):
    """What a trainer does between the steps."""

    def after_batch(self, batch: Batch, losses: Losses) -> None:
        """After a step was taken."""
        ...

    def after_epoch(self, record: Record) -> None:
        """After the last step of an epoch; what is put into the record becomes history."""
        ...


class TrainingLoop:
    """Run epochs of steps.

    Parameters
    ----------
    step : callable
        ``step(batch)`` -> named losses, of which ``"loss"`` moves the weights.
    primal : PrimalStep
        Moves them.
    source : Source
        Batches.
    max_epochs : int
        Epochs.
    hooks : LoopHooks
        What happens between steps.
    callbacks : sequence
        See :mod:`fairtrain.training.callbacks`.
    trainer : object
        What callbacks are handed.
    patience_nan : int, default=10
        Skipped batches in a row after which training stops with an error.

    Attributes
    ----------
    epoch : int
        Epochs that are over.
    n_steps : int
        Steps taken.
    n_skipped : int
        Batches skipped because a loss or gradient was not finite.
    history : list of dict
        A record an epoch.
    stop : bool
        Set by whoever wants this epoch to be the last.
    """

    def __init__(
        self,
        step: Callable[[Batch], Losses],
        primal: PrimalStep,
        source: Source,
        *,
        max_epochs: int,
        hooks: LoopHooks,
        callbacks: Sequence[Any] = (),
        trainer: Any = None,
        patience_nan: int = 10,
    ) -> None:
        self.step = step
        self.primal = primal
        self.source = source
        self.max_epochs = max_epochs
        self.hooks = hooks
        self.callbacks = list(callbacks)
        self.trainer = trainer
        self.patience_nan = patience_nan
        self.epoch = 0
        self.n_steps = 0
        self.n_skipped = 0
        self.history: list[Record] = []
        self.stop = False
        self._in_a_row = 0
        self._length = source.n_batches

    def run(self) -> None:
        """Train until the last epoch, or until somebody asks to stop.

        Raises
        ------
        FairtrainError
            If batch after batch gives a loss or gradient that is not finite.
        """
        self._tell("on_train_begin")
        while self.epoch < self.max_epochs and not self.stop:
            self._tell("on_epoch_begin")
            record = self._run_epoch()
            self.hooks.after_epoch(record)
            self.epoch += 1
            self.history.append(record)
            self._tell("on_epoch_end", record)
        self._tell("on_train_end")

    @property
    def progress(self) -> float:
        """Part of training that is over, in [0, 1]."""
        return self.epoch / self.max_epochs

    def _run_epoch(self) -> Record:
        start = time.perf_counter()
        totals: dict[str, Tensor] = {}  # summed as tensors: reading each would stall a GPU
        norms, taken, number = 0.0, 0, -1
        for number, batch in enumerate(self.source.batches(self.epoch)):
            self._tell("on_batch_begin", batch)
            within = 0.0 if self._length is None else number / max(self._length, 1)
            report = self.primal(partial(self.step, batch), self._at(within))
            if report.taken:
                self._in_a_row = 0
                self.n_steps += 1
                taken += 1
                norms += report.gradient_norm if math.isfinite(report.gradient_norm) else 0.0
                for name, value in report.losses.items():
                    totals[name] = totals[name] + value if name in totals else value.clone()
                self.hooks.after_batch(batch, report.losses)
            else:
                self._skipped()
            self._tell("on_batch_end", batch, report)
        if number < 0:
            raise InvalidDataError("the training loader gave no batch.")
        self._length = number + 1
        means = {name: float(total) / max(taken, 1) for name, total in totals.items()}
        return {
            "epoch": self.epoch,
            **means,
            "lr": float(getattr(self.primal, "lr", math.nan)),
            "gradient_norm": norms / max(taken, 1),
            "skipped": number + 1 - taken,
            "seconds": time.perf_counter() - start,
        }

    def _at(self, within: float) -> float:
        return (self.epoch + min(within, 1.0)) / self.max_epochs

    def _skipped(self) -> None:
        self.n_skipped += 1
        self._in_a_row += 1
        if self._in_a_row >= self.patience_nan:
            raise FairtrainError(
                f"{self._in_a_row} batches in a row gave a loss or gradient that is not finite; "
                "lower lr, look for NaN in the data, or set clip_norm."
            )

    def _tell(self, hook: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(self.trainer, *arguments)
