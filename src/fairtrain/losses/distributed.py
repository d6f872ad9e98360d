"""Sums over processes, exact in forward and backward.

Fairness terms are not linear in group means, so the mean of per-process penalties is the wrong
penalty. What may cross process borders are sums: every process adds up its rows, the sums are
all-reduced, and each process computes the same penalty from the same numbers.

The backward pass all-reduces too. A process then holds the gradient of *the sum of all processes'
copies* of the penalty; ``DistributedDataParallel`` averages over processes, which gives the exact
gradient of the penalty of the whole batch.

Without an initialised process group every function here returns its input.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor

__all__ = ["all_reduce_sum", "communication_device", "gather_rows", "is_distributed"]

ProcessGroup = Any
"""A ``torch.distributed.ProcessGroup``; None is the default group."""


def is_distributed(group: ProcessGroup = None) -> bool:
    """Whether a process group of two or more processes is running."""
    return bool(dist.is_available() and dist.is_initialized() and dist.get_world_size(group) > 1)


def communication_device(group: ProcessGroup = None) -> torch.device:
    """Where tensors must be to be all-reduced: on the GPU for NCCL, else on the CPU."""
    if is_distributed(group) and dist.get_backend(group) == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def all_reduce_sum(tensor: Shaped[Tensor, "..."], group: ProcessGroup = None) -> Tensor:
    """Add a tensor up over all processes; differentiable.

    Parameters
    ----------
    tensor : Tensor
        The same shape on every process.
    group : ProcessGroup, optional
        Default: all processes.

    Returns
    -------
    Tensor
        A new tensor, equal on every process; ``tensor`` itself when there is one process.
    """
    if not is_distributed(group):
        return tensor
    return _AllReduceSum.apply(tensor, group)  # type: ignore[no-any-return, no-untyped-call]


def gather_rows(tensor: Shaped[Tensor, "n *rest"], group: ProcessGroup = None) -> Tensor:
    """Concatenate the rows of all processes, in rank order; differentiable.

    For penalties that are no function of group sums (kernels, sorted scores). Processes may hold
    different numbers of rows.

    Parameters
    ----------
    tensor : Tensor of shape (n_rank, ...)
        Rows of this process.
    group : ProcessGroup, optional
        Default: all processes.

    Returns
    -------
    Tensor of shape (sum of n_rank, ...)
    """
    if not is_distributed(group):
        return tensor
    lengths = [torch.zeros(1, dtype=torch.int64, device=tensor.device) for _ in _ranks(group)]
    dist.all_gather(lengths, torch.tensor([len(tensor)], device=tensor.device), group=group)
    sizes = [int(length) for length in lengths]
    return _GatherRows.apply(tensor, sizes, group)  # type: ignore[no-any-return, no-untyped-call]


def _ranks(group: ProcessGroup) -> range:
    return range(dist.get_world_size(group))


class _AllReduceSum(torch.autograd.Function):
    # dist.all_reduce works in place and autograd does not see it: the gradient would be 0.

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        total = tensor.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        grad = grad_outputs[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad, group=ctx.group)
        return grad, None


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, sizes: list[int], group: ProcessGroup) -> Tensor:
        rank = dist.get_rank(group)
        ctx.group, ctx.start, ctx.length = group, sum(sizes[:rank]), sizes[rank]
        # all_gather wants equal shapes: pad to the longest.
        padded = tensor.new_zeros((max(sizes), *tensor.shape[1:]))
        padded[: len(tensor)] = tensor.detach()
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded, group=group)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        grad = grad_outputs[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad, group=ctx.group)
        return grad.narrow(0, ctx.start, ctx.length), None, None
