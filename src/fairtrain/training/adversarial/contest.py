"""The contest: an adversary learns to read groups, the predictor pays for what it reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.losses.distributed import all_reduce_sum, communication_device, gather_rows
from fairtrain.losses.schedule import EtaSchedule
from fairtrain.training.adversarial.adversary import (
    Adversary,
    AdversarySettings,
    Targets,
    View,
    as_rows,
)
from fairtrain.training.adversarial.leakage import Represented
from fairtrain.training.adversarial.reversal import reverse_gradient, strength_at
from fairtrain.training.adversarial.tally import AdversaryTally
from fairtrain.training.batches.batch import Batch, FitData, Source, level_codes
from fairtrain.training.batches.inputs import call_module, to_device
from fairtrain.training.loop.engine import Engine, dtype_of
from fairtrain.training.loop.run import Run, RunParts
from fairtrain.training.loop.steps import Losses

__all__ = ["AdversarialRun", "ContestSettings", "represent"]


@dataclass(frozen=True)
class ContestSettings:
    """What the adversary sees, and how the predictor pays.

    Attributes
    ----------
    view : View
        What the adversary sees of a batch.
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

    view: View
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
    settings : ContestSettings
        What the adversary sees, and how the predictor pays.
    adversary : AdversarySettings or None
        How the adversary is made; None trains without one.
    """

    def __init__(
        self,
        parts: RunParts,
        data: FitData,
        settings: ContestSettings,
        adversary: AdversarySettings | None,
    ) -> None:
        super().__init__(parts)
        self.view, self.settings = settings.view, settings
        self.n_steps = self.epoch = 0
        self._fresh = False
        self._levels = level_codes(data.scheme)[:, data.categorical].to(parts.engine.device)
        self.continuous = data.continuous
        self._weights = [p for p in parts.module.parameters() if p.requires_grad]
        self.adversary = None if adversary is None else self._opponent(adversary, data)
        names = () if data.continuous is None else data.continuous.names
        self.tally = AdversaryTally(() if adversary is None else adversary.levels, names)

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
            read, strength, total = self._play(self.adversary, _shown(outputs, seen), base, batch)
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
        quality, collapsed = self.tally.close()
        collapsed = collapsed or not self.parts.engine.everywhere(self.adversary.finite)
        record.update(quality, adversary_collapsed=collapsed)
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
            **self._scale(),
            "r2": self.tally.before,
        }

    def _scale(self) -> dict[str, Any]:
        known = self.continuous
        return {} if known is None else {"mean": known.mean, "scale": known.scale}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        super().load_state_dict(state)
        if self.adversary is not None:
            self.adversary.load_state_dict(state["adversary"])
        self.n_steps, self.epoch = state["n_steps"], state["run_epoch"]
        self._fresh, self.tally.before = state["fresh"], list(state.get("r2", ()))
        if self.continuous is not None:
            self.continuous = replace(self.continuous, mean=state["mean"], scale=state["scale"])

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
        both = torch.stack([
            parameters_to_vector(torch.autograd.grad(
                loss, self._weights, retain_graph=True, allow_unused=True, materialize_grads=True
            ))
            for loss in (base, read)
        ])  # fmt: skip
        # Projections are no sums over processes: both gradients are needed whole.
        own, other = all_reduce_sum(both.to(communication_device())).to(both.device)
        share: Tensor = (own @ other) / (other @ other).clamp(min=1e-30)
        return share

    def _opponent(self, settings: AdversarySettings, data: FitData) -> Adversary:
        module, example = self.parts.module, data.example
        was_training = module.training
        module.eval()
        with torch.no_grad(), captured(module, self.settings.representation) as seen:
            x = to_device(example.x, example.y.device, dtype_of(module))
            outputs = self.parts.head.outputs(call_module(module, x), len(example.y))
        module.train(was_training)
        z = self.view(_shown(outputs, seen), example.y)
        return Adversary(settings, z.shape[1], self.parts.engine.device, z.dtype)

    def _full_precision(self) -> Any:
        return torch.autocast(self.parts.engine.device.type, enabled=False)


@contextmanager
def captured(module: nn.Module, name: str | None) -> Iterator[list[Tensor]]:
    """Collect what a named layer gives, or nothing without a name; no hook stays at the module.

    Raises
    ------
    InvalidParameterError
        If no layer has that name.
    InvalidDataError
        If it gives no tensor of one row a row.
    """
    seen: list[Tensor] = []
    if name is None:
        yield seen
        return
    layers = dict(module.named_modules())
    if name not in layers:
        raise InvalidParameterError(
            f"representation={name!r} is no layer of the module; its layers are "
            f"{[layer for layer in layers if layer][:12]}."
        )

    def record(_: nn.Module, __: Any, output: Any) -> None:
        if not isinstance(output, Tensor) or output.ndim < 1:
            raise InvalidDataError(
                f"representation={name!r} gives {type(output).__name__}; name a layer whose "
                "forward returns one tensor."
            )
        seen.append(output)

    handle = layers[name].register_forward_hook(record)
    try:
        yield seen
    finally:
        handle.remove()
    if not seen:
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
    parts = []
    for batch in source.all():
        with captured(module, representation) as seen:
            outputs = data.head.outputs(call_module(module, batch.x), len(batch.y))
        z = as_rows(seen[-1] if seen else outputs)
        values = torch.zeros(len(z), 0) if batch.values is None else batch.values
        columns = (z, batch.y.unsqueeze(1), levels[batch.codes.cpu() + 1], values)
        parts.append(torch.cat([column.double().cpu() for column in columns], dim=1))
    module.cpu()
    # One matrix: codes and class numbers are exact in float64.
    whole = gather_rows(torch.cat(parts).to(engine.device)).cpu().numpy()
    k, m = levels.shape[1], columns[-1].shape[1]
    d = whole.shape[1] - k - m - 1
    inputs, y, coded, numbers = np.split(whole, [d, d + 1, d + 1 + k], axis=1)
    return Represented(inputs, y[:, 0], coded.astype(np.int64), numbers)


def _shown(outputs: Tensor, seen: list[Tensor]) -> Tensor:
    """What the adversary sees, at least in float32: the layer that was captured, or the output."""
    shown = seen[-1] if seen else outputs
    return shown.to(torch.promote_types(shown.dtype, torch.float32))
