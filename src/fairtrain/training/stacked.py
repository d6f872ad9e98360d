"""Train networks of several strengths and seeds at once, each as if it were alone."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from fairtrain.exceptions import CannotStackError
from fairtrain.losses.distributed import is_distributed
from fairtrain.training.batches.batch import Batch, FitData
from fairtrain.training.loop.cells import measured
from fairtrain.training.loop.engine import by_torchrun, local_randomness
from fairtrain.training.loop.epochs import TrainingLoop
from fairtrain.training.loop.steps import (
    GradientStep,
    Losses,
    StepReport,
    make_optimizer,
    sees_module,
)
from fairtrain.training.regularized import PenaltyRun, RegularizedFairnessTrainer

__all__ = ["ModuleStack", "StackedRun", "StackedStep", "fit_stacked", "stackable"]

_RANDOM = (nn.modules.dropout._DropoutNd, nn.RReLU)
_COUNTING = (nn.modules.batchnorm._NormBase, nn.modules.instancenorm._InstanceNorm)
_MAY_DIFFER = {"eta", "random_state", "module"}
_ELEMENTWISE = (
    torch.optim.AdamW,
    torch.optim.Adam,
    torch.optim.SGD,
    torch.optim.RMSprop,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.Adamax,
    torch.optim.Adagrad,
    torch.optim.Adadelta,
)
"""Optimizers that move every number by its own gradient alone: stacked, they do the same."""


def stackable(trainers: Sequence[RegularizedFairnessTrainer]) -> str | None:
    """Why trainers cannot be trained together, as far as their settings tell; None if they can.

    Parameters
    ----------
    trainers : sequence of RegularizedFairnessTrainer
        Not fitted.
    """
    first = trainers[0]
    if any(type(each) is not RegularizedFairnessTrainer for each in trainers):
        return "only RegularizedFairnessTrainer can be stacked."
    settings = [each.get_params(deep=False) for each in trainers]
    for name, value in settings[0].items():
        if name not in _MAY_DIFFER and any(_differ(value, other[name]) for other in settings):
            return f"they differ in {name}."
    if any(callable(each.eta) or isinstance(each.eta, Tensor) for each in trainers):
        return "eta is a schedule."
    if any(not isinstance(each.random_state, int | np.integer) for each in trainers):
        return "random_state is no integer, so that the models would not be the same again."
    reasons = {
        "callbacks look at one model at a time.": len(first.callbacks) > 0,
        "fabric runs one model at a time.": first.fabric is not None,
        f"precision {first.precision} is not stacked.": first.precision != "32",
        "micro_batch_size is for one model at a time.": first.micro_batch_size is not None,
        "objective is not accuracy.": not _is_accuracy(first.objective),
        "several processes train one model at a time.": is_distributed() or by_torchrun(),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _is_accuracy(objective: Any) -> bool:
    return isinstance(objective, str) and objective == "accuracy"


def fit_stacked(
    trainers: Sequence[RegularizedFairnessTrainer],
    X: Any,
    y: Any,
    *,
    sensitive_features: Any = None,
    sample_weight: Any = None,
    clusters: Any = None,
) -> None:
    r"""Fit trainers that differ in ``eta`` and ``random_state``, all at once.

    The weights of all models are stacked; one optimizer moves the sum of their losses, whose
    gradient for a model's weights is that of its own loss. Models of one seed share their batches
    and make a stack; a seed with one model is fitted by itself.
    Every model gets what ``fit`` would have given it up to rounding: its own rows, initial weights,
    batches, clipping (by the norm of its own gradient), average and reports. A model that meets a
    loss or gradient that is not finite leaves the stack and is fitted by itself.

    Rounding is the only difference, but long trainings magnify it: after 235 steps of a 100-64-64
    ReLU network logits differ by up to .05 in 32 bits and by 1e-14 in 64.

    Parameters
    ----------
    trainers : sequence of RegularizedFairnessTrainer
        Not fitted; fitted afterwards. ``seconds`` in their ``history_`` are each model's share.
    X, y, sensitive_features, sample_weight, clusters
        As in ``fit``.

    Raises
    ------
    CannotStackError
        If these models cannot be trained together; nothing has been trained then.
    """
    if (reason := stackable(trainers)) is not None:
        raise CannotStackError(reason)
    by_seed = sorted(trainers, key=attrgetter("random_state"))
    stacks: list[StackedRun] = []
    for _, some in groupby(by_seed, key=attrgetter("random_state")):
        first, *others = some
        data = first.read(X, y, sensitive_features, sample_weight, clusters)
        for other in others:
            other.read_as(first)
        if not isinstance(data.example.x, Tensor):
            raise CannotStackError("inputs that have names are trained one model at a time.")
        stacks.append(StackedRun([first, *others], data))
    require_stackable([run.parts.module for stack in stacks for run in stack.runs])
    for stack in stacks:
        stack.try_out()
    for stack in stacks:
        # One model alone is trained in half the time without a stack around it.
        alone = stack.train() if len(stack.runs) > 1 else stack.trainers
        for trainer in alone:
            trainer.fit(
                X,
                y,
                sensitive_features=sensitive_features,
                sample_weight=sample_weight,
                clusters=clusters,
            )


class StackedRun(PenaltyRun):
    """Models of one seed, whose batches are the same, moved by one optimizer.

    Each has a plan of its own, as if it trained alone: the stack takes rows, penalty and step from
    the first and gives its own counts to everyone.

    Parameters
    ----------
    trainers : sequence of RegularizedFairnessTrainer
        They differ in ``eta``.
    data : FitData
        Their rows.
    """

    def __init__(self, trainers: Sequence[RegularizedFairnessTrainer], data: FitData) -> None:
        self.trainers = list(trainers)
        self.plans = []
        for trainer in trainers:
            with local_randomness(data.seed, data.engine.device):
                self.plans.append(trainer.plan(data))
        self.runs: list[Any] = [plan.run for plan in self.plans]
        super().__init__(self.runs[0].parts, self.runs[0].criterion, data)
        self.etas = [float(trainer.eta) for trainer in trainers]  # type: ignore[arg-type]
        self.histories: list[list[dict[str, Any]]] = [[] for _ in trainers]
        self.stack = ModuleStack([run.parts.module for run in self.runs])
        alone, trained = self.plans[0].primal, self.stack.trained
        assert isinstance(alone, GradientStep)
        if sees_module(trainers[0].optimizer):
            raise CannotStackError("the optimizer asks for the module of its weights.")
        optimizer = make_optimizer(trainers[0].optimizer, trained, lr=trainers[0].lr)
        if type(optimizer) not in _ELEMENTWISE:
            raise CannotStackError(
                f"{type(optimizer).__name__} may move a weight by the gradients of others."
            )
        if self.criterion.every > 1:
            raise CannotStackError("the penalty is left out of some batches (every > 1).")
        # By its own parameters: a stacked bias has two axes, and might land in another group.
        if len(alone.optimizer.param_groups) > 1:
            raise CannotStackError("the optimizer treats groups of weights differently.")
        if any(True for _ in (*self.criterion.parameters(), *self.criterion.buffers())):
            raise CannotStackError("the penalty keeps a state of its own.")
        self.primal = StackedStep(alone, self.stack, optimizer, trainers[0].ema)
        self.eta = torch.tensor(self.etas, device=data.engine.device, dtype=trained[0].dtype)

    def train(self) -> list[RegularizedFairnessTrainer]:
        """Run all epochs, and conclude what ended finite; the others are given back."""
        epochs = self.plans[0].max_epochs
        source = self.parts.training
        TrainingLoop(self.step, self.primal, source, max_epochs=epochs, hooks=self).run()
        self.average.write_to([run.parts.module for run in self.runs])
        left = []
        for k, (trainer, plan) in enumerate(zip(self.trainers, self.plans, strict=True)):
            if not bool(self.primal.alive[k]):
                left.append(trainer)
                continue
            plan.run.deployed = plan.run.parts.module
            trainer.conclude(plan, self.histories[k], 0)
        return left

    @property
    def average(self) -> ModuleStack:
        """The weights that decisions are made with."""
        stack = self.primal.deployed
        assert isinstance(stack, ModuleStack)
        return stack

    def step(self, batch: Batch) -> Losses:
        """Losses of every model, shape (K,)."""
        total, base, penalty, outputs = self.losses(batch)
        self.count_all(outputs, batch)
        return {"loss": total, "base_loss": base, "penalty": penalty, "eta": self.eta}

    def losses(self, batch: Batch) -> tuple[Tensor, ...]:
        """Total, base, penalty and outputs, one row a model."""

        def one(raw: Tensor, eta: Tensor) -> tuple[Tensor, ...]:
            outputs = self.parts.head.outputs(raw, len(batch.y))
            base, penalty = self.terms(outputs, batch)
            return base + eta * penalty, base, penalty, outputs

        found: tuple[Tensor, ...] = self.stack.map(one, batch.x, self.eta, training=True)
        return found

    def count_all(self, outputs: Tensor, batch: Batch) -> None:
        """Count a batch for every model."""
        found = vmap(partial(self.counts, batch=batch))(outputs.detach()).double()
        self.counted = found if self.counted is None else self.counted + found

    @torch.no_grad()
    def after_epoch(self, record: dict[str, Any]) -> None:
        """Give every model its own record."""
        cells = self.parts.cells
        held = torch.zeros(len(self.runs), cells.n_sums, dtype=torch.float64)
        for batch in self.judges.all():
            sums = partial(self.held_sums, batch=batch)
            held += self.average.map(sums, batch.x, training=False).cpu()
        assert self.counted is not None
        counted, self.counted = self.counted, None
        for k, (run, eta) in enumerate(zip(self.runs, self.etas, strict=True)):
            own = {
                name: float(value[k]) if isinstance(value, Tensor) else value
                for name, value in record.items()
            }
            own |= {"eta": eta, "seconds": record["seconds"] / len(self.runs)}
            own["penalty"] = own["penalty"] if eta else 0.0
            run.counted = counted[k]
            run.complete(own, measured(held[k], cells))
            self.histories[k].append(own)

    @torch.no_grad()
    def try_out(self) -> None:
        """See on one batch that stacked models do what each does by itself.

        Raises
        ------
        CannotStackError
            If they do not.
        """
        before = [buffer.clone() for buffer in self.stack.buffers()]
        batch = next(self.parts.training.batches(0))
        try:
            total, *_, outputs = self.losses(batch)
            self.count_all(outputs, batch)
        except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise CannotStackError(f"PyTorch cannot stack it: {reason}") from None
        self.counted = None
        for k, (run, eta) in enumerate(zip(self.runs, self.etas, strict=True)):
            kept = [buffer.clone() for buffer in run.parts.module.buffers()]
            alone = run.forward(batch)
            for buffer, value in zip(run.parts.module.buffers(), kept, strict=True):
                buffer.copy_(value)
            base, penalty = run.terms(alone, batch)
            same = torch.allclose(outputs[k], alone, rtol=1e-4, atol=1e-5)
            if not (same and torch.allclose(total[k], base + eta * penalty, rtol=1e-3, atol=1e-5)):
                raise CannotStackError("stacked, the module does not do what it does by itself.")
        after = self.stack.buffers()
        for name, was, now in zip(self.stack.buffer_names, before, after, strict=True):
            if not torch.equal(was, now):
                raise CannotStackError(f"the module changes {name} while it runs.")


class ModuleStack(nn.Module):
    """Weights of K modules as tensors of shape (K, ...).

    Parameters
    ----------
    modules : sequence of nn.Module
        Of one architecture.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        require_stackable(modules)
        weights, buffers = stack_module_state(list(modules))
        self.weight_names, self.buffer_names = tuple(weights), tuple(buffers)
        self.stacked = nn.ParameterList(
            nn.Parameter(w.detach(), requires_grad=w.requires_grad) for w in weights.values()
        )
        for i, buffer in enumerate(buffers.values()):
            self.register_buffer(f"buffer_{i}", buffer)
        # Its own weights are never read: functional_call puts the stacked ones in their place. In
        # a tuple, so that they are no part of this module.
        self._body = (copy.deepcopy(modules[0]),)

    @property
    def trained(self) -> list[nn.Parameter]:
        """Stacked parameters that are trained, in the modules' order."""
        return [p for p in self.stacked if p.requires_grad]

    def map(self, function: Callable[..., Any], x: Any, *along: Tensor, training: bool) -> Any:
        """Apply ``function(outputs, *items)`` to the outputs of all modules for rows.

        Parameters
        ----------
        function : callable
            Tensors of one module -> tensor or tuple of tensors.
        x : Tensor or structure of tensors
            The rows, the same for all of them.
        *along : Tensor of shape (K, ...)
            One item a module.
        training : bool
            Mode of the modules.
        """
        (body,) = self._body
        body.train(training)
        weights = dict(zip(self.weight_names, self.stacked, strict=True))
        buffers = dict(zip(self.buffer_names, self.buffers(), strict=True))

        def one(weights: Any, buffers: Any, *items: Tensor) -> Any:
            return function(functional_call(body, (weights, buffers), (x,)), *items)

        return vmap(one)(weights, buffers, *along)

    @torch.no_grad()
    def write_to(self, modules: Sequence[nn.Module]) -> None:
        """Write the weights into modules."""
        for k, module in enumerate(modules):
            for parameter, stacked in zip(module.parameters(), self.stacked, strict=True):
                parameter.copy_(stacked[k])


