"""Sums from which the R^2 of predicted numbers, and that of the best straight line, follow."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["LineSums"]

_WIDEST = 256
"""Inputs that a line is drawn through: of a wider layer the first."""

_ROWS_PER_INPUT = 10


class LineSums:
    r"""Sums over the rows of batches.

    .. math:: R^2 = 1 - \frac{\sum_i w_i (a_i - \hat a_i)^2}{\sum_i w_i (a_i - \bar a)^2}

    for given predictions, and for those of weighted least squares on the inputs (adjusted for their
    number). Sums of processes add up.

    Parameters
    ----------
    n_values : int
        Columns that are predicted.

    Examples
    --------
    >>> import torch
    >>> z = torch.linspace(-1, 1, 100).unsqueeze(1)
    >>> sums = LineSums(1)
    >>> sums.add(z, torch.zeros(100, 1), 3 * z, torch.ones(100))
    >>> own, line = sums.r_squared(sums.sums())
    >>> [round(own[0], 3), round(line[0], 3)]
    [0.0, 1.0]
    """

    def __init__(self, n_values: int) -> None:
        self.n_values = n_values
        self._sums: Tensor | None = None

    def add(self, z: Tensor, guessed: Tensor, values: Tensor, weight: Tensor) -> None:
        """Count a batch: inputs (n, d), predictions and values (n, k), weights (n,)."""
        z, guessed, values, weight = (
            part.detach().double().cpu() for part in (z[:, :_WIDEST], guessed, values, weight)
        )
        rows = torch.cat([torch.ones(len(z), 1), z, values], dim=1).double()
        products = rows.T @ (rows * weight.unsqueeze(1))
        errors = ((guessed - values) ** 2 * weight.unsqueeze(1)).sum(0)
        n = (weight > 0).double().sum().unsqueeze(0)
        found = torch.cat([products.reshape(-1), errors, n])
        self._sums = found if self._sums is None else self._sums + found

    def sums(self) -> Tensor:
        """All sums as one vector; empty where there was no batch."""
        return torch.zeros(0, dtype=torch.float64) if self._sums is None else self._sums

    def r_squared(self, sums: Tensor) -> tuple[list[float], list[float]]:
        """R^2 of the predictions and of a line, for every column."""
        k = self.n_values
        if not k or not len(sums):
            return [math.nan] * k, [math.nan] * k
        width = math.isqrt(len(sums) - k - 1)
        products, errors, n = sums[: width**2].reshape(width, width), sums[-k - 1 : -1], sums[-1]
        total, d = products[0, 0], width - k - 1
        spread = products.diagonal()[-k:] - products[0, -k:] ** 2 / total
        left = self._left(products / total, k) * total
        degrees = (n - 1) / (n - 1 - d) if n > _ROWS_PER_INPUT * (d + 1) else math.inf
        own, line = 1 - errors / spread, 1 - left / spread * degrees
        return own.tolist(), line.tolist()

    @staticmethod
    def _left(moments: Tensor, k: int) -> Tensor:
        """What least squares leave, a row."""
        centred = moments[1:, 1:] - moments[1:, :1] @ moments[:1, 1:]
        inner, cross = centred[:-k, :-k], centred[:-k, -k:]
        size = inner.diagonal().clamp(min=1e-12).sqrt()  # columns of unlike scale, or constant
        ridge = 1e-6 * torch.eye(len(size), dtype=torch.float64)
        scaled = cross / size.unsqueeze(1)
        slopes = torch.linalg.solve(inner / size / size.unsqueeze(1) + ridge, scaled)
        left: Tensor = centred.diagonal()[-k:] - (scaled * slopes).sum(0)
        return left
