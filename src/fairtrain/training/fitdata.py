"""The rows of a fit: those that train, steer and certify, in batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fairtrain.data.groups import Groups, GroupScheme
from fairtrain.data.labels import LabelCoding
from fairtrain.data.partition import group_names
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.training.batch import (
    Batch,
    LoaderSource,
    RowSource,
    Source,
    TensorRows,
    read_fields,
    split_sensitive,
    to_device,
)
from fairtrain.training.continuous import BinnedGroups, ContinuousColumns, learn_columns
from fairtrain.training.engine import Engine, dtype_of
from fairtrain.training.heads import Head
from fairtrain.training.modules import Standardize
from fairtrain.training.sampling import GroupStratifiedBatchSampler

__all__ = ["FitData", "from_loaders", "from_rows", "level_codes"]

Floats = NDArray[np.float64]

_EPOCHS, _STEPS = 30, 1500
"""Epochs, and the steps they must at least come to, where nobody says how many."""


@dataclass(frozen=True)
class FitData:
    """What a fit trains on.

    Attributes
    ----------
    training : Source
        Rows that move weights.
    steering, certification : Source or None
        Rows that choose, and rows that are read once, at the end.
    scheme : GroupScheme
        The groups.
    head : Head
        The task.
    labels : LabelCoding or None
        What the class numbers mean; None for regression.
    engine : Engine
        Where it runs.
    seed : int
        Of the split, the batches and everything drawn in training; the same on every process.
    example : Batch
        A few rows, to see whether the module takes them.
    n_features : int or None
        Features of a row; None where rows are no vectors.
    base_rates : ndarray of shape (G,) or None
        Share of favourable labels of each group, where it is known.
    best_constant : float
        Performance of the best constant prediction on the rows that steer, where it is known.
    learn : callable or None
        Lets a module's standardising layers see the training rows.
    continuous : ContinuousColumns or None
        Sensitive columns that are numbers; ``scheme`` has their bins.
    """

    training: Source
    steering: Source | None
    certification: Source | None
    scheme: GroupScheme
    head: Head
    labels: LabelCoding | None
    engine: Engine
    seed: int
    example: Batch
    n_features: int | None
    base_rates: Floats | None = None
    best_constant: float = -math.inf
    learn: Callable[[nn.Module], None] | None = None
    continuous: ContinuousColumns | None = None

    @property
    def categorical(self) -> list[int]:
        """Places of the categorical columns in ``scheme``."""
        numbers = () if self.continuous is None else self.continuous.names
        return [i for i, name in enumerate(self.scheme.columns) if name not in numbers]

    def epochs(self, asked: int | None) -> int:
        """Epochs that were asked for, or enough for a number of steps."""
        if asked is not None:
            return int(asked)
        batches = self.training.n_batches
        return _EPOCHS if batches is None else max(_EPOCHS, -(-_STEPS // batches))

    def cast(self, dtype: torch.dtype) -> FitData:
        """Give floating inputs the type of the module's weights."""
        for source in (self.training, self.steering, self.certification):
            if source is not None:
                source.cast(dtype)
        return self

    @torch.no_grad()
    def try_module(self, module: nn.Module) -> None:
        """See on a few rows whether a module takes them and gives what the task needs.

        Raises
        ------
        InvalidDataError
            If it does not.
        """
        x = to_device(self.example.x, self.example.y.device, dtype_of(module))
        was_training = module.training
        module.eval()
        try:
            raw = module(x)
        except (RuntimeError, TypeError, ValueError) as error:
            shown = f" of shape {tuple(x.shape)}" if isinstance(x, Tensor) else ""
            reason = str(error).strip().splitlines()[0]
            raise InvalidDataError(f"the module does not take rows{shown}: {reason}") from None
        finally:
            module.train(was_training)
        self.head.outputs(raw, len(self.example.y))


