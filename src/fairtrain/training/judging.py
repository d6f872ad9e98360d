"""What a module decides about the rows of a source, and the report on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fairtrain.constraints import Constraint
from fairtrain.data.groups import Groups, GroupScheme
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidDataError
from fairtrain.metrics.outcomes import report_on_classes, report_on_values
from fairtrain.metrics.report import FairnessReport, report_on
from fairtrain.metrics.verdicts import RowsRole
from fairtrain.training.batch import Batch
from fairtrain.training.distributed import gather_rows
from fairtrain.training.heads import Head

__all__ = ["Decided", "Judge", "Members", "decide"]

Floats = NDArray[np.float64]

Members = Sequence[tuple[float, nn.Module]]
"""Modules with the share of decisions that each makes; one, or the two of a mixture."""


@dataclass(frozen=True)
class Decided:
    """Rows with what was decided about them.

    Attributes
    ----------
    shares : ndarray of shape (n,) or (n, C)
        1 for the (favourable) decision, or its probability; numbers for regression.
    y : ndarray of shape (n,)
        Labels as class numbers, or numbers.
    codes : ndarray of int64, shape (n,)
        Groups.
    weight : ndarray of shape (n,) or None
        Weights.
    """

    shares: Floats
    y: NDArray[Any]
    codes: NDArray[np.int64]
    weight: Floats | None


@torch.no_grad()
def decide(members: Members, batches: Iterable[Batch], head: Head, device: torch.device) -> Decided:
    """Decide about the rows of all processes.

    Parameters
    ----------
    members : sequence of (share, module)
        Who decides; on the CPU before and after.
    batches : iterable of Batch
        Rows of this process.
    head : Head
        What outputs mean.
    device : torch.device
        Where batches are.
    """
    for _, module in members:
        module.to(device).eval()
    found: list[tuple[Tensor, ...]] = []
    weighted = False
    for batch in batches:
        n = len(batch.y)
        shares = sum(
            share * head.hard(head.outputs(module(batch.x), n)).double().cpu()
            for share, module in members
        )
        assert isinstance(shares, Tensor)
        weighted = weighted or batch.weight is not None
        weight = torch.ones(n) if batch.weight is None else batch.weight
        found.append((shares, batch.y.cpu(), batch.codes.cpu(), weight.double().cpu()))
    for _, module in members:
        module.cpu()
    if not found:
        raise InvalidDataError("a loader gave no rows.")
    columns = [
        gather_rows(torch.cat(parts).to(device)).cpu().numpy() for parts in zip(*found, strict=True)
    ]
    return Decided(columns[0], columns[1], columns[2], columns[3] if weighted else None)


@dataclass(frozen=True)
class Judge:
    """Makes reports.

    Attributes
    ----------
    constraints : tuple of Constraint
        What is asked.
    scheme : GroupScheme
        Over which groups.
    head : Head
        Of what task.
    labels : ndarray or None
        Labels by class number.
    confidence : float
        Level of intervals and verdicts.
    """

    constraints: tuple[Constraint, ...]
    scheme: GroupScheme
    head: Head
    labels: NDArray[Any] | None
    confidence: float

    def __call__(self, decided: Decided, role: RowsRole) -> FairnessReport:
        """Report on decisions.

        Raises
        ------
        InvalidDataError
            If the rows hold too few groups to compare.
        """
        groups = Groups(self.scheme, decided.codes)
        level = self.confidence
        if self.head.task == "regression":
            return report_on_values(
                decided.y.astype(np.float64),
                decided.shares,
                groups,
                decided.weight,
                self.constraints,
                rows=role,
                confidence=level,
            )
        assert self.labels is not None
        if self.head.task == "multiclass":
            return report_on_classes(
                decided.y.astype(np.int64),
                decided.shares,
                groups,
                decided.weight,
                self.constraints,
                self.labels.tolist(),
                rows=role,
                confidence=level,
            )
        rows = Rows.judged(
            decided.y.astype(np.float64),
            decided.shares,
            groups,
            decided.weight,
            favourable=self.labels[1],
        )
        return report_on(rows, self.constraints, rows=role, confidence=level)
