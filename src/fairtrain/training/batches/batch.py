"""What a batch is, where batches come from, and all that a fit trains on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fairtrain.constraints import Objective
from fairtrain.data.groups import GroupScheme
from fairtrain.data.labels import LabelCoding
from fairtrain.data.rows import Role
from fairtrain.exceptions import InvalidDataError
from fairtrain.training.batches.inputs import call_module, to_device
from fairtrain.training.continuous import ContinuousColumns
from fairtrain.training.heads import Head
from fairtrain.training.loop.engine import Engine, dtype_of

__all__ = ["CHUNK", "Batch", "FitData", "Source", "level_codes", "nobody"]

Floats = NDArray[np.float64]

CHUNK = 8192
"""Rows of one forward pass where nothing is trained."""

_EPOCHS, _STEPS = 30, 1500
"""Epochs, and the steps they must at least come to, where nobody says how many."""


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
    clusters : integer Tensor of shape (n,) or None
        Which rows belong together; limits allow for it.
    """

    x: Any
    y: Tensor
    codes: Tensor
    weight: Tensor | None = None
    values: Tensor | None = None
    clusters: Tensor | None = None

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> Batch:
        """The rows on a device; floating inputs with the type of the module's weights."""
        moved = Batch(*(to_device(part, device) for part in self))
        return moved._replace(x=to_device(moved.x, device, dtype))

    def weights(self, dtype: torch.dtype) -> Tensor:
        """Weight of each row; 1 where there is none."""
        given = torch.ones_like(self.y) if self.weight is None else self.weight
        return given.to(dtype)

    def take(self, rows: Tensor | slice) -> Batch:
        """Some of the rows, where ``x`` is a tensor or named inputs."""
        parts: Iterator[Any] = (None if part is None else part[rows] for part in self)
        return Batch(*parts)


def nobody() -> Batch:
    """A batch of no rows."""
    return Batch(torch.empty(0), torch.empty(0), torch.empty(0))


class Source(Protocol):
    """Rows, as batches for training and as one pass for evaluation."""

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Training batches of an epoch."""

    def all(self) -> Iterator[Batch]:
        """Every row of this process once."""

    @property
    def n_batches(self) -> int | None:
        """Batches of an epoch; None where nobody knows."""

    def prepare(self, module: nn.Module) -> None:
        """Give floating inputs the type of the module's weights."""


@dataclass(frozen=True)
class FitData:
    """What a fit trains on.

    Attributes
    ----------
    sources : dict of role to Source
        Batches of the rows that train, and of those that steer and certify, where there are any.
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
    base_rates : ndarray of shape (G,) or None
        Share of favourable labels of each group, where it is known.
    best_constant : float
        Performance of the best constant prediction on the rows that steer, where it is known.
    label_weights : dict of role to ndarray of shape (C,)
        Rows of every label among those that train and steer, where they are known.
    continuous : ContinuousColumns or None
        Sensitive columns that are numbers; ``scheme`` has their bins.
    n_epochs : int or None
        Epochs, where somebody else's loop has its own number.
    """

    sources: dict[Role, Source]
    scheme: GroupScheme
    head: Head
    labels: LabelCoding | None
    engine: Engine
    seed: int
    example: Batch
    base_rates: Floats | None = None
    best_constant: float = -math.inf
    label_weights: Mapping[Role, Floats] = field(default_factory=dict)
    continuous: ContinuousColumns | None = None
    n_epochs: int | None = None

    @property
    def training(self) -> Source:
        """Rows that move weights."""
        return self.sources["training"]

    @property
    def steering(self) -> Source | None:
        """Rows that choose."""
        return self.sources.get("steering")

    @property
    def certification(self) -> Source | None:
        """Rows that are read once, at the end."""
        return self.sources.get("certification")

    def constant_of(self, objective: Objective) -> float:
        """Value of the best constant on the rows that steer; -inf where it is not known."""
        if objective.is_accuracy:
            return self.best_constant
        if self.head.task != "binary":
            return -math.inf
        weights = self.label_weights.get("steering", self.label_weights.get("training"))
        return -math.inf if weights is None else objective.best_constant([0, 1], weights)

    @property
    def favourable_share(self) -> float | None:
        """Share of favourable labels among the training rows, where it is known."""
        weights = self.label_weights.get("training")
        return None if weights is None else float(weights[1] / weights.sum())

    @property
    def n_features(self) -> int | None:
        """Features of a row; None where rows are no vectors."""
        x = self.example.x
        return int(x.shape[1]) if isinstance(x, Tensor) and x.ndim == 2 else None

    @property
    def width(self) -> int:
        """What scikit-learn calls the number of features: columns, channels, or named inputs."""
        x = self.example.x
        if isinstance(x, Mapping):
            return len(x)
        return int(x.shape[1]) if isinstance(x, Tensor) and x.ndim > 1 else 1

    @property
    def categorical(self) -> list[int]:
        """Places of the categorical columns in ``scheme``."""
        numbers = () if self.continuous is None else self.continuous.names
        return [i for i, name in enumerate(self.scheme.columns) if name not in numbers]

    def epochs(self, wanted: int | None) -> int:
        """Epochs as wanted, or enough for a number of steps."""
        wanted = self.n_epochs if wanted is None else wanted
        if wanted is not None:
            return int(wanted)
        batches = self.training.n_batches
        return _EPOCHS if batches is None else max(_EPOCHS, -(-_STEPS // batches))

    @torch.no_grad()
    def prepare(self, module: nn.Module) -> None:
        """Fit batches and module to each other, and see on a few rows whether it takes them.

        Raises
        ------
        InvalidDataError
            If it does not, or does not give what the task needs.
        """
        for source in self.sources.values():
            source.prepare(module)
        module.to(self.engine.device)
        x = self.example.to(self.engine.device, dtype_of(module)).x
        was_training = module.training
        module.eval()
        try:
            raw = call_module(module, x)
        except (RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, InvalidDataError):
                raise
            shown = f" of shape {tuple(x.shape)}" if isinstance(x, Tensor) else ""
            shown = f" of {list(x)}" if isinstance(x, Mapping) else shown
            reason = str(error).strip().splitlines()[0]
            raise InvalidDataError(f"the module does not take rows{shown}: {reason}") from None
        finally:
            module.train(was_training)
        self.head.outputs(raw, len(self.example.y))


def level_codes(scheme: GroupScheme) -> Tensor:
    """Level of every sensitive column by group code + 1; row 0 serves unknown groups."""
    unknown = [[-1] * len(scheme.columns)]
    return torch.from_numpy(np.concatenate([unknown, scheme.level_codes]).astype(np.int64))