class StackedStep(GradientStep):
    """A gradient step of every model by its own gradient; one that is not finite stands still.

    Parameters
    ----------
    alone : GradientStep
        How each would move by itself.
    stack : ModuleStack
        Whose weights move.
    optimizer : torch.optim.Optimizer
        Moves them.
    ema : float or None
        See :class:`GradientStep`.
    """

    def __init__(
        self,
        alone: GradientStep,
        stack: ModuleStack,
        optimizer: torch.optim.Optimizer,
        ema: float | None,
    ) -> None:
        super().__init__(
            alone.engine, stack, optimizer, clip_norm=alone.clip_norm, decay=alone.decay, ema=ema
        )
        self.stack = stack
        size = len(stack.stacked[0])
        self.alive = torch.ones(size, dtype=torch.bool, device=alone.engine.device)
        self._norms = torch.zeros(size)

    def __call__(self, losses: Callable[[], Losses], progress: float) -> StepReport:
        """Take a step; the report has every model's gradient norm among its losses."""
        report = super().__call__(losses, progress)
        return replace(report, losses={**report.losses, "gradient_norm": self._norms})

    def _total(self, loss: Tensor) -> Tensor:
        self.alive &= torch.isfinite(loss.detach())
        return torch.where(self.alive, loss, 0.0).sum()

    @torch.no_grad()
    def _clip(self, loss: Tensor) -> float:
        slopes = [p.grad for p in self.stack.trained if p.grad is not None]
        squares = [slope.flatten(1).square().sum(1) for slope in slopes]
        self._norms = norms = torch.stack(squares).sum(0).sqrt()
        self.alive &= torch.isfinite(norms)
        factors = torch.ones_like(norms)
        if self.clip_norm is not None:
            factors = (self.clip_norm / (norms + 1e-6)).clamp(max=1.0)
        for slope in slopes:
            slope.mul_(factors.to(slope.dtype).view(-1, *[1] * (slope.ndim - 1)))
            slope[~self.alive] = 0.0  # 0 * NaN would be NaN
        return 0.0


