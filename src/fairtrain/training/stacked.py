"""Train networks of several strengths and seeds at once, each as if it were alone."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import vmap

from fairtrain.exceptions import CannotStackError
from fairtrain.losses.base_loss import mean_base_loss
from fairtrain.training.batch import Batch
from fairtrain.training.cells import batch_sums, measured
from fairtrain.training.distributed import is_distributed
from fairtrain.training.engine import Engine, trainable
from fairtrain.training.fitdata import FitData
from fairtrain.training.regularized import PenaltyRun, RegularizedFairnessTrainer
from fairtrain.training.run import rates_of
from fairtrain.training.stack import ModuleStack
from fairtrain.training.trainer import check_task, local_randomness, names_of

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
    data: FitData
    run: PenaltyRun
    module: nn.Module
    constraints: tuple[Any, ...]
    history: list[dict[str, Any]]

    def finish(self) -> None:
        """Make the trainer what ``fit`` would have made it."""
        trainer = self.trainer
        trainer.history_ = pd.DataFrame(self.history)
        trainer.n_iter_, trainer.n_skipped_ = len(self.history), 0
        trainer._keep(self.run, self.data, self.constraints, self.run.parts.engine)


def _set_up(trainers: Sequence[RegularizedFairnessTrainer], rows: tuple[Any, ...]) -> list[_Member]:
    members: list[_Member] = []
    last: tuple[int, FitData] | None = None
    for trainer in trainers:
        constraints = trainer._read_constraints()
        trainer._check_settings()
        seed = trainer._seed()
        engine = Engine(trainer.device, trainer.precision)
        if last is None or last[0] != seed:
            X, y, sensitive_features, sample_weight = rows
            data = trainer._read_rows(
                X, y, sensitive_features, sample_weight, constraints, engine, seed
            )
            last = seed, data
        else:  # the same rows and batches; what reading leaves in the trainer has to be there too
            trainer.n_features_in_ = members[-1].trainer.n_features_in_
            if hasattr(members[-1].trainer, "feature_names_in_"):
                trainer.feature_names_in_ = members[-1].trainer.feature_names_in_
        data = last[1]
        check_task(constraints, data.head)
        with local_randomness(seed, engine.device):
            module = trainer._make_module(data, engine)
            trainable(module, names_of(trainer.frozen))
            parts = trainer._parts(data, constraints, engine, module, module)
            run = trainer._make_run(parts, data)
        members.append(_Member(trainer, data, run, module, constraints, []))
    return members


def _of_equal_length(members: list[_Member]) -> Iterator[list[_Member]]:
    """Members whose epochs have equally many batches: they can share an optimizer."""

    def length(member: _Member) -> int:
        return member.data.training.n_batches or 0

    for _, some in groupby(sorted(members, key=length), key=length):
        yield list(some)


class _Stack:
    """Members with equally many batches, moved by one optimizer."""

    def __init__(self, members: list[_Member]) -> None:
        self.members = members
        first = members[0]
        trainer = first.trainer
        self.parts = list(_parts_of_one_seed(members))
        self.weights = ModuleStack([member.module for member in members])
        self.optimizer = trainer._make_optimizer(self.weights.trained)  # type: ignore[arg-type]
        if type(self.optimizer) not in _ELEMENTWISE:
            raise CannotStackError(
                f"{type(self.optimizer).__name__} may move a weight by the gradients of others."
            )
        if first.run.criterion.every > 1:
            raise CannotStackError("the penalty is left out of some batches (every > 1).")
        # By its own parameters: a stacked bias has two axes, and might land in another group.
        alone = trainer._make_optimizer([p for p in first.module.parameters() if p.requires_grad])
        if len(alone.param_groups) > 1:
            raise CannotStackError("the optimizer treats groups of weights differently.")
        if any(True for _ in (*first.run.criterion.parameters(), *first.run.criterion.buffers())):
            raise CannotStackError("the penalty keeps a state of its own.")
        self.device = first.run.parts.engine.device
        dtype = self.weights.trained[0].dtype
        self.eta = torch.tensor(
            [_eta_of(member.trainer) for member in members], device=self.device, dtype=dtype
        )
        self.alive = torch.ones(len(members), dtype=torch.bool, device=self.device)
        self.clip, self.ema, self.decay = trainer.clip_norm, trainer.ema, trainer._decay()
        trainer._make_primal(first.run.parts.engine, first.module, self.optimizer)  # checks them
        self.start = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.average: list[Tensor] | None = None

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
            batch = next(iter(self.members[part.start].data.training.batches(0)))
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
            kept = {name: value.clone() for name, value in member.module.named_buffers()}
            alone = head.outputs(member.module(batch.x), len(batch.y))
            for name, value in member.module.named_buffers():
                value.copy_(kept[name])
            base, penalty = member.run.criterion.terms(
                alone, head.labels(batch.y), member.run.who(batch), sample_weight=batch.weight
            )
            assert penalty is not None
            expected = base + _eta_of(member.trainer) * penalty
            same = torch.allclose(outputs[k], alone, rtol=1e-4, atol=1e-5)
            if not (same and torch.allclose(total[k], expected, rtol=1e-3, atol=1e-5)):
                raise CannotStackError("stacked, the module does not do what it does by itself.")

    # Training -----------------------------------------------------------------------------------

    def train(self) -> None:
        """Run all epochs and write the weights back."""
        trainer, data = self.members[0].trainer, self.members[0].data
        epochs, length = trainer._epochs(data), data.training.n_batches
        assert length is not None
        for epoch in range(epochs):
            start = time.perf_counter()
            sources = [self.members[part.start].data.training for part in self.parts]
            totals = _Totals(self)
            for number, batches in enumerate(
                zip(*(source.batches(epoch) for source in sources), strict=True)
            ):
                self._step(batches, (epoch + number / max(length, 1)) / epochs, totals)
            seconds = (time.perf_counter() - start) / len(self.members)
            self._record(epoch, totals, length, seconds)
        self.weights.write_back(self.average)

    def _step(self, batches: tuple[Batch, ...], progress: float, totals: _Totals) -> None:
        if self.decay is not None:
            factor = self.decay(progress)
            for group, start in zip(self.optimizer.param_groups, self.start, strict=True):
                group["lr"] = start * factor
        self.optimizer.zero_grad(set_to_none=True)
        found = [self.losses(*pair) for pair in zip(self.parts, batches, strict=True)]
        total, base, penalty = (torch.cat([f[i] for f in found]) for i in range(3))
        total.sum().backward()  # type: ignore[no-untyped-call]
        norm = self.weights.gradient_norms()
        self.alive &= torch.isfinite(total.detach()) & torch.isfinite(norm)
        if self.clip is not None:
            factors = (self.clip / (norm + 1e-6)).clamp(max=1.0)
            self.weights.scale_gradients(torch.where(self.alive, factors, 0.0))
        elif not bool(self.alive.all()):
            self.weights.scale_gradients(self.alive.to(norm.dtype))
        self.optimizer.step()
        self._average()
        counted = [
            self.counts(part, batch, f[3])
            for part, batch, f in zip(self.parts, batches, found, strict=True)
        ]
        terms = torch.stack([total, base, penalty, norm]).detach()
        totals.add(terms, torch.cat([c[0] for c in counted]), torch.cat([c[1] for c in counted]))

    @torch.no_grad()
    def _average(self) -> None:
        if self.ema is None:
            return
        if self.average is None:
            self.average = [p.detach().clone() for p in self.weights.trained]
            return
        for mean, now in zip(self.average, self.weights.trained, strict=True):
            mean.lerp_(now.detach(), 1 - self.ema)

    def _record(self, epoch: int, totals: _Totals, length: int, seconds: float) -> None:
        terms = (totals.terms / length).cpu().numpy()
        rows = totals.overall.cpu().numpy()
        sums = totals.sums.cpu().numpy()
        held = self._measure_held()
        for k, member in enumerate(self.members):
            record: dict[str, Any] = {
                "epoch": epoch,
                "loss": terms[0, k],
                "base_loss": terms[1, k],
                "penalty": terms[2, k] if _eta_of(member.trainer) else 0.0,
                "eta": _eta_of(member.trainer),
                "lr": float(self.optimizer.param_groups[0]["lr"]),
                "gradient_norm": terms[3, k],
                "skipped": 0,
                "seconds": seconds,
            }
            hard, soft = (rates_of(part) for part in sums[k])
            member.run.complete(
                record,
                rows[k, 0],
                rows[k, 1],
                hard,
                soft,
                measured(held[k], member.run.parts.cells),
            )
            member.history.append(record)

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


class _Totals:
    """What the batches of an epoch add up to."""

    def __init__(self, stack: _Stack) -> None:
        n, cells = len(stack.members), stack.members[0].run.parts.cells.n_cells
        self.terms = torch.zeros(4, n, device=stack.device)
        self.sums = torch.zeros(n, 2, 2, cells, dtype=torch.float64, device=stack.device)
        self.overall = torch.zeros(n, 2, dtype=torch.float64, device=stack.device)

    def add(self, terms: Tensor, sums: Tensor, overall: Tensor) -> None:
        """Add a batch."""
        self.terms += terms
        self.sums += sums
        self.overall += overall


def _parts_of_one_seed(members: list[_Member]) -> Iterator[slice]:
    start = 0
    for _, some in groupby(members, key=lambda member: id(member.data)):
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
