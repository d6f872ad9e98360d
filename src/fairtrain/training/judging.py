"""What a module decides about the rows of a source."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from fairtrain.data.groups import Groups
from fairtrain.data.rows import Rows
from fairtrain.exceptions import FairtrainError, InvalidDataError
from fairtrain.losses.distributed import gather_rows
from fairtrain.training.batch import Batch
from fairtrain.training.fitdata import FitData
from fairtrain.training.heads import Head

__all__ = ["Members", "decide", "decisions", "require_finite"]

Members = Sequence[tuple[float, nn.Module]]
"""Modules with the share of decisions that each makes; one, or the two of a mixture."""


@torch.no_grad()
def decide(members: Members, batches: Iterable[Batch], data: FitData) -> Rows:
    """Decide about the rows of all processes.

    Parameters
    ----------
    members : sequence of (share, module)
        Who decides; on the CPU before and after.
    batches : iterable of Batch
        Rows of this process.
    data : FitData
        What outputs, labels and codes mean, and where batches are.

    Returns
    -------
    Rows
        Without features; ``decision`` is 1 for the (favourable) decision, or its probability, with
        a column a class where there are several; numbers for regression.

    Raises
    ------
    FairtrainError
        If an output is NaN or infinite.
    """
    device = data.engine.device
    for _, module in members:
        module.to(device).eval()
    found: list[tuple[Tensor, ...]] = []
    weighted = False
    for batch in batches:
        n = len(batch.y)
        total = torch.zeros((), dtype=torch.float64)
        for share, module in members:
            total = total + share * decisions(data.head, module(batch.x), n).cpu()
        weighted = weighted or batch.weight is not None
        weight = torch.ones(n) if batch.weight is None else batch.weight
        found.append((total, batch.y.cpu(), batch.codes.cpu(), weight.double().cpu()))
    for _, module in members:
        module.cpu()
    if not found:
        raise InvalidDataError("a loader gave no rows.")
    shares, y, codes, weights = (
        gather_rows(torch.cat(parts).to(device)).cpu().numpy() for parts in zip(*found, strict=True)
    )
    groups = Groups(data.scheme, codes)
    rows = Rows(None, y.astype(np.float64), groups, weights if weighted else None, data.labels)
    return rows.decided(shares)  # raises on all processes, or on none


def decisions(head: Head, raw: object, n: int) -> Tensor:
    """Decisions as float64; NaN where an output is NaN, which would count as a no to a person."""
    outputs = head.outputs(raw, n).double()
    decided = head.hard(outputs)
    wrong = ~torch.isfinite(outputs)
    return decided.masked_fill(wrong.any(1, keepdim=True) if wrong.ndim == 2 else wrong, torch.nan)


def require_finite(module: nn.Module) -> None:
    """Raise if a weight is NaN or infinite; buffers may be (the mask of an attention layer)."""
    for name, weight in module.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            raise FairtrainError(
                f"training left NaN or infinity in {name!r}; lower lr, look for NaN in the module "
                "or the data, or set clip_norm."
            )
