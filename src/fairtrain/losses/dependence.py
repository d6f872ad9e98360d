"""Losses that ask for independence of scores and groups, beyond equal means."""

from __future__ import annotations

from typing import ClassVar, Literal, Unpack, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fairtrain._parameters import NONE, Choice, Real, Table, checked
from fairtrain.exceptions import InvalidParameterError
from fairtrain.losses.base import FairnessLoss, GroupSettings
from fairtrain.losses.batch import FairnessBatch
from fairtrain.losses.functional import GroupMoments, moment_sums
from fairtrain.losses.group_mean import GroupMeanLoss, GroupMeanSettings

__all__ = [
    "CorrelationLoss",
    "CovarianceLoss",
    "MutualInformationLoss",
    "ScoreDependenceLoss",
]

On = Literal["decisions", "outputs"]


class ScoreDependenceLoss(FairnessLoss):
    """Base of the losses that look at single scores: soft decisions, or outputs as they are.

    Parameters
    ----------
    on : {"decisions", "outputs"}
        What is made independent of the groups. Outputs of several columns (a representation) are
        always taken as they are.
    **settings
        Keywords of :class:`~fairtrain.losses.base.FairnessLoss`.
    """

    default_on: ClassVar[On] = "decisions"

    _allowed: ClassVar[Table] = {
        "on": Choice(*get_args(On)) | NONE,
    }

    @checked
    def __init__(self, *, on: On | None = None, **settings: Unpack[GroupSettings]) -> None:
        super().__init__(**settings)
        self.on: On = self.default_on if on is None else on

    def scores(self, outputs: Tensor) -> Tensor:
        """Scores of shape (n, d): one soft decision, or the outputs."""
        if outputs.ndim == 2:
            return outputs
        return (self.decisions(outputs) if self.on == "decisions" else outputs).unsqueeze(1)


class CovarianceLoss(ScoreDependenceLoss):
    r"""Covariance of sensitive attributes and the distance to the boundary (Zafar et al., 2017).

    .. math::
       \frac{1}{k} \sum_{j=1}^{k} w_j \Bigl(\frac{1}{n} \sum_i (a_{ij} - \bar a_j)\, z_i\Bigr)^2

    Group codes become k = G indicators; continuous attributes of shape (n, k) are taken as they
    are. Only the linear part of the dependence is seen.

    Parameters
    ----------
    on : {"outputs", "decisions"}, default="outputs"
        Zafar uses the signed distance to the boundary, which is the logit of a linear model.
    **settings
        Keywords of :class:`~fairtrain.losses.base.FairnessLoss`.

    Examples
    --------
    >>> import torch
    >>> from fairtrain.losses import CovarianceLoss
    >>> CovarianceLoss(num_groups=2)(
    ...     torch.tensor([1.0, 3.0, 0.0, 0.0]), None, torch.tensor([0, 0, 1, 1])
    ... )
    tensor(0.2500)
    """

    accepts_continuous = True
    default_on: ClassVar[On] = "outputs"

    def penalty(self, batch: FairnessBatch) -> Tensor:
        """Mean squared covariance with each attribute column."""
        attributes, rows = attribute_columns(batch)
        scores = self.scores(batch.outputs)
        centred = attributes - (rows @ attributes)
        covariances = (rows.unsqueeze(1) * centred).T @ scores
        squared = (covariances**2).mean(1)
        weights = None
        if batch.attributes is None:
            weights = self.weights_of_groups(None, batch.levels, squared)
        squared = squared if weights is None else squared * weights
        return squared.mean() * comparable(batch, attributes, rows)


class CorrelationLoss(ScoreDependenceLoss):
    r"""Share of the score's variance that sensitive attributes explain (Komiyama et al., 2018).

    .. math::
       R^2 = \frac{c^\top \Sigma^{-1} c}{\operatorname{Var}(s)}, \quad
       c = \operatorname{Cov}(a, s), \quad \Sigma = \operatorname{Cov}(a)

    the coefficient of determination of a linear regression of the score on the attributes, in
    [0, 1]. One attribute: the squared correlation. Group codes: the between-group share of the
    variance. Works for continuous attributes and for regression. Scale-free: multiplying all
    scores changes nothing, so it cannot be met by indecision.

    Parameters
    ----------
    on : {"decisions", "outputs"}, default="decisions"
        Soft decisions, or outputs as they are (regression).
    ridge : float > 0, default=1e-6
        Added to the attributes' standardised covariance, so that collinear or constant columns do
        no harm.
    **settings
        Keywords of :class:`~fairtrain.losses.base.FairnessLoss` except ``group_weights``.

    Examples
    --------
    >>> import torch
    >>> from fairtrain.losses import CorrelationLoss
    >>> age = torch.tensor([20.0, 30.0, 40.0, 50.0])
    >>> CorrelationLoss(on="outputs")(torch.tensor([1.0, 2.0, 3.0, 4.0]), None, age)
    tensor(1.0000)
    """

    accepts_continuous = True

    _allowed: ClassVar[Table] = {
        "ridge": Real(0, ends="()"),
    }

    @checked
    def __init__(
        self, *, on: On | None = None, ridge: float = 1e-6, **settings: Unpack[GroupSettings]
    ) -> None:
        if settings.get("group_weights") is not None:
            raise InvalidParameterError(
                "CorrelationLoss takes no group_weights: its formula fixes it."
            )
        super().__init__(on=on, **settings)
        self.ridge = ridge

    def penalty(self, batch: FairnessBatch) -> Tensor:
        """Explained share of the variance, averaged over score columns."""
        attributes, rows = attribute_columns(batch)
        scores = self.scores(batch.outputs)
        scores = scores - rows @ scores
        variances = rows @ scores**2
        if batch.attributes is None:
            # Indicators: the regression is the group mean.
            means = attributes.T @ (rows.unsqueeze(1) * scores)
            shares = (rows @ attributes).unsqueeze(1)
            explained = (means**2 / torch.where(shares > 0, shares, 1)).sum(0)
        else:
            centred = attributes - rows @ attributes
            spread = (rows @ centred**2).sqrt()
            centred = centred / torch.where(spread > 0, spread, 1)
            weighted = rows.unsqueeze(1) * centred
            covariance = weighted.T @ centred
            covariance = covariance + self.ridge * torch.eye(
                len(covariance), dtype=covariance.dtype, device=covariance.device
            )
            cross = weighted.T @ scores
            explained = (cross * torch.linalg.solve(covariance, cross)).sum(0)
        # Constant scores have nothing to explain: keep the quotient and its gradient finite.
        floor = torch.finfo(scores.dtype).eps
        return (explained / (variances + floor)).mean() * comparable(batch, attributes, rows)


