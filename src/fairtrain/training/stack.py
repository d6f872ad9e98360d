"""Modules of one architecture as one: their weights stacked, run and moved together."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from fairtrain.exceptions import CannotStackError

__all__ = ["ModuleStack", "require_stackable"]

_RANDOM = (nn.modules.dropout._DropoutNd, nn.RReLU)
_COUNTING = (nn.modules.batchnorm._NormBase, nn.modules.instancenorm._InstanceNorm)


def require_stackable(modules: Sequence[nn.Module]) -> None:
    """Raise unless modules have one architecture, and one that can be stacked.

    Raises
    ------
    CannotStackError
        If they differ, draw random numbers, or keep running statistics.
    """
    shapes = {
        tuple((n, p.shape, p.requires_grad) for n, p in m.named_parameters()) for m in modules
    }
    if len(shapes) > 1 or len({str(m) for m in modules}) > 1:
        raise CannotStackError("the modules differ in their architecture.")
    for name, part in modules[0].named_modules():
        kind = type(part).__name__
        if isinstance(part, _COUNTING) and getattr(part, "track_running_stats", False):
            raise CannotStackError(f"{name or 'the module'} ({kind}) keeps running statistics.")
        if isinstance(part, _RANDOM) and getattr(part, "p", 1.0) > 0:
            raise CannotStackError(f"{name or 'the module'} ({kind}) draws random numbers.")


class ModuleStack:
    """Weights of K modules as tensors of shape (K, ...).

    Parameters
    ----------
    modules : sequence of nn.Module
        Of one architecture. They are written to by :meth:`write_back` only.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        require_stackable(modules)
        self.modules = list(modules)
        self.parameters, self.buffers = stack_module_state(self.modules)
        # Its own weights are never read: functional_call puts the stacked ones in their place.
        self._body = copy.deepcopy(self.modules[0])

    def __len__(self) -> int:
        return len(self.modules)

    @property
    def trained(self) -> list[Tensor]:
        """Stacked parameters that are trained, in the modules' order."""
        return [p for p in self.parameters.values() if p.requires_grad]

    def map(
        self, function: Callable[..., Any], x: Any, part: slice, *along: Tensor, training: bool
    ) -> Any:
        """Apply ``function(outputs, *items)`` to the outputs of some of the modules for rows.

        Parameters
        ----------
        function : callable
            Tensors of one module -> tensor or tuple of tensors.
        x : Tensor or structure of tensors
            The rows, the same for all of them.
        part : slice
            Which modules.
        *along : Tensor of shape (k, ...)
            One item a module.
        training : bool
            Mode of the modules.
        """
        self._body.train(training)
        whole = part == slice(0, len(self))
        weights, buffers = (
            state if whole else {name: value[part] for name, value in state.items()}
            for state in (self.parameters, self.buffers)
        )

        def one(weights: Any, buffers: Any, *items: Tensor) -> Any:
            return function(functional_call(self._body, (weights, buffers), (x,)), *items)

        return vmap(one)(weights, buffers, *along)

    def gradient_norms(self) -> Tensor:
        """Norm of each module's own gradient, shape (K,)."""
        squares = [p.grad.flatten(1).square().sum(1) for p in self.trained if p.grad is not None]
        return torch.stack(squares).sum(0).sqrt()

    @torch.no_grad()
    def scale_gradients(self, factors: Tensor) -> None:
        """Multiply each module's gradient by a number of its own; by 0 even where it is NaN."""
        off = factors == 0
        for p in self.trained:
            if p.grad is not None:
                p.grad.mul_(factors.to(p.grad.dtype).view(-1, *[1] * (p.grad.ndim - 1)))
                if bool(off.any()):
                    p.grad[off] = 0.0

    @torch.no_grad()
    def write_back(self, average: Sequence[Tensor] | None = None) -> None:
        """Write the weights back into the modules.

        Parameters
        ----------
        average : sequence of Tensor, optional
            What to write instead of the trained parameters.
        """
        trained = iter(average or ())
        state = dict(self.parameters)
        if average is not None:
            state = {n: next(trained) if p.requires_grad else p for n, p in state.items()}
        for k, module in enumerate(self.modules):
            for name, parameter in module.named_parameters():
                parameter.copy_(state[name][k])
