"""Losses about how badly a group is served: bounded, worst-case and equal group loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, Unpack, get_args

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from fairtrain._parameters import FUNCTION, Choice, Real, Table, checked
from fairtrain.constraints.rates import LOSSES
from fairtrain.exceptions import InvalidParameterError
from fairtrain.losses.base import refuse
from fairtrain.losses.batch import FairnessBatch, TargetKind
from fairtrain.losses.dependence import On
from fairtrain.losses.functional import GroupMoments
from fairtrain.losses.group_mean import GroupMeanLoss, GroupMeanSettings

__all__ = ["BoundedGroupLossPenalty", "GroupDROLoss", "GroupMSEParityLoss", "RowLossLoss"]

RowLoss = str | Callable[[Any, Any], Any]


def log_losses(
    outputs: Float[Tensor, "n *classes"], targets: Shaped[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Log loss of each row in nats, from logits of shape (n,) or (n, C)."""
    if outputs.ndim == 2:
        return F.cross_entropy(outputs, targets.long(), reduction="none")
    return F.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype), reduction="none")


class RowLossSettings(GroupMeanSettings, total=False):
    """Keywords of every :class:`RowLossLoss`."""

    loss: RowLoss
    on: On


class RowLossLoss(GroupMeanLoss):
    """Base of the losses over group means of a loss.

    Parameters
    ----------
    loss : {"log_loss", "zero_one", "squared"} or callable, default="log_loss"
        Loss of one row. ``"zero_one"`` is the soft error rate, ``"squared"`` is
        (y - prediction)^2; a callable takes ``(y, prediction)`` and gives one number a row.
    on : {"decisions", "outputs"}, default="decisions"
        What ``"squared"`` and callables see as the prediction: soft decisions, or the outputs as
        they are (regression; targets may then be any number).
    **settings
        Keywords of :class:`~fairtrain.losses.group_mean.GroupMeanLoss`.
    """

    _allowed: ClassVar[Table] = {
        "loss": Choice(*LOSSES) | FUNCTION,
        "on": Choice(*get_args(On)),
    }

    @checked
    def __init__(
        self,
        *,
        loss: RowLoss = "log_loss",
        on: On = "decisions",
        **settings: Unpack[GroupMeanSettings],
    ) -> None:
        super().__init__(**settings)
        if on == "outputs" and loss in ("log_loss", "zero_one"):
            raise InvalidParameterError(
                f"loss={loss!r} is about decisions; with on='outputs' use 'squared' or a function."
            )
        self.loss = loss
        self.on: On = on
        self.target_kind: TargetKind = "real" if on == "outputs" else "label"

    def values(self, batch: FairnessBatch) -> Tensor:
        """Loss of each row, shape (n,)."""
        assert batch.targets is not None
        if self.loss == "log_loss":
            return log_losses(batch.outputs, batch.targets)
        quantity = self.loss if callable(self.loss) else LOSSES[self.loss].quantity
        if self.on == "outputs":
            return quantity(batch.targets, batch.outputs)  # type: ignore[no-any-return]
        decisions, labels = self.decisions(batch.outputs), batch.targets.to(batch.outputs.dtype)
        if decisions.ndim == 2:  # the probability of the true class ought to be 1
            decisions = decisions.gather(1, batch.targets.long().unsqueeze(1)).squeeze(1)
            labels = torch.ones_like(decisions)
        return quantity(labels, decisions)  # type: ignore[no-any-return]


class BoundedGroupLossPenalty(RowLossLoss):
    r"""What groups lose above a bound (the constraint: Agarwal, Dudik & Wu, 2019).

    .. math:: \sum_g w_g \max(0,\; L_g - \zeta)^{\text{power}}

    The soft counterpart of the constraint ``fairtrain.BoundedGroupLoss``. It is absolute: one
    group alone is judged too, and 0 while every group keeps the bound.

    Parameters
    ----------
    upper_bound : float >= 0
        The bound :math:`\zeta`, in the unit of the loss.
    loss, on
        See :class:`RowLossLoss`.
    power : float >= 1, default=1.0
        2 makes the penalty smooth at the bound.
    **settings
        Keywords of :class:`~fairtrain.losses.group_mean.GroupMeanLoss` except ``reduction`` and
        ``debias``.

    Examples
    --------
    >>> import torch
    >>> from fairtrain.losses import BoundedGroupLossPenalty
    >>> penalty = BoundedGroupLossPenalty(0.5, loss="squared", on="outputs")
    >>> penalty(torch.tensor([0.0, 2.0]), torch.tensor([0.0, 1.0]), torch.tensor([0, 1]))
    tensor(0.5000)
    """

    _allowed: ClassVar[Table] = {
        "upper_bound": Real(0),
        "power": Real(1),
    }

    @checked
    def __init__(
        self,
        upper_bound: float,
        *,
        power: float = 1.0,
        **settings: Unpack[RowLossSettings],
    ) -> None:
        refuse(self, settings, "reduction", "debias")
        super().__init__(**settings)
        self.upper_bound = float(upper_bound)
        self.power = power

    def reduce(self, moments: GroupMoments, batch: FairnessBatch) -> Tensor:
        """Sum the excess over groups."""
        moments, weights = self.weighted(moments, batch)
        excess = (moments.means - self.upper_bound).clamp(min=0) * (moments.counts > 0)
        return (excess**self.power * weights).sum()


