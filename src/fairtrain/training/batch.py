"""What a batch is, and where batches come from: rows in memory, or a user's loader."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidDataError
from fairtrain.losses.batch import check_codes
from fairtrain.losses.functional import combine_codes
from fairtrain.training.continuous import BinnedGroups, ContinuousColumns
from fairtrain.training.sampling import GroupStratifiedBatchSampler

__all__ = [
    "Batch",
    "LoaderSource",
    "RowSource",
    "Source",
    "TensorRows",
    "read_batch",
    "read_fields",
    "split_sensitive",
    "to_device",
]

FIELDS = ("x", "y", "sensitive_features")
WEIGHT = "sample_weight"

CHUNK = 8192
"""Rows of one forward pass where nothing is trained."""


class Batch(NamedTuple):
    """Rows that go through the module together.

    Attributes
    ----------
    x : Tensor, or any structure of tensors
        What the module takes.
    y : Tensor of shape (n,)
        1 for the favourable label, class numbers, or real values.
    codes : integer Tensor of shape (n,)
        Group of each row; -1 for unknown.
    weight : Tensor of shape (n,) or None
        Weight of each row.
    values : Tensor of shape (n, k) or None
        Continuous sensitive columns, as they came.
    """

    x: Any
    y: Tensor
    codes: Tensor
    weight: Tensor | None = None
    values: Tensor | None = None


class Source(Protocol):
    """Rows, as batches for training and as one pass for evaluation."""

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Training batches of an epoch."""
        ...

    def all(self) -> Iterator[Batch]:
        """Every row of this process once."""
        ...

    @property
    def n_batches(self) -> int | None:
        """Batches of an epoch; None where nobody knows."""
        ...

    def cast(self, dtype: torch.dtype) -> None:
        """Give floating inputs the type of the module's weights."""
        ...


class TensorRows(NamedTuple):
    """Rows in memory; the fields of :class:`Batch`, of all rows."""

    x: Tensor
    y: Tensor
    codes: Tensor
    weight: Tensor | None = None
    values: Tensor | None = None

    @classmethod
    def of(cls, rows: Rows) -> TensorRows:
        """Rows as tensors; weights have mean 1, so that a loss keeps its size."""
        assert rows.y is not None
        y = torch.from_numpy(rows.y)
        weight = None if rows.weight is None else torch.from_numpy(rows.weight)
        return cls(
            rows.X,
            y.float() if rows.labels is None else y.long(),
            torch.from_numpy(rows.groups.codes),
            None if weight is None else weight / weight.mean(),
            torch.from_numpy(rows.groups.values) if isinstance(rows.groups, BinnedGroups) else None,
        )

    def to(self, device: torch.device) -> TensorRows:
        """The rows on a device."""
        return TensorRows(*(_moved(part, device) for part in self))

    def batch(self) -> Batch:
        """All rows as one batch."""
        return Batch(*self)

    def take(self, rows: Tensor | slice) -> TensorRows:
        """Some of the rows."""
        return TensorRows(
            self.x[rows],
            self.y[rows],
            self.codes[rows],
            None if self.weight is None else self.weight[rows],
            None if self.values is None else self.values[rows],
        )


