"""The losses that compare group means: sums, memory, shrinkage, weights, reduction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fairtrain._parameters import FLAG, Choice, Real, Table, checked
from fairtrain.exceptions import InvalidParameterError
from fairtrain.losses.base import FairnessLoss, GroupSettings
from fairtrain.losses.batch import FairnessBatch
from fairtrain.losses.disparity import REDUCTIONS, Reduction, check_debias, disparity
from fairtrain.losses.distributed import all_reduce_sum
from fairtrain.losses.functional import GroupMoments, group_moments, moment_sums, shrunk

__all__ = ["GroupMeanLoss", "GroupMeanSettings", "RunningSums"]


class GroupMeanSettings(GroupSettings, total=False):
    """Keywords of every :class:`GroupMeanLoss`."""

    reduction: Reduction
    shrinkage: float
    memory: float
    debias: bool


class RunningSums(nn.Module):
    r"""Group sums that fade by ``decay`` with every batch.

    .. math:: R_t = \rho\,(R_{t-1} + S_t)

    A batch is judged by :math:`S_t + R_{t-1}`, which holds about :math:`1 / (1 - \rho)` batches.
    Gradient flows through the batch alone, scaled as if the batch were the whole: a group mean
    takes its *value* from all remembered rows and its *gradient* from the batch mean.

    The sums belong to the loss that made them: a persistent buffer ``running`` of shape (S, K, G),
    saved in ``state_dict`` and restored whatever shape the checkpoint has. A batch with a NaN or
    infinity leaves it as it was. Under ``torch.distributed`` the sums are all-reduced before they
    come here, so every process remembers the same.

    Parameters
    ----------
    decay : float in (0, 1)
        Share that is kept from one batch to the next.
    """

    running: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("running", torch.zeros(0, 0, 0))

    def forward(self, sums: Float[Tensor, "s k g"]) -> GroupMoments:
        """Remember a batch and give the moments it is judged by.

        Parameters
        ----------
        sums : Tensor of shape (S, K, G)
            Sums of the batch.

        Returns
        -------
        GroupMoments
        """
        total = sums.detach() + self._fitted(sums)
        finite = torch.isfinite(total).all()
        with torch.no_grad():
            self.running.copy_(torch.where(finite, self.decay * total, self.running))
        batch, long_run = group_moments(sums), group_moments(total)
        variances = long_run.variances
        if variances is not None and batch.variances is not None:
            known = torch.isfinite(batch.variances)
            variances = variances + torch.where(known, _gradient_of(batch.variances), 0)
        return long_run._replace(
            means=long_run.means + _gradient_of(batch.means),
            overall=long_run.overall + _gradient_of(batch.overall),
            variances=variances,
        )

    def reset(self) -> None:
        """Forget everything."""
        self.running = self.running.new_zeros(0, 0, 0)

    def _fitted(self, sums: Tensor) -> Tensor:
        """Running sums in the shape of ``sums``, which grows with new groups."""
        if self.running.shape != sums.shape:
            fitted = torch.zeros_like(sums, requires_grad=False)
            if self.running.numel():
                _, rates, groups = self.running.shape
                fitted[:, :rates, :groups] = self.running
            self.running = fitted
        return self.running.to(sums.dtype)

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        saved = state_dict.get(f"{prefix}running")
        if isinstance(saved, Tensor) and saved.shape != self.running.shape:
            self.running = torch.zeros_like(saved, device=self.running.device)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class GroupMeanLoss(FairnessLoss):
    r"""Base of the losses that compare group means of some quantity.

    A subclass says what is averaged (:meth:`values`); this class sums it, turns sums into means,
    remembers, shrinks, weights and reduces them. Several rates (equalized odds has two, C classes
    have C) are averaged; ``"max_gap"`` and ``"smooth_max"`` take the largest.

    Parameters
    ----------
    reduction : str, default="squared_pairs"
        How group means become one number; the table is at
        :func:`~fairtrain.losses.disparity.disparity`.
    shrinkage : float >= 0, default=0
        Rows that the overall mean counts for: group means are pulled to it by n / (n + shrinkage),
        so sparse groups stop shouting.
    memory : float in [0, 1), default=0
        Share of past group sums that is kept from batch to batch, so small batches see absent
        groups; see :class:`~fairtrain.losses.group_mean.RunningSums`. Used and updated in training
        mode only: in ``eval()`` a batch is judged alone. Not available under ``vmap``.
    debias : bool, default=False
        Take the sampling noise out of squared reductions. Without it 64 groups in 512 rows look
        unequal even when they are not, and the penalty pushes every score towards the middle. The
        result may be below 0. Not together with ``shrinkage``.
    **settings
        Keywords of :class:`FairnessLoss`.
    """

    gathers_rows: ClassVar[bool] = False
    checks_codes_late = True
    weights_by_name: ClassVar[tuple[str, ...]] = ("size", "inverse_variance")

    _allowed: ClassVar[Table] = {
        "reduction": Choice(*REDUCTIONS),
        "shrinkage": Real(0),
        "memory": Real(0, 1, "[)"),
        "debias": FLAG,
    }

    @checked
    def __init__(
        self,
        *,
        reduction: Reduction = "squared_pairs",
        shrinkage: float = 0.0,
        memory: float = 0.0,
        debias: bool = False,
        **settings: Unpack[GroupSettings],
    ) -> None:
        super().__init__(**settings)
        check_debias(reduction, debias)
        if debias and shrinkage:
            raise InvalidParameterError(
                "debias and shrinkage both correct for small groups; use one of them."
            )
        self.reduction: Reduction = reduction
        self.shrinkage = shrinkage
        self.debias = debias
        self.memory = RunningSums(memory) if memory != 0 else None

    def values(self, batch: FairnessBatch) -> Float[Tensor, "n *k"]:
        """What is averaged: one number a row, or one a row and rate."""
        raise NotImplementedError(f"{type(self).__name__} implements no values.")

    def statistics(self, batch: FairnessBatch) -> Float[Tensor, "s k g"]:
        """Sum what is averaged: shape (2, K, G), or (4, K, G) where variances are needed."""
        who = (batch.codes, batch.num_groups, batch.weights)
        return moment_sums(self.values(batch), *who, squares=self.needs_squares)

    def penalty(self, batch: FairnessBatch) -> Tensor:
        """Compare the group means of a checked batch."""
        return self.reduce(self.moments(batch), batch)

    def moments(self, batch: FairnessBatch) -> GroupMoments:
        """Group means of the batch, of all processes, and of what is remembered."""
        sums = self.statistics(batch)
        if self.synced:
            sums = all_reduce_sum(sums, self.process_group)
        if self.memory is not None and self.training:
            return self.memory(sums)  # type: ignore[no-any-return]
        return group_moments(sums)

    def reduce(self, moments: GroupMoments, batch: FairnessBatch) -> Tensor:
        """Shrink, weight and reduce group means to a scalar."""
        moments, weights = self.weighted(moments, batch)
        return self.over_rates(disparity(moments, self.reduction, weights, debias=self.debias))

    def weighted(self, moments: GroupMoments, batch: FairnessBatch) -> tuple[GroupMoments, Tensor]:
        """Group means after shrinkage, and the weight of each group."""
        weights = self.weights_of_groups(moments, batch.levels, moments.means)
        return shrunk(moments, self.shrinkage), weights

    def over_rates(self, disparities: Float[Tensor, " k"]) -> Tensor:
        """One number from the disparities of several rates."""
        if len(disparities) == 1:
            return disparities.squeeze(0)
        if self.reduction in ("max_gap", "smooth_max"):
            return disparities.amax()
        return disparities.mean()

    @property
    def needs_squares(self) -> bool:
        """Whether sampling variances of the group means are needed."""
        return self.debias or self.group_weights == "inverse_variance"

    @property
    def remembers_groups(self) -> bool:
        """Whether group sums are remembered."""
        return self.memory is not None

    def reset_memory(self) -> None:
        """Forget the batches seen so far."""
        if self.memory is not None:
            self.memory.reset()

    def extra_repr(self) -> str:
        """Settings shown by ``print``."""
        return f"{super().extra_repr()}, reduction={self.reduction!r}"


def _gradient_of(values: Tensor) -> Tensor:
    """0 that carries a gradient."""
    return values - values.detach()
