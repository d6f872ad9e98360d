"""How good an adversary is, epoch by epoch, and whether it collapsed."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from fairtrain.losses.distributed import all_reduce_sum, communication_device
from fairtrain.training.adversary import Targets
from fairtrain.training.line import LineSums

__all__ = ["AdversaryTally"]

_LOST = 0.1
"""Nats above the best constant guess at which an adversary has lost track."""

_OFF, _NOTHING, _BETTER, _IMPROVED = -0.2, 0.05, 0.1, 0.01
"""R^2 of an adversary that is off, or reads nothing, by how much a line beats it, and progress."""


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
        self._right = torch.zeros(len(self.levels), dtype=torch.float64)
        self._loss = torch.zeros(len(self.levels), dtype=torch.float64)
        self._levels = torch.zeros(sum(self.levels), dtype=torch.float64)
        self._spread = torch.zeros(2, dtype=torch.float64)
        self._lines = LineSums(len(self.names))

    def add(self, z: Tensor, logits: tuple[Tensor, ...], targets: Targets, weight: Tensor) -> None:
        """Count a batch."""
        start = 0
        for column, found in enumerate(logits[: len(self.levels)]):
            target = targets.levels[:, column]
            used = (weight * (target >= 0)).double().cpu()
            known = target.clamp(min=0)
            right = (found.argmax(1) == known).double().cpu()
            losses = F.cross_entropy(found, known, reduction="none").double().cpu()
            self._right[column] += (right * used).sum()
            self._loss[column] += (losses * used).sum()
            self._levels.index_add_(0, start + known.cpu(), used)
            start += self.levels[column]
        if self.names:
            guessed = torch.cat(logits[len(self.levels) :], dim=1)
            self._lines.add(z, guessed, targets.values, weight)
        for found in logits:
            self._spread[1] = torch.maximum(self._spread[1], _spread(found))
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
        found = {}
        if self.levels:
            found["adversary_accuracy"] = _mean(accuracy)
            found["majority_accuracy"] = _mean(majority)
        found.update({f"adversary_r2: {n}": r for n, r in zip(self.names, own, strict=True)})
        if not accuracy and not any(map(math.isfinite, own)):
            return found, False
        still = float(spread[0]) > 1e-3 and float(spread[1]) < 1e-6
        lost = max(excess, default=0.0) > _LOST or any(map(math.isnan, excess + own))
        stuck = self._stuck(own, line)
        return found, still or lost or stuck

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


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _spread(values: Tensor) -> Tensor:
    if len(values) < 2:
        return torch.zeros((), dtype=torch.float64)
    return values.detach().double().std(dim=0, correction=0).max().cpu()
