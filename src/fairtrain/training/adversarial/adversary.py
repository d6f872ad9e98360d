"""The adversary: what it sees, what it learns, and how the predictor pays for it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector, parametrizations, vector_to_parameters

from fairtrain.exceptions import InvalidParameterError
from fairtrain.losses.distributed import all_reduce_sum, communication_device, is_distributed
from fairtrain.training.heads import Head

__all__ = ["Adversary", "AdversarySettings", "Notion", "Targets", "View", "default_adversary"]

Notion = Literal["demographic_parity", "equalized_odds", "equal_opportunity"]

AdversarySpec = nn.Module | Callable[[int, int], nn.Module] | None
"""A module, a factory ``(n_inputs, n_outputs) -> module``, or None."""

_HIDDEN = 32
_CATCH_UP = 10
"""Times as many steps on the batch after a restart."""


def default_adversary(n_inputs: int, n_outputs: int) -> nn.Module:
    """Two hidden layers of 32: what ``adversary=None`` trains."""
    return nn.Sequential(
        nn.Linear(n_inputs, _HIDDEN),
        nn.LeakyReLU(0.1),
        nn.Linear(_HIDDEN, _HIDDEN),
        nn.LeakyReLU(0.1),
        nn.Linear(_HIDDEN, n_outputs),
    )


class Targets(NamedTuple):
    """What an adversary is to find out about rows.

    Attributes
    ----------
    levels : integer Tensor of shape (n, j)
        Level of every categorical column; -1 for unknown.
    values : Tensor of shape (n, k)
        Continuous columns, standardised: predicting 0 has a mean squared error of 1.
    """

    levels: Tensor
    values: Tensor

    def level(self, column: int, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Levels of a column, 0 for unknown ones, and the weights without those rows."""
        levels = self.levels[:, column]
        return levels.clamp(min=0), weight * (levels >= 0)


@dataclass(frozen=True)
class AdversarySettings:
    """How an adversary is made and trained.

    Attributes
    ----------
    spec : nn.Module, callable or None
        See :data:`AdversarySpec`.
    levels : tuple of int
        Levels of each categorical column: one head each.
    lr : float
        Learning rate.
    steps : int
        Steps per step of the predictor.
    spectral_norm : bool
        Divide the weights of linear layers by their largest singular value.
    gradient_penalty : float
        Weight of the squared slope of the true level's logit in its input (R1); of the predicted
        number, for continuous columns.
    seed : int
        Of its first weights.
    n_values : int, default=0
        Continuous columns: a head of one output each, behind the others.
    """

    spec: AdversarySpec
    levels: tuple[int, ...]
    lr: float
    steps: int
    spectral_norm: bool
    gradient_penalty: float
    seed: int
    n_values: int = 0

    @property
    def widths(self) -> list[int]:
        """Outputs of each head."""
        return [*self.levels, *([1] * self.n_values)]


def as_rows(seen: Tensor) -> Tensor:
    """What a module or a layer gave, as one vector a row."""
    return seen.flatten(1) if seen.ndim > 1 else seen.unsqueeze(1)