def from_rows(
    rows: Rows, head: Head, *, batch_size: int | None, engine: Engine, seed: int
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
    engine, seed
        See :class:`FitData`.
    """
    continuous = rows.groups.continuous if isinstance(rows.groups, BinnedGroups) else None
    whole = TensorRows.of(rows)
    assert rows.split is not None
    training, steering, certification = (
        whole.take(torch.from_numpy(part))
        for part in (rows.split.training, rows.split.steering, rows.split.certification)
    )
    strata_of = np.arange(len(rows.groups))
    if continuous is not None:
        strata_of = strata_of // math.prod(continuous.sizes)
        assert training.values is not None
        continuous = continuous.scaled_by(training.values, training.weight)
    size = int(batch_size or _batch_size(len(training.y), int(strata_of[-1]) + 1))
    stratified = training._replace(codes=torch.from_numpy(strata_of)[training.codes])
    sampler = _sampler(stratified, size, stratify=rows.labels is not None, seed=seed)
    held, certifying = (
        _source(part, engine) if len(part.y) else None for part in (steering, certification)
    )
    return FitData(
        training=_source(training, engine, sampler),
        steering=held,
        certification=certifying,
        scheme=rows.groups.scheme,
        head=head,
        labels=rows.labels,
        engine=engine,
        seed=seed,
        example=whole.take(slice(2)).to(engine.device).batch(),
        n_features=int(whole.x.shape[1]) if whole.x.ndim == 2 else None,
        base_rates=_base_rates(rows) if head.task == "binary" else None,
        best_constant=_best_constant(steering if held is not None else training, head),
        learn=lambda module: _standardize(module, training),
        continuous=continuous,
    )


def from_loaders(
    training: Iterable[Any],
    steering: Iterable[Any] | None,
    certification: Iterable[Any] | None,
    head: Head,
    *,
    groups: Groups | GroupScheme | None,
    num_groups: int | Sequence[int] | None,
    engine: Engine,
    seed: int,
    continuous: tuple[str, ...] = (),
    bins: int = 4,
) -> FitData:
    """Take loaders as they are.

    Parameters
    ----------
    training, steering, certification : iterable
        Loaders.
    head : Head
        The task.
    groups : Groups or GroupScheme, optional
        What the codes in the batches refer to.
    num_groups : int or sequence of int, optional
        Number of groups, or of levels of each column. Without either the loaders are searched.
    engine, seed
        See :class:`FitData`.
    continuous : tuple of str, default=()
        Names of continuous columns in the batches; one pass learns their scale and cut points.
    bins : int, default=4
        Groups that each is cut into.
    """
    base: GroupScheme | None
    if groups is not None:
        base = groups.scheme if isinstance(groups, Groups) else groups
        levels: tuple[int, ...] = (len(base),)
    else:
        levels = (
            _largest_codes([training, steering, certification], continuous)
            if num_groups is None
            else ((num_groups,) if isinstance(num_groups, int) else tuple(map(int, num_groups)))
        )
        base = None if continuous and not levels else _numbered_scheme(levels)
    columns = None
    if continuous:
        order = (*(() if base is None else base.columns), *continuous)
        columns = learn_columns(_values(training, continuous), continuous, order, bins)
    scheme = base if columns is None else columns.extend(base)
    assert scheme is not None
    sources = [
        None
        if loader is None
        else LoaderSource(loader, engine.device, levels, _target_of(head), columns)
        for loader in (training, steering, certification)
    ]
    first = sources[0]
    assert first is not None
    example = next(first.all(), None)
    if example is None:
        raise InvalidDataError("the training loader gave no batch.")
    vectors = isinstance(example.x, Tensor) and example.x.ndim == 2
    return FitData(
        training=first,
        steering=sources[1],
        certification=sources[2],
        scheme=scheme,
        head=head,
        labels=None if head.task == "regression" else LabelCoding(np.arange(head.n_classes), True),
        engine=engine,
        seed=seed,
        example=example,
        n_features=int(example.x.shape[1]) if vectors else None,
        continuous=columns,
    )


def _values(
    loader: Iterable[Any], names: tuple[str, ...]
) -> Iterable[tuple[Tensor, Tensor | None]]:
    """Continuous columns and weights of every batch."""
    for raw in loader:
        _, _, sensitive, weight = read_fields(raw)
        yield split_sensitive(sensitive, names)[1], None if weight is None else weight.reshape(-1)


def _source(
    rows: TensorRows, engine: Engine, sampler: GroupStratifiedBatchSampler | None = None
) -> RowSource:
    return RowSource(rows, engine.device, sampler, rank=engine.rank, world_size=engine.world_size)


def level_codes(scheme: GroupScheme) -> Tensor:
    """Level of every sensitive column by group code + 1; row 0 serves unknown groups."""
    unknown = [[-1] * len(scheme.columns)]
    return torch.from_numpy(np.concatenate([unknown, scheme.level_codes]).astype(np.int64))


def _batch_size(rows: int, groups: int) -> int:
    """Twenty batches an epoch where rows are few, batches of 512 where they are many."""
    return max(min(max(rows // 20, 64), 512), 2 * groups)


def _sampler(
    rows: TensorRows, batch_size: int, *, stratify: bool, seed: int
) -> GroupStratifiedBatchSampler:
    """Batches that hold every group and label; every group alone where that is too much."""
    labels = None
    if stratify:
        cells = torch.unique(torch.stack([rows.codes, rows.y.long()]), dim=1).shape[1]
        labels = rows.y if cells <= batch_size else None
    return GroupStratifiedBatchSampler(rows.codes, batch_size, labels=labels, seed=seed)


def _base_rates(rows: Rows) -> Floats:
    assert rows.y is not None
    codes, size = rows.groups.codes, len(rows.groups)
    known = codes >= 0
    favourable = np.bincount(codes[known], weights=rows.y[known] == 1, minlength=size)
    counts = rows.groups.counts
    return np.asarray(np.divide(favourable, counts, out=np.full(size, np.nan), where=counts > 0))


def _best_constant(rows: TensorRows, head: Head) -> float:
    weight = torch.ones(len(rows.y)) if rows.weight is None else rows.weight
    share = (weight / weight.sum()).double()
    if head.task == "regression":
        mean = (rows.y * share).sum()
        return -float(((rows.y - mean) ** 2 * share).sum())
    return float(torch.zeros(head.n_classes).double().index_add(0, rows.y.long(), share).max())


def _standardize(module: nn.Module, rows: TensorRows) -> None:
    for layer in module.modules():
        if isinstance(layer, Standardize):
            layer.learn(rows.x, rows.weight)


def _target_of(head: Head) -> Callable[[Tensor], Tensor]:
    def read(y: Tensor) -> Tensor:
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

    return read


def _largest_codes(
    loaders: Sequence[Iterable[Any] | None], continuous: tuple[str, ...] = ()
) -> tuple[int, ...]:
    """Levels of each column, from one pass over the loaders; none where all are continuous."""
    largest: Tensor | None = None
    for loader in loaders:
        for raw in loader or ():
            sensitive = read_fields(raw)[2]
            if continuous:
                sensitive, _ = split_sensitive(sensitive, continuous)
                if sensitive is None:
                    return ()
            sensitive = torch.as_tensor(sensitive)
            if sensitive.is_floating_point():
                raise InvalidDataError(
                    f"sensitive_features must hold integer codes, got {sensitive.dtype}; call "
                    ".long() (AdversarialDebiasingTrainer takes numbers that are named in "
                    "continuous=)."
                )
            found = sensitive.reshape(len(sensitive), -1).long().amax(0)
            if largest is not None and found.shape != largest.shape:
                raise InvalidDataError("sensitive_features changes its number of columns.")
            largest = found if largest is None else torch.maximum(largest, found)
    if largest is None:
        raise InvalidDataError("the training loader gave no batch.")
    return tuple(int(code) + 1 for code in largest)


def _numbered_scheme(levels: tuple[int, ...]) -> GroupScheme:
    """Groups that are known by number only: all combinations of levels."""
    if not levels or min(levels) < 1:
        raise InvalidParameterError(f"num_groups must be 1 or more, got {levels}.")
    codes = np.array(list(product(*(range(size) for size in levels))), dtype=np.int64)
    named = tuple(tuple(range(size)) for size in levels)
    columns = ("group",) if len(levels) == 1 else tuple(f"group_{i}" for i in range(len(levels)))
    return GroupScheme(
        columns=columns,
        levels=named,
        level_codes=codes,
        names=group_names(named, codes),
        counts=np.zeros(len(codes), dtype=np.int64),
    )
