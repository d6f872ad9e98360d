"""Hard rates over a whole epoch, batch by batch and over all processes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from fairtrain._parameters import ANYTHING, NUMBER_OF_GROUPS, Real, Table, checked
from fairtrain.constraints import Constraint, ConstraintSpec, as_constraints
from fairtrain.constraints.rates import Rate
from fairtrain.data.groups import Groups, GroupScheme
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.losses.batch import (
    check_codes,
    read_column,
    read_outputs,
    read_sensitive,
    read_targets,
    value_range,
)
from fairtrain.losses.distributed import all_reduce_sum, communication_device
from fairtrain.losses.functional import combine_codes

__all__ = ["EpochFairness", "EpochFairnessMeter", "GroupRate"]


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
        For each constraint, its largest pairwise gap; for ``BoundedGroupLoss`` the largest group
        mean. NaN where fewer than two groups (one group) have rows.
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
        if self.scheme is None and (overall or any(c.over is not None for c in self.constraints)):
            raise InvalidParameterError(
                "a constraint with over= or overall=True needs groups=Groups.from_sensitive(...), "
                "which knows the sensitive columns."
            )
        if num_groups is None and self.scheme is not None:
            num_groups = len(self.scheme)
        self.levels: tuple[int, ...] | None = None
        if num_groups is not None:
            self.levels = (
                (num_groups,) if isinstance(num_groups, int) else tuple(map(int, num_groups))
            )
        self.threshold = threshold
        self.process_group = process_group
        self.reset()

    def reset(self) -> None:
        """Start a new epoch."""
        groups = 0 if self.levels is None else math.prod(self.levels)
        # Slot 0 is for rows of unknown group: they count for accuracy alone.
        self._weights = torch.zeros(groups + 1, 2, 2, dtype=torch.float64)
        self._rows = torch.zeros(groups + 1, 2, 2, dtype=torch.int64)
        self.weighted = False

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
            self.weighted = True
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
        known = weights[1:]
        rates = {
            rate.name: _rate(rate, known)
            for constraint in self.constraints
            for rate in constraint.rates
        }
        right = weights[:, 0, 0].sum() + weights[:, 1, 1].sum()
        names = (
            tuple(map(str, range(len(known)))) if self.scheme is None else tuple(self.scheme.names)
        )
        return EpochFairness(
            rates=rates,
            gaps={c.name: self._gap(c, known) for c in self.constraints},
            accuracy=float(right) / total,
            n_rows=int(rows.sum()),
            group_names=names,
        )

    def _gap(self, constraint: Constraint, weights: Tensor) -> float:
        if self.scheme is not None:
            coarse, parent = constraint.partition(self.scheme)
            merged = torch.zeros(len(coarse), 2, 2, dtype=weights.dtype)
            weights = merged.index_add(0, torch.from_numpy(parent), weights)
        found = [_rate(rate, weights) for rate in constraint.rates]
        if constraint.absolute:
            present = found[0].rate[found[0].count > 0]
            extreme = present.min if constraint.larger_is_fairer else present.max
            return float(extreme()) if len(present) else math.nan
        gaps = [gap for rate in found if not math.isnan(gap := rate.gap)]
        return max(gaps, default=math.nan)

    def _codes(self, sensitive: Tensor) -> Tensor:
        if sensitive.is_floating_point():
            raise InvalidDataError(
                f"sensitive_features must hold integer codes, got {sensitive.dtype}; call .long()."
            )
        codes = sensitive.long()
        width = codes.shape[1] if codes.ndim == 2 else 1
        if self.levels is None:
            if width > 1:
                raise InvalidParameterError(
                    "several sensitive columns need num_groups, one number a column."
                )
            bounds = value_range(codes)
            self._grow(int(bounds[1]) + 1 if bounds else 0)
            check_codes(codes, (len(self._rows) - 1,))
            return codes
        if width != len(self.levels):
            raise InvalidDataError(
                f"sensitive_features has {width} column(s), num_groups describes "
                f"{len(self.levels)}."
            )
        check_codes(codes, self.levels)
        return codes if codes.ndim == 1 else combine_codes(codes, self.levels)

    def _grow(self, groups: int) -> None:
        missing = groups + 1 - len(self._rows)
        if missing > 0:
            self._rows = torch.cat([self._rows, self._rows.new_zeros(missing, 2, 2)])
            self._weights = torch.cat([self._weights, self._weights.new_zeros(missing, 2, 2)])


def _rate(rate: Rate, weights: Float[Tensor, "g 2 2"]) -> GroupRate:
    """Mean of a rate's quantity over its event, from weights by group, label and decision."""
    label = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=weights.dtype)
    values = torch.as_tensor(rate.quantity(label, label.T)).expand(2, 2)
    inside = weights * torch.as_tensor(rate.mask(label)).to(weights.dtype)
    count = inside.sum((1, 2))
    total = (inside * values).sum((1, 2))
    return GroupRate(torch.where(count > 0, total / count, torch.nan), count)
