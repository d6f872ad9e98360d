"""From rows to batches: the one place where rows in memory become tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fairtrain.constraints.table import CellRows
from fairtrain.data.rows import Rows
from fairtrain.training.batches.batch import CHUNK, Batch, FitData
from fairtrain.training.batches.sampling import GroupStratifiedBatchSampler
from fairtrain.training.continuous import BinnedGroups
from fairtrain.training.heads import Head
from fairtrain.training.loop.engine import Engine, dtype_of
from fairtrain.training.modules import DefaultModule

__all__ = ["RowSource", "as_batch", "batch_size_of", "from_rows"]


class RowSource:
    """Rows in memory, on the device where they are used.

    Parameters
    ----------
    rows : Batch
        The rows of all processes.
    engine : Engine
        Where batches are wanted, and which process this is: a pass sees every
        ``world_size``-th row.
    sampler : GroupStratifiedBatchSampler, optional
        Draws the training batches, and shares them out over processes.
    chunk : int
        Rows of a batch where nothing is trained.
    """

    def __init__(
        self,
        rows: Batch,
        engine: Engine,
        sampler: GroupStratifiedBatchSampler | None = None,
        chunk: int = CHUNK,
    ) -> None:
        self.rows = rows.to(engine.device)
        self.sampler, self.chunk = sampler, chunk
        self._share = slice(engine.rank, None, engine.world_size)
        self._weight = self.rows.weight
        if sampler is not None:
            drawn = sampler.weights
            if bool((drawn != 1).any()):  # rows of small cells are repeated
                drawn = drawn.to(engine.device)
                self._weight = drawn if self._weight is None else self._weight * drawn

    @property
    def n_batches(self) -> int | None:
        """Batches of an epoch."""
        return None if self.sampler is None else len(self.sampler)

    def prepare(self, module: nn.Module) -> None:
        """Cast rows to the module's type, and let the default network see those that train."""
        self.rows = self.rows.to(self.rows.y.device, dtype_of(module))
        if self.sampler is not None and isinstance(self.rows.x, Tensor):
            for layer in module.modules():
                if isinstance(layer, DefaultModule):
                    layer.learn(self.rows.x, self.rows.weight)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Training batches of an epoch."""
        assert self.sampler is not None
        self.sampler.set_epoch(epoch)
        for rows in self.sampler:
            at = torch.tensor(rows, device=self.rows.y.device)
            weight = None if self._weight is None else self._weight[at]
            yield self.rows.take(at)._replace(weight=weight)

    def all(self) -> Iterator[Batch]:
        """Every row of this process once, in order."""
        own = self.rows.take(self._share)
        for start in range(0, len(own.y), self.chunk):
            yield own.take(slice(start, start + self.chunk))


def as_batch(rows: Rows) -> Batch:
    """Rows as tensors; weights have mean 1, so that a loss keeps its size."""
    y = torch.from_numpy(rows.outcomes)
    weight = None if rows.weight is None else torch.from_numpy(rows.weight)
    return Batch(
        rows.X,
        y.float() if rows.labels is None else y.long(),
        torch.from_numpy(rows.groups.codes),
        None if weight is None else weight / weight.mean(),
        torch.from_numpy(rows.groups.values) if isinstance(rows.groups, BinnedGroups) else None,
        None if rows.clusters is None else torch.from_numpy(rows.clusters),
    )


def from_rows(
    rows: Rows,
    head: Head,
    *,
    batch_size: int | None,
    engine: Engine,
    seed: int,
    chunk: int = CHUNK,
) -> FitData:
    """Put divided rows in memory into batches.

    Parameters
    ----------
    rows : Rows
        All rows, ``X`` a tensor, and how they are divided. Where their groups are
        :class:`~fairtrain.training.continuous.BinnedGroups`, batches are stratified by the
        categorical columns alone.
    head : Head
        The task.
    batch_size : int or None
        Rows of a batch, of each process; None for a twentieth of the training rows, between 64 and
        512, or more where that many hold no two rows of every group.
    chunk : int
        Rows of a batch where nothing is trained.
    engine, seed
        See :class:`~fairtrain.training.batches.batch.FitData`.
    """
    whole = as_batch(rows)
    parts = {role: whole.take(torch.from_numpy(getattr(rows.split, role))) for role in rows.roles}
    training, continuous, bins = parts["training"], None, 1
    if isinstance(rows.groups, BinnedGroups):
        assert training.values is not None
        bins = math.prod(rows.groups.continuous.sizes)
        continuous = rows.groups.continuous.scaled_by(training.values, training.weight)
    size = int(batch_size or batch_size_of(len(training.y), len(rows.groups) // bins))
    strata, labels = training.codes // bins, None
    if rows.labels is not None:  # every group alone where every group and label is too much
        cells = torch.unique(torch.stack([strata, training.y]), dim=1).shape[1]
        labels = training.y if cells <= size else None
    sampler = GroupStratifiedBatchSampler(strata, size, labels=labels, seed=seed)
    base_rates = CellRows(rows.groups.codes, len(rows.groups)).mean(rows.outcomes == 1)
    return FitData(
        sources={
            role: RowSource(part, engine, sampler if role == "training" else None, chunk)
            for role, part in parts.items()
        },
        scheme=rows.groups.scheme,
        head=head,
        labels=rows.labels,
        engine=engine,
        seed=seed,
        example=whole.take(slice(2)).to(engine.device),
        base_rates=base_rates if head.task == "binary" else None,
        best_constant=_best_constant(parts.get("steering", training), head),
        label_weights={
            role: _label_weights(part) for role, part in parts.items() if head.task == "binary"
        },
        continuous=continuous,
    )


def _best_constant(rows: Batch, head: Head) -> float:
    y, weight = rows.y.numpy(), rows.weights(torch.float64).numpy()
    if head.task == "regression":
        return -float(np.average((y - np.average(y, weights=weight)) ** 2, weights=weight))
    return float(_label_weights(rows).max() / weight.sum())


def _label_weights(rows: Batch) -> NDArray[np.float64]:
    weight = rows.weights(torch.float64).numpy()
    counts = np.bincount(rows.y.numpy(), weights=weight, minlength=2)
    return np.asarray(counts, dtype=np.float64)


def batch_size_of(rows: int, groups: int = 0) -> int:
    """Twenty batches an epoch where rows are few, batches of 512 where they are many."""
    return max(min(max(rows // 20, 64), 512), 2 * groups)
