"""Train networks of several strengths and seeds at once, each as if it were alone."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap

from fairtrain.exceptions import CannotStackError
from fairtrain.losses.base_loss import mean_base_loss
from fairtrain.losses.distributed import is_distributed
from fairtrain.training.batch import Batch, Source
from fairtrain.training.cells import batch_sums, measured
from fairtrain.training.engine import local_randomness
from fairtrain.training.loop import TrainingLoop
from fairtrain.training.regularized import PenaltyRun, RegularizedFairnessTrainer
from fairtrain.training.run import Plan, rates_of
from fairtrain.training.stack import ModuleStack
from fairtrain.training.steps import GradientStep, Losses, StepReport, make_optimizer

__all__ = ["fit_stacked", "stackable"]

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
        "several processes train one model at a time.": is_distributed()
        or all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR")),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def fit_stacked(
    trainers: Sequence[RegularizedFairnessTrainer],
    X: Any,
    y: Any,
    *,
    sensitive_features: Any = None,
    sample_weight: Any = None,
) -> None:
    r"""Fit trainers that differ in ``eta`` and ``random_state``, all at once.

    The weights of all models are stacked; one optimizer moves the sum of their losses, whose
    gradient for a model's weights is that of its own loss. Models of one seed share their batches.
    Every model gets what ``fit`` would have given it up to rounding: its own rows, initial weights,
    batches, clipping (by the norm of its own gradient), average and reports. A model that meets a
    loss or gradient that is not finite leaves the stack and is fitted by itself.

    Rounding is the only difference, but long trainings magnify it: after 235 steps of a 100-64-64
    ReLU network logits differ by up to .05 in 32 bits and by 1e-14 in 64.

    Parameters
    ----------
    trainers : sequence of RegularizedFairnessTrainer
        Not fitted; fitted afterwards. ``seconds`` in their ``history_`` are each model's share.
    X, y, sensitive_features, sample_weight
        As in ``fit``.

    Raises
    ------
    CannotStackError
        If these models cannot be trained together; nothing has been trained then.
    """
    if (reason := stackable(trainers)) is not None:
        raise CannotStackError(reason)
    rows = X, y, sensitive_features, sample_weight
    order = sorted(range(len(trainers)), key=lambda i: int(trainers[i].random_state))
    members = _set_up([trainers[i] for i in order], rows)
    stacks = [_Stack(same) for same in _of_equal_length(members)]
    for stack in stacks:
        stack.try_out()
    left: list[_Member] = []
    for stack in stacks:
        stack.train()
        for member, alive in zip(stack.members, stack.alive.tolist(), strict=True):
            if alive:
                member.finish()
            else:
                left.append(member)
    for member in left:
        member.trainer.fit(X, y, sensitive_features=sensitive_features, sample_weight=sample_weight)


@dataclass
class _Member:
    """One model of the stack."""

    trainer: RegularizedFairnessTrainer
    plan: Plan
    run: PenaltyRun
    history: list[dict[str, Any]]

    @property
    def source(self) -> Source:
        """Its training batches; members of one seed share them."""
        return self.plan.data.training

    def finish(self) -> None:
        """Make the trainer what ``fit`` would have made it."""
        self.run.deployed = self.plan.module
        self.trainer.conclude(self.plan, self.history, 0)


def _set_up(trainers: Sequence[RegularizedFairnessTrainer], rows: tuple[Any, ...]) -> list[_Member]:
    members: list[_Member] = []
    for trainer in trainers:
        if members and members[-1].trainer.random_state == trainer.random_state:
            last = members[-1]  # the same rows and batches, and what reading leaves in the trainer
            data, settings = last.plan.data, trainer.get_params(deep=False)
            read = {k: v for k, v in vars(last.trainer).items() if k not in settings}
            trainer.__dict__.update(read)
        else:
            data = trainer.read(*rows)
        with local_randomness(data.seed, data.engine.device):
            plan = trainer.plan(data)
        assert isinstance(plan.run, PenaltyRun)
        members.append(_Member(trainer, plan, plan.run, []))
    return members


def _of_equal_length(members: list[_Member]) -> Iterator[list[_Member]]:
    """Members whose epochs have equally many batches: they can share an optimizer."""

    def length(member: _Member) -> int:
        return member.source.n_batches or 0

    for _, some in groupby(sorted(members, key=length), key=length):
        yield list(some)


class _Stack:
    """Members with equally many batches, moved by one optimizer.

    To the loop it is the step, the way weights move, and the hooks at once; its batches are tuples
    with one batch a seed.
    """

    def __init__(self, members: list[_Member]) -> None:
        self.members = members
        first = members[0]
        trainer = first.trainer
        self.parts = list(_parts_of_one_seed(members))
        self.weights = ModuleStack([member.plan.module for member in members])
        self.optimizer = make_optimizer(trainer.optimizer, self.weights.trained, lr=trainer.lr)
        if type(self.optimizer) not in _ELEMENTWISE:
            raise CannotStackError(
                f"{type(self.optimizer).__name__} may move a weight by the gradients of others."
            )
        if first.run.criterion.every > 1:
            raise CannotStackError("the penalty is left out of some batches (every > 1).")
        # By its own parameters: a stacked bias has two axes, and might land in another group.
        alone = first.plan.primal
        assert isinstance(alone, GradientStep)
        if len(alone.optimizer.param_groups) > 1:
            raise CannotStackError("the optimizer treats groups of weights differently.")
        if any(True for _ in (*first.run.criterion.parameters(), *first.run.criterion.buffers())):
            raise CannotStackError("the penalty keeps a state of its own.")
        self.device = first.run.parts.engine.device
        dtype = self.weights.trained[0].dtype
        self.eta = torch.tensor(
            [_eta_of(member.trainer) for member in members], device=self.device, dtype=dtype
        )
        self.alive = torch.ones(len(members), dtype=torch.bool, device=self.device)
        self.clip, self.ema, self.decay = alone.clip_norm, trainer.ema, alone.decay
        self.start = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.average: list[Tensor] | None = None
        self._outputs: list[Tensor] = []
        self._counted: tuple[Tensor, Tensor] | None = None

    # What a batch gives -------------------------------------------------------------------------

    def losses(self, part: slice, batch: Batch) -> tuple[Tensor, ...]:
        """Total, base, penalty and outputs of the members of one seed, one row a member."""
        run = self.members[part.start].run
        head, criterion = run.parts.head, run.criterion
        labels, who = head.labels(batch.y), run.who(batch)

        def one(raw: Tensor, eta: Tensor) -> tuple[Tensor, ...]:
            outputs = head.outputs(raw, len(batch.y))
            base, penalty = criterion.terms(outputs, labels, who, sample_weight=batch.weight)
            assert penalty is not None
            return base + eta * penalty, base, penalty, outputs

        found: tuple[Tensor, ...] = self.weights.map(
            one, batch.x, part, self.eta[part], training=True
        )
        return found

    def counts(self, part: slice, batch: Batch, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Hard and soft sums, shape (k, 2, 2, n_cells), and rows and right ones, (k, 2)."""
        parts = self.members[part.start].run.parts
        weight = torch.ones_like(batch.y, dtype=outputs.dtype)
        weight = weight if batch.weight is None else batch.weight.to(weight.dtype)

        def one(outputs: Tensor) -> tuple[Tensor, Tensor]:
            soft, hard = parts.head.soft(outputs), parts.head.hard(outputs)
            sums = [parts.cells(d, batch.y, batch.codes, batch.weight) for d in (hard, soft)]
            right = (parts.head.right(outputs, batch.y) * weight).sum()
            return torch.stack(sums), torch.stack([weight.sum(), right])

        with torch.no_grad():
            sums, overall = vmap(one)(outputs.detach())
        return sums.double(), overall.double()

    def try_out(self) -> None:
        """See on one batch that stacked models do what each does by itself.

        Raises
        ------
        CannotStackError
            If they do not.
        """
        buffers = {name: value.clone() for name, value in self.weights.buffers.items()}
        for part in self.parts:
            batch = next(iter(self.members[part.start].source.batches(0)))
            try:
                with torch.no_grad():
                    total, *_, outputs = self.losses(part, batch)
                    self.counts(part, batch, outputs)
            except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
                reason = str(error).strip().splitlines()[0]
                raise CannotStackError(f"PyTorch cannot stack it: {reason}") from None
            self._compare(part, batch, total, outputs)
        for name, value in self.weights.buffers.items():
            if not torch.equal(value, buffers[name]):
                raise CannotStackError(f"the module changes {name} while it runs.")

    @torch.no_grad()
    def _compare(self, part: slice, batch: Batch, total: Tensor, outputs: Tensor) -> None:
        """Raise unless each member gives by itself what the stack gives for it."""
        for k, member in enumerate(self.members[part]):
            head = member.run.parts.head
            kept = {name: value.clone() for name, value in member.plan.module.named_buffers()}
            alone = head.outputs(member.plan.module(batch.x), len(batch.y))
            for name, value in member.plan.module.named_buffers():
                value.copy_(kept[name])
            base, penalty = member.run.criterion.terms(
                alone, head.labels(batch.y), member.run.who(batch), sample_weight=batch.weight
            )
            assert penalty is not None
            expected = base + _eta_of(member.trainer) * penalty
            same = torch.allclose(outputs[k], alone, rtol=1e-4, atol=1e-5)
            if not (same and torch.allclose(total[k], expected, rtol=1e-3, atol=1e-5)):
                raise CannotStackError("stacked, the module does not do what it does by itself.")

    # What the loop calls ------------------------------------------------------------------------

    def train(self) -> None:
        """Run all epochs and write the weights back."""
        sources = [self.members[part.start].source for part in self.parts]
        loop = TrainingLoop(
            self.step,
            self,
            _SideBySide(sources),
            max_epochs=self.members[0].plan.max_epochs,
            hooks=self,
        )
        loop.run()
        self.weights.write_back(self.average)

    def step(self, batches: tuple[Batch, ...]) -> Losses:
        """Losses of every member, shape (K,), and what their batches count."""
        found = [self.losses(*pair) for pair in zip(self.parts, batches, strict=True)]
        total, base, penalty = (torch.cat([f[i] for f in found]) for i in range(3))
        self._outputs = [f[3] for f in found]
        return {"loss": total, "base_loss": base, "penalty": penalty, "eta": self.eta}

    @property
    def lr(self) -> float:
        """Present learning rate."""
        return float(self.optimizer.param_groups[0]["lr"])

    def __call__(self, losses: Callable[[], Losses], progress: float) -> StepReport:
        """Move the weights of all members; one that is not finite stands still from then on."""
        if self.decay is not None:
            factor = self.decay(progress)
            for group, start in zip(self.optimizer.param_groups, self.start, strict=True):
                group["lr"] = start * factor
        self.optimizer.zero_grad(set_to_none=True)
        found = losses()
        found["loss"].sum().backward()  # type: ignore[no-untyped-call]
        norm = self.weights.gradient_norms()
        self.alive &= torch.isfinite(found["loss"].detach()) & torch.isfinite(norm)
        if self.clip is not None:
            factors = (self.clip / (norm + 1e-6)).clamp(max=1.0)
            self.weights.scale_gradients(torch.where(self.alive, factors, 0.0))
        elif not bool(self.alive.all()):
            self.weights.scale_gradients(self.alive.to(norm.dtype))
        self.optimizer.step()
        self._average()
        kept = {name: value.detach() for name, value in found.items()}
        return StepReport({**kept, "gradient_norm": norm}, taken=True, gradient_norm=0.0)

    def after_batch(self, batches: tuple[Batch, ...], losses: Losses) -> None:
        """Count what the batches show."""
        counted = [
            self.counts(*each) for each in zip(self.parts, batches, self._outputs, strict=True)
        ]
        sums, overall = (torch.cat(parts) for parts in zip(*counted, strict=True))
        before = self._counted or (torch.zeros_like(sums), torch.zeros_like(overall))
        self._counted = before[0] + sums, before[1] + overall

    def after_epoch(self, record: dict[str, Any]) -> None:
        """Give every member its own record."""
        assert self._counted is not None
        sums, rows = (part.cpu().numpy() for part in self._counted)
        self._counted = None
        held = self._measure_held()
        for k, member in enumerate(self.members):
            own = {
                name: float(value[k]) if isinstance(value, Tensor) else value
                for name, value in record.items()
            }
            eta = _eta_of(member.trainer)
            own |= {"eta": eta, "seconds": record["seconds"] / len(self.members)}
            own["penalty"] = own["penalty"] if eta else 0.0
            hard, soft = (rates_of(part) for part in sums[k])
            found = measured(held[k], member.run.parts.cells)
            member.run.complete(own, rows[k, 0], rows[k, 1], hard, soft, found)
            member.history.append(own)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: a stack that was interrupted begins anew."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up nothing."""

    @torch.no_grad()
    def _average(self) -> None:
        if self.ema is None:
            return
        if self.average is None:
            self.average = [p.detach().clone() for p in self.weights.trained]
            return
        for mean, now in zip(self.average, self.weights.trained, strict=True):
            mean.lerp_(now.detach(), 1 - self.ema)

    @torch.no_grad()
    def _measure_held(self) -> Tensor:
        """Sums over the rows that steer (or train, where there are none), one row a member."""
        trained = self.weights.trained
        kept = None
        if self.average is not None:
            kept = [p.detach().clone() for p in trained]
            _write(trained, self.average)
        found = []
        for part in self.parts:
            parts = self.members[part.start].run.parts
            source = parts.training if parts.held is None else parts.held
            total: Any = 0.0
            for batch in source.all():
                total = total + self._sums_of(part, batch).double().cpu()
            found.append(total)
        if kept is not None:
            _write(trained, kept)
        return torch.cat(found)

    def _sums_of(self, part: slice, batch: Batch) -> Tensor:
        parts = self.members[part.start].run.parts

        def row_loss(outputs: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
            return mean_base_loss(parts.base_loss, outputs, y, weight)

        def one(raw: Tensor) -> Tensor:
            outputs = parts.head.outputs(raw, len(batch.y))
            return batch_sums(outputs, batch, parts.cells, row_loss)

        found: Tensor = self.weights.map(one, batch.x, part, training=False)
        return found


class _SideBySide:
    """Sources with equally many batches, one batch of each at a time."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = sources
        self.n_batches = sources[0].n_batches

    def batches(self, epoch: int) -> Iterator[tuple[Batch, ...]]:
        """Training batches of an epoch."""
        return zip(*(source.batches(epoch) for source in self.sources), strict=True)


def _parts_of_one_seed(members: list[_Member]) -> Iterator[slice]:
    start = 0
    for _, some in groupby(members, key=lambda member: id(member.plan.data)):
        stop = start + len(list(some))
        yield slice(start, stop)
        start = stop


@torch.no_grad()
def _write(into: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for tensor, value in zip(into, values, strict=True):
        tensor.copy_(value)


def _eta_of(trainer: RegularizedFairnessTrainer) -> float:
    assert not callable(trainer.eta)
    return float(trainer.eta)


def _differ(one: Any, other: Any) -> bool:
    """Whether two settings are not the same; copies of one object are."""
    if one is other:
        return False
    try:
        if bool(one == other):
            return False
    except (TypeError, ValueError, RuntimeError):
        pass
    try:
        return pickle.dumps(one) != pickle.dumps(other)
    except (pickle.PicklingError, AttributeError, TypeError):
        return True