@dataclass(frozen=True)
class View:
    """What an adversary sees of a batch, and which rows.

    Attributes
    ----------
    notion : {"demographic_parity", "equalized_odds", "equal_opportunity"}
        The label is shown for equalized odds; rows with y = 1 alone for equal opportunity.
    head : Head
        The predictor's task.
    output : bool
        Whether the predictor's output is seen, rather than an inner layer.
    """

    notion: Notion
    head: Head
    output: bool

    def __call__(self, seen: Tensor, y: Tensor) -> Tensor:
        """Inputs of the adversary, shape (n, d).

        An output is shown as logits and as probabilities: decisions change where the latter are
        steep. With the label come its products with what is seen, as in Zhang et al. (2018).
        """
        z = as_rows(seen)
        if self.output and self.head.task == "binary":
            z = torch.cat([z, torch.sigmoid(z / self.head.temperature)], dim=1)
        elif self.output and self.head.task == "multiclass":
            z = torch.cat([F.log_softmax(z, dim=1), torch.softmax(z, dim=1)], dim=1)
        if self.notion != "equalized_odds":
            return z
        if self.head.task == "regression":
            return torch.cat([z, y.to(z.dtype).unsqueeze(1)], dim=1)
        known = F.one_hot(y.long(), self.head.n_classes).to(z.dtype)
        products = (known.unsqueeze(2) * z.unsqueeze(1)).flatten(1)
        return torch.cat([products, known], dim=1)

    def rows(self, y: Tensor, weight: Tensor | None) -> Tensor:
        """Weights of the rows that the adversary reads; 0 leaves one out."""
        given = torch.ones(len(y), device=y.device) if weight is None else weight
        return given * (y == 1) if self.notion == "equal_opportunity" else given


