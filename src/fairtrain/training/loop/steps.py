"""How weights move: the primal step, behind a protocol so that another can take its place."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fairtrain.exceptions import InvalidParameterError
from fairtrain.training.loop.engine import Engine

__all__ = [
    "WEIGHT_DECAY",
    "GradientStep",
    "Losses",
    "PrimalStep",
    "StepReport",
    "cosine_decay",
    "make_optimizer",
]

WEIGHT_DECAY = 1e-3
"""Of AdamW, where nothing says how many rows train."""

Losses = Mapping[str, Tensor]
"""Named scalars of a batch; ``"loss"`` is the one that weights are moved by."""


@dataclass(frozen=True)
class StepReport:
    """What a step did.

    Attributes
    ----------
    losses : mapping of str to Tensor
        Named scalars of the batch, detached.
    taken : bool
        False where the batch was skipped because a loss or gradient was not finite.
    gradient_norm : float
        Norm of the gradient before clipping; NaN where the step was skipped.
    """

    losses: Losses
    taken: bool
    gradient_norm: float


class PrimalStep(Protocol):
    """Moves the weights by one batch."""

    def __call__(self, losses: Callable[[], Losses], progress: float) -> StepReport:
        """Take a step.

        Parameters
        ----------
        losses : callable
            Runs the module on the batch and gives the losses; may be called more than once.
        progress : float in [0, 1]
            Part of training that is over.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what has to be kept to go on later."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""


def cosine_decay(progress: float) -> float:
    """Factor of the learning rate: from 1 at the start to 0 at the end, along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))


_DECAYS: dict[str, Callable[[float], float] | None] = {"cosine": cosine_decay, "none": None}


def decay_of(given: Any) -> Callable[[float], float] | None:
    """Factor of the learning rate that a trainer's ``lr_decay`` asks for."""
    return given if callable(given) else _DECAYS[given]


def sees_module(given: Any) -> bool:
    """Whether an optimizer's factory asks for the module beside the parameters."""
    if isinstance(given, type) or not callable(given):
        return False
    return "module" in inspect.signature(given).parameters


def make_optimizer(
    given: Any,
    parameters: Sequence[Tensor],
    *,
    lr: Any,
    module: nn.Module | None = None,
    weight_decay: float = WEIGHT_DECAY,
) -> torch.optim.Optimizer:
    """Make what moves the weights.

    Parameters
    ----------
    given : optimizer class, callable or None
        A trainer's ``optimizer``; None for AdamW.
    parameters : sequence of Tensor
        The weights.
    lr : float
        Learning rate, for a class.
    module : nn.Module, optional
        What the weights belong to, for a function with an argument of that name.
    weight_decay : float, default=0.001
        Of AdamW, where nothing is given.

    Raises
    ------
    InvalidParameterError
        If no optimizer is made.
    """
    if given is None:
        return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)
    if isinstance(given, type):
        optimizer = given(parameters, lr=lr)
    else:
        optimizer = given(parameters, **({"module": module} if sees_module(given) else {}))
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InvalidParameterError(
            "optimizer must be a class of torch.optim, or a function of the parameters that "
            f"gives an optimizer; it gave {type(optimizer).__name__}."
        )
    return optimizer


class GradientStep:
    """One clipped step of an optimizer, with a decaying learning rate and a guard against NaN.

    Parameters
    ----------
    engine : Engine
        Where it runs.
    module : nn.Module
        Whose weights move; the one that the weights belong to, not its wrapper.
    optimizer : torch.optim.Optimizer
        Moves them.
    clip_norm : float, optional
        Largest norm of the gradient.
    decay : callable, optional
        Progress in [0, 1] -> factor of the learning rate.
    ema : float in (0, 1), optional
        Decay of an exponential moving average of the weights, kept beside them.
    """

    def __init__(
        self,
        engine: Engine,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        clip_norm: float | None = None,
        decay: Callable[[float], float] | None = None,
        ema: float | None = None,
    ) -> None:
        self.engine = engine
        self.optimizer = optimizer
        self.clip_norm = clip_norm
        self.decay = decay
        self._start = [float(group["lr"]) for group in optimizer.param_groups]
        self._parameters = [p for g in optimizer.param_groups for p in g["params"]]
        self._module = module
        self.average: AveragedModel | None = None
        if ema is not None:
            moving: Any = get_ema_multi_avg_fn(ema)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(module, multi_avg_fn=moving, use_buffers=True)

    @property
    def deployed(self) -> nn.Module:
        """The module that decisions are made with: the average where there is one."""
        if self.average is None:
            return self._module
        averaged: nn.Module = self.average.module
        return averaged

    @property
    def lr(self) -> float:
        """Present learning rate of the first group."""
        return float(self.optimizer.param_groups[0]["lr"])

    def __call__(self, losses: Callable[[], Losses], progress: float) -> StepReport:
        """Take a step; see :class:`PrimalStep`."""
        if self.decay is not None:
            factor = self.decay(progress)
            for group, start in zip(self.optimizer.param_groups, self._start, strict=True):
                group["lr"] = start * factor
        self.optimizer.zero_grad(set_to_none=True)
        with self.engine.autocast():
            found = losses()
        kept = {name: value.detach() for name, value in found.items()}
        total = self._total(found["loss"])
        # Every process must agree, or one would wait for gradients that never come.
        if not self.engine.everywhere(bool(torch.isfinite(total))):
            return StepReport(kept, taken=False, gradient_norm=math.nan)
        self.engine.backward(total)
        self.engine.unscale(self.optimizer)
        norm = self._clip(kept["loss"])
        if not math.isfinite(norm) and not self.engine.scaler.is_enabled():
            return StepReport(kept, taken=False, gradient_norm=math.nan)
        self.engine.update(self.optimizer)  # a scaler skips overflowing steps by itself
        if self.average is not None:
            self.average.update_parameters(self._module)
        return StepReport(kept, taken=True, gradient_norm=norm)

    def _total(self, loss: Tensor) -> Tensor:
        """The number that gradients are taken of."""
        return loss

    def _clip(self, loss: Tensor) -> float:
        """Clip gradients; their norm before."""
        limit = math.inf if self.clip_norm is None else self.clip_norm
        return float(nn.utils.clip_grad_norm_(self._parameters, limit))

    def state_dict(self) -> dict[str, Any]:
        """Optimizer, loss scale and average."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.engine.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            self.engine.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