class RowSource:
    """Rows in memory, on the device where they are used.

    Parameters
    ----------
    rows : TensorRows
        The rows of all processes.
    device : torch.device
        Where batches are wanted.
    sampler : GroupStratifiedBatchSampler, optional
        Draws the training batches, and shares them out over processes.
    rank, world_size : int
        Which process this is, of how many: a pass sees every ``world_size``-th row.
    """

    def __init__(
        self,
        rows: TensorRows,
        device: torch.device,
        sampler: GroupStratifiedBatchSampler | None = None,
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.rows = rows.to(device)
        self.sampler = sampler
        self._share = slice(rank, None, world_size)
        self._weight = self.rows.weight
        if sampler is not None:
            drawn = sampler.weights
            if bool((drawn != 1).any()):  # rows of small cells are repeated
                drawn = drawn.to(device)
                self._weight = drawn if self._weight is None else self._weight * drawn

    @property
    def n_batches(self) -> int | None:
        """Batches of an epoch."""
        return None if self.sampler is None else len(self.sampler)

    def cast(self, dtype: torch.dtype) -> None:
        """Give floating inputs the type of the module's weights."""
        if self.rows.x.is_floating_point():
            self.rows = self.rows._replace(x=self.rows.x.to(dtype))

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Training batches of an epoch."""
        assert self.sampler is not None
        self.sampler.set_epoch(epoch)
        for rows in self.sampler:
            at = torch.tensor(rows, device=self.rows.y.device)
            weight = None if self._weight is None else self._weight[at]
            yield self.rows.take(at).batch()._replace(weight=weight)

    def all(self) -> Iterator[Batch]:
        """Every row of this process once, in order."""
        own = self.rows.take(self._share)
        for start in range(0, len(own.y), CHUNK):
            yield own.take(slice(start, start + CHUNK)).batch()


class LoaderSource:
    """A user's loader.

    Parameters
    ----------
    loader : iterable
        Batches ``(x, y, sensitive_features)``, ``(x, y, sensitive_features, sample_weight)``, or
        mappings with these keys. Iterated once an epoch; ``set_epoch`` of its sampler, batch
        sampler or data set is called where there is one.
    device : torch.device
        Where batches are wanted.
    levels : sequence of int
        Groups of each sensitive column.
    target : callable
        Turns a batch's labels into what the head reads.
    continuous : ContinuousColumns, optional
        The continuous columns in the batches; see :func:`split_sensitive`.
    """

    def __init__(
        self,
        loader: Iterable[Any],
        device: torch.device,
        levels: Sequence[int],
        target: Callable[[Tensor], Tensor],
        continuous: ContinuousColumns | None = None,
    ) -> None:
        self.loader = loader
        self.device = device
        self.levels = tuple(levels)
        self.target = target
        self.continuous = continuous
        self._dtype: torch.dtype | None = None

    @property
    def n_batches(self) -> int | None:
        """Batches of an epoch, where the loader knows."""
        try:
            return len(self.loader)  # type: ignore[arg-type]
        except TypeError:
            return None

    def cast(self, dtype: torch.dtype) -> None:
        """Give floating inputs the type of the module's weights."""
        self._dtype = dtype

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Batches of an epoch."""
        for name in ("sampler", "batch_sampler", "dataset"):
            set_epoch = getattr(getattr(self.loader, name, None), "set_epoch", None)
            if callable(set_epoch):
                set_epoch(epoch)
        return self.all()

    def all(self) -> Iterator[Batch]:
        """One pass of the loader."""
        for raw in self.loader:
            x, y, sensitive, weight = read_fields(raw)
            codes, values = self._who(sensitive)
            yield Batch(
                to_device(x, self.device, self._dtype),
                self.target(y).to(self.device),
                codes.to(self.device),
                None if weight is None else weight.reshape(-1).to(self.device),
                None if values is None else values.to(self.device),
            )

    def _who(self, sensitive: Any) -> tuple[Tensor, Tensor | None]:
        """Group of each row, and its continuous columns."""
        if self.continuous is None:
            return coded(torch.as_tensor(sensitive), self.levels), None
        given, values = split_sensitive(sensitive, self.continuous.names)
        if (given is not None) != bool(self.levels):
            raise InvalidDataError(
                "sensitive_features carries group codes in some batches, or in num_groups, and "
                "not in others."
            )
        base = torch.zeros(len(values)) if given is None else coded(given, self.levels).cpu()
        codes = self.continuous.codes(base.long().numpy(), values.cpu().numpy())
        return torch.from_numpy(codes), values


def read_batch(batch: Any) -> tuple[Any, Tensor, Tensor, Tensor | None]:
    """Take x, y, sensitive features and, if it is there, the sample weight out of a batch.

    As :func:`read_fields`, but the sensitive features are one tensor.
    """
    x, y, sensitive, weight = read_fields(batch)
    return x, y, torch.as_tensor(sensitive), weight


def read_fields(batch: Any) -> tuple[Any, Tensor, Any, Tensor | None]:
    """Take x, y, sensitive features and, if it is there, the sample weight out of a batch.

    Parameters
    ----------
    batch : sequence of three or four, or mapping with keys "x", "y" and "sensitive_features"
        A batch of a data loader.

    Raises
    ------
    InvalidDataError
        If it is neither.
    """
    weight: Any = None
    if isinstance(batch, Mapping):
        if missing := [name for name in FIELDS if name not in batch]:
            raise InvalidDataError(
                f"a batch lacks {missing[0]!r}; expected the keys {FIELDS}, got {list(batch)}."
            )
        x, y, sensitive = (batch[name] for name in FIELDS)
        weight = batch.get(WEIGHT)
    elif isinstance(batch, Sequence) and len(batch) in (3, 4):
        x, y, sensitive = batch[:3]
        weight = batch[3] if len(batch) == 4 else None
    else:
        raise InvalidDataError(
            f"a batch must be {FIELDS}, as a tuple or as a mapping; got {type(batch).__name__}"
            + (f" of {len(batch)}." if isinstance(batch, Sequence) else ".")
        )
    weight = None if weight is None else torch.as_tensor(weight)
    return x, torch.as_tensor(y), sensitive, weight


def split_sensitive(sensitive: Any, names: Sequence[str]) -> tuple[Tensor | None, Tensor]:
    """Group codes, where there are any, and continuous columns of a batch.

    Parameters
    ----------
    sensitive : floating Tensor of shape (n,) or (n, k), or a pair (codes, such a Tensor)
        Continuous columns alone, or behind the group codes (n,) or (n, j).
    names : sequence of k str
        The continuous columns, in the order of the tensor.

    Returns
    -------
    codes : integer Tensor or None
    values : float64 Tensor of shape (n, k)

    Raises
    ------
    InvalidDataError
        If it is neither, or a value is missing.
    """
    pair = isinstance(sensitive, list | tuple) and len(sensitive) == 2
    pair = pair and isinstance(sensitive[1], Tensor)
    codes, found = sensitive if pair else (None, sensitive)
    values = torch.as_tensor(found)
    columns = values.reshape(len(values), -1) if values.ndim in (1, 2) else values
    if not values.is_floating_point() or columns.ndim != 2 or columns.shape[1] != len(names):
        raise InvalidDataError(
            f"with continuous={tuple(names)} a batch's sensitive_features must be floats of shape "
            f"(n, {len(names)}), or a pair (codes, floats); got {values.dtype} of shape "
            f"{tuple(values.shape)}."
        )
    if absent := int((~torch.isfinite(columns)).sum()):
        raise InvalidDataError(
            f"the continuous columns {tuple(names)} have {absent} missing or infinite values in a "
            "batch; fill them in or drop those rows."
        )
    codes = None if codes is None else torch.as_tensor(codes)
    if codes is not None and len(codes) != len(columns):
        raise InvalidDataError(
            f"a batch has {len(codes)} group codes and {len(columns)} continuous values."
        )
    return codes, columns.double()


def coded(sensitive: Tensor, levels: Sequence[int]) -> Tensor:
    """Group codes of shape (n,) from one or several columns of codes.

    Raises
    ------
    InvalidDataError
        If the columns are not those that ``levels`` describes, or hold other codes.
    """
    if sensitive.is_floating_point():
        raise InvalidDataError(
            f"sensitive_features must hold integer codes, got {sensitive.dtype}; call .long() "
            "(AdversarialDebiasingTrainer takes numbers that are named in continuous=)."
        )
    columns = sensitive.reshape(len(sensitive), -1).long()
    if columns.shape[1] not in (1, len(levels)):
        raise InvalidDataError(
            f"sensitive_features has {columns.shape[1]} column(s), num_groups describes "
            f"{len(levels)}."
        )
    if columns.shape[1] == 1:
        levels = (math.prod(levels),)
    check_codes(columns, tuple(levels))
    return columns.squeeze(1) if columns.shape[1] == 1 else combine_codes(columns, tuple(levels))


def to_device(value: Any, device: str | torch.device, dtype: torch.dtype | None = None) -> Any:
    """Move a structure of tensors, and cast those of floating point."""
    if isinstance(value, Tensor):
        return value.to(device, dtype if value.is_floating_point() else None)
    if isinstance(value, Mapping):
        return {key: to_device(part, device, dtype) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(to_device(part, device, dtype) for part in value)
    return value


def _moved(part: Tensor | None, device: torch.device) -> Any:
    return None if part is None else part.to(device)
