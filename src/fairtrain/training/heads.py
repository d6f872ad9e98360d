"""What a module's output means: one logit, a logit a class, or a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from fairtrain.constraints import BoundedGroupLoss, Constraint, RateParity
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.losses.base_loss import BaseLoss
from fairtrain.losses.batch import read_outputs
from fairtrain.losses.functional import Link, soft_decisions

__all__ = ["Head", "Task", "check_task", "read_logits"]

Task = Literal["binary", "multiclass", "regression"]


@dataclass(frozen=True)
class Head:
    """Reads outputs and labels of one task.

    Attributes
    ----------
    task : {"binary", "multiclass", "regression"}
        What is predicted.
    n_classes : int
        Classes; 1 for regression.
    temperature : float, default=1.0
        Sharpness of soft decisions.
    link : {"sigmoid", "probit"}, default="sigmoid"
        Form of soft decisions.
    """

    task: Task
    n_classes: int = 2
    temperature: float = 1.0
    link: Link = "sigmoid"

    @classmethod
    def of(cls, task: str, n_classes: int, temperature: float) -> Head:
        """Head of a trainer's ``task``, for so many classes."""
        if task == "regression":
            return cls("regression", 1, temperature)
        if n_classes < 2:
            raise InvalidParameterError(f"num_classes must be 2 or more, got {n_classes!r}.")
        return cls("binary" if n_classes == 2 else "multiclass", n_classes, temperature)

    @property
    def n_outputs(self) -> int:
        """Numbers a row that a module made for this task gives."""
        return self.n_classes if self.task == "multiclass" else 1

    @property
    def base_loss(self) -> BaseLoss:
        """The usual loss of the task."""
        if self.task == "binary":
            return nn.BCEWithLogitsLoss()
        return nn.CrossEntropyLoss() if self.task == "multiclass" else nn.MSELoss()

    def outputs(self, raw: Any, n: int) -> Tensor:
        """Bring a module's output into shape.

        Parameters
        ----------
        raw : Tensor, or object or mapping with ``logits``, or tuple that begins with them
            What the module gave.
        n : int
            Rows that went in.

        Returns
        -------
        Tensor of shape (n,), or (n, C) for several classes
            At least float32. Two logits a row become the logit of the second class.

        Raises
        ------
        InvalidDataError
            If the output has another shape than the task needs.
        """
        raw = read_logits(raw)
        shapes: dict[Task, list[tuple[int, ...]]] = {
            "binary": [(n,), (n, 1), (n, 2)],
            "multiclass": [(n, self.n_classes)],
            "regression": [(n,), (n, 1)],
        }
        if tuple(raw.shape) not in shapes[self.task]:
            task = self.task if self.task == "regression" else f"{self.n_classes} classes"
            raise InvalidDataError(
                f"the module gave an output of shape {tuple(raw.shape)} for {n} rows; {task} "
                f"needs {' or '.join(map(str, shapes[self.task]))}."
            )
        outputs = read_outputs(raw)
        if self.task == "binary" and outputs.ndim == 2:
            return outputs[:, 1] - outputs[:, 0]
        return outputs

    def labels(self, y: Tensor) -> Tensor:
        """Labels as the base loss wants them."""
        return y if self.task == "multiclass" else y.to(torch.get_default_dtype())

    def soft(self, outputs: Tensor) -> Tensor:
        """Soft decisions in [0, 1] (the output itself for regression)."""
        if self.task == "regression":
            return outputs
        return soft_decisions(outputs, self.temperature, self.link)

    def hard(self, outputs: Tensor) -> Tensor:
        """Decisions: 0 or 1, one column a class where there are several."""
        if self.task == "regression":
            return outputs
        if self.task == "binary":
            return (outputs > 0).to(outputs.dtype)
        return F.one_hot(outputs.argmax(dim=1), self.n_classes).to(outputs.dtype)

    def right(self, outputs: Tensor, y: Tensor) -> Tensor:
        """1 where the decision is right; for regression minus the squared error."""
        if self.task == "regression":
            return -((outputs - y) ** 2)
        if self.task == "binary":
            return ((outputs > 0) == (y > 0.5)).to(outputs.dtype)
        return (outputs.argmax(dim=1) == y).to(outputs.dtype)

    def probabilities(self, outputs: Tensor) -> NDArray[np.float64]:
        """Probability of every class, shape (n, C)."""
        outputs = outputs.double()
        if self.task == "binary":
            favourable = torch.sigmoid(outputs)
            both = torch.stack([1 - favourable, favourable], dim=1)
        else:
            both = torch.softmax(outputs, dim=1)
        return np.asarray(both.cpu().numpy())


def read_logits(raw: Any) -> Tensor:
    """Logits in what a module gave: the tensor, its ``logits``, or the first of a tuple.

    Raises
    ------
    InvalidDataError
        If there are none.
    """
    if isinstance(raw, Tensor):
        return raw
    found = None
    if isinstance(raw, Mapping):
        found = raw.get("logits")
    elif hasattr(raw, "logits"):
        found = raw.logits
    elif isinstance(raw, list | tuple) and raw:
        found = raw[0]
    if not isinstance(found, Tensor):
        held = f" of {list(raw)}" if isinstance(raw, Mapping) else ""
        raise InvalidDataError(
            f"the module must give a tensor, got {type(raw).__name__}{held}; wrap it so that "
            "forward returns the logits, alone, under that name or as the first of a tuple."
        )
    return found


def check_task(constraints: tuple[Constraint, ...], head: Head) -> None:
    """Raise where a constraint is about decisions and the task has none."""
    if head.task != "regression":
        return
    for constraint in constraints:
        loss = constraint.loss if isinstance(constraint, BoundedGroupLoss) else None
        if not (loss == "squared" or callable(loss) or isinstance(constraint, RateParity)):
            raise InvalidParameterError(
                f"{constraint.name} is about decisions; regression takes "
                "BoundedGroupLoss(upper_bound=..., loss='squared') or RateParity."
            )
