"""The one training loop. It knows epochs, batches and callbacks, and nothing of fairness."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from fairtrain.exceptions import FairtrainError, InvalidDataError
from fairtrain.training.loop.steps import Losses, PrimalStep

__all__ = ["Batches", "LoopHooks", "TrainingLoop"]

Record = dict[str, Any]

_MOST_SKIPPED = 10
"""Skipped batches in a row after which training stops with an error."""


class Batches(Protocol):
    """Where batches come from; what a batch is, step and hooks know."""

    @property
    def n_batches(self) -> int | None:
        """Batches of an epoch; None where nobody knows."""

    def batches(self, epoch: int) -> Iterator[Any]:
        """Training batches of an epoch."""


class LoopHooks(Protocol):
    """What a trainer does between the steps."""

    def after_batch(self, batch: Any, losses: Losses) -> None:
        """After a step was taken."""

    def after_epoch(self, record: Record) -> None:
        """After the last step of an epoch; what is put into the record becomes history."""

    def state_dict(self) -> dict[str, Any]:
        """Return what has to be kept to go on later."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""


class TrainingLoop:
    """Run epochs of steps.

    Parameters
    ----------
    step : callable
        ``step(batch)`` -> named losses, of which ``"loss"`` moves the weights.
    primal : PrimalStep
        Moves them.
    source : Batches
        Batches.
    max_epochs : int
        Epochs.
    hooks : LoopHooks
        What happens between steps.
    callbacks : sequence
        See :mod:`fairtrain.training.loop.callbacks`.
    trainer : object
        What callbacks are handed.

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
        step: Callable[[Any], Losses],
        primal: PrimalStep,
        source: Batches,
        *,
        max_epochs: int,
        hooks: LoopHooks,
        callbacks: Sequence[Any] = (),
        trainer: Any = None,
    ) -> None:
        self.step = step
        self.primal = primal
        self.source = source
        self.max_epochs = max_epochs
        self.hooks = hooks
        self.callbacks = list(callbacks)
        self.trainer = trainer
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

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on with a running training."""
        return {
            "epoch": self.epoch,
            "n_steps": self.n_steps,
            "n_skipped": self.n_skipped,
            "history": self.history,
            "run": self.hooks.state_dict(),
            "primal": self.primal.state_dict(),
            "callbacks": [callback.state_dict() for callback in self.callbacks],
            "random": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.hooks.load_state_dict(state["run"])
        self.primal.load_state_dict(state["primal"])
        self.epoch, self.n_steps = state["epoch"], state["n_steps"]
        self.n_skipped, self.history = state["n_skipped"], list(state["history"])
        for callback, kept in zip(self.callbacks, state["callbacks"], strict=False):
            callback.load_state_dict(kept)
        torch.set_rng_state(state["random"])
        if state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])

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
        means = {name: _mean(total, max(taken, 1)) for name, total in totals.items()}
        norm = means.pop("gradient_norm", norms / max(taken, 1))
        return {
            "epoch": self.epoch,
            **means,
            "lr": float(getattr(self.primal, "lr", math.nan)),
            "gradient_norm": norm,
            "skipped": number + 1 - taken,
            "seconds": time.perf_counter() - start,
        }

    def _at(self, within: float) -> float:
        return (self.epoch + min(within, 1.0)) / self.max_epochs

    def _skipped(self) -> None:
        self.n_skipped += 1
        self._in_a_row += 1
        if self._in_a_row >= _MOST_SKIPPED:
            raise FairtrainError(
                f"{self._in_a_row} batches in a row gave a loss or gradient that is not finite; "
                "lower lr, look for NaN in the data, or set clip_norm."
            )

    def _tell(self, hook: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(self.trainer, *arguments)


def _mean(total: Tensor, n: int) -> Any:
    """A number; a tensor, where models that train together have one each."""
    return float(total) / n if total.ndim == 0 else total / n
