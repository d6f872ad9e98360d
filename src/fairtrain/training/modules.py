"""The module that is trained: a copy of the user's, one a factory makes, or a sensible MLP."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fairtrain.exceptions import InvalidParameterError

__all__ = ["DefaultModule", "ModuleSpec", "Standardize", "build_module"]

ModuleSpec = nn.Module | Callable[[int, int], nn.Module] | None
"""A module, a factory ``(n_features, n_outputs) -> module``, or None."""

_HIDDEN = 64


class Standardize(nn.Module):
    """Subtract the training mean of every feature and divide by its standard deviation.

    Parameters
    ----------
    n_features : int
        Number of features.
    """

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))

    @torch.no_grad()
    def learn(self, x: Tensor, weight: Tensor | None = None) -> None:
        """Take mean and scale from training rows; a constant feature keeps scale 1."""
        share = torch.ones(len(x)) if weight is None else weight
        share = (share / share.sum()).double().unsqueeze(1)
        mean = (x.double() * share).sum(0)
        scale = ((x.double() - mean) ** 2 * share).sum(0).sqrt()
        self.mean: Tensor = mean.to(x.dtype)
        self.scale: Tensor = torch.where(scale > 1e-12, scale, 1.0).to(x.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Standardise rows of shape (n, d)."""
        return (x - self.mean) / self.scale


class DefaultModule(nn.Sequential):
    """Two hidden layers of 64 on standardised features: what ``module=None`` trains.

    Parameters
    ----------
    n_features, n_outputs : int
        Numbers in and out.
    """

    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__(
            Standardize(n_features),
            nn.Linear(n_features, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, n_outputs),
        )
        self.n_features, self.n_outputs = n_features, n_outputs


def build_module(spec: Any, n_features: int | None, n_outputs: int) -> nn.Module:
    """Make the module that is trained; a user's module is copied, never changed.

    Parameters
    ----------
    spec : nn.Module, callable or None
        See :data:`ModuleSpec`.
    n_features : int or None
        Features of a row; None where rows are no vectors.
    n_outputs : int
        Numbers a row that the task needs.

    Raises
    ------
    InvalidParameterError
        If the spec cannot make a module.
    """
    if isinstance(spec, nn.Module):
        return copy.deepcopy(spec)
    if spec is not None and not callable(spec):
        raise InvalidParameterError(
            f"module must be an nn.Module, a factory (n_features, n_outputs) -> nn.Module, or "
            f"None, got {type(spec).__name__}."
        )
    if n_features is None:
        raise InvalidParameterError(
            "a factory needs rows of shape (n, d); for other inputs pass an nn.Module."
        )
    made = (DefaultModule if spec is None else spec)(n_features, n_outputs)
    if not isinstance(made, nn.Module):
        raise InvalidParameterError(
            f"the factory given as module made {type(made).__name__}, expected nn.Module."
        )
    return made
