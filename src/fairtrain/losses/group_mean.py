"""The losses that compare group means: sums, memory, shrinkage, weights, reduction."""

from __future__ import annotations

from typing import ClassVar, Unpack

from jaxtyping import Float
from torch import Tensor

from fairtrain._parameters import FLAG, Choice, Real, Table, checked
from fairtrain.exceptions import InvalidParameterError
from fairtrain.losses.base import FairnessLoss, GroupSettings
from fairtrain.losses.batch import FairnessBatch
from fairtrain.losses.disparity import REDUCTIONS, SQUARED_REDUCTIONS, Reduction, disparity
from fairtrain.losses.distributed import all_reduce_sum
from fairtrain.losses.functional import GroupMoments, group_moments, shrink
from fairtrain.losses.memory import RunningSums

__all__ = ["GroupMeanLoss", "GroupMeanSettings"]


class GroupMeanSettings(GroupSettings, total=False):
    """Keywords of every :class:`GroupMeanLoss`."""

    reduction: Reduction
    shrinkage: float
    memory: float
    debias: bool


class GroupMeanLoss(FairnessLoss):
    r"""Base of the losses that compare group means of some quantity.

    A subclass says which sums it needs (:meth:`statistics`); this class turns sums into means,
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
        groups; see :class:`~fairtrain.losses.memory.RunningSums`. Used and updated in training
        mode only: in ``eval()`` a batch is judged alone. Not available under ``vmap``.
    debias : bool, default=False
        Take the sampling noise out of squared reductions. Without it 64 groups in 512 rows look
        unequal even when they are not, and the penalty pushes every score towards the middle. The
        result may be below 0. Not together with ``shrinkage``.
    **settings
        Keywords of :class:`FairnessLoss`.
    """

    gathers_rows: ClassVar[bool] = False
    checks_codes_late: ClassVar[bool] = True
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
        if debias and reduction not in SQUARED_REDUCTIONS:
            raise InvalidParameterError(
                f"debias=True needs a squared reduction {SQUARED_REDUCTIONS}, got {reduction!r}."
            )
        if debias and shrinkage:
            raise InvalidParameterError(
                "debias and shrinkage both correct for small groups; use one of them."
            )
        self.reduction: Reduction = reduction
        self.shrinkage = shrinkage
        self.debias = debias
        self.memory = RunningSums(memory) if memory != 0 else None

    def statistics(self, batch: FairnessBatch) -> Float[Tensor, "s k g"]:
        """Sum what is compared: shape (2, K, G), or (4, K, G) where variances are needed."""
        raise NotImplementedError(f"{type(self).__name__} implements no statistics.")

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
        weights = self.weights_of_groups(moments, batch.levels, moments.means)
        return self.over_rates(
            disparity(self.shrunk(moments), self.reduction, weights, debias=self.debias)
        )

    def shrunk(self, moments: GroupMoments) -> GroupMoments:
        """Group means after shrinkage."""
        if not self.shrinkage:
            return moments
        towards = moments.overall.unsqueeze(-1)
        means = shrink(moments.means, moments.counts, towards, self.shrinkage)
        return moments._replace(means=means)

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
