"""The Lagrangian game: weights pay for soft rates what multipliers charge for hard ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairtrain.lagrangian import Candidate, DualController, Multipliers
from fairtrain.losses.distributed import all_reduce_sum, communication_device
from fairtrain.training.batch import Batch
from fairtrain.training.dual import DualStep
from fairtrain.training.engine import dtype_of
from fairtrain.training.run import Run, RunParts, rates_of
from fairtrain.training.steps import Losses

__all__ = ["GameSettings", "LagrangianRun"]

Floats = NDArray[np.float64]

_FORGET = 0.5
"""Share of older batches that counts at the next look, where no rows steer.

The batches since the last look are too few for steady rates, all batches together belong to weights
that are long gone.
"""


@dataclass(frozen=True)
class GameSettings:
    """How the game is played.

    Attributes
    ----------
    augmented : float
        Penalty parameter of the augmented Lagrangian; 0 for the plain one.
    keep_all : bool
        Keep the weights of every epoch, for a mixture.
    """

    augmented: float = 0.0
    keep_all: bool = False


class LagrangianRun(Run):
    """One run of the game.

    Parameters
    ----------
    parts : RunParts
        What is trained on what.
    dual : DualController
        What prices are charged, and which epoch's weights are kept.
    dual_step : DualStep
        When prices move.
    settings : GameSettings
        The rest.
    """

    def __init__(
        self, parts: RunParts, dual: DualController, dual_step: DualStep, settings: GameSettings
    ) -> None:
        super().__init__(parts)
        self.dual = dual
        self.dual_step = dual_step
        self.settings = settings
        self.best_weights: dict[str, Tensor] | None = None
        self.iterates: list[tuple[dict[str, Tensor], Candidate, Floats]] = []
        self._recent = np.zeros((2, parts.cells.n_cells))
        self._soft: Tensor | None = None
        self._this_epoch = 0
        self._last_epoch: int | None = None
        self._dtype = dtype_of(parts.module)
        self._prices = self._as_tensor(dual.prices)

    @property
    def multipliers(self) -> Multipliers:
        """The multipliers of every inequality."""
        return self.dual.multipliers

    @property
    def n_batches(self) -> int | None:
        """Batches of an epoch."""
        known = self.parts.training.n_batches
        return self._last_epoch if known is None else known

    def step(self, batch: Batch) -> Losses:
        """Base loss plus what the soft rates of the batch cost."""
        parts = self.parts
        outputs = self.forward(batch)
        own = parts.cells(parts.head.soft(outputs), batch.y, batch.codes, batch.weight)
        sums = all_reduce_sum(own)
        present = sums[1] > 0
        rates = sums[0] / torch.where(present, sums[1], 1.0)
        self._soft = torch.stack([torch.where(present, rates, torch.nan), sums[1]]).detach()
        prices = self._prices
        if self.settings.augmented:
            shifted = self.multipliers.shifted(self._soft_rates(), self.settings.augmented)
            prices = self._as_tensor(self.multipliers.prices(shifted))
        # 0 * NaN would be NaN: absent groups are out before they are multiplied.
        penalty = (torch.where(present, prices.to(rates.dtype), 0.0) * rates).sum()
        base = self.base(outputs, batch)
        hard = self.count(outputs, batch, own)
        if parts.held is None:
            self._recent += hard.double().cpu().numpy()
        return {"loss": base + penalty, "base_loss": base, "penalty": penalty}

    def after_batch(self, batch: Batch, losses: Losses) -> None:
        """Let the multipliers move if it is their turn."""
        self._this_epoch += 1
        self.dual_step.after_batch(self, self._soft_rates)

    def after_epoch(self, record: dict[str, Any]) -> None:
        """Measure, choose, and complete the record."""
        self.dual_step.after_epoch(self)
        self._last_epoch, self._this_epoch = self._this_epoch, 0
        super().after_epoch(record)
        assert self.held is not None
        dual, held = self.dual, self.held
        better = dual.offer(
            int(record["epoch"]), held.rates, held.effective, held.performance, held.minority
        )
        if better:
            self.best_weights = self.weights()
        if self.settings.keep_all:
            assert dual.candidate is not None
            self.iterates.append((self.weights(), dual.candidate, held.rates))
        dual.give_way(held.performance, held.n_rows)
        record |= dual.record()
        record["n_updates"] = self.multipliers.n_updates
        record["dual_lr"] = float(getattr(self.multipliers.rule, "lr", np.nan))

    def look(self) -> Floats:
        """Measure hard rates on the rows that steer and move the multipliers by them."""
        if self.parts.held is None:
            sums = self._recent_sums()
            rates, counts, rows = rates_of(sums), sums[1], sums[1]
        else:
            held = self.measure_held()
            rates, counts, rows = held.rates, held.counts, held.effective
        self.multipliers.set_shares(counts)
        self._prices = self._as_tensor(self.dual.look(rates, rows))
        return rates

    def move(self, rates: Floats) -> None:
        """Move the multipliers by rates, and charge the new prices from the next batch on."""
        self._prices = self._as_tensor(self.dual.move(rates))

    def finish_choice(self) -> None:
        """Go back to the weights of the chosen epoch."""
        if self.best_weights is not None:
            self.deployed.load_state_dict(self.best_weights)

    def state_dict(self) -> dict[str, Any]:
        """Return what has to be kept to go on later."""
        step_state: Callable[[], dict[str, Any]] = getattr(self.dual_step, "state_dict", dict)
        return {
            **super().state_dict(),
            "dual": self.dual.state_dict(),
            "dual_step": step_state(),
            "best": self.best_weights,
            "recent": self._recent,
            "last_epoch": self._last_epoch,
            "iterates": [
                [weights, {**vars(candidate), "excess": list(candidate.excess)}, rates]
                for weights, candidate, rates in self.iterates
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        super().load_state_dict(state)
        self.dual.load_state_dict(state["dual"])
        self._prices = self._as_tensor(self.dual.prices)
        if hasattr(self.dual_step, "load_state_dict"):
            self.dual_step.load_state_dict(state["dual_step"])
        self.best_weights = state["best"]
        self._recent = np.array(state["recent"])
        self._last_epoch = state["last_epoch"]
        self.iterates = [
            (
                weights,
                Candidate(**{**candidate, "excess": tuple(candidate["excess"])}),
                np.array(rates),
            )
            for weights, candidate, rates in state["iterates"]
        ]

    def _recent_sums(self) -> Floats:
        recent = torch.from_numpy(self._recent).to(communication_device())
        total = all_reduce_sum(recent).cpu().numpy().copy()
        self._recent *= _FORGET
        return np.asarray(total)

    def _soft_rates(self) -> Floats:
        """Soft rates of the last batch; bounds around the overall rate learn its shares."""
        assert self._soft is not None
        rates, counts = self._soft.double().cpu().numpy()
        self.multipliers.set_shares(counts)
        return np.asarray(rates)

    def _as_tensor(self, values: Floats) -> Tensor:
        return torch.from_numpy(values).to(self.parts.engine.device, self._dtype)
