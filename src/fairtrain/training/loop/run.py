"""The state of one training: module, batches, measurements. Trainers subclass it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fairtrain.constraints import ErrorCosts
from fairtrain.losses.base_loss import BaseLoss, CostSensitiveLoss, mean_base_loss
from fairtrain.losses.distributed import all_reduce_sum, communication_device, is_distributed
from fairtrain.training.batches.batch import Batch, FitData, Source
from fairtrain.training.batches.inputs import call_module, some_rows
from fairtrain.training.heads import Head
from fairtrain.training.loop.cells import CellSums, Measured, batch_sums, measure, rates_of
from fairtrain.training.loop.engine import Engine
from fairtrain.training.loop.steps import Losses, PrimalStep

__all__ = ["Plan", "Run", "RunParts"]


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
    micro_batch_size : int or None
        Rows that go through the module at once in training; None for all of a batch.
    """

    engine: Engine
    module: nn.Module
    net: nn.Module
    head: Head
    cells: CellSums
    training: Source
    held: Source | None
    base_loss: BaseLoss
    micro_batch_size: int | None = None


@dataclass(frozen=True)
class Plan:
    """A training before its first step.

    Attributes
    ----------
    data : FitData
        The rows.
    run : Run
        What a step is, and what is measured.
    primal : PrimalStep
        How the weights move.
    max_epochs : int
        For how long.
    """

    data: FitData
    run: Run
    primal: PrimalStep
    max_epochs: int


