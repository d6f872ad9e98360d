"""How good an adversary is, epoch by epoch, beside a constant guess or a line; if it collapsed."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from fairtrain.losses.distributed import all_reduce_sum, communication_device
from fairtrain.training.adversarial.adversary import Targets

__all__ = ["AdversaryTally", "LineSums"]

_LOST = 0.1
"""Nats above the best constant guess at which an adversary has lost track."""

_OFF, _NOTHING, _BETTER, _IMPROVED = -0.2, 0.05, 0.1, 0.01
"""R^2 of an adversary that is off, or reads nothing, by how much a line beats it, and progress."""

_WIDEST = 256
"""Inputs that a line is drawn through: of a wider layer the first."""

_ROWS_PER_INPUT = 10


class AdversaryTally:
    """Counts of an epoch: how good the adversary is, how good a constant guess would be.

    Parameters
    ----------
    levels : tuple of int
        Levels of each categorical column.
    names : tuple of str, default=()
        Continuous columns.
    """

    def __init__(self, levels: tuple[int, ...], names: tuple[str, ...] = ()) -> None:
        self.levels = levels
        self.names = names
        self.before: list[float] = []
        self.forget()

    def forget(self) -> None:
        """Begin a new epoch."""
        self._right, self._loss, self._levels, self._spread = (
            torch.zeros(size, dtype=torch.float64)
            for size in (len(self.levels), len(self.levels), sum(self.levels), 2)
        )
        self._lines = LineSums(len(self.names))

    def add(self, z: Tensor, logits: tuple[Tensor, ...], targets: Targets, weight: Tensor) -> None:
        """Count a batch."""
        start = 0
        for column, guess in enumerate(logits[: len(self.levels)]):
            known, used = targets.level(column, weight.double())
            losses = F.cross_entropy(guess, known, reduction="none")
            self._right[column] += ((guess.argmax(1) == known) * used).sum().cpu()
            self._loss[column] += (losses * used).sum().cpu()
            self._levels.index_add_(0, start + known.cpu(), used.cpu())
            start += self.levels[column]
        if self.names:
            guessed = torch.cat(logits[len(self.levels) :], dim=1)
            self._lines.add(z, guessed, targets.values, weight)
        for guess in logits:
            self._spread[1] = torch.maximum(self._spread[1], _spread(guess))
        self._spread[0] = torch.maximum(self._spread[0], _spread(z))

    def close(self) -> tuple[dict[str, float], bool]:
        """Means over columns and processes, R^2 of numbers, and whether the adversary collapsed.

        It collapsed where it is worse than the best constant guess by more than 0.1 nats, or where
        its output stands still while its input varies. Being as good as the guess is no collapse:
        that is what a fair predictor leaves it. With a number, whose error knows no limit while the
        predictor moves fast, it collapsed where two epochs in a row, the second no better, leave it
        at an R^2 under 0.05 while a straight line through the same rows has one greater by 0.1, or
        under -0.2.
        """
        parts = [self._right, self._loss, self._levels, self._spread, self._lines.sums()]
        joined = all_reduce_sum(torch.cat(parts).to(communication_device())).cpu()
        right, loss, levels, spread, lines = torch.split(joined, [len(part) for part in parts])
        own, line = self._lines.r_squared(lines)
        self.forget()
        accuracy, majority, excess = [], [], []
        for column, counts in enumerate(torch.split(levels, list(self.levels))):
            rows = float(counts.sum())
            if not rows:
                continue
            accuracy.append(float(right[column]) / rows)
            majority.append(float(counts.max()) / rows)
            entropy = float(torch.special.entr(counts / rows).sum())
            excess.append(float(loss[column]) / rows - entropy)
        record = {}
        if self.levels:
            record["adversary_accuracy"] = _mean(accuracy)
            record["majority_accuracy"] = _mean(majority)
        record.update({f"adversary_r2: {n}": r for n, r in zip(self.names, own, strict=True)})
        if not accuracy and not any(map(math.isfinite, own)):
            return record, False
        still = float(spread[0]) > 1e-3 and float(spread[1]) < 1e-6
        lost = max(excess, default=0.0) > _LOST or any(map(math.isnan, excess + own))
        stuck = self._stuck(own, line)
        return record, still or lost or stuck

    def _stuck(self, own: list[float], line: list[float]) -> bool:
        """Whether a number that a line finds stays unread, or the adversary is off for long."""
        before, self.before = self.before, own
        return any(
            now <= then + _IMPROVED
            and (
                max(now, then) < _OFF
                or (max(now, then) < _NOTHING and best > max(now, 0.0) + _BETTER)
            )
            for now, best, then in zip(own, line, before, strict=False)
        )


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
        self._sums = torch.zeros(0, dtype=torch.float64)

    def add(self, z: Tensor, guessed: Tensor, values: Tensor, weight: Tensor) -> None:
        """Count a batch: inputs (n, d), predictions and values (n, k), weights (n,)."""
        z, guessed, values, weight = (
            part.detach().double().cpu() for part in (z[:, :_WIDEST], guessed, values, weight)
        )
        rows = torch.cat([torch.ones(len(z), 1), z, values], dim=1).double()
        products = rows.T @ (rows * weight.unsqueeze(1))
        errors = ((guessed - values) ** 2 * weight.unsqueeze(1)).sum(0)
        n = (weight > 0).double().sum().unsqueeze(0)
        batch = torch.cat([products.reshape(-1), errors, n])
        self._sums = self._sums + batch if len(self._sums) else batch

    def sums(self) -> Tensor:
        """All sums as one vector; empty where there was no batch."""
        return self._sums

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


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _spread(values: Tensor) -> Tensor:
    if len(values) < 2:
        return torch.zeros((), dtype=torch.float64)
    return values.detach().double().std(dim=0, correction=0).max().cpu()
