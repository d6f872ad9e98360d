"""Hard rates over a whole epoch or a data loader, batch by batch and over all processes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from numpy.typing import NDArray
from torch import Tensor, nn

from fairtrain._parameters import ANYTHING, NUMBER_OF_GROUPS, Real, Table, checked
from fairtrain.constraints import Constraint, ConstraintSpec, as_constraints
from fairtrain.constraints.bounds import RateBounds
from fairtrain.constraints.families import RateFamily, families_of
from fairtrain.constraints.table import CellRates
from fairtrain.data.groups import Groups, GroupScheme
from fairtrain.data.rows import Role, Rows
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.losses.batch import (
    read_column,
    read_outputs,
    read_sensitive,
    read_targets,
    require_few_groups,
    value_range,
)
from fairtrain.losses.distributed import all_reduce_sum, communication_device
from fairtrain.metrics.report import FairnessReport, report_on
from fairtrain.training.batches.adapter import BatchAdapter, read_batch
from fairtrain.training.batches.inputs import call_module, to_device
from fairtrain.training.batches.loaders import (
    code_columns,
    group_codes,
    levels_of,
    numbered_scheme,
)
from fairtrain.training.heads import read_logits
from fairtrain.training.loop.engine import device_of

__all__ = ["EpochFairness", "EpochFairnessMeter", "GroupRate", "evaluate_fairness"]


@dataclass(frozen=True)
class GroupRate:
    """One rate of every group.

    Attributes
    ----------
    rate : ndarray-like Tensor of float64, shape (G,)
        Rates; NaN where ``count`` is 0.
    count : Tensor of float64, shape (G,)
        Rows, or sum of weights, that each rate rests on.
    """

    rate: Tensor
    count: Tensor

    @property
    def gap(self) -> float:
        """Largest difference between two groups that have rows; NaN if there are fewer than two."""
        present = self.rate[self.count > 0]
        return float(present.max() - present.min()) if len(present) > 1 else math.nan


@dataclass(frozen=True)
class EpochFairness:
    """What :meth:`EpochFairnessMeter.compute` gives.

    Attributes
    ----------
    rates : dict of str to GroupRate
        Every rate the constraints speak of, by name, for the finest groups.
    gaps : dict of str to float
        For each constraint, its largest pairwise gap; for ``BoundedGroupLoss`` and ``AtMost`` the
        largest group mean, for ``AtLeast`` the smallest, and where groups have bounds of their own
        that of the group nearest to its bound. NaN where fewer than two groups (one group) have
        rows.
    accuracy : float
        Share of right decisions, over all rows.
    n_rows : int
        Rows seen, those of unknown group included.
    group_names : tuple of str
        Names of the groups, in code order.
    """

    rates: dict[str, GroupRate]
    gaps: dict[str, float]
    accuracy: float
    n_rows: int
    group_names: tuple[str, ...]


class EpochFairnessMeter:
    r"""Hard group rates, gaps and accuracy of an epoch, from sums.

    A decision is favourable where the model's probability reaches ``threshold``. Rows are kept as
    counts by group, label and decision, so an epoch of any length needs memory of 4 numbers a
    group, and the result does not depend on how it was cut into batches or spread over processes.
    The numbers are those of :func:`fairtrain.fairness_report`.

    Parameters
    ----------
    constraints : Constraint, str, or list of these, default="demographic_parity"
        Whose rates and gaps are wanted.
    groups : Groups or GroupScheme, optional
        The groups that codes refer to. Needed for constraints with ``over=``.
    num_groups : int or sequence of int, optional
        Number of groups, or of levels of each sensitive column. Default: the largest code seen
        plus one (one column only).
    threshold : float in (0, 1), default=0.5
        Probability from which a decision is favourable.
    process_group : ProcessGroup, optional
        Processes whose rows belong together.

    Examples
    --------
    >>> import torch
    >>> from fairtrain.training import EpochFairnessMeter
    >>> meter = EpochFairnessMeter("demographic_parity", num_groups=2)
    >>> meter.update(torch.tensor([2.0, -1.0]), torch.tensor([1, 0]), torch.tensor([0, 0]))
    >>> meter.update(torch.tensor([1.0]), torch.tensor([1]), torch.tensor([1]))
    >>> meter.compute().gaps
    {'demographic_parity': 0.5}
    """

    _allowed: ClassVar[Table] = {
        "constraints": ANYTHING,
        "groups": ANYTHING,
        "num_groups": NUMBER_OF_GROUPS,
        "threshold": Real(0, 1, "()"),
        "process_group": ANYTHING,
    }

    @checked
    def __init__(
        self,
        constraints: ConstraintSpec = "demographic_parity",
        *,
        groups: Groups | GroupScheme | None = None,
        num_groups: int | Sequence[int] | None = None,
        threshold: float = 0.5,
        process_group: Any = None,
    ) -> None:
        self.constraints = as_constraints(constraints)
        self.scheme = groups.scheme if isinstance(groups, Groups) else groups
        overall = any(getattr(c, "overall", False) for c in self.constraints)
        of_columns = any(c.over is not None or c.given is not None for c in self.constraints)
        if self.scheme is None and (overall or of_columns):
            raise InvalidParameterError(
                "a constraint with over=, given= or overall=True needs "
                "groups=Groups.from_sensitive(...), which knows the sensitive columns."
            )
        if num_groups is None and self.scheme is not None:
            num_groups = len(self.scheme)
        self.levels = levels_of(num_groups) or None
        self.threshold = threshold
        self.process_group = process_group
        self.reset()

    def reset(self) -> None:
        """Start a new epoch."""
        groups = 0 if self.levels is None else math.prod(self.levels)
        # Slot 0 is for rows of unknown group: they count for accuracy alone.
        self._weights = torch.zeros(groups + 1, 2, 2, dtype=torch.float64)
        self._rows = torch.zeros(groups + 1, 2, 2, dtype=torch.int64)

    @torch.no_grad()
    def update(
        self,
        logits: Shaped[Tensor, "..."],
        targets: Shaped[Tensor, "..."],
        sensitive_features: Shaped[Tensor, "..."],
        *,
        sample_weight: Shaped[Tensor, "..."] | None = None,
    ) -> None:
        """Count a batch.

        Parameters
        ----------
        logits : Tensor of shape (n,), (n, 1) or (n, 2)
            Model outputs.
        targets : Tensor of shape (n,)
            Labels 0/1.
        sensitive_features : integer Tensor of shape (n,) or (n, k)
            Group codes, -1 for unknown.
        sample_weight : Tensor of shape (n,), optional
            Weight of each row.

        Raises
        ------
        InvalidDataError
            If shapes do not agree, or a label or code is out of range.
        """
        outputs = read_outputs(logits)
        if outputs.ndim == 2 and outputs.shape[1] == 2:
            outputs = outputs[:, 1] - outputs[:, 0]
        if outputs.ndim == 2:
            raise InvalidDataError(
                f"hard rates need one or two logits a row, got {outputs.shape[1]}; count one class "
                "against the rest."
            )
        labels = read_targets(targets, outputs, "label", check=True)
        if labels is None:
            raise InvalidDataError("EpochFairnessMeter needs targets, got None.")
        codes = self._codes(read_sensitive(sensitive_features, len(outputs)))
        chosen = outputs >= math.log(self.threshold / (1 - self.threshold))
        if bool(outputs.isnan().any()):
            raise InvalidDataError("logits hold NaN: no decision can be counted.")
        slots = ((codes + 1) * 2 + labels.long()) * 2 + chosen.long()
        # Counts stay on the CPU: some accelerators have no float64.
        slots = slots.cpu()
        self._rows.view(-1).index_add_(0, slots, torch.ones_like(slots))
        weights = torch.ones(len(slots), dtype=torch.float64)
        if sample_weight is not None:
            weights = read_column(sample_weight, len(outputs), "sample_weight").cpu().double()
        self._weights.view(-1).index_add_(0, slots, weights)

    def counts(self) -> tuple[Int[Tensor, "g 2 2"], Float[Tensor, "g 2 2"]]:
        """Rows and weights by group, label and decision, over all processes.

        Returns
        -------
        rows, weights : Tensors of shape (G + 1, 2, 2)
            Entry 0 holds the rows of unknown group.
        """
        device = communication_device(self.process_group)
        rows, weights = (
            all_reduce_sum(counted.to(device), self.process_group).cpu()
            for counted in (self._rows, self._weights)
        )
        return rows, weights

    def compute(self) -> EpochFairness:
        """Rates, gaps and accuracy of all rows so far.

        Raises
        ------
        InvalidDataError
            If no row was counted.
        """
        rows, weights = self.counts()
        total = float(weights.sum())
        if not total:
            raise InvalidDataError("no rows were counted: call update before compute.")
        # Rows of equal group, label and decision are one row with their weight.
        codes, labels, decisions = np.nonzero(weights[1:].numpy())
        y, weight = labels.astype(np.float64), weights[1:].numpy()[codes, labels, decisions]
        scheme = self.scheme or numbered_scheme(self.levels or (len(weights) - 1,))

        def measured(family: RateFamily) -> GroupRate:
            cells = CellRates(family, 0, y, codes, weight)
            return GroupRate(torch.from_numpy(cells(decisions)), torch.from_numpy(cells.totals))

        def widest(constraint: Constraint) -> float:
            gaps = []
            for family in families_of([constraint], scheme):
                rates = measured(family)
                if constraint.absolute:
                    return _nearest_to_its_bound(rates.rate.numpy(), family.bounds)
                gaps.append(rates.gap)
            return max((gap for gap in gaps if not math.isnan(gap)), default=math.nan)

        everyone = np.arange(len(scheme))
        finest = [RateFamily(c, r, scheme, everyone) for c in self.constraints for r in c.rates]
        right = weights[:, 0, 0].sum() + weights[:, 1, 1].sum()
        return EpochFairness(
            rates={family.rate.name: measured(family) for family in finest},
            gaps={c.name: widest(c) for c in self.constraints},
            accuracy=float(right) / total,
            n_rows=int(rows.sum()),
            group_names=tuple(
                map(str, range(len(scheme)) if self.scheme is None else scheme.names)
            ),
        )

    def _codes(self, sensitive: Tensor) -> Tensor:
        if self.levels is not None:
            return group_codes(sensitive, self.levels)
        columns = code_columns(sensitive)
        if columns.shape[1] > 1:
            raise InvalidParameterError(
                "several sensitive columns need num_groups, one number a column."
            )
        bounds = value_range(columns)
        groups = max(int(bounds[1]), 0) + 1 if bounds else 1
        require_few_groups((groups,))
        self._grow(groups)
        return group_codes(sensitive, (len(self._rows) - 1,))

    def _grow(self, groups: int) -> None:
        missing = groups + 1 - len(self._rows)
        if missing > 0:
            self._rows = torch.cat([self._rows, self._rows.new_zeros(missing, 2, 2)])
            self._weights = torch.cat([self._weights, self._weights.new_zeros(missing, 2, 2)])


def _nearest_to_its_bound(rates: NDArray[np.float64], bounds: RateBounds) -> float:
    """Of the groups that a bound speaks of, the rate that leaves it least room."""
    present = bounds.present(rates)
    sign = 1 if bounds.constraint.larger_is_fairer else -1
    room = np.where(present, sign * (rates - bounds.shift), np.inf)
    return float(rates[room.argmin()]) if present.any() else math.nan


def evaluate_fairness(
    module: nn.Module,
    loader: Iterable[Any],
    *,
    constraints: ConstraintSpec = "demographic_parity",
    threshold: float = 0.5,
    device: str | torch.device | None = None,
    groups: Groups | GroupScheme | None = None,
    num_groups: int | Sequence[int] | None = None,
    rows: Role = "certification",
    confidence: float = 0.95,
    adapter: BatchAdapter | None = None,
) -> FairnessReport:
    """Judge a module's decisions on all rows of a loader, in one pass.

    The module is put in ``eval()`` mode for the pass and back afterwards. Rows are counted, not
    kept. Under ``torch.distributed`` the rows of all processes are counted, and every process must
    call this.

    Parameters
    ----------
    module : nn.Module
        Gives logits of shape (n,), (n, 1) or (n, 2), or an output that holds them.
    loader : iterable
        Batches ``(x, y, sensitive_features)``, or of another shape that is guessed, see
        :class:`~fairtrain.training.batches.adapter.BatchColumns`.
    constraints : Constraint, str, or list of these, default="demographic_parity"
        The constraints that decisions are to keep.
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
    adapter : BatchAdapter, optional
        Takes batches apart that cannot be guessed.

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
        device = device_of(module)
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            for batch in loader:
                parts = read_batch(batch, adapter, required=("targets", "groups"))
                if parts.weight is not None or parts.clusters is not None:
                    raise InvalidDataError(
                        "evaluate_fairness counts independent rows: leave sample_weight and "
                        "clusters out of the batches, or judge with fairness_report."
                    )
                logits = read_logits(call_module(module, to_device(parts.inputs, device)))
                codes = torch.as_tensor(parts.groups).to(device)
                meter.update(logits, parts.targets.to(device), codes)
    finally:
        module.train(was_training)
    return report_on(_expanded(meter), meter.constraints, rows=rows, confidence=confidence)


def _expanded(meter: EpochFairnessMeter) -> Rows:
    """Rows that have the meter's counts: only counts matter to a report, not who is who."""
    counts = meter.counts()[0].numpy()
    if not counts.sum():
        raise InvalidDataError("the loader gave no rows.")
    slots, labels, decisions = np.nonzero(counts)
    y, decided, codes = np.repeat(
        [labels, decisions, slots - 1], counts[np.nonzero(counts)], axis=1
    )
    if meter.scheme is not None:
        groups = Groups(meter.scheme, codes)
    elif not (known := codes >= 0).any():
        raise InvalidDataError("no row belongs to a known group.")
    else:  # groups are numbers, and those that have rows are judged
        numbered = numbered_scheme(meter.levels or (len(counts) - 1,))
        present = Groups.from_sensitive(numbered.decode(codes[known]))
        codes[known] = present.codes
        groups = Groups(present.scheme, codes)
    return Rows.judged(y.astype(np.float64), decided.astype(np.float64), groups, favourable=1)
