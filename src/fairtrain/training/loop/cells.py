"""Sums of every rate in every group of a batch: what multipliers look at and pull on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from fairtrain.constraints import Objective
from fairtrain.constraints.objectives import BINS, OBJECTIVES
from fairtrain.constraints.rates import Rate, of_true_class
from fairtrain.constraints.table import RateTable
from fairtrain.exceptions import InvalidParameterError
from fairtrain.lagrangian import RateFamily
from fairtrain.losses.distributed import all_reduce_sum, communication_device, gather_rows
from fairtrain.losses.functional import rate_sums
from fairtrain.metrics.clusters import design_effects
from fairtrain.training.batches.batch import Batch
from fairtrain.training.batches.inputs import call_module
from fairtrain.training.heads import Head

__all__ = [
    "CellSums",
    "Measured",
    "batch_sums",
    "cluster_effects",
    "fixed",
    "measure",
    "measured",
    "rates_of",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Block:
    """Rates that go through one sum; entry 0 of a table serves code -1, rows of unknown group."""

    rates: tuple[Rate, ...]
    parent: Tensor
    size: int
    true_class: bool
    factor: Tensor | None = None

    @classmethod
    def of(cls, families: Sequence[RateFamily], head: Head, device: torch.device | None) -> _Block:
        first = families[0]
        rates = tuple(dict.fromkeys(f.rate for f in families))
        strata = [f for f in families if (f.rate, f.outcome) == (first.rate, first.outcome)]
        parent = np.full(len(first.parent), -1)
        for s, family in enumerate(strata):
            inside = family.parent >= 0
            parent[inside] = family.parent[inside] + s * len(first.scheme)
        factor = None
        if first.strata is not None:
            assert first.factor is not None  # fixed by the rows that train
            factor = torch.from_numpy(np.append(0.0, first.factor)).float().to(device)
        return cls(
            rates,
            torch.from_numpy(np.append(-1, parent)).to(device),
            len(strata) * len(first.scheme),
            head.task == "multiclass" and of_true_class(first.rate),
            factor,
        )


def _own_sum(family: RateFamily) -> Rate | None:
    return None if family.strata is None else family.rate


def fixed(families: Sequence[RateFamily], batches: Iterable[Batch], head: Head) -> list[RateFamily]:
    """Families with the factors of averages over strata, which all rows that train say.

    Raises
    ------
    InvalidParameterError
        If one is to average over strata where there are several classes.
    """
    pooled = [family for family in families if family.strata is not None]
    if not pooled:
        return list(families)
    if head.task == "multiclass":
        raise InvalidParameterError(
            f"{pooled[0].constraint.name}: averages over strata are kept for two classes only; "
            "leave pooled out, so that every stratum has the bound."
        )
    totals = torch.zeros(len(pooled), len(pooled[0].parent), dtype=torch.float64)
    for batch in batches:
        y, codes = batch.y.cpu(), batch.codes.cpu()
        weight = batch.weights(torch.float64).cpu()
        for i, family in enumerate(pooled):
            inside = (codes >= 0) & family.rate.mask(y)
            totals[i].index_add_(0, codes[inside], weight[inside])
    known = all_reduce_sum(totals.to(communication_device())).cpu().numpy()
    of_pooled = iter(known)
    return [
        family
        if family.strata is None
        else replace(family, factor=family.standard_weights(next(of_pooled)))
        for family in families
    ]


def cluster_effects(
    families: Sequence[RateFamily], batches: Iterable[Batch], classes: Sequence[Any] = ()
) -> Floats:
    """Design effects of all rates of the rows that steer, shape (n_cells,); 1 without clusters.

    Parameters
    ----------
    families : sequence of RateFamily
        What is compared.
    batches : iterable of Batch
        Rows of this process.
    classes : sequence of labels, optional
        By class number, where families have outcomes.
    """
    found = [
        (b.y.double(), b.codes, b.weights(torch.float64), b.clusters)
        for b in batches
        if b.clusters is not None
    ]
    if not found:
        return np.ones(sum(len(family.scheme) for family in families))
    device = communication_device()
    y, codes, weight, clusters = (
        gather_rows(torch.cat(parts).to(device)).cpu().numpy() for parts in zip(*found, strict=True)
    )
    effects = []
    for family in families:
        own = y if family.outcome is None else y == list(classes).index(family.outcome)
        own = own.astype(np.float64)
        table = RateTable([family], own, codes, weight, linear=[False])
        effects.append(design_effects(table, own, codes, clusters))
    return np.concatenate(effects)


class CellSums:
    """Sums of all rates of a list of families, as one differentiable vector.

    Parameters
    ----------
    families : sequence of RateFamily
        What is compared, in the order of :func:`fairtrain.lagrangian.families_of`.
    head : Head
        How labels are read.
    device : torch.device
        Where batches are.
    objective : Objective, default=accuracy
        What performance is.

    Attributes
    ----------
    effects : ndarray of shape (n_cells,)
        Design effects of the rows that steer, by which they are worth fewer.
    """

    def __init__(
        self,
        families: Sequence[RateFamily],
        head: Head,
        device: torch.device | None = None,
        objective: Objective = OBJECTIVES["accuracy"],
    ) -> None:
        self.families = list(families)
        self.head = head
        self.objective = objective
        self.n_cells = sum(len(f.scheme) for f in families)
        self.effects = np.ones(self.n_cells)
        self.n_chosen = max(head.n_classes, 2)
        self.n_bins = 0 if objective.is_accuracy or head.task != "binary" else 2 * BINS
        self.n_sums = 4 * self.n_cells + 3 + self.n_chosen + self.n_bins
        # Rates of one constraint share groups, and go through one sum; so do its strata, as groups
        # of their own. Averages over strata weigh the rows of every event differently.
        self._blocks: list[_Block] = []
        for _, some in groupby(self.families, key=lambda f: (id(f.constraint), _own_sum(f))):
            self._blocks.append(_Block.of(list(some), head, device))

    def __call__(
        self,
        decisions: Float[Tensor, "n *classes"],
        y: Tensor,
        codes: Int[Tensor, " n"],
        weight: Float[Tensor, " n"] | None = None,
        *,
        squares: bool = False,
    ) -> Float[Tensor, "s cells"]:
        """Sum quantities and rows.

        Parameters
        ----------
        decisions : Tensor of shape (n,) or (n, C)
            Soft or hard decisions (outputs, for regression).
        y, codes, weight
            See :class:`~fairtrain.training.batches.batch.Batch`.
        squares : bool, default=False
            Also sum squared quantities and squared weights.

        Returns
        -------
        Tensor of shape (2, n_cells), or (4, n_cells) with ``squares``
            Sums and counts (and the two others) of this process's rows.
        """
        parts = []
        for block in self._blocks:
            p, labels = decisions, y
            if block.true_class:
                p = decisions.gather(1, y.long().unsqueeze(1)).squeeze(1)
                labels = torch.ones_like(p)
            elif decisions.ndim == 2:
                labels = F.one_hot(y.long(), decisions.shape[1])
            at, own = codes + 1, weight
            if block.factor is not None:
                factor = block.factor[at]
                own = factor if weight is None else weight * factor
            sums = rate_sums(
                p, labels, block.parent[at], block.size, block.rates, own, squares=squares
            )
            parts.append(sums.reshape(len(sums), -1))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


@dataclass(frozen=True)
class Measured:
    """What one pass over rows found.

    Attributes
    ----------
    sums, counts, effective : ndarray of shape (n_cells,)
        Hard sums of the quantities, rows (or weights), and effective rows: Kish's, less what
        clusters take from them.
    performance : float
        Value of the objective; for regression minus the mean squared error.
    accuracy : float
        Share of right decisions; for regression as above.
    loss : float
        Mean base loss.
    minority : float
        Share of rows that do not get the most frequent decision; 1 for regression.
    n_rows : float
        Rows, or the sum of their weights.
    """

    sums: Floats
    counts: Floats
    effective: Floats
    performance: float
    accuracy: float
    loss: float
    minority: float
    n_rows: float

    @property
    def rates(self) -> Floats:
        """Hard rates; NaN where a group has no rows."""
        return rates_of(np.stack([self.sums, self.counts]))


def rates_of(sums: Floats) -> Floats:
    """Sums over counts, shape (2, n_cells) -> (n_cells,); NaN where nothing was counted."""
    unknown = np.full(sums.shape[1], np.nan)
    return np.asarray(np.divide(sums[0], sums[1], out=unknown, where=sums[1] > 0))


@torch.no_grad()
def measure(
    module: nn.Module, batches: Iterable[Batch], cells: CellSums, row_loss: Any
) -> Measured:
    """Hard rates, accuracy and loss of all rows, over all processes.

    Parameters
    ----------
    module : nn.Module
        In ``eval()`` mode during the pass and as before after it.
    batches : iterable of Batch
        Rows of this process, each once.
    cells : CellSums
        What is summed.
    row_loss : callable
        ``row_loss(outputs, y, weight)`` -> mean loss of a batch.
    """
    was_training = module.training
    module.eval()
    total = torch.zeros(cells.n_sums, dtype=torch.float64)
    try:
        for batch in batches:
            outputs = cells.head.outputs(call_module(module, batch.x), len(batch.y))
            total += batch_sums(outputs, batch, cells, row_loss).double().cpu()
    finally:
        module.train(was_training)
    return measured(all_reduce_sum(total.to(communication_device())).cpu(), cells)


def batch_sums(outputs: Tensor, batch: Batch, cells: CellSums, row_loss: Any) -> Tensor:
    """Sum all that :func:`measure` needs of a batch, as one vector.

    Parameters
    ----------
    outputs : Tensor of shape (n,) or (n, C)
        Outputs of the batch.
    batch, cells, row_loss
        As in :func:`measure`.

    Returns
    -------
    Tensor of shape (n_sums,)
        Four sums of every cell; rows, right decisions, loss; rows of each decision; rows by label
        and score, where the objective needs them.
    """
    head = cells.head
    weight, decided = batch.weights(outputs.dtype), head.hard(outputs)
    sums = cells(decided, batch.y, batch.codes, weight, squares=True)
    rows = weight.sum()
    right = (head.right(outputs, batch.y) * weight).sum()
    loss = row_loss(outputs, head.labels(batch.y), batch.weight) * rows
    if head.task == "multiclass":
        chosen = (decided * weight.unsqueeze(1)).sum(0)
    else:
        positive = (decided * weight).sum()
        chosen = torch.stack([rows - positive, positive])
    parts = [sums.reshape(-1), torch.stack([rows, right, loss]), chosen]
    if cells.n_bins:
        parts.append(_binned(outputs, batch.y, weight))
    return torch.cat(parts)


def _binned(outputs: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """As :func:`fairtrain.constraints.objectives.binned`, of logits."""
    place = (torch.sigmoid(outputs) * BINS).long().clamp(0, BINS - 1)
    half = BINS // 2
    place = torch.where(outputs > 0, place.clamp(min=half), place.clamp(max=half - 1))
    bins = torch.zeros(2 * BINS, dtype=weight.dtype, device=weight.device)
    return bins.index_add_(0, (y > 0.5).long() * BINS + place, weight)


def measured(total: Tensor, cells: CellSums) -> Measured:
    """Read the sums of all batches."""
    head, n = cells.head, 4 * cells.n_cells
    overall, chosen = total[n : n + 3], total[n + 3 : n + 3 + cells.n_chosen]
    n_rows = float(overall[0])
    accuracy = performance = float(overall[1]) / n_rows if n_rows else np.nan
    loss = float(overall[2]) / n_rows if n_rows else np.nan
    if cells.objective.name == "log_loss":
        performance = -loss
    elif cells.n_bins:
        performance = cells.objective.of_bins(total[-cells.n_bins :].numpy())
    sums, counts, _, squared = total[:n].reshape(4, -1).numpy()
    effective = np.divide(counts**2, squared, out=np.zeros_like(counts), where=squared > 0)
    share = float(chosen.max()) / n_rows if n_rows and head.task != "regression" else 0.0
    return Measured(
        sums=sums.copy(),
        counts=counts.copy(),
        effective=effective / cells.effects,
        performance=performance,
        accuracy=accuracy,
        loss=loss,
        minority=1.0 - share,
        n_rows=n_rows,
    )
