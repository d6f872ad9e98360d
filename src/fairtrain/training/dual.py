"""When multipliers move, and on which rates: the dual step, behind a protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairtrain.exceptions import InvalidParameterError
from fairtrain.lagrangian.multipliers import Multipliers

__all__ = ["DualStep", "EpochDual", "ProxyDual", "SimultaneousDual", "TorchRule"]

Floats = NDArray[np.float64]


Rates = Callable[[], Floats]
"""Gives soft rates when asked: reading them stalls an accelerator."""


class Game(Protocol):
    """What a dual step may use of the trainer."""

    @property
    def multipliers(self) -> Multipliers:
        """The multipliers of every inequality."""
        ...

    @property
    def n_batches(self) -> int | None:
        """Batches of an epoch; None where nobody knows."""
        ...

    def look(self) -> Floats:
        """Measure hard rates, move the multipliers by them, and return the rates."""
        ...

    def move(self, rates: Floats) -> None:
        """Move the multipliers by the given rates."""
        ...


class DualStep(Protocol):
    """Moves the multipliers of a game.

    A game has ``multipliers`` (:class:`~fairtrain.lagrangian.multipliers.Multipliers`),
    ``look()``, which measures hard rates on the rows that steer and lets the multipliers follow
    them, and ``move(rates)``, which lets them follow rates of the caller's own.
    """

    def after_batch(self, game: Game, soft_rates: Rates) -> None:
        """After every primal step; ``soft_rates()`` gives those of its batch (NaN: no rows)."""
        ...

    def after_epoch(self, game: Game) -> None:
        """After the last primal step of an epoch."""
        ...


class ProxyDual:
    """Proxy constraints (Cotter et al., 2019): weights follow soft rates, multipliers hard ones.

    Parameters
    ----------
    every : int, optional
        Primal steps between two looks at the rows that steer. Default: ten looks an epoch, but at
        least four steps apart, so that weights can follow.
    """

    def __init__(self, every: int | None = None) -> None:
        if every is not None and every < 1:
            raise InvalidParameterError(f"dual_every must be 1 or more, got {every!r}.")
        self.every = every
        self._steps = 0

    def after_batch(self, game: Game, soft_rates: Rates) -> None:
        """Look every so many steps."""
        self._steps += 1
        every = self.every
        if every is None:
            every = 50 if game.n_batches is None else max(4, game.n_batches // 10)
        if self._steps % every == 0:
            game.look()

    def after_epoch(self, game: Game) -> None:
        """Nothing: looks do not wait for an epoch's end."""

    def state_dict(self) -> dict[str, Any]:
        """Steps since the last look."""
        return {"steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        self._steps = int(state["steps"])


class EpochDual:
    """One look at the end of every epoch, as alternating methods do."""

    def after_batch(self, game: Game, soft_rates: Rates) -> None:
        """Nothing: weights first."""

    def after_epoch(self, game: Game) -> None:
        """Look once."""
        game.look()


class SimultaneousDual:
    """The textbook: descent and ascent on every batch, on the same soft rates."""

    def after_batch(self, game: Game, soft_rates: Rates) -> None:
        """Move by what the batch shows."""
        game.move(soft_rates())

    def after_epoch(self, game: Game) -> None:
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
