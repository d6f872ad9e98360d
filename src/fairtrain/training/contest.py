"""The contest: an adversary learns to read groups, the predictor pays for what it reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.losses.distributed import all_reduce_sum, communication_device, gather_rows
from fairtrain.losses.schedule import EtaSchedule
from fairtrain.training.adversary import Adversary, AdversarySettings, Targets, View
from fairtrain.training.batch import Batch, Source, to_device
from fairtrain.training.engine import Engine, dtype_of
from fairtrain.training.fitdata import FitData, level_codes
from fairtrain.training.leakage import Represented
from fairtrain.training.reversal import reverse_gradient, strength_at
from fairtrain.training.run import Run, RunParts
from fairtrain.training.steps import Losses
from fairtrain.training.tally import AdversaryTally

__all__ = ["AdversarialRun", "ContestSettings", "represent"]


@dataclass(frozen=True)
class ContestSettings:
    """How the predictor pays.

    Attributes
    ----------
    strength : float or callable
        Price of what the adversary reads, or its schedule.
    method : {"reversal", "projection"}
        Reversed gradient, or Zhang et al.'s update.
    representation : str or None
        Layer that the adversary sees; None for the output.
    warm_up : int
        Epochs in which the predictor pays nothing.
    restart : bool
        Whether a collapsed adversary begins anew.
    """

    strength: float | EtaSchedule
    method: Literal["reversal", "projection"]
    representation: str | None
    warm_up: int
    restart: bool


class AdversarialRun(Run):
    """One run of predictor against adversary.

    Parameters
    ----------
    parts : RunParts
        What is trained on what.
    data : FitData
        For the groups and an example.
    view : View
        What the adversary sees.
    settings : ContestSettings
        How the predictor pays.
    adversary : AdversarySettings or None
        How the adversary is made; None trains without one.
    """

    def __init__(
        self,
        parts: RunParts,
        data: FitData,
        view: View,
        settings: ContestSettings,
        adversary: AdversarySettings | None,
    ) -> None:
        super().__init__(parts)
        self.view = view
        self.settings = settings
        self.n_steps = 0
        self.epoch = 0
        self._fresh = False
        self._levels = level_codes(data.scheme)[:, data.categorical].to(parts.engine.device)
        self.continuous = data.continuous
        self._weights = [p for p in parts.module.parameters() if p.requires_grad]
        self.adversary: Adversary | None = None
        if adversary is not None:
            self.adversary = self._opponent(adversary, data)
            names = () if data.continuous is None else data.continuous.names
            self.tally = AdversaryTally(adversary.levels, names)

    def step(self, batch: Batch) -> Losses:
        """Base loss, and what the adversary reads."""
        with captured(self.parts.module, self.settings.representation) as seen:
            outputs = self.forward(batch)
        base = self.base(outputs, batch)
        with torch.no_grad():
            soft = self.parts.head.soft(outputs.detach())
            self.count(outputs, batch, self.parts.cells(soft, batch.y, batch.codes, batch.weight))
        if self.adversary is None:
            return {"loss": base, "base_loss": base}
        with self._full_precision():
            shown = outputs if self.settings.representation is None else seen[-1]
            read, strength, total = self._play(self.adversary, shown.to(_wide(shown)), base, batch)
        return {
            "loss": total,
            "base_loss": base,
            "adversary_loss": read,
            "strength": torch.as_tensor(strength, dtype=base.dtype),
        }

    def after_batch(self, batch: Batch, losses: Losses) -> None:
        """Count the steps, for schedules."""
        self.n_steps += 1

    def after_epoch(self, record: dict[str, Any]) -> None:
        """Complete the record, and restart an adversary that collapsed."""
        super().after_epoch(record)
        self.epoch += 1
        if self.adversary is None:
            return
        found, collapsed = self.tally.close()
        collapsed = collapsed or not self.parts.engine.everywhere(self.adversary.finite)
        record.update(found)
        record["adversary_collapsed"] = collapsed
        if collapsed and self.settings.restart:
            self.adversary.restart()
            self.tally.before = []
            self._fresh = True
        record["adversary_restarts"] = self.adversary.n_restarts

    def state_dict(self) -> dict[str, Any]:
        """Return what has to be kept to go on later."""
        return {
            **super().state_dict(),
            "adversary": None if self.adversary is None else self.adversary.state_dict(),
            "n_steps": self.n_steps,
            "run_epoch": self.epoch,
            "fresh": self._fresh,
            **self._continuous_state(),
        }

    def _continuous_state(self) -> dict[str, Any]:
        """Scale of continuous columns, and how well they were read last."""
        if self.continuous is None:
            return {}
        kept = {"mean": self.continuous.mean, "scale": self.continuous.scale}
        return {**kept, "r2": [] if self.adversary is None else self.tally.before}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        super().load_state_dict(state)
        if self.adversary is not None:
            self.adversary.load_state_dict(state["adversary"])
        self.n_steps, self.epoch = state["n_steps"], state["run_epoch"]
        self._fresh = state["fresh"]
        if self.continuous is not None:
            self.continuous = replace(self.continuous, mean=state["mean"], scale=state["scale"])
            if self.adversary is not None:
                self.tally.before = list(state["r2"])

    def _play(
        self, adversary: Adversary, shown: Tensor, base: Tensor, batch: Batch
    ) -> tuple[Tensor, float, Tensor]:
        """Adversary's loss, strength, and what the predictor minimises."""
        targets = self._targets(batch)
        weight = self.view.rows(batch.y, batch.weight)
        z = self.view(shown, batch.y).detach()
        # A batch that is not finite is skipped by the predictor and must not spoil the adversary.
        if self.parts.engine.everywhere(bool(torch.isfinite(z).all())):
            if self._fresh:
                adversary.catch_up(z, targets, weight)
                self._fresh = False
            first = adversary.learn(z, targets, weight)
            self.tally.add(z, first, targets, weight)
        strength = strength_at(self.settings.strength, self.n_steps)
        if self.epoch < self.settings.warm_up:
            with torch.no_grad():
                return adversary.price(z, targets, weight), 0.0, base
        if self.settings.method == "reversal":
            turned = reverse_gradient(shown, strength)
            read = adversary.price(self.view(turned, batch.y), targets, weight)
            return read, strength, base + read.to(base.dtype)
        read = adversary.price(self.view(shown, batch.y), targets, weight)
        share = self._projection(base, read)
        return read, strength, base - (share + strength) * read.to(base.dtype)

    def _targets(self, batch: Batch) -> Targets:
        levels = self._levels[batch.codes + 1]
        if self.continuous is None or batch.values is None:
            return Targets(levels, torch.zeros(len(levels), 0, device=levels.device))
        return Targets(levels, self.continuous.standardized(batch.values))

    def _projection(self, base: Tensor, read: Tensor) -> Tensor:
        """Component of the base loss's gradient along the adversary's, in units of the latter.

        To take it out is to descend on ``base - share * read``.
        """
        own, other = (
            torch.cat([slope.reshape(-1) for slope in self._slopes(loss)]) for loss in (base, read)
        )
        # Projections are no sums over processes: both gradients are needed whole.
        both = torch.stack([own, other]).to(communication_device())
        both = all_reduce_sum(both).to(own.device)
        return (both[0] @ both[1]) / (both[1] @ both[1]).clamp(min=1e-30)

    def _slopes(self, loss: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(
            loss, self._weights, retain_graph=True, allow_unused=True, materialize_grads=True
        )

    def _opponent(self, settings: AdversarySettings, data: FitData) -> Adversary:
        module, example = self.parts.module, data.example
        was_training = module.training
        module.eval()
        with torch.no_grad(), captured(module, self.settings.representation) as seen:
            x = to_device(example.x, example.y.device, dtype_of(module))
            outputs = self.parts.head.outputs(module(x), len(example.y))
        module.train(was_training)
        shown = outputs if self.settings.representation is None else seen[-1]
        z = self.view(shown.to(_wide(shown)), example.y)
        return Adversary(settings, z.shape[1], self.parts.engine.device, z.dtype)

    def _full_precision(self) -> Any:
        return torch.autocast(self.parts.engine.device.type, enabled=False)


@contextmanager
def captured(module: nn.Module, name: str | None) -> Iterator[list[Tensor]]:
    """Collect what a named layer gives; nothing stays hooked to the module.

    Raises
    ------
    InvalidParameterError
        If no layer has that name.
    InvalidDataError
        If it gives no tensor of one row a row.
    """
    found: list[Tensor] = []
    if name is None:
        yield found
        return
    layers = dict(module.named_modules())
    if name not in layers:
        raise InvalidParameterError(
            f"representation={name!r} is no layer of the module; its layers are "
            f"{[layer for layer in layers if layer][:12]}."
        )

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        if not isinstance(output, Tensor) or output.ndim < 1:
            raise InvalidDataError(
                f"representation={name!r} gives {type(output).__name__}; name a layer whose "
                "forward returns one tensor."
            )
        found.append(output)

    handle = layers[name].register_forward_hook(keep)
    try:
        yield found
    finally:
        handle.remove()
    if not found:
        raise InvalidDataError(
            f"representation={name!r} was not called in the module's forward; name a layer that is."
        )


@torch.no_grad()
def represent(
    module: nn.Module,
    source: Source,
    data: FitData,
    engine: Engine,
    representation: str | None,
) -> Represented:
    """Rows of all processes as a module represents them.

    Parameters
    ----------
    module : nn.Module
        On the CPU before and after.
    source : Source
        The rows.
    data : FitData
        For the task and the sensitive columns.
    engine : Engine
        Where it runs.
    representation : str or None
        Layer; None for the output.
    """
    module.to(engine.device).eval()
    levels = level_codes(data.scheme)[:, data.categorical]
    parts: list[tuple[Tensor, ...]] = []
    for batch in source.all():
        with captured(module, representation) as seen:
            outputs = data.head.outputs(module(batch.x), len(batch.y))
        z = outputs if representation is None else seen[-1]
        z = z.flatten(1) if z.ndim > 1 else z.unsqueeze(1)
        values = torch.zeros(len(z), 0) if batch.values is None else batch.values
        parts.append((z.double().cpu(), batch.y.cpu(), levels[batch.codes.cpu() + 1], values.cpu()))
    module.cpu()
    joined = [torch.cat(part).to(engine.device) for part in zip(*parts, strict=True)]
    whole = [gather_rows(part) for part in joined if part.ndim == 1 or part.shape[1]]
    n = len(whole[0])
    z, y, *rest = (
        whole.pop(0) if part.ndim == 1 or part.shape[1] else part.new_zeros(n, 0) for part in joined
    )
    z, y, columns, values = (part.cpu() for part in (z, y, *rest))
    return Represented(z.numpy(), y.numpy(), columns.numpy(), values.numpy())


def _wide(tensor: Tensor) -> torch.dtype:
    """At least float32."""
    return torch.promote_types(tensor.dtype, torch.float32)