class Run:
    """Counts what training batches show, and measures the held-out rows after every epoch.

    Parameters
    ----------
    parts : RunParts
        What is trained on what.

    Attributes
    ----------
    deployed : nn.Module
        The module that decisions are made with.
    counted : Tensor or None
        Sum of :meth:`counts` over the batches of the running epoch.
    held : Measured or None
        What the rows that steer showed last.
    """

    def __init__(self, parts: RunParts) -> None:
        self.parts = parts
        self.families = parts.cells.families
        self.deployed: nn.Module = parts.module
        self.held: Measured | None = None
        self.counted: Tensor | None = None

    # What the loop calls ------------------------------------------------------------------------

    def step(self, batch: Batch) -> Losses:
        """Losses of a batch; ``"loss"`` moves the weights."""
        return self.losses_of(self.forward(batch), batch)

    def losses_of(self, outputs: Tensor, batch: Batch) -> Losses:
        """Losses of a batch, given what the module made of it, which are counted."""
        raise NotImplementedError(f"{type(self).__name__} defines no losses.")

    def after_batch(self, batch: Batch, losses: Losses) -> None:
        """After a step."""

    def after_epoch(self, record: dict[str, Any]) -> None:
        """Complete an epoch's record with what was counted and measured."""
        self.complete(record, self.measure_held())

    def complete(self, record: dict[str, Any], held: Measured) -> None:
        """Write into an epoch's record what its batches and the held-out rows showed."""
        cells = self.parts.cells
        if self.counted is None:  # every batch was skipped
            total = np.full(4 * cells.n_cells + 2, np.nan)
        else:
            total = all_reduce_sum(self.counted.to(communication_device())).cpu().numpy()
        self.counted = None
        hard, soft = (rates_of(part) for part in total[:-2].reshape(2, 2, cells.n_cells))
        right = float(total[-1] / np.maximum(total[-2], 1e-30))
        record["accuracy" if cells.head.task != "regression" else "score"] = right
        record["held_accuracy"] = held.accuracy
        record["held_loss"] = held.loss
        if not cells.objective.is_accuracy:
            record["held_objective"] = held.performance
        loss = self.parts.base_loss
        if isinstance(loss, CostSensitiveLoss) and not cells.objective.settled:
            loss.charge(cells.objective.costs(loss.share, held.performance))
        start = 0
        for family in self.families:
            part = slice(start, start + len(family.scheme))
            start = part.stop
            for name, rates in (("soft", soft), ("hard", hard), ("held", held.rates)):
                record[f"gap_{name}: {family.name}"] = family.bounds.achieved(rates[part])

    # What subclasses use ------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Tensor:
        """Outputs of a training batch.

        Of parts of it, one after the other, only the outputs are kept: gradients run each again,
        so that one part's activations are held at a time and the loss is still that of the batch.
        """
        size, n = self.parts.micro_batch_size, len(batch.y)
        if size is None or n <= size:
            return self._outputs(batch.x, n)
        found = []
        for start in range(0, n, size):
            part = some_rows(batch.x, slice(start, start + size))
            rows = min(size, n - start)
            found.append(checkpoint(self._outputs, part, rows, use_reentrant=False))
        return torch.cat(found)

    def _outputs(self, x: Any, n: int) -> Tensor:
        return self.parts.head.outputs(call_module(self.parts.net, x), n)

    def base(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Base loss of a batch, weighted by this process's share of the rows of all."""
        labels = self.parts.head.labels(batch.y)
        if self.parts.head.task != "multiclass":
            labels = labels.to(outputs.dtype)
        return self._mean_loss(outputs, labels, batch.weight) * self.share(batch)

    def share(self, batch: Batch) -> float | Tensor:
        """Rows here over the mean rows of a process; 1 on one process.

        Gradients are averaged over processes, so that this makes the loss one mean over all rows.
        """
        if not is_distributed():
            return 1.0
        rows = float(len(batch.y)) if batch.weight is None else float(batch.weight.sum())
        total = all_reduce_sum(torch.tensor(rows, device=communication_device()))
        return rows * self.parts.engine.world_size / max(float(total), 1e-30)

    def count(self, outputs: Tensor, batch: Batch, soft: Tensor | None = None) -> Tensor:
        """Count a batch; the hard sums of this process's rows, shape (2, n_cells).

        Parameters
        ----------
        outputs, batch, soft
            As in :meth:`counts`.
        """
        found = self.counts(outputs, batch, soft)
        self.counted = found.double() if self.counted is None else self.counted + found
        return found[: 2 * self.parts.cells.n_cells].reshape(2, -1)

    @torch.no_grad()
    def counts(self, outputs: Tensor, batch: Batch, soft: Tensor | None = None) -> Tensor:
        """Hard and soft sums of a batch, its rows and right decisions, shape (4 n_cells + 2,).

        Parameters
        ----------
        outputs : Tensor of shape (n,) or (n, C)
            Outputs of the batch.
        batch : Batch
            The rows.
        soft : Tensor of shape (2, n_cells), optional
            Soft sums, where they are known already.
        """
        head, cells, outputs = self.parts.head, self.parts.cells, outputs.detach()
        hard = cells(head.hard(outputs), batch.y, batch.codes, batch.weight)
        if soft is None:
            soft = cells(head.soft(outputs), batch.y, batch.codes, batch.weight)
        weight = batch.weights(outputs.dtype)
        right = (head.right(outputs, batch.y) * weight).sum()
        overall = torch.stack([weight.sum(), right])
        return torch.cat([hard.reshape(-1), soft.detach().reshape(-1), overall])

    def measure_held(self) -> Measured:
        """Measure the rows that steer; the training rows, where there are none."""
        self.held = measure(self.deployed, self.judges.all(), self.parts.cells, self._mean_loss)
        return self.held

    @property
    def judges(self) -> Source:
        """The rows that steer; the training rows, where there are none."""
        return self.parts.training if self.parts.held is None else self.parts.held

    def held_sums(self, raw: Tensor, batch: Batch) -> Tensor:
        """What :meth:`measure_held` sums of a batch, given what a module made of it."""
        outputs = self.parts.head.outputs(raw, len(batch.y))
        return batch_sums(outputs, batch, self.parts.cells, self._mean_loss)

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
        state: dict[str, Any] = {"module": self.parts.module.state_dict()}
        if isinstance(self.parts.base_loss, CostSensitiveLoss):
            costs = self.parts.base_loss.costs
            state["costs"] = [costs.false_positive, costs.false_negative]
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        self.parts.module.load_state_dict(state["module"])
        if isinstance(self.parts.base_loss, CostSensitiveLoss):
            self.parts.base_loss.charge(ErrorCosts(*state["costs"]))

    def _mean_loss(self, outputs: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        return mean_base_loss(self.parts.base_loss, outputs, y, weight)
