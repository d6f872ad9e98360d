"""Losses that ask for equal rates: one for every parity notion, and the bias parity score."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from fairtrain._parameters import ANYTHING, Real, Table, checked
from fairtrain.constraints import Constraint, ParityConstraint, as_constraints, refuse_given
from fairtrain.constraints.rates import FALSE_POSITIVE_RATE, TRUE_POSITIVE_RATE, error
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.losses.base import refuse
from fairtrain.losses.batch import FairnessBatch, TargetKind
from fairtrain.losses.functional import GroupMoments, rate_sums
from fairtrain.losses.fused import can_fuse, mean_squared_pairs
from fairtrain.losses.group_mean import GroupMeanLoss, GroupMeanSettings

__all__ = [
    "BiasParityScoreLoss",
    "DemographicParityLoss",
    "EqualOpportunityLoss",
    "EqualizedOddsLoss",
    "ErrorRateParityLoss",
    "PredictiveEqualityLoss",
    "PredictiveParityLoss",
    "RateParityLoss",
]


_PARTITION = {TRUE_POSITIVE_RATE, FALSE_POSITIVE_RATE}
"""Rates of one quantity whose events share out the rows: one sum serves both."""


class RateParityLoss(GroupMeanLoss):
    r"""Disparity of the soft rates of any parity constraint.

    .. math:: r_{kg} = \frac{\sum_{i \in E_k,\, a_i = g} q_k(y_i, p_i)}{|\{i \in E_k : a_i = g\}|}

    with :math:`p_i` the soft decision. With C > 2 columns of logits every class is an outcome of
    its own: rates are one against the rest, except the error rate, which is the probability of not
    choosing the true class.

    Parameters
    ----------
    constraint : ParityConstraint or str
        What is compared: ``"demographic_parity"`` or ``fairtrain.RateParity(...)``. Its bound plays
        no part in a penalty; its ``weights`` are used unless ``group_weights`` are given. Where it
        is ``given`` columns, as many of the last columns of ``sensitive_features`` hold codes of
        strata: rates are compared within each, and ``num_groups`` names one number a column.
    **settings
        Keywords of :class:`~fairtrain.losses.group_mean.GroupMeanLoss` and
        :class:`~fairtrain.losses.base.FairnessLoss`.

    Raises
    ------
    InvalidParameterError
        If the constraint compares no rates across groups.

    Examples
    --------
    >>> import torch
    >>> from fairtrain.losses import RateParityLoss
    >>> loss = RateParityLoss("equal_opportunity", reduction="max_gap", temperature=0.01)
    >>> logits = torch.tensor([2.0, -1.0, 3.0, 1.0])
    >>> loss(logits, torch.tensor([1, 1, 1, 1]), torch.tensor([0, 0, 1, 1]))
    tensor(0.5000)
    """

    _allowed: ClassVar[Table] = {
        "constraint": ANYTHING,
    }

    @checked
    def __init__(
        self, constraint: ParityConstraint | str, **settings: Unpack[GroupMeanSettings]
    ) -> None:
        parity = _one_parity(constraint)
        if parity.weights is not None and settings.get("group_weights") is None:
            settings["group_weights"] = dict(parity.weights)
        super().__init__(**settings)
        self.rates = parity.rates
        self.strata = len(parity.given_columns)
        if self.strata and isinstance(self.group_weights, Mapping):
            raise InvalidParameterError(
                f"{parity.name}: group_weights by group are not taken within strata; leave them "
                "out, or use LagrangianFairnessTrainer."
            )
        self.target_kind: TargetKind = "label" if parity.label_dependent else "none"
        # A row outside of an event is not indexed by its code, so that a wrong one would pass.
        self.checks_codes_late = all(rate.event is None for rate in self.rates)
        own = type(self)  # the fused kernel computes plain settings of plain classes
        self._fused = (
            self.reduction == "squared_pairs"
            and self.group_weights is None
            and self.memory is None
            and not self.strata
            and not (self.shrinkage or self.debias)
            and all(rate.among is None for rate in self.rates)
            and (len(self.rates) == 1 or set(self.rates) == _PARTITION)
            and own.reduce is GroupMeanLoss.reduce
            and own.statistics is RateParityLoss.statistics
        )

    def penalty(self, batch: FairnessBatch) -> Tensor:
        """Compare the group means of a checked batch."""
        if not self._fused or batch.outputs.ndim == 2 or self.synced or not can_fuse():
            return super().penalty(batch)
        decisions = self.decisions(batch.outputs)
        labels = decisions.detach() if batch.targets is None else batch.targets.to(decisions.dtype)
        slots = batch.codes + 1
        event = self.rates[0].event
        if len(self.rates) == 2:
            slots = torch.add(slots, labels == 0, alpha=batch.num_groups + 1)
        elif event is not None:
            slots = slots * event(labels)
        values = self.rates[0].quantity(labels, decisions)
        return mean_squared_pairs(
            values, slots, batch.num_groups + 1, len(self.rates), batch.weights
        )

    def statistics(self, batch: FairnessBatch) -> Tensor:
        """Sum the rates' quantities over their events."""
        decisions, labels = self.decisions(batch.outputs), batch.targets
        if decisions.ndim == 2 and labels is not None:
            if all(rate.quantity is error for rate in self.rates):
                decisions = decisions.gather(1, labels.long().unsqueeze(1)).squeeze(1)
                labels = torch.ones_like(decisions)
            else:
                labels = F.one_hot(labels.long(), decisions.shape[1])
        who = (batch.codes, batch.num_groups, self.rates, batch.weights)
        return self._by_stratum(
            rate_sums(decisions, labels, *who, squares=self.needs_squares), batch
        )

    def weighted(self, moments: GroupMoments, batch: FairnessBatch) -> tuple[GroupMoments, Tensor]:
        """Group means after shrinkage, and the weight of each group: strata are no groups."""
        if self.strata:
            batch = batch._replace(levels=batch.levels[: -self.strata])
        return super().weighted(moments, batch)

    def _by_stratum(self, sums: Tensor, batch: FairnessBatch) -> Tensor:
        """Rates of groups in each stratum: (S, K, G x strata) as (S, K x strata, G)."""
        if not self.strata:
            return sums
        if len(batch.levels) <= self.strata:
            raise InvalidDataError(
                f"sensitive_features needs columns of codes, those of groups first and "
                f"{self.strata} of strata last, got {len(batch.levels)}."
            )
        strata = math.prod(batch.levels[-self.strata :])
        split = sums.reshape(*sums.shape[:2], -1, strata).transpose(2, 3)
        return split.reshape(len(sums), -1, split.shape[-1])


