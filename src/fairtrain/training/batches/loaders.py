"""From a user's loaders to batches: what may be in a batch, and what its codes mean."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fairtrain._parameters import MOST_GROUPS
from fairtrain.data.groups import Groups, GroupScheme
from fairtrain.data.labels import LabelCoding
from fairtrain.data.partition import group_names
from fairtrain.data.rows import Role
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.losses.batch import check_codes, require_few_groups
from fairtrain.losses.functional import combine_codes
from fairtrain.training.batches.adapter import BatchAdapter, read_batch
from fairtrain.training.batches.batch import Batch, FitData, Source
from fairtrain.training.continuous import ContinuousColumns, learn_columns
from fairtrain.training.heads import Head
from fairtrain.training.loop.engine import Engine, dtype_of

__all__ = [
    "LoaderSource",
    "as_targets",
    "from_loaders",
    "group_codes",
    "levels_in",
    "levels_of",
    "numbered_labels",
    "numbered_scheme",
]

_REQUIRED = ("targets", "groups")


@dataclass
class LoaderSource:
    """A user's loader.

    Parameters
    ----------
    loader : iterable
        Batches, see :class:`~fairtrain.training.batches.adapter.BatchColumns`. Iterated once an
        epoch; ``set_epoch`` of its sampler, batch sampler or data set is called where there is one.
    device : torch.device
        Where batches are wanted.
    levels : tuple of int
        Groups of each sensitive column.
    head : Head
        What labels may be.
    continuous : ContinuousColumns, optional
        The continuous columns in the batches; see :func:`split_sensitive`.
    adapter : BatchAdapter, optional
        Takes batches apart.

    Raises
    ------
    InvalidDataError
        If the loader is a generator: what it gave once is gone.
    """

    loader: Iterable[Any]
    device: torch.device
    levels: tuple[int, ...]
    head: Head
    continuous: ContinuousColumns | None = None
    adapter: BatchAdapter | None = None
    _dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        if isinstance(self.loader, Generator):
            raise InvalidDataError(
                "a loader is gone over more than once, and a generator gives its batches once: "
                "pass a DataLoader, or a list of batches."
            )

    @property
    def n_batches(self) -> int | None:
        """Batches of an epoch, where the loader knows."""
        try:
            return len(self.loader)  # type: ignore[arg-type]
        except TypeError:
            return None

    def prepare(self, module: nn.Module) -> None:
        """Give floating inputs the type of the module's weights."""
        self._dtype = dtype_of(module)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Batches of an epoch."""
        for name in ("sampler", "batch_sampler", "dataset"):
            set_epoch = getattr(getattr(self.loader, name, None), "set_epoch", None)
            if callable(set_epoch):
                set_epoch(epoch)
        return self.all()

    def all(self) -> Iterator[Batch]:
        """One pass of the loader."""
        clustered: bool | None = None
        for raw in self.loader:
            x, y, sensitive, weight, clusters = read_batch(raw, self.adapter, required=_REQUIRED)
            if clustered not in (None, clusters is not None):
                raise InvalidDataError("clusters is in some batches of a loader and not in others.")
            clustered = clusters is not None
            codes, values = self._who(sensitive)
            batch = Batch(x, as_targets(y, self.head), codes, weight, values, clusters)
            yield batch.to(self.device, self._dtype)

    def _who(self, sensitive: Any) -> tuple[Tensor, Tensor | None]:
        """Group of each row, and its continuous columns."""
        if self.continuous is None:
            return group_codes(torch.as_tensor(sensitive), self.levels), None
        given, values = split_sensitive(sensitive, self.continuous.names)
        if (given is not None) != bool(self.levels):
            raise InvalidDataError(
                "sensitive_features carries group codes in some batches, or in num_groups, and "
                "not in others."
            )
        base = torch.zeros(len(values)) if given is None else group_codes(given, self.levels).cpu()
        codes = self.continuous.codes(base.long().numpy(), values.cpu().numpy())
        return torch.from_numpy(codes), values


def from_loaders(
    loaders: Mapping[Role, Iterable[Any]],
    head: Head,
    *,
    groups: Groups | GroupScheme | None,
    num_groups: int | Sequence[int] | None,
    engine: Engine,
    seed: int,
    continuous: tuple[str, ...] = (),
    bins: int = 4,
    adapter: BatchAdapter | None = None,
) -> FitData:
    """Take loaders as they are.

    Parameters
    ----------
    loaders : mapping of role to iterable
        Those of the rows that train, and of those that steer and certify, where there are any.
    head : Head
        The task.
    groups : Groups or GroupScheme, optional
        What the codes in the batches refer to.
    num_groups : int or sequence of int, optional
        Number of groups, or of levels of each column. Without either the loaders are searched.
    engine, seed
        See :class:`~fairtrain.training.batches.batch.FitData`.
    continuous : tuple of str, default=()
        Names of continuous columns in the batches; one pass learns their scale and cut points.
    bins : int, default=4
        Groups that each is cut into.
    adapter : BatchAdapter, optional
        Takes batches apart; by default they are guessed.
    """
    base: GroupScheme | None
    if groups is not None:
        base = groups.scheme if isinstance(groups, Groups) else groups
        levels: tuple[int, ...] = (len(base),)
    else:
        levels = levels_of(num_groups) or _largest_codes(loaders.values(), continuous, adapter)
        base = None if continuous and not levels else numbered_scheme(levels)
    columns = None
    if continuous:
        order = (*(() if base is None else base.columns), *continuous)
        values = _values(loaders["training"], continuous, adapter)
        columns = learn_columns(values, continuous, order, bins)
    scheme = base if columns is None else columns.extend(base)
    assert scheme is not None
    sources: dict[Role, Source] = {
        role: LoaderSource(loader, engine.device, levels, head, columns, adapter)
        for role, loader in loaders.items()
    }
    example = next(sources["training"].all(), None)
    if example is None:
        raise InvalidDataError("the training loader gave no batch.")
    return FitData(
        sources=sources,
        scheme=scheme,
        head=head,
        labels=None if head.task == "regression" else numbered_labels(head.n_classes),
        engine=engine,
        seed=seed,
        example=example,
        continuous=columns,
    )


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


def group_codes(sensitive: Tensor, levels: Sequence[int]) -> Tensor:
    """Group codes of shape (n,) from one or several columns of codes.

    Raises
    ------
    InvalidDataError
        If the columns are not those that ``levels`` describes, or hold other codes.
    """
    columns = code_columns(sensitive)
    if columns.shape[1] not in (1, len(levels)):
        raise InvalidDataError(
            f"sensitive_features has {columns.shape[1]} column(s), num_groups describes "
            f"{len(levels)}."
        )
    if columns.shape[1] == 1:
        levels = (math.prod(levels),)
    check_codes(columns, tuple(levels))
    return columns.squeeze(1) if columns.shape[1] == 1 else combine_codes(columns, tuple(levels))


def levels_of(num_groups: int | Sequence[int] | None) -> tuple[int, ...]:
    """Levels of each sensitive column, as a person gives them; () where nobody does."""
    if num_groups is None:
        return ()
    levels = (num_groups,) if isinstance(num_groups, int) else tuple(map(int, num_groups))
    if not levels or not 1 <= min(levels) <= math.prod(levels) <= MOST_GROUPS:
        raise InvalidParameterError(
            f"num_groups must be 1 or more a column and make at most {MOST_GROUPS} groups, got "
            f"{num_groups}."
        )
    return levels


def levels_in(scheme: GroupScheme) -> tuple[int, ...]:
    """Levels of each column of codes that stand for groups; one column where not all are there."""
    levels = tuple(len(level) for level in scheme.levels)
    if math.prod(levels) == len(scheme) and len(levels) > 1:
        in_order = np.array_equal(scheme.level_codes, list(product(*map(range, levels))))
        return levels if in_order else (len(scheme),)
    return (len(scheme),)


def numbered_labels(n_classes: int) -> LabelCoding:
    """Classes that are known by number only; 1 is the favourable one of two."""
    return LabelCoding(np.arange(n_classes), True)


def numbered_scheme(levels: Sequence[int]) -> GroupScheme:
    """Groups that are known by number only: all combinations of levels."""
    codes = np.array(list(product(*(range(size) for size in levels))), dtype=np.int64)
    named = tuple(tuple(range(size)) for size in levels)
    columns = ("group",) if len(levels) == 1 else tuple(f"group_{i}" for i in range(len(levels)))
    counts = np.zeros(len(codes), dtype=np.int64)
    return GroupScheme(columns, named, codes, group_names(named, codes), counts)


def code_columns(sensitive: Any) -> Tensor:
    """Group codes as columns, shape (n, k)."""
    codes = torch.as_tensor(sensitive)
    if codes.is_floating_point():
        raise InvalidDataError(
            f"sensitive_features must hold integer codes, got {codes.dtype}; call .long() "
            "(AdversarialDebiasingTrainer takes numbers that are named in continuous=)."
        )
    return (codes.unsqueeze(1) if codes.ndim == 1 else codes.flatten(1)).long()


def as_targets(y: Tensor, head: Head) -> Tensor:
    """Labels of a batch as the head reads them."""
    column = y.squeeze(1) if y.ndim == 2 and y.shape[1] == 1 else y
    if column.ndim != 1:
        raise InvalidDataError(f"y must have one number a row, got shape {tuple(y.shape)}.")
    if head.task == "regression":
        return column.float()
    numbers = column.long()
    if len(numbers) and (
        not bool((numbers == column).all())
        or not 0 <= int(numbers.min()) <= int(numbers.max()) < head.n_classes
    ):
        raise InvalidDataError(
            f"y must hold the class numbers 0 .. {head.n_classes - 1} (1: the favourable "
            "outcome, of two); num_classes= says how many there are."
        )
    return numbers


def _values(
    loader: Iterable[Any], names: tuple[str, ...], adapter: BatchAdapter | None
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Continuous columns and weights of every batch."""
    for raw in loader:
        parts = read_batch(raw, adapter, required=_REQUIRED)
        yield split_sensitive(parts.groups, names)[1], parts.weight


def _largest_codes(
    loaders: Iterable[Iterable[Any]], continuous: tuple[str, ...], adapter: BatchAdapter | None
) -> tuple[int, ...]:
    """Levels of each column, from one pass over the loaders; none where all are continuous."""
    largest: Tensor | None = None
    for loader in loaders:
        for raw in loader:
            sensitive = read_batch(raw, adapter, required=_REQUIRED).groups
            if continuous:
                sensitive, _ = split_sensitive(sensitive, continuous)
                if sensitive is None:
                    return ()
            columns = code_columns(sensitive)
            if not len(columns):
                continue
            found = columns.amax(0)
            if largest is not None and found.shape != largest.shape:
                raise InvalidDataError("sensitive_features changes its number of columns.")
            largest = found if largest is None else torch.maximum(largest, found)
    if largest is None:
        raise InvalidDataError("the training loader gave no batch.")
    levels = tuple(max(int(code), 0) + 1 for code in largest)
    require_few_groups(levels)
    return levels