class Adversary:
    """A network with an optimizer of its own that reads sensitive columns.

    Parameters
    ----------
    settings : AdversarySettings
        How it is made and trained.
    n_inputs : int
        Width of what it sees.
    device, dtype
        Where, and of what type.
    """

    def __init__(
        self, settings: AdversarySettings, n_inputs: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.settings = settings
        self.n_inputs = n_inputs
        self.n_restarts = 0
        self._device, self._dtype = device, dtype
        self._make()

    def logits(self, z: Tensor) -> tuple[Tensor, ...]:
        """Logits of every categorical column, and the number predicted for every continuous."""
        raw: object = self.net(z)
        width = sum(self.settings.widths)
        if not isinstance(raw, Tensor) or raw.shape != (len(z), width):
            shape = tuple(raw.shape) if isinstance(raw, Tensor) else type(raw).__name__
            raise InvalidParameterError(
                f"the adversary gave {shape} for {len(z)} rows; it must give ({len(z)}, {width}), "
                "a logit for each level of the sensitive columns"
                + (" and a number for each continuous one." if self.settings.n_values else ".")
            )
        return torch.split(raw, self.settings.widths, dim=1)

    def loss(self, logits: tuple[Tensor, ...], targets: Targets, weight: Tensor) -> Tensor:
        """Cross entropy and squared error of standardised numbers, added over columns.

        The latter is 1 where nothing is known, as the former is ln 2 for two equal groups. Over the
        rows of all processes: gradients that are averaged over processes are exact.
        """
        categorical, weight = targets.levels.shape[1], weight.to(logits[0].dtype)
        losses = []
        for column, guess in enumerate(logits):
            if column < categorical:
                known, used = targets.level(column, weight)
                rows = F.cross_entropy(guess, known, reduction="none")
            else:
                values, used = targets.values[:, column - categorical], weight
                rows = (guess.squeeze(1) - values.to(guess.dtype)) ** 2
            losses.append((rows * used).sum() * _over(used.sum()))
        return torch.stack(losses).sum()

    def learn(self, z: Tensor, targets: Targets, weight: Tensor) -> tuple[Tensor, ...]:
        """Take steps on a batch; the logits before the first of them."""
        z = z.detach().to(self._dtype)
        self.net.train()
        seen = [self._step(z, targets, weight) for _ in range(self.settings.steps)]
        self.net.eval()
        return seen[0]

    def price(self, z: Tensor, targets: Targets, weight: Tensor) -> Tensor:
        """Loss as the predictor sees it: the adversary's weights stand still."""
        for parameter in self._parameters:
            parameter.requires_grad_(False)
        try:
            return self.loss(self.logits(z.to(self._dtype)), targets, weight)
        finally:
            for parameter in self._parameters:
                parameter.requires_grad_(True)

    def restart(self) -> None:
        """Begin anew, with fresh weights and a fresh optimizer."""
        self.n_restarts += 1
        self._make()

    def catch_up(self, z: Tensor, targets: Targets, weight: Tensor) -> None:
        """Let a fresh adversary see a batch several times before it is listened to."""
        for _ in range(_CATCH_UP):
            self.learn(z, targets, weight)

    @property
    def finite(self) -> bool:
        """Whether all weights are numbers."""
        return all(bool(torch.isfinite(p).all()) for p in self._parameters)

    def state_dict(self) -> dict[str, Any]:
        """Return what has to be kept to go on later."""
        return {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "n_restarts": self.n_restarts,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.n_restarts = state["n_restarts"]

    def _step(self, z: Tensor, targets: Targets, weight: Tensor) -> tuple[Tensor, ...]:
        penalty = self.settings.gradient_penalty
        if penalty:
            z = z.clone().requires_grad_(True)
        logits = self.logits(z)
        loss = self.loss(logits, targets, weight)
        if penalty:
            (slope,) = torch.autograd.grad(_evidence(logits, targets), z, create_graph=True)
            loss = loss + penalty * slope.square().sum(dim=1).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._average()
        self.optimizer.step()
        return tuple(part.detach() for part in logits)

    def _average(self) -> None:
        """Average gradients over processes."""
        if not is_distributed():
            return
        grads = [p.grad for p in self._parameters if p.grad is not None]
        flat = parameters_to_vector(grads)
        mean = all_reduce_sum(flat.to(communication_device())) / torch.distributed.get_world_size()
        vector_to_parameters(mean.to(flat.device), grads)

    def _make(self) -> None:
        n_outputs = sum(self.settings.widths)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed + self.n_restarts)
            net = self._built(self.settings.spec, n_outputs)
            if self.settings.spectral_norm:
                for layer in net.modules():
                    if isinstance(layer, nn.Linear):
                        parametrizations.spectral_norm(layer)
        self.net: nn.Module = net.to(self._device, self._dtype).eval()
        self._parameters = [p for p in self.net.parameters() if p.requires_grad]
        if not self._parameters:
            raise InvalidParameterError("the adversary has no parameter to train.")
        self.optimizer = torch.optim.Adam(self._parameters, lr=self.settings.lr)

    def _built(self, spec: AdversarySpec, n_outputs: int) -> nn.Module:
        if isinstance(spec, nn.Module):
            net = copy.deepcopy(spec)
            if self.n_restarts:
                for layer in net.modules():
                    if callable(reset := getattr(layer, "reset_parameters", None)):
                        reset()
            return net
        if spec is not None and not callable(spec):
            raise InvalidParameterError(
                "adversary must be an nn.Module, a factory (n_inputs, n_outputs) -> nn.Module, or "
                f"None, got {type(spec).__name__}."
            )
        made = (default_adversary if spec is None else spec)(self.n_inputs, n_outputs)
        if not isinstance(made, nn.Module):
            raise InvalidParameterError(
                f"the factory given as adversary made {type(made).__name__}, expected nn.Module."
            )
        return made


def _evidence(logits: tuple[Tensor, ...], targets: Targets) -> Tensor:
    """Sum of the true levels' logits, above the mean: unlike a loss, its slope never saturates.

    And of the numbers predicted.
    """
    total, categorical = logits[0].new_zeros(()), targets.levels.shape[1]
    for column, guess in enumerate(logits):
        evidence = guess
        if column < categorical:
            known = targets.levels[:, column : column + 1].clamp(min=0)
            evidence = guess.gather(1, known) - guess.mean(dim=1, keepdim=True)
        total = total + evidence.sum()
    return total


def _over(rows: Tensor) -> Tensor:
    """One over the mean number of rows of a process; 0 where there are none."""
    total = rows.detach()
    world = 1
    if is_distributed():
        world = torch.distributed.get_world_size()
        total = all_reduce_sum(total.to(communication_device())).to(rows.device)
    return torch.where(total > 0, world / total.clamp(min=1e-30), 0.0)
