"""``GradientReversalLayer``: the identity going forward, a sign change going back."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fairtrain._parameters import FUNCTION, Real, Table, checked
from fairtrain.exceptions import InvalidParameterError
from fairtrain.losses.schedule import EtaSchedule

__all__ = ["GradientReversalLayer", "reverse_gradient", "strength_at"]


class _Reverse(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, strength: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        # Ordinary tensor arithmetic, so that autograd can differentiate it once more.
        (strength,) = ctx.saved_tensors
        (grad,) = grad_outputs
        return grad * -strength.to(grad.dtype), None


def reverse_gradient(x: Tensor, strength: float | Tensor = 1.0) -> Tensor:
    """Return ``x``; gradients that come back are multiplied by ``-strength``.

    Parameters
    ----------
    x : Tensor of any shape
        What passes.
    strength : float or Tensor without dimensions, default=1.0
        Factor of the reversed gradient.

    Returns
    -------
    Tensor
        Equal to ``x``.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> (reverse_gradient(x, 0.5) * 3).sum().backward()
    >>> x.grad
    tensor([-1.5000, -1.5000])
    """
    if not isinstance(strength, Tensor):
        strength = torch.tensor(float(strength), device=x.device)
    return _Reverse.apply(x, strength)  # type: ignore[no-any-return, no-untyped-call]


def strength_at(strength: float | EtaSchedule, step: int) -> float:
    """Value of a strength or of its schedule at a training step.

    Raises
    ------
    InvalidParameterError
        If it is not a finite number >= 0.
    """
    value: object = strength(step) if callable(strength) else strength
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise InvalidParameterError(
            "strength must be a finite number >= 0, or a function of the training step that gives "
            f"one, such as SigmoidRamp(1.0, steps=1000); got {value!r}."
        )
    return float(value)


class GradientReversalLayer(nn.Module):
    r"""The identity, whose gradient is reversed (Ganin & Lempitsky, 2015, section 3).

    .. math:: R(x) = x, \qquad \frac{\partial R}{\partial x} = -s\, I

    Put between a representation and a head that predicts the sensitive attribute, the head learns
    to read the attribute while everything before the layer learns to hide it: one loss, one
    backward pass.

    Parameters
    ----------
    strength : float >= 0 or callable, default=1.0
        s, or a schedule: a function of the number of calls of :meth:`step`, such as
        :class:`~fairtrain.losses.SigmoidRamp` (the ramp of the paper).

    Attributes
    ----------
    n_steps : Tensor
        Calls of :meth:`step`; part of the state dict.
    current_strength : Tensor
        Present strength; part of the state dict. A tensor, so that a compiled module is not
        compiled anew when it changes.

    Examples
    --------
    >>> import torch
    >>> from fairtrain import GradientReversalLayer, SigmoidRamp
    >>> layer = GradientReversalLayer(SigmoidRamp(1.0, steps=100))
    >>> x = torch.ones(2, requires_grad=True)
    >>> for _ in range(50):
    ...     layer.step()
    >>> layer(x).sum().backward()
    >>> x.grad
    tensor([-0.9866, -0.9866])
    """

    n_steps: Tensor
    current_strength: Tensor

    _allowed: ClassVar[Table] = {
        "strength": Real(0) | FUNCTION,
    }

    @checked
    def __init__(self, strength: float | EtaSchedule = 1.0) -> None:
        super().__init__()
        self.strength = strength
        self.register_buffer("n_steps", torch.tensor(0))
        self.register_buffer("current_strength", torch.tensor(strength_at(strength, 0)))

    def forward(self, x: Tensor) -> Tensor:
        """Pass a tensor of any shape on as it is."""
        return reverse_gradient(x, self.current_strength)

    def step(self) -> None:
        """Move a schedule on by one training step; call it after ``optimizer.step()``."""
        self.n_steps += 1
        self.current_strength.fill_(strength_at(self.strength, int(self.n_steps)))

    def extra_repr(self) -> str:
        """Show the strength."""
        return f"strength={self.strength!r}"