def require_stackable(modules: Sequence[nn.Module]) -> None:
    """Raise unless modules have one architecture, and one that can be stacked.

    Raises
    ------
    CannotStackError
        If they differ, draw random numbers, or keep running statistics.
    """
    shapes = {
        tuple((n, p.shape, p.requires_grad) for n, p in m.named_parameters()) for m in modules
    }
    if len(shapes) > 1 or len({str(m) for m in modules}) > 1:
        raise CannotStackError("the modules differ in their architecture.")
    for name, part in modules[0].named_modules():
        kind = type(part).__name__
        if isinstance(part, _COUNTING) and getattr(part, "track_running_stats", False):
            raise CannotStackError(f"{name or 'the module'} ({kind}) keeps running statistics.")
        if isinstance(part, _RANDOM) and getattr(part, "p", 1.0) > 0:
            raise CannotStackError(f"{name or 'the module'} ({kind}) draws random numbers.")


def _differ(one: Any, other: Any) -> bool:
    """Whether two settings are not the same; copies of one object are."""
    with suppress(TypeError, ValueError, RuntimeError):
        if one is other or bool(one == other):
            return False
    try:
        return pickle.dumps(one) != pickle.dumps(other)
    except (pickle.PicklingError, AttributeError, TypeError):
        return True
