"""The Lagrangian game: weights pay for soft rates what multipliers charge for hard ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairtrain.lagrangian import (
    Candidate,
    IterateChoice,
    Yielding,
    steering_rates,
    working_margins,
)
from fairtrain.lagrangian.multipliers import Multipliers
from fairtrain.metrics.report import NEAR_CONSTANT
from fairtrain.training.batch import Batch
from fairtrain.training.cells import Measured
from fairtrain.training.distributed import all_reduce_sum, communication_device
from fairtrain.training.dual import DualStep
from fairtrain.training.engine import dtype_of
from fairtrain.training.run import Run, RunParts
from fairtrain.training.steps import Losses

__all__ = ["GameSettings", "LagrangianRun"]

Floats = NDArray[np.float64]

_FORGET = 0.5
"""Share of older batches that counts at the next look, where no rows steer."""


@dataclass(frozen=True)
class GameSettings:
    """How the game is played.

    Attributes
    ----------
    augmented : float
        Penalty parameter of the augmented Lagrangian; 0 for the plain one.
    margin : float
        Share of a parity's bound (of 1 minus a ratio's) that multipliers leave unused.
    confidence : float or None
        Level at which bounds are to hold on the rows that steer.
    min_count : int
        Groups with fewer rows are pulled to their parents.
    best_constant : float
        Performance of the best constant prediction on the rows that steer.
    keep_all : bool
        Keep the weights of every epoch, for a mixture.
    """

    augmented: float = 0.0
    margin: float = 0.0
    confidence: float | None = None
    min_count: int = 30
    best_constant: float = -np.inf
    keep_all: bool = False


class LagrangianRun(Run):
    """One run of the game.

    Parameters
    ----------
    parts : RunParts
        What is trained on what.
    multipliers : Multipliers
        One of every inequality.
    dual : DualStep
        When they move.
    choice : IterateChoice
        Which epoch's weights are kept.
    yielding : Yielding
        Which bounds give way where not all can hold.
    settings : GameSettings
        The rest.
    """

    def __init__(
        self,
        parts: RunParts,
        multipliers: Multipliers,
        dual: DualStep,
        choice: IterateChoice,
        yielding: Yielding,
        settings: GameSettings,
    ) -> None:
        super().__init__(parts)
        self.multipliers = multipliers
        self.dual = dual
        self.choice = choice
        self.yielding = yielding
        self.settings = settings
        self.best_weights: dict[str, Tensor] | None = None
        self.iterates: list[tuple[dict[str, Tensor], Candidate, Floats]] = []
        self.looks: list[tuple[Floats, Floats]] = []
        """Excess over the working bounds and sums of multipliers, at every update."""
        self._recent = np.zeros((2, parts.cells.n_cells))
        self._soft: Tensor | None = None
        self._this_epoch = 0
        self._last_epoch: int | None = None
        self._dtype = dtype_of(parts.module)
        self._pull = self._as_tensor(multipliers.pull())

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
        pull = self._pull.to(rates.dtype)
        if self.settings.augmented:
            shifted = self.multipliers.shifted(self._soft_rates(), self.settings.augmented)
            pull = self._as_tensor(self.multipliers.pull(shifted)).to(rates.dtype)
        # 0 * NaN would be NaN: absent groups are out before they are multiplied.
        penalty = (torch.where(present, pull, 0.0) * rates).sum()
        base = self.base(outputs, batch)
        hard = self.count(outputs, batch, own)
        if parts.held is None:
            self._recent += hard.double().cpu().numpy()
        return {"loss": base + penalty, "base_loss": base, "penalty": penalty}

    def after_batch(self, batch: Batch, losses: Losses) -> None:
        """Let the multipliers move if it is their turn."""
        self._this_epoch += 1
        self.dual.after_batch(self, self._soft_rates)

    def after_epoch(self, record: dict[str, Any]) -> None:
        """Measure, choose, and complete the record."""
        self.dual.after_epoch(self)
        self._last_epoch, self._this_epoch = self._this_epoch, 0
        super().after_epoch(record)
        assert self.held is not None
        margins = self._margins(self.held.rates, self.held.effective)
        self._tighten(margins, spare=0.0)
        excess = self.multipliers.excess(self.held.rates)
        self._tighten(margins, self.settings.margin)
        candidate = Candidate(
            when=int(record["epoch"]),
            performance=self.held.performance,
            excess=tuple(excess.tolist()),
            near_constant=self.held.minority <= NEAR_CONSTANT,
        )
        if self.choice.offer(candidate):
            self.best_weights = self.weights()
        if self.settings.keep_all:
            self.iterates.append((self.weights(), candidate, self.held.rates))
        self.yielding.look(self.multipliers, useless=self._useless(self.held))
        record["feasible"] = self.choice.is_feasible(candidate)
        record["worst_excess"] = float(np.nanmax(excess)) if np.isfinite(excess).any() else np.nan
        for family, bounds, total in zip(
            self.families, self.multipliers.bounds, self.multipliers.sums.tolist(), strict=True
        ):
            record[f"bound: {family.name}"] = bounds.bound
            record[f"multipliers: {family.name}"] = total
        record["n_updates"] = self.multipliers.n_updates
        record["dual_lr"] = float(getattr(self.multipliers.rule, "lr", np.nan))

    def look(self) -> Floats:
        """Measure hard rates on the rows that steer and move the multipliers by them."""
        cells, min_count = self.parts.cells, self.settings.min_count
        if self.parts.held is None:
            sums, counts = self._recent_sums()
            effective = counts
        else:
            held = self.measure_held()
            sums, counts, effective = held.sums, held.counts, held.effective
        scale = np.divide(effective, counts, out=np.zeros_like(counts), where=counts > 0)
        rates = steering_rates(cells.families, sums * scale, effective, min_count=min_count)
        self._tighten(self._margins(rates, effective), self.settings.margin)
        self.multipliers.set_shares(counts)
        self.move(rates)
        return rates

    def move(self, rates: Floats) -> None:
        """Move the multipliers by rates, and charge the new price from the next batch on."""
        excess = self.multipliers.excess(rates)
        self.multipliers.update(rates)
        self._pull = self._as_tensor(self.multipliers.pull())
        self.looks.append((excess, self.multipliers.sums))

    def finish_choice(self) -> None:
        """Go back to the weights of the chosen epoch."""
        if self.best_weights is not None:
            self.deployed.load_state_dict(self.best_weights)

    def state_dict(self) -> dict[str, Any]:
        """Return what has to be kept to go on later."""
        dual_state: Callable[[], dict[str, Any]] = getattr(self.dual, "state_dict", dict)
        return {
            **super().state_dict(),
            "multipliers": self.multipliers.state_dict(),
            "dual": dual_state(),
            "choice": self.choice.state_dict(),
            "yielding": self.yielding.state_dict(),
            "best": self.best_weights,
            "looks": [[excess, sums] for excess, sums in self.looks],
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
        self.multipliers.load_state_dict(state["multipliers"])
        self._pull = self._as_tensor(self.multipliers.pull())
        if hasattr(self.dual, "load_state_dict"):
            self.dual.load_state_dict(state["dual"])
        self.choice.load_state_dict(state["choice"])
        self.yielding.load_state_dict(state["yielding"])
        self.best_weights = state["best"]
        self.looks = [(np.array(excess), np.array(sums)) for excess, sums in state["looks"]]
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

    def _useless(self, held: Measured) -> bool:
        """Whether predictions are no better than the best constant, within a standard error."""
        constant = self.settings.best_constant
        if not np.isfinite(constant) or self.parts.head.task == "regression":
            return False
        noise = np.sqrt(constant * (1 - constant) / max(held.n_rows, 1.0))
        return bool(held.performance <= constant + noise)

    def _margins(self, rates: Floats, effective: Floats) -> Floats:
        """How far bounds are tightened by their uncertainty, less what gave way."""
        margins = np.zeros(len(self.families))
        if self.settings.confidence is not None:
            margins = working_margins(self.families, rates, effective, self.settings.confidence)
        return margins - self.yielding.slack

    def _tighten(self, margins: Floats, spare: float) -> None:
        """Set working bounds; multipliers leave a part of each parity's bound unused (``spare``).

        Otherwise the iterates of a converged run would lie on either side of it.
        """
        for i, bounds in enumerate(list(self.multipliers.bounds)):
            unused = 0.0 if bounds.reference == "none" else spare * bounds.room
            self.multipliers.set_margin(i, float(margins[i]) + unused)

    def _recent_sums(self) -> tuple[Floats, Floats]:
        recent = torch.from_numpy(self._recent).to(communication_device())
        total = all_reduce_sum(recent).cpu().numpy().copy()
        self._recent *= _FORGET
        return total[0], total[1]

    def _soft_rates(self) -> Floats:
        """Soft rates of the last batch; bounds around the overall rate learn its shares."""
        assert self._soft is not None
        rates, counts = self._soft.double().cpu().numpy()
        self.multipliers.set_shares(counts)
        return np.asarray(rates)

    def _as_tensor(self, values: Floats) -> Tensor:
        return torch.from_numpy(values).to(self.parts.engine.device, self._dtype)
