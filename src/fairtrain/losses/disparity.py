"""From group means to one number: how far apart they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from fairtrain.exceptions import InvalidParameterError
from fairtrain.losses.functional import GroupMoments, log_mean_exp

__all__ = ["REDUCTIONS", "SQUARED_REDUCTIONS", "Reduction", "check_debias", "disparity"]

Reduction = Literal[
    "squared_pairs", "squared_to_mean", "max_gap", "variance", "l1_to_mean", "smooth_max"
]
SMOOTHING = 0.05
"""Width, in the unit of the means, over which ``"smooth_max"`` rounds the maximum."""

_Reducer = Callable[[Tensor, Tensor, Tensor, GroupMoments], Tensor]


def disparity(
    moments: GroupMoments,
    reduction: Reduction = "squared_pairs",
    weights: Float[Tensor, "*w g"] | None = None,
    *,
    debias: bool = False,
) -> Float[Tensor, "*k"]:
    r"""Reduce group means to one non-negative number a rate; 0 when they are equal.

    With present groups :math:`g`, weights :math:`w_g` (1 by default), overall mean :math:`\bar m`
    and :math:`P` present groups:

    ===================  ========================================================================
    ``squared_pairs``    :math:`\sum_{g<h} w_g w_h (m_g - m_h)^2 / \binom{P}{2}`; two groups: the
                         squared difference
    ``squared_to_mean``  :math:`\sum_g w_g (m_g - \bar m)^2`
    ``max_gap``          :math:`\max_g w_g (m_g - \tilde m) - \min_g w_g (m_g - \tilde m)`, with
                         equal weights :math:`\max_g m_g - \min_g m_g`
    ``variance``         :math:`\sum_g w_g (m_g - \tilde m)^2 / \sum_g w_g`
    ``l1_to_mean``       :math:`\sum_g w_g |m_g - \bar m|`
    ``smooth_max``       ``max_gap`` with both extremes as log-mean-exp of width 0.05: gradient
                         for every group; never above ``max_gap``
    ===================  ========================================================================

    where :math:`\tilde m = \sum_g w_g m_g / \sum_g w_g`.

    Parameters
    ----------
    moments : GroupMoments
        Means, counts and overall mean; sampling variances too when ``debias`` is set.
    reduction : str, default="squared_pairs"
        One of the table.
    weights : Tensor of shape (..., G) or (G,), optional
        Importance of each group; 0 leaves it out.
    debias : bool, default=False
        Subtract the expected contribution of sampling noise: an unbiased estimate of the squared
        disparity of the population, which may fall below 0. Only for squared reductions; groups
        with fewer than two rows are left out.

    Returns
    -------
    Tensor of shape (...)
        Exactly 0 where fewer than two groups are present.

    Raises
    ------
    InvalidParameterError
        If ``reduction`` is unknown, or cannot be debiased.

    Examples
    --------
    >>> means = torch.tensor([0.50, 0.98, 0.02])
    >>> even = GroupMoments(means, torch.ones(3), means.mean())
    >>> disparity(even, "max_gap")
    tensor(0.9600)
    """
    reducer = REDUCTIONS.get(reduction)
    if reducer is None:
        raise InvalidParameterError(
            f"reduction must be one of {sorted(REDUCTIONS)}, got {reduction!r}."
        )
    check_debias(reduction, debias)
    weights = torch.ones_like(moments.counts) if weights is None else weights
    present, variances = (moments.counts > 0) & (weights > 0), None
    if debias:
        assert moments.variances is not None
        known = torch.isfinite(moments.variances)
        present, variances = present & known, torch.where(known, moments.variances, 0)
    moments = moments._replace(variances=variances)
    mask = present.to(moments.means.dtype)
    w = weights * mask
    total = w.sum(-1, keepdim=True)
    centre = (w * moments.means).sum(-1, keepdim=True) / torch.where(total > 0, total, 1)
    enough = mask.sum(-1) > 1.5
    return reducer(w, mask, moments.means - centre, moments) * enough


def check_debias(reduction: str, debias: bool) -> None:
    """Raise where sampling noise is to be taken out of what is no mean of squares."""
    if debias and reduction not in SQUARED_REDUCTIONS:
        raise InvalidParameterError(
            f"debias=True needs a squared reduction {SQUARED_REDUCTIONS}, got {reduction!r}."
        )


def _over_pairs(w: Tensor, deviation: Tensor, moments: GroupMoments) -> Tensor:
    r"""Sum over pairs, :math:`\sum_{g<h} w_g w_h (m_g - m_h)^2`, less what noise adds to it."""
    total = w.sum(-1, keepdim=True)
    squares = total * w * deviation * deviation
    if moments.variances is not None:
        squares = squares - w * (total - w) * moments.variances
    return squares.sum(-1)


def _squared_pairs(w: Tensor, mask: Tensor, deviation: Tensor, moments: GroupMoments) -> Tensor:
    groups = mask.sum(-1)
    return 2 * _over_pairs(w, deviation, moments) / (groups * (groups - 1)).clamp(min=1)


def _variance(w: Tensor, mask: Tensor, deviation: Tensor, moments: GroupMoments) -> Tensor:
    total = w.sum(-1)
    return _over_pairs(w, deviation, moments) / torch.where(total > 0, total, 1) ** 2


def _squared_to_mean(w: Tensor, mask: Tensor, deviation: Tensor, moments: GroupMoments) -> Tensor:
    squared = (moments.means - moments.overall.unsqueeze(-1)) ** 2
    if moments.variances is not None:
        # The overall mean holds every group's noise in proportion to its share of the rows.
        counts = moments.counts.sum(-1, keepdim=True)
        share = moments.counts / torch.where(counts > 0, counts, 1)
        shared = (share**2 * moments.variances).sum(-1, keepdim=True)
        squared = squared - (moments.variances * (1 - 2 * share) + shared)
    return (w * squared).sum(-1)


def _l1_to_mean(w: Tensor, mask: Tensor, deviation: Tensor, moments: GroupMoments) -> Tensor:
    return (w * (moments.means - moments.overall.unsqueeze(-1)).abs()).sum(-1)


def _max_gap(w: Tensor, mask: Tensor, deviation: Tensor, moments: GroupMoments) -> Tensor:
    # Absent groups have weight 0: they sit at the centre, which is never an extreme.
    weighted = w * deviation
    return weighted.amax(-1) - weighted.amin(-1)


def _smooth_max(w: Tensor, mask: Tensor, deviation: Tensor, moments: GroupMoments) -> Tensor:
    weighted, share = w * deviation / SMOOTHING, mask / mask.sum(-1, keepdim=True).clamp(min=1)
    return SMOOTHING * (log_mean_exp(weighted, share) + log_mean_exp(-weighted, share))


REDUCTIONS: dict[str, _Reducer] = {
    "squared_pairs": _squared_pairs,
    "squared_to_mean": _squared_to_mean,
    "max_gap": _max_gap,
    "variance": _variance,
    "l1_to_mean": _l1_to_mean,
    "smooth_max": _smooth_max,
}
SQUARED_REDUCTIONS = ("squared_pairs", "squared_to_mean", "variance")