class DemographicParityLoss(RateParityLoss):
    r"""Unequal selection rates (Calders, Kamiran & Pechenizkiy, 2009).

    .. math:: r_g = \frac{1}{n_g} \sum_{i: a_i = g} p_i

    Needs no targets.

    Parameters
    ----------
    **settings
        Keywords of :class:`~fairtrain.losses.group_mean.GroupMeanLoss` and
        :class:`~fairtrain.losses.base.FairnessLoss`.

    Examples
    --------
    >>> import torch
    >>> from fairtrain.losses import DemographicParityLoss
    >>> loss = DemographicParityLoss(num_groups=2)
    >>> logits = torch.tensor([2.0, 0.0, -1.0, 1.0], requires_grad=True)
    >>> value = loss(logits, sensitive_features=torch.tensor([0, 0, 1, 1]))
    >>> value
    tensor(0.0363, grad_fn=<...>)
    >>> value.backward()
    """

    def __init__(self, **settings: Unpack[GroupMeanSettings]) -> None:
        super().__init__("demographic_parity", **settings)


class EqualOpportunityLoss(RateParityLoss):
    r"""Unequal true positive rates (Hardt, Price & Srebro, 2016, section 2).

    .. math:: r_g = \frac{\sum_{i: a_i = g,\, y_i = 1} p_i}{|\{i: a_i = g,\, y_i = 1\}|}

    Groups without a positive label in the batch are left out.

    Parameters
    ----------
    **settings
        Keywords of :class:`~fairtrain.losses.group_mean.GroupMeanLoss` and
        :class:`~fairtrain.losses.base.FairnessLoss`.
    """

    def __init__(self, **settings: Unpack[GroupMeanSettings]) -> None:
        super().__init__("equal_opportunity", **settings)


class PredictiveEqualityLoss(RateParityLoss):
    r"""Unequal false positive rates (Corbett-Davies et al., 2017).

    .. math:: r_g = \frac{\sum_{i: a_i = g,\, y_i = 0} p_i}{|\{i: a_i = g,\, y_i = 0\}|}

    Parameters
    ----------
    **settings
        Keywords of :class:`~fairtrain.losses.group_mean.GroupMeanLoss` and
        :class:`~fairtrain.losses.base.FairnessLoss`.
    """

    def __init__(self, **settings: Unpack[GroupMeanSettings]) -> None:
        super().__init__("predictive_equality", **settings)


