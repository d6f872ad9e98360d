"""Distances of whole score distributions."""

from __future__ import annotations

from typing import ClassVar, Unpack

import torch
from torch import Tensor

from fairtrain._parameters import Choice, Real, Table, checked
from fairtrain.losses.base import GroupSettings
from fairtrain.losses.batch import FairnessBatch
from fairtrain.losses.dependence import On, ScoreDependenceLoss, attribute_columns
from fairtrain.losses.disparity import REDUCTIONS, Reduction, disparity
from fairtrain.losses.functional import GroupMoments, shrink

__all__ = ["WassersteinLoss"]


class WassersteinLoss(ScoreDependenceLoss):
    r"""Distance of score distributions: demographic parity at every threshold (Jiang et al., 2020).

    With :math:`F_g` the distribution function of scores in group g,

    .. math:: \int \operatorname{disparity}\bigl(F_1(t), \dots, F_G(t)\bigr)\, dt .

    At each threshold t the groups' selection rates are compared by ``reduction``:
    ``"l1_to_mean"`` gives :math:`\sum_g w_g W_1(P_g, P)`, which for two groups is exactly the
    1-Wasserstein distance between them; ``"max_gap"`` the area between the outermost distribution
    functions; ``"squared_pairs"`` the mean Cramer distance over pairs. Every row gets gradient;
    time O(n log n + nG).

    Parameters
    ----------
    on : {"decisions", "outputs"}, default="decisions"
        Soft decisions, or outputs as they are (regression), in whose unit the distance then is.
    reduction : str, default="l1_to_mean"
        As in :func:`~fairtrain.losses.disparity.disparity`.
    shrinkage : float >= 0, default=0
        Rows that the overall distribution counts for in each group.
    **settings
        Keywords of :class:`~fairtrain.losses.base.FairnessLoss`.

    Examples
    --------
    >>> import torch
    >>> from fairtrain.losses import WassersteinLoss
    >>> scores = torch.tensor([1.0, 2.0, 4.0, 5.0])
    >>> WassersteinLoss(on="outputs")(scores, None, torch.tensor([0, 0, 1, 1]))
    tensor(3.)
    """

    weights_by_name: ClassVar[tuple[str, ...]] = ("size",)

    _allowed: ClassVar[Table] = {
        "reduction": Choice(*REDUCTIONS),
        "shrinkage": Real(0),
    }

    @checked
    def __init__(
        self,
        *,
        on: On | None = None,
        reduction: Reduction = "l1_to_mean",
        shrinkage: float = 0.0,
        **settings: Unpack[GroupSettings],
    ) -> None:
        super().__init__(on=on, **settings)
        self.reduction: Reduction = reduction
        self.shrinkage = shrinkage

    def penalty(self, batch: FairnessBatch) -> Tensor:
        """Integrate the disparity of distribution functions over thresholds."""
        scores = self.scores(batch.outputs)
        if len(scores) < 2:
            return scores.sum() * 0
        ordered, order = scores.sort(dim=0)
        # Distribution functions move only with the scores' ranks: the gradient is in the gaps.
        with torch.no_grad():
            heights = [
                self._disparity(batch, column) for column in order.unbind(1)
            ]  # one score column, or the few of a representation
        return (ordered.diff(dim=0) * torch.stack(heights, dim=1)).sum(0).mean()

    def _disparity(self, batch: FairnessBatch, order: Tensor) -> Tensor:
        member, rows = attribute_columns(batch)
        mass = (member * rows.unsqueeze(1))[order]
        counts = member.sum(0) if batch.weights is None else member.T @ batch.weights
        total = mass.sum(0)
        below = mass.cumsum(0)[:-1]
        functions = below / torch.where(total > 0, total, 1)
        moments = GroupMoments(functions, counts.expand_as(functions), below.sum(-1))
        if self.shrinkage:
            means = shrink(functions, moments.counts, moments.overall.unsqueeze(-1), self.shrinkage)
            moments = moments._replace(means=means)
        weights = self.weights_of_groups(moments, batch.levels, functions)
        return disparity(moments, self.reduction, weights)
