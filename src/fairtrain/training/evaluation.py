"""A fairness report on a data loader."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from fairtrain.constraints import ConstraintSpec
from fairtrain.data.groups import Groups, GroupScheme
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidDataError
from fairtrain.metrics import FairnessReport
from fairtrain.metrics.report import report_on
from fairtrain.training.batch import read_batch, to_device
from fairtrain.training.meter import EpochFairnessMeter

__all__ = ["evaluate_fairness"]


def evaluate_fairness(
    module: nn.Module,
    loader: Iterable[Any],
    *,
    constraints: ConstraintSpec = "demographic_parity",
    threshold: float = 0.5,
    device: str | torch.device | None = None,
    groups: Groups | GroupScheme | None = None,
    num_groups: int | Sequence[int] | None = None,
    rows: Literal["certification", "steering", "training"] = "certification",
    confidence: float = 0.95,
) -> FairnessReport:
    """Judge a module's decisions on all rows of a loader, in one pass.

    The module is put in ``eval()`` mode for the pass and back afterwards. Rows are counted, not
    kept. Under ``torch.distributed`` the rows of all processes are counted, and every process must
    call this.

    Parameters
    ----------
    module : nn.Module
        Gives logits of shape (n,), (n, 1) or (n, 2).
    loader : iterable
        Batches ``(x, y, sensitive_features)``, or mappings with these keys; x may be any structure
        of tensors.
    constraints : Constraint, str, or list of these, default="demographic_parity"
        What is asked.
    threshold : float in (0, 1), default=0.5
        Probability from which a decision is favourable.
    device : str or torch.device, optional
        Where to run; by default where the module's parameters are.
    groups : Groups or GroupScheme, optional
        The groups that codes refer to: names in the report, ``over=`` in constraints.
    num_groups : int or sequence of int, optional
        Number of groups, or of levels of each sensitive column.
    rows : {"certification", "steering", "training"}, default="certification"
        What the rows were used for before; see :func:`fairtrain.fairness_report`.
    confidence : float, default=0.95
        Level of the intervals.

    Returns
    -------
    FairnessReport

    Raises
    ------
    InvalidDataError
        If the loader is empty or a batch cannot be read.

    Examples
    --------
    >>> import torch
    >>> from fairtrain.training import evaluate_fairness
    >>> x = torch.tensor([[1.0], [-1.0], [2.0], [3.0]])
    >>> batches = [(x, torch.tensor([1, 0, 1, 1]), torch.tensor([0, 0, 1, 1]))]
    >>> report = evaluate_fairness(torch.nn.Identity(), batches)
    >>> report.results[0].achieved
    0.5
    """
    meter = EpochFairnessMeter(
        constraints, groups=groups, num_groups=num_groups, threshold=threshold
    )
    if device is None:
        device = next((p.device for p in module.parameters()), torch.device("cpu"))
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            for batch in loader:
                x, y, sensitive, weight = read_batch(batch)
                if weight is not None:
                    raise InvalidDataError(
                        "evaluate_fairness counts rows: leave sample_weight out of the batches."
                    )
                meter.update(module(to_device(x, device)), y.to(device), sensitive.to(device))
    finally:
        module.train(was_training)
    return report_on(_expanded(meter), meter.constraints, rows=rows, confidence=confidence)


def _expanded(meter: EpochFairnessMeter) -> Rows:
    """Rows that have the meter's counts: only counts matter to a report, not who is who."""
    counts = meter.counts()[0].numpy()
    if not counts.sum():
        raise InvalidDataError("the loader gave no rows.")
    slots, labels, decisions = np.nonzero(counts)
    times = counts[slots, labels, decisions]
    codes = np.repeat(slots - 1, times)
    return Rows.judged(
        np.repeat(labels, times).astype(np.float64),
        np.repeat(decisions, times).astype(np.float64),
        _groups(meter, codes),
        favourable=1,
    )


def _groups(meter: EpochFairnessMeter, codes: np.ndarray) -> Groups:
    if meter.scheme is not None:
        return Groups(meter.scheme, codes)
    present = np.unique(codes[codes >= 0])
    if not len(present):
        raise InvalidDataError("no row belongs to a known group.")
    levels = meter.levels or (int(present.max()) + 1,)
    columns = np.unravel_index(present, levels)
    names = {"group" if len(levels) == 1 else f"group_{i}": c for i, c in enumerate(columns)}
    scheme = Groups.from_sensitive(names).scheme
    known = codes >= 0
    own = np.full(codes.shape, -1)
    own[known] = np.searchsorted(present, codes[known])
    return Groups(scheme, own)
