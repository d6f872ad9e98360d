"""The usual loss of a batch, with row weights."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from fairtrain.constraints import ErrorCosts
from fairtrain.exceptions import InvalidDataError
from fairtrain.losses.batch import read_column

__all__ = ["BaseLoss", "CostSensitiveLoss", "mean_base_loss"]

BaseLoss = Callable[[Tensor, Tensor], Tensor]
"""A function of (logits, targets) that gives one number, or one a row."""


class CostSensitiveLoss(nn.BCEWithLogitsLoss):
    r"""Binary cross entropy in which errors cost differently.

    .. math:: \ell(z, y) = -c_{fn}\, y \log \sigma(z) - c_{fp}\, (1 - y) \log(1 - \sigma(z))

    Its minimiser decides at .5 where the expected cost of the two errors is the same. Costs are
    scaled to a mean of 1 over the rows, so that prices stay comparable.

    Parameters
    ----------
    costs : ErrorCosts
        Of the two errors.
    share : float, default=0.5
        Share of favourable labels.
    """

    def __init__(self, costs: ErrorCosts, share: float = 0.5) -> None:
        super().__init__()
        self.share = share
        self.charge(costs)

    def charge(self, costs: ErrorCosts) -> None:
        """Let errors cost this from now on."""
        self.costs = costs
        self.false_positive, self.false_negative = costs.relative(self.share)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:  # noqa: A002
        """Loss, averaged unless ``reduction`` says otherwise."""
        values = F.binary_cross_entropy_with_logits(input, target, reduction="none")
        cost = self.false_positive + (self.false_negative - self.false_positive) * target
        return values * cost if self.reduction == "none" else (values * cost).mean()


def mean_base_loss(
    base_loss: BaseLoss,
    logits: Shaped[Tensor, "..."],
    targets: Shaped[Tensor, "..."],
    sample_weight: Shaped[Tensor, "..."] | None = None,
) -> Tensor:
    """(Weighted) mean over the rows of a batch.

    Parameters
    ----------
    base_loss : callable
        ``base_loss(logits, targets)`` -> one number, or one a row, which is then averaged.
    logits : Tensor of shape (n,) or (n, C)
        Model outputs.
    targets : Tensor of shape (n,)
        Labels or values.
    sample_weight : Tensor of shape (n,), optional
        Weight of each row. Needs a base loss that gives one number a row, or one of PyTorch's,
        which are asked to.

    Returns
    -------
    Tensor of shape ()

    Raises
    ------
    InvalidDataError
        If shapes do not agree.
    """
    if isinstance(base_loss, nn.BCEWithLogitsLoss):
        if logits.ndim != 1:
            raise InvalidDataError(
                f"BCEWithLogitsLoss needs one logit a row, got shape {tuple(logits.shape)}; "
                "pass base_loss=nn.CrossEntropyLoss()."
            )
        targets = targets.to(logits.dtype)
    if sample_weight is not None and getattr(base_loss, "reduction", "none") != "none":
        base_loss = copy.copy(base_loss)
        base_loss.reduction = "none"  # type: ignore[attr-defined]
    values = base_loss(logits, targets)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values.squeeze(1)
    if values.ndim == 0 and sample_weight is None:
        return values
    if values.shape != (len(logits),):
        raise InvalidDataError(
            f"base_loss gave shape {tuple(values.shape)}, expected one number a row, "
            f"({len(logits)},)"
            + (", which sample_weight needs." if values.ndim == 0 else ", or one in all.")
        )
    if sample_weight is None:
        return values.mean()
    weights = read_column(sample_weight, len(logits), "sample_weight").to(values.dtype)
    total = weights.sum()
    return (values * weights).sum() / torch.where(total > 0, total, 1)