class GroupDROLoss(RowLossLoss):
    r"""Worst-case group loss by online re-weighting (Sagawa et al., 2020, algorithm 1).

    .. math:: q_g \leftarrow \frac{q_g \exp(\eta_q L_g)}{\sum_h q_h \exp(\eta_q L_h)}, \qquad
              \ell = \sum_g q_g L_g

    A loss to train with in place of the usual one, or a penalty beside it. Its value is a loss,
    not a disparity: it is not 0 when groups are equal.

    The weights q belong to this module: a persistent buffer ``log_q`` of shape (G,), saved in
    ``state_dict``, updated in training mode only. Groups absent from a batch keep theirs; a batch
    with a NaN changes none. Under ``torch.distributed`` group losses are all-reduced first, so
    every process holds the same q.

    Parameters
    ----------
    step_size : float > 0, default=0.01
        Learning rate :math:`\eta_q` of the weights.
    adjustment : float >= 0, default=0
        Sagawa's C: :math:`C / \sqrt{n_g}` is added to a group's loss in the update and in the
        value, so that small groups generalise.
    loss, on
        See :class:`RowLossLoss`.
    **settings
        Keywords of :class:`~fairtrain.losses.group_mean.GroupMeanLoss` except ``reduction`` and
        ``debias``. ``num_groups`` (or ``group_names``) is needed.

    Examples
    --------
    >>> import torch
    >>> from fairtrain.losses import GroupDROLoss
    >>> loss = GroupDROLoss(num_groups=2, step_size=1.0)
    >>> value = loss(torch.tensor([3.0, -2.0]), torch.tensor([1, 1]), torch.tensor([0, 1]))
    >>> loss.q
    tensor([0.1112, 0.8888])
    """

    log_q: Tensor

    _allowed: ClassVar[Table] = {
        "step_size": Real(0, ends="()"),
        "adjustment": Real(0),
    }

    @checked
    def __init__(
        self,
        *,
        step_size: float = 0.01,
        adjustment: float = 0.0,
        **settings: Unpack[RowLossSettings],
    ) -> None:
        refuse(self, settings, "reduction", "debias")
        super().__init__(**settings)
        if self.levels is None:
            raise InvalidParameterError("GroupDROLoss keeps a weight a group: give num_groups.")
        self.step_size = step_size
        self.adjustment = adjustment
        groups = math.prod(self.levels)
        self.register_buffer("log_q", torch.full((groups,), -math.log(groups)))

    @property
    def q(self) -> Tensor:
        """Present weights of the groups, shape (G,), summing to 1."""
        return self.log_q.exp()

    def reduce(self, moments: GroupMoments, batch: FairnessBatch) -> Tensor:
        """Update the weights and weigh the group losses."""
        moments, weights = self.weighted(moments, batch)
        losses, counts = moments.means.squeeze(0), moments.counts.squeeze(0)
        present = counts > 0
        if self.adjustment:
            losses = losses + self.adjustment * torch.rsqrt(torch.where(present, counts, 1))
        if self.group_weights is not None:
            losses = losses * weights.reshape(-1)
        if self.training:
            self._step(losses.detach(), present)
        q = self.log_q.to(losses.dtype).exp() * present
        total = q.sum()
        return (q / torch.where(total > 0, total, 1) * losses).sum()

    @torch.no_grad()
    def _step(self, losses: Tensor, present: Tensor) -> None:
        finite = torch.isfinite(losses).all()
        moved = self.log_q + self.step_size * torch.where(present, losses, 0)
        moved = moved - torch.logsumexp(moved, 0)
        self.log_q.copy_(torch.where(finite, moved, self.log_q))


class GroupMSEParityLoss(GroupMeanLoss):
    r"""Unequal mean squared errors, for regression.

    .. math:: L_g = \frac{1}{n_g} \sum_{i: a_i = g} (y_i - \hat y_i)^2

    Parameters
    ----------
    **settings
        Keywords of :class:`~fairtrain.losses.group_mean.GroupMeanLoss` and
        :class:`~fairtrain.losses.base.FairnessLoss`; ``temperature`` and ``link`` play no part.

    Examples
    --------
    >>> import torch
    >>> from fairtrain.losses import GroupMSEParityLoss
    >>> GroupMSEParityLoss(reduction="max_gap")(
    ...     torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]), torch.tensor([0, 1])
    ... )
    tensor(4.)
    """

    target_kind: TargetKind = "real"

    def values(self, batch: FairnessBatch) -> Tensor:
        """Squared error of each row, shape (n,)."""
        assert batch.targets is not None
        return (batch.targets - batch.outputs) ** 2