class PredictiveParityLoss(RateParityLoss):
    r"""Unequal precision (Chouldechova, 2017): differentiable, as both sums are.

    .. math:: r_g = \frac{\sum_{i: a_i = g} p_i\, y_i}{\sum_{i: a_i = g} p_i}

    Parameters
    ----------
    **settings
        Keywords of :class:`~fairtrain.losses.group_mean.GroupMeanLoss` and
        :class:`~fairtrain.losses.base.FairnessLoss`.

    Examples
    --------
    >>> import torch
    >>> from fairtrain.losses import PredictiveParityLoss
    >>> loss = PredictiveParityLoss(reduction="max_gap", temperature=0.01)
    >>> logits = torch.tensor([2.0, 1.0, 3.0, 1.0])
    >>> loss(logits, torch.tensor([1, 0, 1, 1]), torch.tensor([0, 0, 1, 1]))
    tensor(0.5000)
    """

    def __init__(self, **settings: Unpack[GroupMeanSettings]) -> None:
        super().__init__("predictive_parity", **settings)


class EqualizedOddsLoss(RateParityLoss):
    """Unequal true *and* false positive rates (Hardt, Price & Srebro, 2016, section 2).

    The disparities of the two rates are averaged; ``"max_gap"`` takes the larger.

    Parameters
    ----------
    **settings
        Keywords of :class:`~fairtrain.losses.group_mean.GroupMeanLoss` and
        :class:`~fairtrain.losses.base.FairnessLoss`.
    """

    def __init__(self, **settings: Unpack[GroupMeanSettings]) -> None:
        super().__init__("equalized_odds", **settings)


class ErrorRateParityLoss(RateParityLoss):
    r"""Unequal shares of wrong decisions.

    .. math:: r_g = \frac{1}{n_g} \sum_{i: a_i = g} y_i (1 - p_i) + (1 - y_i)\, p_i

    Parameters
    ----------
    **settings
        Keywords of :class:`~fairtrain.losses.group_mean.GroupMeanLoss` and
        :class:`~fairtrain.losses.base.FairnessLoss`.
    """

    def __init__(self, **settings: Unpack[GroupMeanSettings]) -> None:
        super().__init__("error_rate_parity", **settings)


class BiasParityScoreLoss(RateParityLoss):
    r"""One minus the bias parity score (Jain, Huber & Elmasri, 2021).

    .. math:: \left(1 - \frac{\min_g r_g}{\max_g r_g}\right)^{\text{power}}

    In [0, 1]: 0.2 means that the least favoured group has 80 % of the rate of the most favoured.
    The smooth counterpart of the four-fifths rule. Two rates of 0 count as equal. With several
    rates the largest counts.

    Parameters
    ----------
    constraint : ParityConstraint or str, default="demographic_parity"
        Whose rates are compared; Jain uses false positive and true positive rates too.
    power : float >= 1, default=1.0
        Larger powers leave near-parity alone.
    **settings
        Keywords of :class:`~fairtrain.losses.group_mean.GroupMeanLoss` except ``reduction`` and
        ``debias``. A ``group_weights`` of 0 leaves a group out; other weights scale a group's
        distance from the most favoured rate.

    Examples
    --------
    >>> import torch
    >>> from fairtrain.losses import BiasParityScoreLoss
    >>> logits = torch.logit(torch.tensor([0.5, 0.5, 0.4, 0.4]))
    >>> BiasParityScoreLoss()(logits, sensitive_features=torch.tensor([0, 0, 1, 1]))
    tensor(0.2000)
    """

    _allowed: ClassVar[Table] = {
        "power": Real(1),
    }

    @checked
    def __init__(
        self,
        constraint: ParityConstraint | str = "demographic_parity",
        *,
        power: float = 1.0,
        **settings: Unpack[GroupMeanSettings],
    ) -> None:
        refuse(self, settings, "reduction", "debias")
        super().__init__(constraint, **settings)
        self.power = power

    def reduce(self, moments: GroupMoments, batch: FairnessBatch) -> Tensor:
        """Compare the smallest rate with the largest."""
        moments, weights = self.weighted(moments, batch)
        present = (moments.counts > 0) & (weights > 0)
        top = torch.where(present, moments.means, -torch.inf).amax(-1, keepdim=True)
        top = torch.where(present.any(-1, keepdim=True), top, 0)
        below = torch.where(present, top - moments.means, 0) * weights
        missing = below.amax(-1) / torch.where(top > 0, top, 1).squeeze(-1)
        return (missing**self.power).amax()


def _one_parity(constraint: Constraint | str) -> ParityConstraint:
    constraints = as_constraints(constraint)
    if len(constraints) != 1 or not isinstance(constraints[0], ParityConstraint):
        raise InvalidParameterError(
            f"a rate loss compares the rates of one parity constraint, got {constraint!r}; for "
            "BoundedGroupLoss use BoundedGroupLossPenalty."
        )
    if constraints[0].pooled:
        refuse_given(
            constraints,
            "a rate loss knows no averages over strata, which a batch is too small for",
            "pooled=False, or LagrangianFairnessTrainer",
        )
    return constraints[0]
