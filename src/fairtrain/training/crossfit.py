"""Networks of several folds trained side by side, and stopped where they are best out of fold."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from fairtrain.training.batches.batch import CHUNK
from fairtrain.training.joint import JointModule
from fairtrain.training.loop.engine import Engine, dtype_of
from fairtrain.training.loop.steps import GradientStep, Losses

__all__ = ["CrossFitRun", "Fold", "FoldStep", "JointRows", "joint_of"]

Floats = NDArray[np.float64]
Fold = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Numbers of the rows that train, and of those that are held out."""


@dataclass(frozen=True, eq=False)
class JointRows:
    """Rows of people whose group and label are learnt together.

    Attributes
    ----------
    x : Tensor of shape (n, ...)
        Features.
    cells : integer Tensor of shape (n,)
        2 g + y.
    weight : Tensor of shape (n,) or None
        Weights, of mean 1.
    """

    x: Tensor
    cells: Tensor
    weight: Tensor | None

    def loss(self, log_joint: Tensor, rows: Tensor) -> Tensor:
        """Weighted mean log loss of some of the rows."""
        own = -log_joint.flatten(1).gather(1, self.cells[rows].unsqueeze(1)).squeeze(1)
        if self.weight is None:
            return own.mean()
        weight = self.weight[rows].to(own.dtype)
        return (own * weight).sum() / weight.sum()


class CrossFitRun:
    """What the training loop does with the networks of all folds at once.

    One number is chosen of what is held out, the epoch, the same for all networks and on all rows
    together: it flatters as little as a choice between two estimators does.

    Parameters
    ----------
    networks : sequence of JointModule
        Of each fold ``ensemble`` many, one after the other.
    rows : JointRows
        On the device of the networks.
    folds : sequence of Fold
        Who trains which.
    ensemble : int
        Networks a fold.
    batch_size, seed : int
        Rows of a batch of each network, and what orders them.

    Attributes
    ----------
    deployed : nn.ModuleList
        The networks that are judged; their average over training, where one is kept.
    best_epoch : int
        The one of least loss out of fold.
    joint : ndarray of shape (n, G, 2)
        P(g, y | x) of the rows held out then; NaN for rows that are held out never.
    """

    def __init__(
        self,
        networks: Sequence[JointModule],
        rows: JointRows,
        folds: Sequence[Fold],
        *,
        ensemble: int,
        batch_size: int,
        seed: int,
    ) -> None:
        self.networks, self.head = list(networks), networks[0].head
        self.stack = self.deployed = nn.ModuleList(networks)
        self.rows, self.folds, self.ensemble = rows, folds, ensemble
        self.batch_size, self.seed = batch_size, seed
        self.best_epoch, self.best_loss = -1, math.inf
        self.best: dict[str, Tensor] = {}
        self.joint: Floats = np.empty(0)
        self.held = np.concatenate([held for _, held in folds])

    # Batches ------------------------------------------------------------------------------------

    @property
    def n_batches(self) -> int:
        """Batches of an epoch; every network sees each of its rows in one of them."""
        return max(-(-len(training) // self.batch_size) for training, _ in self.folds)

    def batches(self, epoch: int) -> Iterator[list[Tensor]]:
        """Row numbers of the batch of every network."""
        rng = np.random.default_rng((self.seed, epoch))
        parts = [
            torch.from_numpy(rng.permutation(training))
            .to(self.rows.x.device)
            .tensor_split(self.n_batches)
            for training, _ in self.folds
            for _ in range(self.ensemble)
        ]
        yield from map(list, zip(*parts, strict=True))

    # What the loop calls ------------------------------------------------------------------------

    def step(self, batch: Sequence[Tensor]) -> Losses:
        """Loss of every network on its batch, of which the sum is what moves weights."""
        self.stack.train()
        losses = torch.stack(
            [
                self.rows.loss(network(self.rows.x[own]), own)
                for network, own in zip(self.networks, batch, strict=True)
            ]
        )
        return {"loss": losses.mean()}

    def after_batch(self, batch: Sequence[Tensor], losses: Losses) -> None:
        """Nothing."""

    def after_epoch(self, record: dict[str, Any]) -> None:
        """Judge what is held out, and keep the best weights."""
        joint = self._held_joint()
        outcome, both = self._log_loss(joint)
        record |= {"held_loss": both, "held_outcome_loss": outcome}
        if both < self.best_loss:
            self.best_epoch, self.best_loss, self.joint = int(record["epoch"]), both, joint
            state = self.deployed.state_dict()
            self.best = {name: value.detach().clone() for name, value in state.items()}

    def state_dict(self) -> dict[str, Any]:
        """Weights, and the best ones."""
        return {"networks": self.stack.state_dict(), "best": self.best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        self.stack.load_state_dict(state["networks"])
        self.best = dict(state["best"])

    def finish(self) -> list[JointModule]:
        """The networks of the best epoch, on the CPU and in ``eval()`` mode."""
        trained = copy.deepcopy(self.deployed)
        if self.best:
            trained.load_state_dict(self.best)
        for parameter in trained.parameters():
            parameter.grad = None
        return [n for n in trained.cpu().eval() if isinstance(n, JointModule)]

    @property
    def log_losses(self) -> dict[str, float]:
        """Log loss out of fold at the best epoch: of the label, and of the group given it."""
        outcome, both = self._log_loss(self.joint)
        return {"outcome": outcome, "group": both - outcome}

    def _held_joint(self) -> Floats:
        shape = (len(self.rows.x), self.head.n_groups, 2)
        joint = np.full(shape, np.nan)
        for k, (_, held) in enumerate(self.folds):
            own = self.deployed[k * self.ensemble : (k + 1) * self.ensemble]
            at = torch.from_numpy(held).to(self.rows.x.device)
            joint[held] = joint_of(list(own), self.rows.x[at])
        return joint

    def _log_loss(self, joint: Floats) -> tuple[float, float]:
        """Mean log loss of the rows held out: of the label, and of group and label."""
        at = self.held
        cells = self.rows.cells.cpu().numpy()[at]
        weight = None if self.rows.weight is None else self.rows.weight.cpu().numpy()[at]
        both = joint[at, cells // 2, cells % 2]
        outcome = joint[at, :, cells % 2].sum(axis=1)
        said = [-np.log(np.maximum(p, 1e-12)) for p in (outcome, both)]
        label, all_of_it = (float(np.average(loss, weights=weight)) for loss in said)
        return label, all_of_it


@torch.no_grad()
def joint_of(networks: Sequence[nn.Module], x: Tensor) -> Floats:
    """Mean of P(g, y | x) over networks, shape (n, G, 2)."""
    parts = []
    for some in torch.split(x, CHUNK):
        total: Any = 0.0
        for network in networks:
            rows = some.to(dtype_of(network)) if some.is_floating_point() else some
            total = total + network.eval()(rows).double().exp()
        parts.append((total / len(networks)).cpu().numpy())
    return np.concatenate(parts)


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
