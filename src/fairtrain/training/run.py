"""The state of one training: module, batches, measurements. Trainers subclass it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fairtrain.losses.base_loss import BaseLoss, mean_base_loss
from fairtrain.losses.distributed import all_reduce_sum, communication_device, is_distributed
from fairtrain.training.batch import Batch, Source
from fairtrain.training.cells import CellSums, Measured, measure
from fairtrain.training.engine import Engine
from fairtrain.training.fitdata import FitData
from fairtrain.training.heads import Head
from fairtrain.training.steps import Losses, PrimalStep

__all__ = ["Plan", "Run", "RunParts", "rates_of"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RunParts:
    """What a trainer puts together before the first step.

    Attributes
    ----------
    engine : Engine
        Where it runs.
    module : nn.Module
        The module whose weights move.
    net : nn.Module
        The same, wrapped for the processes at work.
    head : Head
        What outputs mean.
    cells : CellSums
        What is compared over which groups.
    training : Source
        Rows that move weights.
    held : Source or None
        Rows that steer.
    base_loss : callable
        The usual loss.
    """

    engine: Engine
    module: nn.Module
    net: nn.Module
    head: Head
    cells: CellSums
    training: Source
    held: Source | None
    base_loss: BaseLoss


@dataclass
class Plan:
    """A training before its first step.

    Attributes
    ----------
    data : FitData
        The rows.
    module : nn.Module
        Whose weights move.
    run : Run
        What a step is, and what is measured.
    primal : PrimalStep
        How the weights move.
    max_epochs : int
        For how long.
    """

    data: FitData
    module: nn.Module
    run: Run
    primal: PrimalStep
    max_epochs: int


class Run:
    """Counts what training batches show, and measures the held-out rows after every epoch.

    Parameters
    ----------
    parts : RunParts
        What is trained on what.
    """

    def __init__(self, parts: RunParts) -> None:
        self.parts = parts
        self.families = parts.cells.families
        self.deployed: nn.Module = parts.module
        self.held: Measured | None = None
        self._sums: Tensor | None = None
        self._overall: Tensor | None = None

    # What the loop calls ------------------------------------------------------------------------

    def step(self, batch: Batch) -> Losses:
        """Losses of a batch; ``"loss"`` moves the weights."""
        raise NotImplementedError(f"{type(self).__name__} defines no step.")

    def after_batch(self, batch: Batch, losses: Losses) -> None:
        """After a step."""

    def after_epoch(self, record: dict[str, Any]) -> None:
        """Complete an epoch's record with what was counted and measured."""
        self.complete(record, *self._counted(), self.measure_held())
        self._forget()

    def complete(
        self,
        record: dict[str, Any],
        rows: float,
        right: float,
        hard: Floats,
        soft: Floats,
        held: Measured,
    ) -> None:
        """Write into a record what was counted and measured.

        Parameters
        ----------
        record : dict
            Of an epoch.
        rows, right : float
            Rows of the training batches, and right decisions.
        hard, soft : ndarray of shape (n_cells,)
            Rates of the training batches.
        held : Measured
            What the held-out rows showed.
        """
        record["accuracy" if self.parts.head.task != "regression" else "score"] = right / rows
        record["held_accuracy"] = held.performance
        record["held_loss"] = held.loss
        start = 0
        for family in self.families:
            part = slice(start, start + len(family.scheme))
            start = part.stop
            for name, rates in (("soft", soft), ("hard", hard), ("held", held.rates)):
                record[f"gap_{name}: {family.name}"] = family.bounds.achieved(rates[part])

    # What subclasses use ------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Tensor:
        """Outputs of a training batch."""
        return self.parts.head.outputs(self.parts.net(batch.x), len(batch.y))

    def base(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Base loss of a batch, weighted by this process's share of the rows of all."""
        head = self.parts.head
        mean = mean_base_loss(
            self.parts.base_loss, outputs, head.labels(batch.y).to(_label_type(outputs, head)),
            batch.weight,
        )  # fmt: skip
        return mean * self.share(batch)

    def share(self, batch: Batch) -> float | Tensor:
        """Rows here over the mean rows of a process; 1 on one process.

        Gradients are averaged over processes, so that this makes the loss one mean over all rows.
        """
        if not is_distributed():
            return 1.0
        rows = float(len(batch.y)) if batch.weight is None else float(batch.weight.sum())
        total = all_reduce_sum(torch.tensor(rows, device=communication_device()))
        return rows * self.parts.engine.world_size / max(float(total), 1e-30)

    def count(self, outputs: Tensor, batch: Batch, soft: Tensor) -> Tensor:
        """Count a batch's decisions; the hard sums of this process's rows, shape (2, n_cells).

        Parameters
        ----------
        outputs : Tensor of shape (n,) or (n, C)
            Outputs of the batch.
        batch : Batch
            The rows.
        soft : Tensor of shape (2, n_cells)
            Soft sums of the batch.
        """
        with torch.no_grad():
            head, outputs = self.parts.head, outputs.detach()
            hard = self.parts.cells(head.hard(outputs), batch.y, batch.codes, batch.weight)
            weight = torch.ones_like(outputs[..., 0] if outputs.ndim == 2 else outputs)
            weight = weight if batch.weight is None else batch.weight.to(weight.dtype)
            right = (head.right(outputs, batch.y) * weight).sum()
            overall = torch.stack([weight.sum(), right])
            sums = torch.stack([hard, soft.detach()])
            if self._sums is None or self._overall is None:
                self._sums, self._overall = sums.double(), overall.double()
            else:
                self._sums += sums
                self._overall += overall
        return hard

    def measure_held(self) -> Measured:
        """Measure the rows that steer; the training rows, where there are none."""
        source = self.parts.training if self.parts.held is None else self.parts.held
        self.held = measure(
            self.deployed,
            source.all(),
            self.parts.cells,
            lambda outputs, y, weight: mean_base_loss(self.parts.base_loss, outputs, y, weight),
        )
        return self.held

    def weights(self) -> dict[str, Tensor]:
        """Copy of the weights that decisions are made with."""
        return {name: value.detach().clone() for name, value in self.deployed.state_dict().items()}

    def finish(self) -> nn.Module:
        """The trained module, on the CPU and in ``eval()`` mode."""
        module = copy.deepcopy(self.deployed).cpu()
        module.eval()
        for parameter in module.parameters():
            parameter.grad = None
        return module

    def state_dict(self) -> dict[str, Any]:
        """Return what has to be kept to go on later."""
        return {"module": self.parts.module.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        self.parts.module.load_state_dict(state["module"])

    def _forget(self) -> None:
        self._sums = self._overall = None

    def _counted(self) -> tuple[float, float, Floats, Floats]:
        """Rows, right decisions, hard and soft rates of the epoch's batches, of all processes."""
        cells = self.parts.cells.n_cells
        if self._sums is None or self._overall is None:  # every batch was skipped
            nothing = np.full(cells, np.nan)
            return 1.0, float("nan"), nothing, nothing
        device = communication_device()
        joined = torch.cat([self._sums.cpu().reshape(-1), self._overall.cpu()]).to(device)
        joined = all_reduce_sum(joined).cpu()
        sums = joined[:-2].reshape(2, 2, cells).numpy()
        rows, right = joined[-2:].tolist()
        hard, soft = (rates_of(part) for part in sums)
        return max(rows, 1e-30), right, hard, soft


def rates_of(sums: Floats) -> Floats:
    """Sums over counts, shape (2, n_cells) -> (n_cells,); NaN where nothing was counted."""
    unknown = np.full(sums.shape[1], np.nan)
    return np.asarray(np.divide(sums[0], sums[1], out=unknown, where=sums[1] > 0))


def _label_type(outputs: Tensor, head: Head) -> torch.dtype:
    return torch.int64 if head.task == "multiclass" else outputs.dtype
