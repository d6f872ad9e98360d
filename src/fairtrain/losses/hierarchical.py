"""Marginal groups first, intersections as far as their rows allow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Literal, Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from fairtrain._parameters import NONE, Choice, Real, Several, Table, Whole, checked
from fairtrain.constraints import ParityConstraint
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.losses.batch import FairnessBatch
from fairtrain.losses.disparity import disparity
from fairtrain.losses.functional import GroupMoments
from fairtrain.losses.group_mean import GroupMeanSettings
from fairtrain.losses.rates import RateParityLoss

__all__ = ["HierarchicalFairnessLoss"]


class HierarchicalFairnessLoss(RateParityLoss):
    r"""Parity over every sensitive column alone, and over their intersections.

    .. math:: \sum_{j} v_j\, D(\text{groups of column } j) + u\, D(\text{intersections})

    with D the chosen disparity. An intersection of :math:`n_g <` ``min_count`` rows is sparse. With
    ``sparse="shrink"`` its mean is pulled to its parents' (the average of its columns' group
    means),

    .. math:: \tilde m_g = c_g + \min(1, n_g / n_{\min})\,(m_g - c_g),

    with ``sparse="drop"`` it is left out. All other intersections and all marginal groups count as
    they are.

    Parameters
    ----------
    constraint : ParityConstraint or str, default="demographic_parity"
        What is compared.
    min_count : int >= 0, default=10
        Rows below which an intersection is sparse: rows in the batch (in the event of the rate,
        and with ``memory`` the remembered ones), or in ``group_counts``.
    sparse : {"shrink", "drop"}, default="shrink"
        What happens to sparse intersections.
    group_counts : sequence of int, optional
        Rows of each intersection in the training data, by code; decides instead of the batch.
    column_weights : sequence of float, optional
        Strength :math:`v_j` of each sensitive column; 1 by default.
    intersection_weight : float >= 0, default=0.5
        Strength u of the intersections.
    **settings
        Keywords of :class:`~fairtrain.losses.group_mean.GroupMeanLoss` and
        :class:`~fairtrain.losses.base.FairnessLoss`. ``num_groups`` holds one number a column;
        ``group_weights`` and ``shrinkage`` concern intersections only: keys may be tuples of
        column levels.

    Examples
    --------
    >>> import torch
    >>> from fairtrain.losses import HierarchicalFairnessLoss
    >>> loss = HierarchicalFairnessLoss(num_groups=(3, 2), group_weights={(2, 1): 2.0})
    >>> race_and_sex = torch.tensor([[0, 0], [0, 1], [1, 0], [2, 1]])
    >>> loss(torch.tensor([1.0, 0.0, -1.0, 2.0]), sensitive_features=race_and_sex)
    tensor(0.2760)
    """

    _group_counts: Tensor | None

    _allowed: ClassVar[Table] = {
        "min_count": Whole(0),
        "sparse": Choice("shrink", "drop"),
        "group_counts": Several(Real(0), "be a list of numbers of rows") | NONE,
        "column_weights": Several(Real(0), "be a list of finite numbers >= 0") | NONE,
        "intersection_weight": Real(0),
    }

    @checked
    def __init__(
        self,
        constraint: ParityConstraint | str = "demographic_parity",
        *,
        min_count: int = 10,
        sparse: Literal["shrink", "drop"] = "shrink",
        group_counts: Sequence[int] | None = None,
        column_weights: Sequence[float] | None = None,
        intersection_weight: float = 0.5,
        **settings: Unpack[GroupMeanSettings],
    ) -> None:
        super().__init__(constraint, **settings)
        groups = None if self.levels is None else math.prod(self.levels)
        if group_counts is not None and groups not in (None, len(group_counts)):
            raise InvalidParameterError(
                f"group_counts has {len(group_counts)} numbers for {groups} intersections."
            )
        self.min_count = min_count
        self.sparse: Literal["shrink", "drop"] = sparse
        self.column_weights = None if column_weights is None else tuple(map(float, column_weights))
        self.intersection_weight = float(intersection_weight)
        known = None if group_counts is None else torch.as_tensor(group_counts, dtype=torch.float32)
        self.register_buffer("_group_counts", known, persistent=False)

    def statistics(self, batch: FairnessBatch) -> Tensor:
        """Sum by intersection, then by each column: shape (S, K, G + sum of levels)."""
        fine = super().statistics(batch)
        if len(batch.levels) == 1:
            return fine
        grid = fine.reshape(*fine.shape[:2], *batch.levels)
        axes = range(2, grid.ndim)
        marginal = [grid.sum([axis for axis in axes if axis != own]) for own in axes]
        return torch.cat([fine, *marginal], dim=-1)

    def reduce(self, moments: GroupMoments, batch: FairnessBatch) -> Tensor:
        """Add up the disparities of all families of groups."""
        if len(batch.levels) == 1:
            return super().reduce(moments, batch)
        strengths = self.column_weights or (1.0,) * len(batch.levels)
        if len(strengths) != len(batch.levels):
            raise InvalidDataError(
                f"sensitive_features has {len(batch.levels)} columns, column_weights "
                f"{len(strengths)}."
            )
        fine, *marginals = _split(moments, [math.prod(batch.levels), *batch.levels])
        total = self._intersections(fine, marginals, batch) * self.intersection_weight
        for strength, family in zip(strengths, marginals, strict=True):
            apart = disparity(family, self.reduction, debias=self.debias)
            total = total + strength * self.over_rates(apart)
        return total

    def _intersections(
        self, fine: GroupMoments, marginals: list[GroupMoments], batch: FairnessBatch
    ) -> Tensor:
        fine, weights = self.weighted(fine, batch)
        known = self._group_counts
        rows = fine.counts if known is None else known.to(fine.means)
        if self.sparse == "drop":
            weights = (weights * (rows >= self.min_count)).expand_as(fine.means)
        elif self.min_count:
            trust = (rows / self.min_count).clamp(max=1).expand_as(fine.means)
            towards = _parents([family.means for family in marginals], batch.levels)
            variances = None if fine.variances is None else fine.variances * trust**2
            means = torch.lerp(towards, fine.means, trust)
            fine = fine._replace(means=means, variances=variances)
        return self.over_rates(disparity(fine, self.reduction, weights, debias=self.debias))

    def extra_repr(self) -> str:
        """Settings shown by ``print``."""
        return f"{super().extra_repr()}, min_count={self.min_count}, sparse={self.sparse!r}"


def _split(moments: GroupMoments, sizes: list[int]) -> list[GroupMoments]:
    means, counts = (torch.split(part, sizes, dim=-1) for part in (moments.means, moments.counts))
    families = map(partial(GroupMoments, overall=moments.overall), means, counts)
    if moments.variances is None:
        return list(families)
    variances = torch.split(moments.variances, sizes, dim=-1)
    return [f._replace(variances=v) for f, v in zip(families, variances, strict=True)]


def _parents(means: list[Tensor], levels: tuple[int, ...]) -> Float[Tensor, "k g"]:
    """Average of the column means that meet in each intersection."""
    grid = torch.cartesian_prod(*(torch.arange(n, device=means[0].device) for n in levels))
    met = [column[:, at] for column, at in zip(means, grid.unbind(1), strict=True)]
    return torch.stack(met).mean(0)
