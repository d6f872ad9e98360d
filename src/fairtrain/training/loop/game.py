"""The Lagrangian game: weights pay for soft rates what multipliers charge for hard ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairtrain.constraints.mixture import most_accurate_weights
from fairtrain.lagrangian import Candidate, DualController, Multipliers, RateBounds
from fairtrain.losses.distributed import all_reduce_sum, communication_device
from fairtrain.losses.functional import group_moments
from fairtrain.training.batches.batch import Batch
from fairtrain.training.loop.cells import rates_of
from fairtrain.training.loop.engine import dtype_of
from fairtrain.training.loop.run import Run, RunParts
from fairtrain.training.loop.steps import Losses

__all__ = ["DualStep", "EpochDual", "LagrangianRun", "ProxyDual", "SimultaneousDual", "TorchRule"]

Floats = NDArray[np.float64]

_FORGET = 0.5
"""Share of older batches that counts at the next look, where no rows steer.

The batches since the last look are too few for steady rates, all batches together belong to weights
that are long gone.
"""


class LagrangianRun(Run):
    """One run of the game.

    Parameters
    ----------
    parts : RunParts
        What is trained on what.
    dual : DualController
        What prices are charged, and which epoch's weights are kept.
    dual_step : DualStep
        When prices move.
    augmented : float, default=0.0
        Penalty parameter of the augmented Lagrangian; 0 for the plain one.
    keep_all : bool, default=False
        Keep the weights of every epoch, for a mixture.
    """

    def __init__(
        self,
        parts: RunParts,
        dual: DualController,
        dual_step: DualStep,
        *,
        augmented: float = 0.0,
        keep_all: bool = False,
    ) -> None:
        super().__init__(parts)
        self.dual = dual
        self.dual_step = dual_step
        self.augmented = augmented
        self.keep_all = keep_all
        self.best_weights: dict[str, Tensor] | None = None
        self.iterates: list[tuple[dict[str, Tensor], Candidate, Floats]] = []
        self._recent = np.zeros((2, parts.cells.n_cells))
        self._soft: Tensor | None = None
        self._this_epoch = 0
        self._last_epoch: int | None = None
        self._dtype = dtype_of(parts.module)
        self._prices = self._as_tensor(dual.prices)

    @property
    def multipliers(self) -> Multipliers:
        """The multipliers of every inequality."""
        return self.dual.multipliers

    @property
    def n_batches(self) -> int | None:
        """Batches of an epoch."""
        known = self.parts.training.n_batches
        return self._last_epoch if known is None else known

    def losses_of(self, outputs: Tensor, batch: Batch) -> Losses:
        """Base loss plus what the soft rates of the batch cost."""
        parts = self.parts
        own = parts.cells(parts.head.soft(outputs), batch.y, batch.codes, batch.weight)
        sums = all_reduce_sum(own)
        rates, present = group_moments(sums.unsqueeze(1)).means[0], sums[1] > 0
        self._soft = torch.stack([torch.where(present, rates, torch.nan), sums[1]]).detach()
        prices = self._prices
        if self.augmented:
            shifted = self.multipliers.shifted(self._soft_rates(), self.augmented)
            prices = self._as_tensor(self.multipliers.prices(shifted))
        # 0 * NaN would be NaN: absent groups are out before they are multiplied.
        penalty = (torch.where(present, prices.to(rates.dtype), 0.0) * rates).sum()
        base = self.base(outputs, batch)
        hard = self.count(outputs, batch, own)
        if parts.held is None:
            self._recent += hard.double().cpu().numpy()
        return {"loss": base + penalty, "base_loss": base, "penalty": penalty}

    def after_batch(self, batch: Batch, losses: Losses) -> None:
        """Let the multipliers move if it is their turn."""
        self._this_epoch += 1
        self.dual_step.after_batch(self, self._soft_rates)

    def after_epoch(self, record: dict[str, Any]) -> None:
        """Measure, choose, and complete the record."""
        self.dual_step.after_epoch(self)
        self._last_epoch, self._this_epoch = self._this_epoch, 0
        super().after_epoch(record)
        assert self.held is not None
        dual, held = self.dual, self.held
        better = dual.offer(
            int(record["epoch"]), held.rates, held.effective, held.performance, held.minority
        )
        if better:
            self.best_weights = self.weights()
        if self.keep_all:
            assert dual.candidate is not None
            self.iterates.append((self.weights(), dual.candidate, held.rates))
        dual.give_way(held.performance, held.n_rows)
        record |= dual.record()
        record["n_updates"] = self.multipliers.n_updates
        record["dual_lr"] = float(getattr(self.multipliers.rule, "lr", np.nan))

    def look(self) -> Floats:
        """Measure hard rates on the rows that steer and move the multipliers by them."""
        if self.parts.held is None:
            sums = self._recent_sums()
            rates, counts, rows = rates_of(sums), sums[1], sums[1]
        else:
            held = self.measure_held()
            rates, counts, rows = held.rates, held.counts, held.effective
        self.multipliers.set_shares(counts)
        self._prices = self._as_tensor(self.dual.look(rates, rows))
        return rates

    def move(self, rates: Floats) -> None:
        """Move the multipliers by rates, and charge the new prices from the next batch on."""
        self._prices = self._as_tensor(self.dual.move(rates))

    def finish_choice(self) -> None:
        """Go back to the weights of the chosen epoch."""
        if self.best_weights is not None:
            self.deployed.load_state_dict(self.best_weights)

    def state_dict(self) -> dict[str, Any]:
        """Return what has to be kept to go on later."""
        step_state: Callable[[], dict[str, Any]] = getattr(self.dual_step, "state_dict", dict)
        return {
            **super().state_dict(),
            "dual": self.dual.state_dict(),
            "dual_step": step_state(),
            "best": self.best_weights,
            "recent": self._recent,
            "last_epoch": self._last_epoch,
            "iterates": [
                [weights, {**vars(candidate), "excess": list(candidate.excess)}, rates]
                for weights, candidate, rates in self.iterates
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        super().load_state_dict(state)
        self.dual.load_state_dict(state["dual"])
        self._prices = self._as_tensor(self.dual.prices)
        if hasattr(self.dual_step, "load_state_dict"):
            self.dual_step.load_state_dict(state["dual_step"])
        self.best_weights = state["best"]
        self._recent = np.array(state["recent"])
        self._last_epoch = state["last_epoch"]
        self.iterates = [
            (
                weights,
                Candidate(**{**candidate, "excess": tuple(candidate["excess"])}),
                np.array(rates),
            )
            for weights, candidate, rates in state["iterates"]
        ]

    def _recent_sums(self) -> Floats:
        recent = torch.from_numpy(self._recent).to(communication_device())
        total = all_reduce_sum(recent).cpu().numpy().copy()
        self._recent *= _FORGET
        return np.asarray(total)

    def _soft_rates(self) -> Floats:
        """Soft rates of the last batch; bounds around the overall rate learn its shares."""
        assert self._soft is not None
        rates, counts = self._soft.double().cpu().numpy()
        self.multipliers.set_shares(counts)
        return np.asarray(rates)

    def _as_tensor(self, values: Floats) -> Tensor:
        return torch.from_numpy(values).to(self.parts.engine.device, self._dtype)


Rates = Callable[[], Floats]
"""Gives soft rates when asked: reading them stalls an accelerator."""


class DualStep(Protocol):
    """Moves the multipliers of a game.

    A game has ``multipliers`` (:class:`~fairtrain.lagrangian.multipliers.Multipliers`),
    ``look()``, which measures hard rates on the rows that steer and lets the multipliers follow
    them, and ``move(rates)``, which lets them follow rates of the caller's own.
    """

    def after_batch(self, game: LagrangianRun, soft_rates: Rates) -> None:
        """After every primal step; ``soft_rates()`` gives those of its batch (NaN: no rows)."""

    def after_epoch(self, game: LagrangianRun) -> None:
        """After the last primal step of an epoch."""


class ProxyDual:
    """Proxy constraints (Cotter et al., 2019): weights follow soft rates, multipliers hard ones.

    Parameters
    ----------
    every : int, optional
        Primal steps between two looks at the rows that steer. Default: ten looks an epoch, but at
        least four steps apart, so that weights can follow.
    """

    def __init__(self, every: int | None = None) -> None:
        self.every = every
        self._steps = 0

    def after_batch(self, game: LagrangianRun, soft_rates: Rates) -> None:
        """Look every so many steps."""
        self._steps += 1
        every = self.every
        if every is None:
            every = 50 if game.n_batches is None else max(4, game.n_batches // 10)
        if self._steps % every == 0:
            game.look()

    def after_epoch(self, game: LagrangianRun) -> None:
        """Nothing: looks do not wait for an epoch's end."""

    def state_dict(self) -> dict[str, Any]:
        """Steps since the last look."""
        return {"steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        self._steps = int(state["steps"])


class EpochDual:
    """One look at the end of every epoch, as alternating methods do."""

    def after_batch(self, game: LagrangianRun, soft_rates: Rates) -> None:
        """Nothing: weights first."""

    def after_epoch(self, game: LagrangianRun) -> None:
        """Look once."""
        game.look()


class SimultaneousDual:
    """The textbook: descent and ascent on every batch, on the same soft rates."""

    def after_batch(self, game: LagrangianRun, soft_rates: Rates) -> None:
        """Move by what the batch shows."""
        game.move(soft_rates())

    def after_epoch(self, game: LagrangianRun) -> None:
        """Nothing."""


DUAL_STEPS: dict[str, Callable[[int | None], DualStep]] = {
    "proxy": ProxyDual,
    "simultaneous": lambda every: SimultaneousDual(),
    "epoch": lambda every: EpochDual(),
}


class TorchRule:
    """Moves multipliers by an optimizer of PyTorch's, maximising.

    Parameters
    ----------
    optimizer : callable
        ``optimizer(parameters)`` -> ``torch.optim.Optimizer``, such as
        ``functools.partial(torch.optim.SGD, lr=0.1, momentum=0.5)``.
    """

    def __init__(self, optimizer: Callable[[list[Tensor]], torch.optim.Optimizer]) -> None:
        self._make = optimizer
        self._values: Tensor | None = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._pending: Mapping[str, Any] | None = None

    def __call__(self, multipliers: Floats, violations: Floats) -> Floats:
        """Take one step."""
        if self._values is None or self._optimizer is None:
            self._values = torch.zeros(multipliers.shape, dtype=torch.float64)
            self._values.requires_grad_()
            self._optimizer = self._make([self._values])
            if self._pending is not None:
                self._optimizer.load_state_dict(dict(self._pending))
        with torch.no_grad():  # the projection has moved them since
            self._values.copy_(torch.from_numpy(multipliers))
        self._values.grad = -torch.from_numpy(violations)
        self._optimizer.step()
        return self._values.detach().numpy().copy()

    def state_dict(self) -> dict[str, Any]:
        """State of the optimizer."""
        return {"optimizer": None if self._optimizer is None else self._optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state, at the next step."""
        self._pending = state["optimizer"]
        self._values = self._optimizer = None


def best_mixture(rates: Floats, performance: Floats, bounds: Sequence[RateBounds]) -> Floats | None:
    r"""Find the most accurate mixture of iterates that keeps every bound.

    Rates of a mixture are mixtures of rates, so :math:`\sum_t q_t\, r_t` may keep a bound that no
    iterate keeps (shrinking; Cotter et al., 2019). A linear program takes at most one iterate more
    than there are bounds that it uses up.

    Parameters
    ----------
    rates : ndarray of shape (T, n_cells)
        Hard rates of every iterate.
    performance : ndarray of shape (T,)
        Accuracy of every iterate.
    bounds : sequence of RateBounds
        The bounds, in the order of the cells.

    Returns
    -------
    ndarray of shape (T,) or None
        Share of the decisions that each makes; None where no mixture keeps every bound.
    """
    return most_accurate_weights(bounds, rates, -performance)
