"""Batches that hold every group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from fairtrain._parameters import ANYTHING, FLAG, NONE, Choice, Table, Whole, checked
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

__all__ = ["GroupStratifiedBatchSampler"]

Balance = Literal["proportional", "equal"]
Codes = NDArray[np.int64]


class GroupStratifiedBatchSampler(Sampler[list[int]]):
    r"""Batch sampler whose every batch holds every group (and label).

    Rows of equal group and label form a *cell*. An epoch draws :math:`t_c` rows from cell c and
    deals them round the batches like cards, so that each batch gets :math:`t_c / B` of them,
    rounded up or down.

    ``"proportional"`` draws every row once. Cells too small to give each batch ``min_per_group``
    rows are repeated until they do. ``"equal"`` draws as often from each cell: large cells lend a
    part of their rows, small ones are repeated. Where rows are drawn more or less often than in
    the data, :attr:`weights` undo it.

    Hand it to a loader as ``DataLoader(dataset, batch_sampler=sampler)``, and call
    :meth:`set_epoch` before each epoch so that the order changes.

    Parameters
    ----------
    codes : integer array or Tensor of shape (n,) or (n, k), or Groups
        Group of each row; with k columns their intersections. -1 is unknown: such rows are drawn
        in proportion and owed to no batch, and left out under ``"equal"``.
    batch_size : int
        Rows in a batch, at most; exactly with ``drop_last`` or ``"equal"``. On several processes:
        rows of each process.
    labels : array or Tensor of shape (n,), optional
        Labels, so that each batch holds each group *and* label, as equalized odds needs.
    min_per_group : int >= 1, default=1
        Rows of each cell that every batch must hold.
    balance : {"proportional", "equal"}, default="proportional"
        See above.
    drop_last : bool, default=False
        All batches of exactly ``batch_size`` rows, a few rows being left out of an epoch. Otherwise
        sizes differ by at most one and no row is left out (``"proportional"``).
    seed : int, default=0
        Seed of the shuffling. The same seed and epoch give the same batches.
    num_replicas, rank : int, optional
        Processes and which one this is; by default those of ``torch.distributed``, if initialised.
        All get equally many batches, each with every group.

    Raises
    ------
    InvalidParameterError
        If a batch cannot hold ``min_per_group`` rows of every cell.
    InvalidDataError
        If codes or labels cannot be read.

    Examples
    --------
    >>> sampler = GroupStratifiedBatchSampler([0] * 90 + [1] * 10, batch_size=10)
    >>> sorted({sum(row >= 90 for row in batch) for batch in sampler})
    [1]
    >>> rare = GroupStratifiedBatchSampler([0] * 95 + [1] * 5, batch_size=10, balance="equal")
    >>> rare.weights[[0, 99]]
    tensor([1.9000, 0.1000])
    """

    _allowed: ClassVar[Table] = {
        "codes": ANYTHING,
        "batch_size": Whole(1),
        "labels": ANYTHING,
        "min_per_group": Whole(1),
        "balance": Choice("proportional", "equal"),
        "drop_last": FLAG,
        "seed": Whole(0),
        "num_replicas": Whole(1) | NONE,
        "rank": Whole(0) | NONE,
    }

    @checked
    def __init__(
        self,
        codes: Any,
        batch_size: int,
        *,
        labels: Any = None,
        min_per_group: int = 1,
        balance: Balance = "proportional",
        drop_last: bool = False,
        seed: int = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        self.batch_size = int(batch_size)
        self.min_per_group = int(min_per_group)
        self.balance: Balance = balance
        self.drop_last = drop_last
        self.seed = seed
        self.epoch = 0
        self.num_replicas, self.rank = _processes(num_replicas, rank)
        cell_of_row, known = _cells(codes, labels)
        if balance == "equal":
            cell_of_row[~known[cell_of_row]] = -1
        self._rows = np.argsort(cell_of_row, kind="stable")[int((cell_of_row < 0).sum()) :]
        self._sizes = np.bincount(cell_of_row[cell_of_row >= 0], minlength=len(known))
        self._owed = np.where(known, min_per_group, 0)
        used = self._sizes > 0
        self._sizes, self._owed = self._sizes[used], self._owed[used]
        if self._owed.sum() > batch_size:
            raise InvalidParameterError(
                f"batch_size={batch_size} cannot hold {min_per_group} row(s) of each of "
                f"{int((self._owed > 0).sum())} groups{'' if labels is None else ' and labels'}: "
                f"raise it to {int(self._owed.sum())} or more, merge groups, or lower "
                "min_per_group."
            )
        self._batches, self._draws = self._plan()
        self._cell_of_row = cell_of_row
        self._used = used

    @property
    def weights(self) -> Tensor:
        r"""Weight of each row that keeps estimates unbiased, float32 of shape (n,).

        .. math:: w_i = \frac{n_c / n}{t_c / t}

        with cell c of row i; 1 where every row is drawn once, 0 for rows that are never drawn.
        Pass them as ``sample_weight`` (put them into the dataset beside the rows).
        """
        share = self._sizes / self._sizes.sum()
        drawn = self._draws / self._draws.sum()
        weights = np.zeros(len(self._used) + 1)
        weights[:-1][self._used] = np.divide(
            share, drawn, out=np.zeros_like(share), where=drawn > 0
        )
        return torch.from_numpy(weights[self._cell_of_row]).float()

    def set_epoch(self, epoch: int) -> None:
        """Choose the shuffle of the next pass; the same on every process.

        Parameters
        ----------
        epoch : int >= 0
            Number of the epoch.
        """
        self.epoch = int(epoch)

    def __len__(self) -> int:
        return self._batches // self.num_replicas

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        drawn = self._draw(rng)
        batches = np.arange(len(drawn)) % self._batches
        order = np.lexsort((rng.random(len(drawn)), batches))  # by batch, shuffled inside
        bounds = np.searchsorted(batches[order], np.arange(self._batches + 1))
        turn = rng.permutation(self._batches)
        for batch in turn[self.rank :: self.num_replicas]:
            yield drawn[order[bounds[batch] : bounds[batch + 1]]].tolist()

    def _plan(self) -> tuple[int, NDArray[np.int64]]:
        """Batches of an epoch, over all processes, and draws from each cell."""
        n, size, world = int(self._sizes.sum()), self.batch_size, self.num_replicas
        if self.balance == "equal":
            batches = _multiple(n // size if self.drop_last else -(-n // size), world)
            owed = self._owed * batches
            return batches, _fill(np.ones_like(self._sizes), batches * size, owed)
        if self.drop_last:
            batches = max(n // size // world, 1) * world
            return batches, _fill(self._sizes, batches * size, self._owed * batches)
        batches = _multiple(-(-n // size), world)
        # Repeating small cells takes room: add batches until everything fits.
        while (draws := np.maximum(self._sizes, self._owed * batches)).sum() > batches * size:
            batches = _multiple(max(-(-int(draws.sum()) // size), batches + 1), world)
        return batches, draws

    def _draw(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Rows of an epoch, cell after cell: each cell shuffled, and again when it runs out."""
        rounds = -(-self._draws // self._sizes)
        full = rounds * self._sizes
        cells = np.repeat(np.arange(len(full)), full)
        place = np.arange(len(cells)) - (np.cumsum(full) - full)[cells]
        turn, within = np.divmod(place, self._sizes[cells])
        deck: Codes = self._rows[(np.cumsum(self._sizes) - self._sizes)[cells] + within]
        deck = deck[np.lexsort((rng.random(len(deck)), turn, cells))]
        kept: Codes = deck[place < self._draws[cells]]
        return kept


def _cells(codes: Any, labels: Any) -> tuple[Codes, NDArray[np.bool_]]:
    """Cell of each row, and for each cell whether its group is known."""
    array = _as_array(getattr(codes, "codes", codes), "codes")
    if array.dtype.kind not in "iub" or array.ndim not in (1, 2) or not array.size:
        raise InvalidDataError(
            "codes must be integers of shape (n,) or (n, k) with at least one row; "
            "fairtrain.Groups.from_sensitive(...).codes makes them."
        )
    array = array.astype(np.int64)
    columns = array.reshape(len(array), -1)
    known = np.asarray(columns.min(axis=1) >= 0)
    parts = np.where(known[:, None], columns, -1)
    if labels is not None:
        label = _as_array(labels, "labels").reshape(-1)
        if len(label) != len(array):
            raise InvalidDataError(f"labels has {len(label)} rows, codes has {len(array)}.")
        place = np.unique(label, return_inverse=True)[1].reshape(-1, 1)
        parts = np.hstack([parts, place])
    cells, cell_of_row = np.unique(parts, axis=0, return_inverse=True)
    return cell_of_row.reshape(-1).astype(np.int64), cells[:, 0] >= 0


def _as_array(values: Any, name: str) -> NDArray[Any]:
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    array = np.asarray(values)
    if array.dtype.kind == "O":
        raise InvalidDataError(f"{name} must hold numbers or labels of one type.")
    return array


def _processes(num_replicas: int | None, rank: int | None) -> tuple[int, int]:
    running = dist.is_available() and dist.is_initialized()
    world = num_replicas or (dist.get_world_size() if running else 1)
    own = rank if rank is not None else (dist.get_rank() if running else 0)
    if not 0 <= own < world:
        raise InvalidParameterError(f"rank must lie in 0 .. {world - 1}, got {own}.")
    return world, own


def _multiple(number: int, of: int) -> int:
    return max(-(-number // of), 1) * of


def _fill(shares: NDArray[Any], total: int, owed: NDArray[np.int64]) -> NDArray[np.int64]:
    """Split ``total`` in proportion to ``shares``, but at least ``owed`` each."""
    draws = owed.astype(np.int64)
    free = np.ones(len(shares), dtype=bool)
    # Cells whose share is under what they are owed get just that; the others share the rest.
    while True:
        rest = total - draws[~free].sum()
        ideal = rest * shares / shares[free].sum()
        short = free & (ideal < owed)
        if not short.any():
            break
        free &= ~short
    draws[free] = np.floor(ideal[free]).astype(np.int64)
    left = int(total - draws.sum())
    most = np.argsort(-np.where(free, ideal - np.floor(ideal), -1), kind="stable")
    draws[most[:left]] += 1
    return draws
