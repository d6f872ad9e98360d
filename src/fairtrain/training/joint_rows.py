"""Rows whose label and group are learnt together: at hand in folds, or from two loaders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fairtrain.exceptions import InvalidDataError
from fairtrain.training.batches.batch import CHUNK, Batch, Source
from fairtrain.training.batches.inputs import n_rows, some_rows, to_device
from fairtrain.training.loop.engine import device_of, dtype_of

__all__ = ["Fold", "FoldRows", "HeldOut", "JointSource", "LoaderRows", "joint_loss", "joint_of"]

Floats = NDArray[np.float64]
Fold = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Numbers of the rows that train, and of those that are held out."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What networks say of rows that trained none of them.

    Attributes
    ----------
    joint : ndarray of shape (n, G, 2)
        P(g, y | x).
    rows : Batch
        Labels, groups and weights, on the CPU.
    """

    joint: Floats
    rows: Batch

    @property
    def log_losses(self) -> tuple[float, float]:
        """Mean log loss of the label, and of group and label; of unknown groups the label's."""
        y, codes = self.rows.y.long().numpy(), self.rows.codes.numpy()
        weight = None if self.rows.weight is None else self.rows.weight.double().numpy()
        at, own = np.arange(len(y)), np.clip(codes, 0, self.joint.shape[1] - 1)
        outcome = self.joint[at, :, y].sum(axis=1)
        both = np.where(codes < 0, outcome, self.joint[at, own, y])
        said = [-np.log(np.maximum(p, 1e-12)) for p in (outcome, both)]
        label, all_of_it = (float(np.average(loss, weights=weight)) for loss in said)
        return label, all_of_it


class JointSource(Protocol):
    """Batches that train networks, and what these say of the rows that are held out."""

    @property
    def n_batches(self) -> int | None:
        """Batches of an epoch; None where nobody knows."""

    def batches(self, epoch: int) -> Iterator[list[Batch]]:
        """The batch of every network, one step after the other."""

    def held(self, networks: Sequence[nn.Module]) -> HeldOut:
        """What those networks that never saw a row say of it, for all rows held out."""


class FoldRows:
    """Rows at hand: every fold is held out from networks of its own.

    Parameters
    ----------
    rows : Batch
        All rows, on the device of the networks.
    folds : sequence of Fold
        Who trains which.
    ensemble : int
        Networks a fold.
    batch_size, seed : int
        Rows of a batch of each network, and what orders them.
    chunk : int
        Rows of a forward pass where nothing is trained.
    """

    def __init__(
        self,
        rows: Batch,
        folds: Sequence[Fold],
        *,
        ensemble: int,
        batch_size: int,
        seed: int,
        chunk: int = CHUNK,
    ) -> None:
        self.rows, self.folds, self.ensemble = rows, folds, ensemble
        self.batch_size, self.seed, self.chunk = batch_size, seed, chunk
        held = np.concatenate([held for _, held in folds])
        self._order = np.argsort(held)
        bare = rows._replace(x=None)
        self._held = bare.take(self._at(held[self._order])).to(torch.device("cpu"))

    @property
    def n_batches(self) -> int:
        """Batches of an epoch; every network sees each of its rows in one of them."""
        return max(-(-len(training) // self.batch_size) for training, _ in self.folds)

    def batches(self, epoch: int) -> Iterator[list[Batch]]:
        """Batches of an epoch, in an order of its own for every network."""
        rng = np.random.default_rng((self.seed, epoch))
        parts = [
            self._at(rng.permutation(training)).tensor_split(self.n_batches)
            for training, _ in self.folds
            for _ in range(self.ensemble)
        ]
        for some in zip(*parts, strict=True):
            yield [self.rows.take(own) for own in some]

    def held(self, networks: Sequence[nn.Module]) -> HeldOut:
        """What the networks of every fold say of it, rows in the order of their numbers."""
        joint = [
            joint_of(
                networks[k * self.ensemble : (k + 1) * self.ensemble],
                self.rows.take(self._at(held)).x,
                self.chunk,
            )
            for k, (_, held) in enumerate(self.folds)
        ]
        return HeldOut(np.concatenate(joint)[self._order], self._held)

    def _at(self, rows: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(rows).to(self.rows.y.device)


class LoaderRows:
    """Batches of a loader, the same for all networks; those of another are held out.

    Parameters
    ----------
    training, held_out : Source
        The batches of each.
    ensemble : int
        Networks.
    """

    def __init__(self, training: Source, held_out: Source, ensemble: int) -> None:
        self.training, self.held_out, self.ensemble = training, held_out, ensemble

    @property
    def n_batches(self) -> int | None:
        """Batches of an epoch, where the loader knows."""
        return self.training.n_batches

    def batches(self, epoch: int) -> Iterator[list[Batch]]:
        """Batches of an epoch."""
        for batch in self.training.batches(epoch):
            yield [batch] * self.ensemble

    def held(self, networks: Sequence[nn.Module]) -> HeldOut:
        """What the networks say, with labels and groups of the same pass: a loader may shuffle."""
        joint, rows = [], []
        for batch in self.held_out.all():
            joint.append(joint_of(networks, batch.x, len(batch.y)))
            rows.append(batch._replace(x=None).to(torch.device("cpu")))
        if not rows:
            raise InvalidDataError(
                "the validation loader gave no rows: pass a DataLoader or a list of batches, not "
                "an iterator, which gives them once."
            )
        return HeldOut(np.concatenate(joint), _together(rows))


def _together(batches: Sequence[Batch]) -> Batch:
    """One batch of many, without inputs; a row without weight counts as one."""
    weighted = any(batch.weight is not None for batch in batches)
    clusters = [batch.clusters for batch in batches if batch.clusters is not None]
    return Batch(
        None,
        torch.cat([batch.y for batch in batches]),
        torch.cat([batch.codes for batch in batches]),
        torch.cat([batch.weights(torch.float64) for batch in batches]) if weighted else None,
        clusters=torch.cat(clusters) if clusters else None,
    )


def joint_loss(log_joint: Tensor, rows: Batch) -> Tensor:
    """Weighted mean log loss of group and label; where the group is unknown, of the label."""
    n, size, _ = log_joint.shape
    of_label = log_joint.gather(2, rows.y.view(n, 1, 1).expand(n, size, 1)).squeeze(2)
    own = -of_label.gather(1, rows.codes.clamp(0, size - 1).unsqueeze(1)).squeeze(1)
    if bool((rows.codes < 0).any()):
        own = torch.where(rows.codes < 0, -of_label.logsumexp(1), own)
    if rows.weight is None:
        return own.mean()
    weight = rows.weight.to(own.dtype)
    return (own * weight).sum() / weight.sum()


@torch.no_grad()
def joint_of(networks: Sequence[nn.Module], x: Any, chunk: int = CHUNK) -> Floats:
    """Mean of P(g, y | x) over networks, shape (n, G, 2)."""
    parts = []
    for start in range(0, n_rows(x), chunk):
        some, total = some_rows(x, slice(start, start + chunk)), None
        for network in networks:
            rows = to_device(some, device_of(network), dtype_of(network))
            own = network.eval()(rows).double().exp()
            total = own if total is None else total + own
        assert total is not None
        parts.append((total / len(networks)).cpu().numpy())
    return np.concatenate(parts)
