"""Mutual information by a trained critic (MINE)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from fairtrain._parameters import Real, Table, Whole, checked
from fairtrain.exceptions import InvalidParameterError
from fairtrain.losses.base import refuse
from fairtrain.losses.batch import FairnessBatch
from fairtrain.losses.dependence import (
    ScoreDependenceLoss,
    ScoreSettings,
    attribute_columns,
    comparable,
)
from fairtrain.losses.functional import log_mean_exp

__all__ = ["NeuralMutualInformationLoss"]


class NeuralMutualInformationLoss(ScoreDependenceLoss):
    r"""Mutual information of scores and groups, by a critic trained inside (Belghazi et al., 2018).

    The Donsker-Varadhan bound, in nats:

    .. math:: I(X; A) \ge \mathbb E_{P_{XA}}[T(x, a)] - \ln \mathbb E_{P_X P_A}[e^{T(x, a)}]

    Scores and representations of shape (n, d) are accepted, group codes and continuous attributes.
    For codes the product of marginals is summed exactly rather than sampled. In training mode each
    call first moves the critic ``critic_steps`` steps up the bound on detached rows, then gives the
    bound with gradient to the scores alone. The bound may be below 0 while the critic is young.

    The critic belongs to this module. It is built at the first batch from ``random_state``, is
    saved in ``state_dict`` (its optimizer's moments are not), and is left alone in ``eval()``. Its
    parameters have ``requires_grad=False`` outside its own steps, so an optimizer that was handed
    ``loss.parameters()`` cannot train it the wrong way. A batch with a NaN does not move it. Under
    ``torch.distributed`` every process sees the rows of all and holds the same critic. Not
    available under ``vmap``.

    Parameters
    ----------
    hidden : int, default=64
        Width of the critic's two hidden layers.
    critic_steps : int >= 1, default=2
        Critic steps a call.
    critic_lr : float > 0, default=2e-3
        Learning rate of the critic's Adam.
    ema : float in [0, 1), default=0.99
        Decay of the running denominator that removes the bias of the critic's gradient.
    random_state : int, default=0
        Seed of the critic's first weights.
    on, **settings
        See :class:`~fairtrain.losses.dependence.ScoreDependenceLoss`.

    Examples
    --------
    >>> import torch
    >>> from fairtrain.losses import NeuralMutualInformationLoss
    >>> codes = torch.arange(64) % 2
    >>> loss = NeuralMutualInformationLoss(num_groups=2, critic_steps=200)
    >>> bool(loss(10.0 * codes - 5, sensitive_features=codes) > 0.6)  # the truth is ln 2 = 0.69
    True
    """

    accepts_continuous = True
    log_denominator: Tensor

    _allowed: ClassVar[Table] = {
        "hidden": Whole(1, 10**5),
        "critic_steps": Whole(1),
        "critic_lr": Real(0, ends="()"),
        "ema": Real(0, 1, "[)"),
        "random_state": Whole(0),
    }

    @checked
    def __init__(
        self,
        *,
        hidden: int = 64,
        critic_steps: int = 2,
        critic_lr: float = 2e-3,
        ema: float = 0.99,
        random_state: int = 0,
        **settings: Unpack[ScoreSettings],
    ) -> None:
        refuse(self, settings, "group_weights")
        super().__init__(**settings)
        self.hidden = hidden
        self.critic_steps = critic_steps
        self.critic_lr = critic_lr
        self.ema = ema
        self.random_state = random_state
        self.critic: nn.Sequential | None = None
        self.register_buffer("log_denominator", torch.tensor(-torch.inf))
        self._optimizer: torch.optim.Adam | None = None
        self._generator = torch.Generator().manual_seed(random_state)

    def penalty(self, batch: FairnessBatch) -> Tensor:
        """Train the critic, then give the bound."""
        attributes, rows = attribute_columns(batch)
        scores = self.scores(batch.outputs)
        discrete = batch.attributes is None
        critic = self._critic(scores.shape[1], attributes.shape[1], discrete, like=scores)
        own = next(critic.parameters()).dtype
        scores, attributes, rows = scores.to(own), attributes.to(own), rows.to(own)
        bound = self._group_bound if discrete else self._attribute_bound
        with torch.autocast(scores.device.type, enabled=False):
            if self.training:
                self._train(critic, partial(bound, critic, scores.detach(), attributes, rows))
            joint, log_product = bound(critic, scores, attributes, rows)
        enough = comparable(batch, attributes, rows) & (rows.sum() > 0)
        value = torch.where(enough, joint - log_product, 0)
        return value + 0 * scores.sum()  # keeps its graph when there is nothing to compare

    def _train(self, critic: nn.Module, bound: Callable[[], tuple[Tensor, Tensor]]) -> None:
        parameters = list(critic.parameters())
        optimizer = self._optimizer or torch.optim.Adam(parameters, lr=self.critic_lr)
        self._optimizer = optimizer
        for _ in range(self.critic_steps):
            with torch.enable_grad():
                critic.requires_grad_(True)
                joint, log_product = bound()
                denominator = self._running_denominator(log_product.detach())
                loss = torch.exp(log_product - denominator) - joint
                grads = torch.autograd.grad(loss, parameters)
            finite = torch.stack([torch.isfinite(grad).all() for grad in grads]).all()
            critic.requires_grad_(False)
            for parameter, grad in zip(parameters, grads, strict=True):
                parameter.grad = torch.where(finite, grad, 0)
            optimizer.step()
            optimizer.zero_grad()

    @torch.no_grad()
    def _running_denominator(self, log_product: Tensor) -> Tensor:
        old = self.log_denominator.to(log_product.dtype)
        share = log_product.new_tensor(self.ema).log()
        rest = log_product.new_tensor(1 - self.ema).log()
        mixed = torch.logaddexp(old + share, log_product + rest)
        new = torch.where(torch.isfinite(old), mixed, log_product)
        new = torch.where(torch.isfinite(new), new, old)
        self.log_denominator.copy_(new)
        return torch.where(torch.isfinite(new), new, 0)

    @staticmethod
    def _group_bound(
        critic: nn.Module, scores: Tensor, attributes: Tensor, rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        values = critic(scores)
        joint = rows @ (values * attributes).sum(1)
        product = rows.unsqueeze(1) * (rows @ attributes)
        return joint, log_mean_exp(values.reshape(-1), product.reshape(-1))

    def _attribute_bound(
        self, critic: nn.Module, scores: Tensor, attributes: Tensor, rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        # Continuous attributes: a shuffle of the rows stands for the product of marginals.
        order = torch.randperm(len(scores), generator=self._generator).to(scores.device)
        shuffled = torch.cat([scores, attributes[order]], dim=1)
        joint = rows @ critic(torch.cat([scores, attributes], dim=1)).squeeze(1)
        weights = rows * rows[order]
        weights = weights / torch.where(weights.sum() > 0, weights.sum(), 1)
        log_product = log_mean_exp(critic(shuffled).squeeze(1), weights)
        return joint, log_product

    def _critic(self, width: int, attributes: int, discrete: bool, like: Tensor) -> nn.Module:
        inputs, outputs = (width, attributes) if discrete else (width + attributes, 1)
        if self.critic is None:
            self.critic = self._build(inputs, outputs).to(like)
        elif (sizes := _sizes(self.critic)) != (inputs, outputs):
            raise InvalidParameterError(
                f"the critic was built for {sizes[0]} inputs and {sizes[1]} outputs, this batch "
                f"needs {inputs} and {outputs}; give num_groups, or make a new loss."
            )
        return self.critic

    def _build(self, inputs: int, outputs: int) -> nn.Sequential:
        sizes = [inputs, self.hidden, self.hidden, outputs]
        layers: list[nn.Module] = []
        generator = torch.Generator().manual_seed(self.random_state)
        for fan_in, fan_out in pairwise(sizes):
            # Without its own first weights, so that the global random state is left alone.
            layer = skip_init(nn.Linear, fan_in, fan_out)  # type: ignore[no-untyped-call]
            with torch.no_grad():
                layer.weight.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
                layer.bias.zero_()
            layers += [layer, nn.ReLU()]
        return nn.Sequential(*layers[:-1]).requires_grad_(False)

    def get_extra_state(self) -> dict[str, Any]:
        """What the critic's optimizer and the shuffles remember, so that a resumed run goes on."""
        moments = None if self._optimizer is None else self._optimizer.state_dict()
        return {"optimizer": moments, "shuffles": self._generator.get_state()}

    def set_extra_state(self, state: Mapping[str, Any] | None) -> None:
        """Take up a state."""
        if state is None:
            return
        self._generator.set_state(state["shuffles"].cpu())
        if state["optimizer"] is not None and self.critic is not None:
            self._optimizer = torch.optim.Adam(self.critic.parameters(), lr=self.critic_lr)
            self._optimizer.load_state_dict(state["optimizer"])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self._optimizer = None  # its moments would stay on the old device
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        state_dict.setdefault(f"{prefix}_extra_state", None)  # saved before there was one
        first, last = (state_dict.get(f"{prefix}critic.{i}.weight") for i in (0, 4))
        if isinstance(first, Tensor) and isinstance(last, Tensor):
            self.hidden = len(first)
            if self.critic is None or _sizes(self.critic) != (first.shape[1], len(last)):
                self.critic = self._build(first.shape[1], len(last)).to(first)
                self._optimizer = None
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _sizes(critic: nn.Sequential) -> tuple[int, int]:
    first, last = critic[0], critic[-1]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    return first.in_features, last.out_features