class MutualInformationLoss(GroupMeanLoss):
    r"""Mutual information of decision and group: the prejudice remover (Kamishima et al., 2012).

    .. math::
       \sum_g \frac{n_g}{n} \sum_{c} m_{gc} \ln \frac{m_{gc}}{m_c}

    with :math:`m_{gc}` the mean probability of class c in group g and :math:`m_c` over all rows;
    in nats, between 0 and the smaller entropy of decision and group. For discrete attributes.

    Parameters
    ----------
    **settings
        Keywords of :class:`~fairtrain.losses.group_mean.GroupMeanLoss` except ``reduction`` and
        ``debias``, and of :class:`~fairtrain.losses.base.FairnessLoss`.

    Notes
    -----
    This is the plug-in estimator. Its *bias* is upwards: under independence, with probabilities of
    variance :math:`s^2` inside groups, about :math:`(G - 1)\, s^2 / (2 n\, m (1 - m))` nats, which
    for hard decisions is Miller and Madow's :math:`(G - 1)(C - 1) / (2n)`. Its *variance* is
    of order :math:`1/n` away from independence and :math:`1/n^2` at it. With 64 groups in 512 rows
    the bias of hard decisions is .06 nats: use larger batches, ``memory`` or ``shrinkage``.

    It sees the group means of probabilities only. For dependence in the whole distribution of
    scores or representations use :class:`~fairtrain.losses.neural.NeuralMutualInformationLoss` or
    :class:`~fairtrain.losses.kernels.HSICLoss`; for continuous estimators to *measure* with
    (Gaussian copula, kernels, permutation tests) see the package frites.

    Examples
    --------
    >>> import torch
    >>> from fairtrain.losses import MutualInformationLoss
    >>> logits = torch.tensor([50.0, 50.0, -50.0, -50.0])
    >>> MutualInformationLoss()(logits, None, torch.tensor([0, 0, 1, 1]))  # ln 2
    tensor(0.6931)
    """

    def __init__(self, **settings: Unpack[GroupMeanSettings]) -> None:
        for name in ("reduction", "debias"):
            if not any(settings.get(name) is unset for unset in (None, False)):
                raise InvalidParameterError(
                    f"MutualInformationLoss takes no {name}: its formula fixes it."
                )
        super().__init__(**settings)

    def statistics(self, batch: FairnessBatch) -> Tensor:
        """Sum class probabilities by group."""
        decisions = self.decisions(batch.outputs)
        return moment_sums(
            decisions, batch.codes, batch.num_groups, batch.weights, squares=self.needs_squares
        )

    def reduce(self, moments: GroupMoments, batch: FairnessBatch) -> Tensor:
        """Information in nats."""
        weights = self.weights_of_groups(moments, batch.levels, moments.means)
        moments = self.shrunk(moments)
        counts = moments.counts
        total = counts.sum(-1, keepdim=True)
        share = counts / torch.where(total > 0, total, 1)
        means, overall = moments.means, moments.overall.unsqueeze(-1)
        divergence = _plogp(means, overall)
        if len(means) == 1:  # one column: the other class is the rest
            divergence = divergence + _plogp(1 - means, 1 - overall)
        if weights is not None:
            share = share * weights
        enough = (counts > 0).sum(-1) > 1
        return ((share * divergence).sum(-1) * enough).sum()


def one_hot(codes: Int[Tensor, " n"], num_groups: int) -> Bool[Tensor, "n g"]:
    """Indicator of each group; a row of code -1 is False everywhere."""
    return codes.unsqueeze(1) == torch.arange(num_groups, device=codes.device)


def attribute_columns(batch: FairnessBatch) -> tuple[Float[Tensor, "n k"], Float[Tensor, " n"]]:
    """Sensitive attributes as numbers, and row weights that sum to 1 over known rows."""
    dtype = batch.outputs.dtype
    if batch.attributes is None:
        attributes = one_hot(batch.codes, batch.num_groups).to(dtype)
        rows = (batch.codes >= 0).to(dtype)
    else:
        attributes = batch.attributes
        rows = torch.ones_like(attributes[:, 0])
    if batch.weights is not None:
        rows = rows * batch.weights
    total = rows.sum()
    return attributes, rows / torch.where(total > 0, total, 1)


def comparable(batch: FairnessBatch, attributes: Tensor, rows: Tensor) -> Tensor:
    """Whether two groups are present; always, for continuous attributes."""
    if batch.attributes is not None:
        return torch.ones((), dtype=torch.bool, device=rows.device)
    return ((rows @ attributes) > 0).sum() > 1


def _plogp(p: Tensor, q: Tensor) -> Tensor:
    """``p ln(p / q)``, 0 at p = 0, with finite gradients at 0."""
    floor = torch.finfo(p.dtype).tiny
    return p * (p.clamp(min=floor).log() - q.clamp(min=floor).log())
