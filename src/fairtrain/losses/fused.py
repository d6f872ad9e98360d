"""The default penalty in few kernels.

On small batches a training step is bound by the number of operations, not by their size. Here the
sums, the mean squared difference over pairs and its gradient take about 25 small operations, a
third of what the general path through :mod:`~fairtrain.losses.functional` and autograd takes. The
results are the same; tests compare the two. Under ``torch.compile``, which fuses by itself, and
under ``torch.func`` transforms the general path is taken.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["can_fuse", "mean_squared_pairs"]


def can_fuse() -> bool:
    """Whether plain autograd is at work: no compiler and no ``torch.func`` transform."""
    if torch.compiler.is_compiling():
        return False
    transformed = getattr(torch._C, "_are_functorch_transforms_active", None)
    return transformed is not None and not transformed()


def mean_squared_pairs(
    values: Float[Tensor, " n"],
    slots: Int[Tensor, " n"],
    num_slots: int,
    families: int = 1,
    weights: Float[Tensor, " n"] | None = None,
) -> Tensor:
    r"""Mean over pairs of groups of the squared difference of their means.

    .. math:: \frac{1}{K} \sum_k \binom{P_k}{2}^{-1} \sum_{g<h} (m_{kg} - m_{kh})^2
              = \frac{1}{K} \sum_k \frac{2}{P_k - 1} \sum_g (m_{kg} - \bar m_k)^2

    Parameters
    ----------
    values : Tensor of shape (n,)
        One number a row.
    slots : integer Tensor of shape (n,)
        ``k * num_slots + code + 1`` of each row: slot 0 of a family is for rows left out.
    num_slots : int
        Number of groups G, plus one.
    families : int, default=1
        Number K of families of groups (rates of disjoint events); their disparities are averaged.
    weights : Tensor of shape (n,), optional
        Weight of each row.

    Returns
    -------
    Tensor of shape ()
        Twice differentiable in ``values``; 0 where fewer than two groups are present.
    """
    value: Tensor = _MeanSquaredPairs.apply(values, slots, num_slots, families, weights)  # type: ignore[no-untyped-call]
    return value


def _pairs(
    values: Tensor, slots: Tensor, num_slots: int, families: int, weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Value, and its derivative by the sum of each slot."""
    # Python numbers that need a conversion, masks and torch.where would double the time.
    zeros = torch.zeros(families * num_slots, dtype=values.dtype, device=values.device)
    if weights is None:
        sums = zeros.index_add(0, slots, values)
        counts = zeros.index_add(0, slots, torch.ones_like(values))
    else:
        sums = zeros.index_add(0, slots, values * weights)
        counts = zeros.index_add(0, slots, weights)
    sums, counts = sums.view(families, -1), counts.view(families, -1)
    sums.select(-1, 0).zero_()
    counts.select(-1, 0).zero_()
    present = counts.sign()
    rows = counts.clamp(min=torch.finfo(values.dtype).tiny)
    means = sums / rows  # 0 in slots that take no part
    groups = present.sum(-1, keepdim=True)
    centre = means.sum(-1, keepdim=True) / groups.clamp(min=1.0)
    deviation = torch.addcmul(means, present, centre, value=-1.0)
    scaled = deviation / ((groups - 1.0).clamp(min=1.0) * (families / 2))
    slope = torch.addcdiv(zeros.view(families, -1), scaled, rows, value=2.0)
    return torch.dot(scaled.view(-1), deviation.view(-1)), slope.view(-1)


class _MeanSquaredPairs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        slots: Tensor,
        num_slots: int,
        families: int,
        weights: Tensor | None,
    ) -> Tensor:
        value, slope = _pairs(values, slots, num_slots, families, weights)
        ctx.save_for_backward(values, slots, weights, slope)
        ctx.num_slots, ctx.families = num_slots, families
        return value

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        values, slots, weights, slope = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants a second derivative
            _, slope = _pairs(values, slots, ctx.num_slots, ctx.families, weights)
        gradient = (slope * grads[0]).index_select(0, slots)
        if weights is not None:
            gradient = gradient * weights
        return gradient, None, None, None, None
