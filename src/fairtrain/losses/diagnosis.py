"""Which of two terms drives training, in numbers and in words."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from fairtrain.exceptions import FairtrainError, InvalidParameterError

__all__ = ["GradientNorms", "compare_gradients"]

TOO_SMALL, TOO_LARGE = 0.05, 20.0
"""Ratios of gradient norms outside which one of the terms hardly counts."""
OPPOSED = -0.9
"""Cosine below which the terms are said to pull in opposite directions."""


@dataclass(frozen=True)
class GradientNorms:
    """Which term drives training.

    Attributes
    ----------
    base, penalty : float
        Euclidean norm of the gradient of the base loss, and of eta times the penalty.
    cosine : float
        Cosine of the angle between the two; -1: they pull in opposite directions. NaN if one is 0.
    words : str
        What that means for eta.
    """

    base: float
    penalty: float
    cosine: float
    words: str

    @property
    def ratio(self) -> float:
        """Norm of the penalty's gradient over that of the base loss."""
        return self.penalty / self.base if self.base else math.inf

    def __str__(self) -> str:
        return self.words


def compare_gradients(
    base: Tensor, penalty: Tensor | None, eta: float, parameters: Iterable[Tensor]
) -> GradientNorms:
    """Differentiate both terms of a loss by the same parameters.

    Parameters
    ----------
    base, penalty : Tensors of shape ()
        The two terms, their graph alive; None for a penalty that was not computed.
    eta : float
        Factor of the penalty.
    parameters : iterable of Tensor
        Those that do not require a gradient are passed over.

    Returns
    -------
    GradientNorms
    """
    wanted = [parameter for parameter in parameters if parameter.requires_grad]
    if not wanted:
        raise InvalidParameterError("parameters holds none that requires a gradient.")
    first, second = _flat_gradient(base, wanted), eta * _flat_gradient(penalty, wanted)
    base_norm, penalty_norm = float(first.norm()), float(second.norm())
    product = base_norm * penalty_norm
    cosine = float(first @ second) / product if product else math.nan
    if eta == 0:
        words = "eta=0: only the base loss drives training."
    elif penalty is None:
        words = "the penalty was not computed at this call (every > 1)."
    else:
        words = _in_words(eta, base_norm, penalty_norm, cosine)
    return GradientNorms(base_norm, penalty_norm, cosine, words)


def _flat_gradient(term: Tensor | None, parameters: list[Tensor]) -> Tensor:
    if term is None or not term.requires_grad:
        return parameters[0].new_zeros(sum(p.numel() for p in parameters))
    try:
        grads = torch.autograd.grad(
            term, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
        )
    except RuntimeError as error:
        if "second time" not in str(error):
            raise
        raise FairtrainError(
            "gradient_norms came after loss.backward(), which frees the graph; call it before."
        ) from None
    return torch.cat([grad.reshape(-1) for grad in grads])


def _in_words(eta: float, base: float, penalty: float, cosine: float) -> str:
    if not math.isfinite(base + penalty):
        return "a gradient is NaN or infinite: look for bad rows, or lower the learning rate."
    if penalty == 0:
        return (
            f"eta={eta:g}: the penalty has no gradient in this batch (no gap, or fewer than two "
            "groups present)."
        )
    if base == 0:
        return f"eta={eta:g}: only the penalty drives training; the base loss has no gradient."
    ratio = penalty / base
    head = f"eta={eta:g}: the penalty's gradient is {ratio:.2g} times the base loss's"
    tail = "both drive training."
    if ratio < TOO_SMALL:
        tail = f"eta is too small to matter, try about {0.5 * eta / ratio:.2g}."
    elif ratio > TOO_LARGE:
        tail = f"eta is so large that accuracy hardly counts, try {2 * eta / ratio:.2g}."
    elif cosine < OPPOSED:
        tail = "they pull in opposite directions: this is the trade-off that eta sets."
    return f"{head}; {tail}"
