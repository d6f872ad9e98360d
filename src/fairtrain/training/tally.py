"""How good an adversary is, epoch by epoch, and whether it collapsed."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from fairtrain.training.distributed import all_reduce_sum, communication_device

__all__ = ["AdversaryTally"]

_LOST = 0.1
"""Nats above the best constant guess at which an adversary has lost track."""


class AdversaryTally:
    """Counts of an epoch: how good the adversary is, how good a constant guess would be.

    Parameters
    ----------
    levels : tuple of int
        Levels of each sensitive column.
    """

    def __init__(self, levels: tuple[int, ...]) -> None:
        self.levels = levels
        self.forget()

    def forget(self) -> None:
        """Begin a new epoch."""
        self._right = torch.zeros(len(self.levels), dtype=torch.float64)
        self._loss = torch.zeros(len(self.levels), dtype=torch.float64)
        self._levels = torch.zeros(sum(self.levels), dtype=torch.float64)
        self._spread = torch.zeros(2, dtype=torch.float64)

    def add(self, z: Tensor, logits: tuple[Tensor, ...], targets: Tensor, weight: Tensor) -> None:
        """Count a batch."""
        start = 0
        for column, found in enumerate(logits):
            target = targets[:, column]
            used = (weight * (target >= 0)).double().cpu()
            known = target.clamp(min=0)
            right = (found.argmax(1) == known).double().cpu()
            losses = F.cross_entropy(found, known, reduction="none").double().cpu()
            self._right[column] += (right * used).sum()
            self._loss[column] += (losses * used).sum()
            self._levels.index_add_(0, start + known.cpu(), used)
            start += self.levels[column]
            self._spread[1] = torch.maximum(self._spread[1], _spread(found))
        self._spread[0] = torch.maximum(self._spread[0], _spread(z))

    def close(self) -> tuple[dict[str, float], bool]:
        """Means over columns and processes, and whether the adversary collapsed.

        It collapsed where it is worse than the best constant guess by more than 0.1 nats, or where
        its output stands still while its input varies. Being as good as the guess is no collapse:
        that is what a fair predictor leaves it.
        """
        parts = [self._right, self._loss, self._levels, self._spread]
        joined = all_reduce_sum(torch.cat(parts).to(communication_device())).cpu()
        right, loss, levels, spread = torch.split(joined, [len(part) for part in parts])
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
        if not accuracy:
            return {"adversary_accuracy": float("nan"), "majority_accuracy": float("nan")}, False
        still = float(spread[0]) > 1e-3 and float(spread[1]) < 1e-6
        lost = max(excess) > _LOST or any(map(math.isnan, excess))
        n = len(accuracy)
        return {
            "adversary_accuracy": sum(accuracy) / n,
            "majority_accuracy": sum(majority) / n,
        }, still or lost


def _spread(values: Tensor) -> Tensor:
    if len(values) < 2:
        return torch.zeros((), dtype=torch.float64)
    return values.detach().double().std(dim=0, correction=0).max().cpu()
