"""Networks of several folds trained side by side, and stopped where they are best out of fold."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from fairtrain.training.batches.batch import Batch
from fairtrain.training.joint import JointModule
from fairtrain.training.joint_rows import HeldOut, JointSource, joint_loss
from fairtrain.training.loop.engine import Engine
from fairtrain.training.loop.steps import GradientStep, Losses

__all__ = ["CrossFitRun", "FoldStep"]


class CrossFitRun:
    """What the training loop does with the networks of all folds at once.

    One number is chosen of what is held out, the epoch, the same for all networks and on all rows
    together: it flatters as little as a choice between two estimators does.

    Parameters
    ----------
    networks : sequence of JointModule
        Of each fold ``ensemble`` many, one after the other.
    source : JointSource
        Batches for them, and the rows that are held out.

    Attributes
    ----------
    deployed : nn.ModuleList
        The networks that are judged; their average over training, where one is kept.
    best_epoch : int
        The one of least loss out of fold.
    held : HeldOut or None
        What the networks said then.
    """

    def __init__(self, networks: Sequence[JointModule], source: JointSource) -> None:
        self.networks, self.source = list(networks), source
        self.stack = self.deployed = nn.ModuleList(networks)
        self.best_epoch, self.best_loss = -1, math.inf
        self.best: dict[str, Tensor] = {}
        self.held: HeldOut | None = None

    def step(self, batches: Sequence[Batch]) -> Losses:
        """Loss of every network on its batch, of which the sum is what moves weights."""
        self.stack.train()
        losses = [
            joint_loss(network(own.x), own)
            for network, own in zip(self.networks, batches, strict=True)
        ]
        return {"loss": torch.stack(losses).mean()}

    def after_batch(self, batches: Sequence[Batch], losses: Losses) -> None:
        """Nothing."""

    def after_epoch(self, record: dict[str, Any]) -> None:
        """Judge what is held out, and keep the best weights."""
        held = self.source.held(self._judged)
        outcome, both = held.log_losses
        record |= {"held_loss": both, "held_outcome_loss": outcome}
        if both < self.best_loss:
            self.best_epoch, self.best_loss, self.held = int(record["epoch"]), both, held
            state = self.deployed.state_dict()
            self.best = {name: value.detach().clone() for name, value in state.items()}

    @property
    def _judged(self) -> list[nn.Module]:
        return list(self.deployed)

    def state_dict(self) -> dict[str, Any]:
        """Weights, and the best ones: nothing of any row."""
        return {
            "networks": self.stack.state_dict(),
            "best": self.best,
            "best_epoch": self.best_epoch,
            "best_loss": self.best_loss,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        self.stack.load_state_dict(state["networks"])
        self.best, self.held = dict(state["best"]), None
        self.best_epoch, self.best_loss = int(state["best_epoch"]), float(state["best_loss"])

    def finish(self) -> tuple[list[JointModule], HeldOut]:
        """The networks of the best epoch, on the CPU and in ``eval()`` mode; what they say."""
        trained = copy.deepcopy(self.deployed)
        if self.best:
            trained.load_state_dict(self.best)
        for parameter in trained.parameters():
            parameter.grad = None
        held = self.held or self.source.held(list(trained))
        return [n for n in trained.cpu().eval() if isinstance(n, JointModule)], held


class FoldStep(GradientStep):
    """A gradient step of every network by its own gradient, and a moving average of each.

    Parameters
    ----------
    engine, module, optimizer, clip_norm, decay, ema
        See :class:`~fairtrain.training.loop.steps.GradientStep`; ``module`` is the list of
        networks. The average starts short and grows: early weights are forgotten soon.
    """

    def __init__(
        self,
        engine: Engine,
        module: nn.ModuleList,
        optimizer: torch.optim.Optimizer,
        *,
        clip_norm: float | None = None,
        decay: Callable[[float], float] | None = None,
        ema: float | None = None,
    ) -> None:
        super().__init__(engine, module, optimizer, clip_norm=clip_norm, decay=decay)
        self._networks = module
        if ema is not None:
            self.average = AveragedModel(module, multi_avg_fn=_growing(ema), use_buffers=True)

    def _total(self, loss: Tensor) -> Tensor:
        return loss * len(self._networks)

    def _clip(self, loss: Tensor) -> float:
        limit = math.inf if self.clip_norm is None else self.clip_norm
        norms = [nn.utils.clip_grad_norm_(n.parameters(), limit) for n in self._networks]
        return float(torch.stack(norms).mean())


def _growing(ema: float) -> Any:
    """Update of an average whose decay grows from a tenth to ``ema``."""

    @torch.no_grad()
    def update(average: list[Tensor], now: list[Tensor], seen: Tensor | int) -> None:
        decay = min(ema, (1 + float(seen)) / (10 + float(seen)))
        for kept, new in zip(average, now, strict=True):
            if kept.is_floating_point():
                kept.lerp_(new.to(kept.dtype), 1 - decay)
            else:
                kept.copy_(new)

    return update
