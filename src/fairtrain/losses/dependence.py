"""Losses that ask for independence of scores and groups: by moments, and at every threshold."""

from __future__ import annotations

from typing import ClassVar, Literal, Unpack, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from fairtrain._parameters import NONE, Choice, Real, Table, checked
from fairtrain.losses.base import FairnessLoss, GroupSettings, refuse
from fairtrain.losses.batch import FairnessBatch
from fairtrain.losses.disparity import REDUCTIONS, Reduction, disparity
from fairtrain.losses.functional import GroupMoments, shrunk
from fairtrain.losses.group_mean import GroupMeanLoss, GroupMeanSettings

__all__ = [
    "CorrelationLoss",
    "CovarianceLoss",
    "MutualInformationLoss",
    "ScoreDependenceLoss",
    "WassersteinLoss",
]

On = Literal["decisions", "outputs"]


class ScoreSettings(GroupSettings, total=False):
    """Keywords of every :class:`ScoreDependenceLoss`."""

    on: On | None


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
    ...     torch.tensor([1.0, 3.0, 0.0, 0.0]), sensitive_features=torch.tensor([0, 0, 1, 1])
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
        if batch.attributes is None:
            squared = squared * self.weights_of_groups(None, batch.levels, squared)
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
    >>> scores = torch.tensor([1.0, 2.0, 3.0, 4.0])
    >>> CorrelationLoss(on="outputs")(scores, sensitive_features=age)
    tensor(1.0000)
    """

    accepts_continuous = True

    _allowed: ClassVar[Table] = {
        "ridge": Real(0, ends="()"),
    }

    @checked
    def __init__(self, *, ridge: float = 1e-6, **settings: Unpack[ScoreSettings]) -> None:
        refuse(self, settings, "group_weights")
        super().__init__(**settings)
        self.ridge = ridge

    def penalty(self, batch: FairnessBatch) -> Tensor:
        """Explained share of the variance, averaged over score columns."""
        attributes, rows = attribute_columns(batch)
        scores = self.scores(batch.outputs)
        scores = scores - rows @ scores
        variances = rows @ scores**2
        if batch.attributes is None:  # indicators: the regression is the group mean
            means, shares = attributes.T @ (rows.unsqueeze(1) * scores), rows @ attributes
            explained = (means**2 / torch.where(shares > 0, shares, 1).unsqueeze(1)).sum(0)
        else:
            centred = attributes - rows @ attributes
            spread = (rows @ centred**2).sqrt()
            centred = centred / torch.where(spread > 0, spread, 1)
            weighted = rows.unsqueeze(1) * centred
            cross, covariance = weighted.T @ scores, weighted.T @ centred
            covariance = covariance + torch.diag_embed(torch.full_like(spread, self.ridge))
            explained = (cross * torch.linalg.solve(covariance, cross)).sum(0)
        # Constant scores have nothing to explain: keep the quotient and its gradient finite.
        floor = torch.finfo(scores.dtype).eps
        return (explained / (variances + floor)).mean() * comparable(batch, attributes, rows)


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
    >>> WassersteinLoss(on="outputs")(scores, sensitive_features=torch.tensor([0, 0, 1, 1]))
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
        reduction: Reduction = "l1_to_mean",
        shrinkage: float = 0.0,
        **settings: Unpack[ScoreSettings],
    ) -> None:
        super().__init__(**settings)
        self.reduction: Reduction = reduction
        self.shrinkage = shrinkage

    def penalty(self, batch: FairnessBatch) -> Tensor:
        """Integrate the disparity of distribution functions over thresholds."""
        scores = self.scores(batch.outputs)
        if len(scores) < 2:
            return scores.sum() * 0
        ordered, order = scores.sort(dim=0)
        # Distribution functions move only with the scores' ranks: the gradient is in the gaps.
        with torch.no_grad():  # a loop over the score, or the few columns of a representation
            heights = [self._disparity(batch, column) for column in order.unbind(1)]
        return (ordered.diff(dim=0) * torch.stack(heights, dim=1)).sum(0).mean()

    def _disparity(self, batch: FairnessBatch, order: Tensor) -> Tensor:
        member, rows = attribute_columns(batch)
        mass = (member * rows.unsqueeze(1))[order]
        counts = member.sum(0) if batch.weights is None else member.T @ batch.weights
        total = mass.sum(0)
        below = mass.cumsum(0)[:-1]
        functions = below / torch.where(total > 0, total, 1)
        moments = GroupMoments(functions, counts.expand_as(functions), below.sum(-1))
        weights = self.weights_of_groups(moments, batch.levels, counts)
        return disparity(shrunk(moments, self.shrinkage), self.reduction, weights)


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
    >>> codes = torch.tensor([0, 0, 1, 1])
    >>> MutualInformationLoss()(logits, sensitive_features=codes)  # ln 2
    tensor(0.6931)
    """

    def __init__(self, **settings: Unpack[GroupMeanSettings]) -> None:
        refuse(self, settings, "reduction", "debias")
        super().__init__(**settings)

    def values(self, batch: FairnessBatch) -> Tensor:
        """Class probabilities."""
        return self.decisions(batch.outputs)

    def reduce(self, moments: GroupMoments, batch: FairnessBatch) -> Tensor:
        """Information in nats."""
        moments, weights = self.weighted(moments, batch)
        counts = moments.counts
        total = counts.sum(-1, keepdim=True)
        share = counts / torch.where(total > 0, total, 1)
        means, overall = moments.means, moments.overall.unsqueeze(-1)
        divergence = _plogp(means, overall)
        if len(means) == 1:  # one column: the other class is the rest
            divergence = divergence + _plogp(1 - means, 1 - overall)
        enough = (counts > 0).sum(-1) > 1
        return ((share * weights * divergence).sum(-1) * enough).sum()


def attribute_columns(batch: FairnessBatch) -> tuple[Float[Tensor, "n k"], Float[Tensor, " n"]]:
    """Sensitive attributes as numbers, and row weights that sum to 1 over known rows."""
    dtype = batch.outputs.dtype
    if batch.attributes is None:
        groups = torch.arange(batch.num_groups, device=batch.codes.device)
        attributes = (batch.codes.unsqueeze(1) == groups).to(dtype)
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
