"""Group statistics of a batch: pure, differentiable, vectorised over groups.

Nothing here knows a module or keeps state. Every function works on CPU and accelerators, under
``torch.compile`` and under ``torch.func.vmap``; bfloat16 and float16 values are summed in float32.

Group codes are integers ``0 .. num_groups - 1``; code -1 means "unknown" and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int, Integer, Shaped
from torch import Tensor

from fairtrain.constraints.rates import Quantity, Rate
from fairtrain.exceptions import InvalidParameterError

__all__ = [
    "GroupMeans",
    "GroupMoments",
    "Link",
    "combine_codes",
    "group_means",
    "group_moments",
    "group_sums",
    "log_mean_exp",
    "rate_sums",
    "shrink",
    "shrunk",
    "soft_decisions",
]

Link = Literal["sigmoid", "probit"]


class GroupMeans(NamedTuple):
    """Mean of each group and how many rows (or how much weight) it rests on.

    The mean of a group without rows is 0 and its count is 0: look at the count first.
    """

    means: Tensor
    counts: Tensor


class GroupMoments(NamedTuple):
    """What a disparity is computed from; ``...`` stands for one axis of rates.

    Attributes
    ----------
    means : Tensor of shape (..., G)
        Group means, 0 for a group without rows.
    counts : Tensor of shape (..., G)
        Rows of each group, or the sum of their weights.
    overall : Tensor of shape (...)
        Mean over all rows of known group.
    variances : Tensor of shape (..., G) or None
        Estimated sampling variance of each group mean; infinite where it cannot be estimated.
    """

    means: Tensor
    counts: Tensor
    overall: Tensor
    variances: Tensor | None = None


def soft_decisions(
    logits: Float[Tensor, "n *classes"], temperature: float = 1.0, link: Link = "sigmoid"
) -> Float[Tensor, "n *classes"]:
    r"""Differentiable stand-in for the decision "favourable if the logit is above 0".

    .. math:: p = \sigma(z / T), \qquad p = \Phi(z / T), \qquad p_c = \mathrm{softmax}(z / T)_c

    At :math:`T = 1` the sigmoid is the model's own probability; as :math:`T \to 0` the soft
    decision becomes the hard one and its gradient vanishes away from the boundary.

    Parameters
    ----------
    logits : Tensor of shape (n,) or (n, C)
        With C columns a softmax over the classes is taken.
    temperature : float > 0, default=1.0
        Sharpness; smaller is harder.
    link : {"sigmoid", "probit"}, default="sigmoid"
        ``"probit"`` (the normal distribution function) has lighter tails, so rows far from the
        boundary are pushed less. Only for one column.

    Returns
    -------
    Tensor in [0, 1], of the shape of ``logits``, at least float32

    Examples
    --------
    >>> soft_decisions(torch.tensor([-1.0, 0.0, 1.0]), temperature=0.1)
    tensor([4.5398e-05, 5.0000e-01, 9.9995e-01])
    """
    scaled = _at_least_float32(logits)
    if temperature != 1.0:
        scaled = scaled / temperature
    if logits.ndim == 2:
        if link != "sigmoid":
            raise InvalidParameterError(
                f"link={link!r} is defined for one logit a row, got shape {tuple(logits.shape)}; "
                "use link='sigmoid' (softmax)."
            )
        return torch.softmax(scaled, dim=1)
    if link == "sigmoid":
        return torch.sigmoid(scaled)
    if link == "probit":
        probabilities: Tensor = torch.special.ndtr(scaled)
        return probabilities
    raise InvalidParameterError(f"link must be 'sigmoid' or 'probit', got {link!r}.")


def group_sums(
    values: Shaped[Tensor, "n *k"],
    codes: Integer[Tensor, "n *l"],
    num_groups: int,
    weights: Float[Tensor, " n"] | None = None,
) -> tuple[Float[Tensor, "*k g"], Float[Tensor, "*k g"]]:
    r"""Sum values and count rows by group.

    .. math:: S_g = \sum_{i: a_i = g} w_i v_i, \qquad N_g = \sum_{i: a_i = g} w_i

    Parameters
    ----------
    values : Tensor of shape (n,) or (n, k)
        One number a row, or one a row and column.
    codes : integer Tensor of shape (n,) or (n, k)
        Group of each row, or of each row in each column; -1 leaves the value out.
    num_groups : int
        Number of groups G.
    weights : Tensor of shape (n,), optional
        Weight of each row; 1 by default.

    Returns
    -------
    sums, counts : Tensors of shape (G,) or (k, G)
        Both at least float32; ``counts`` sums the weights.

    Examples
    --------
    >>> group_sums(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 1, -1]), 3)
    (tensor([1., 2., 0.]), tensor([1., 1., 0.]))
    """
    values = _at_least_float32(values)
    # Slot 0 collects code -1, so that a NaN in a left-out row reaches no group.
    slots, size = codes + 1, num_groups + 1
    if values.ndim == 2:
        columns = values.shape[1]
        if slots.ndim == 1:
            slots = slots.unsqueeze(1)
        slots = (slots + size * torch.arange(columns, device=codes.device)).reshape(-1)
        size = size * columns
    if weights is None:
        ones = torch.ones_like(values)
    else:
        ones = weights.to(values.dtype)
        if values.ndim == 2:
            ones = ones.unsqueeze(1).expand_as(values)
        values = values * ones
    zeros = torch.zeros(size, dtype=values.dtype, device=values.device)
    sums = zeros.index_add(0, slots, values.reshape(-1))
    counts = zeros.index_add(0, slots, ones.reshape(-1))
    if values.ndim == 2:
        sums, counts = sums.reshape(columns, -1), counts.reshape(columns, -1)
    return sums[..., 1:], counts[..., 1:]


def group_means(
    values: Shaped[Tensor, "n *k"],
    codes: Integer[Tensor, "n *l"],
    num_groups: int,
    weights: Float[Tensor, " n"] | None = None,
) -> GroupMeans:
    r"""Mean of values by group, with the counts they rest on.

    .. math:: m_g = \frac{\sum_{i: a_i = g} w_i v_i}{\sum_{i: a_i = g} w_i}

    Parameters
    ----------
    values, codes, num_groups, weights
        See :func:`group_sums`.

    Returns
    -------
    GroupMeans
        ``means`` and ``counts`` of shape (G,) or (k, G). A group without rows has mean 0 and
        count 0, and receives and sends no gradient.

    Examples
    --------
    >>> means, counts = group_means(torch.tensor([0.2, 0.4, 0.9]), torch.tensor([0, 0, 2]), 3)
    >>> means, counts
    (tensor([0.3000, 0.0000, 0.9000]), tensor([2., 0., 1.]))
    """
    sums, counts = group_sums(values, codes, num_groups, weights)
    return GroupMeans(sums / _nonzero(counts), counts)


def rate_sums(
    decisions: Float[Tensor, "n *classes"],
    targets: Shaped[Tensor, "n *classes"] | None,
    codes: Integer[Tensor, " n"],
    num_groups: int,
    rates: Sequence[Rate],
    weights: Float[Tensor, " n"] | None = None,
    *,
    squares: bool = False,
) -> Float[Tensor, "s k g"]:
    r"""Group sums of event-conditioned rates: quantity :math:`q`, event :math:`E`, by group.

    .. math:: S_{kg} = \sum_{i: a_i = g,\; i \in E_k} w_i\, q_k(y_i, p_i)

    Parameters
    ----------
    decisions : Tensor of shape (n,) or (n, C)
        Soft or hard decisions in [0, 1]; with C columns each class is one outcome.
    targets : Tensor of shape (n,) or (n, C), optional
        1 where the outcome is the true one, else 0. Needed by rates with an event or an error.
    codes : integer Tensor of shape (n,)
        Group of each row.
    num_groups : int
        Number of groups G.
    rates : sequence of Rate
        What is averaged over whom.
    weights : Tensor of shape (n,), optional
        Weight of each row.
    squares : bool, default=False
        Also sum :math:`w q^2` and :math:`w^2`, which sampling variances need.

    Returns
    -------
    Tensor of shape (2, K, G), or (4, K, G) with ``squares``
        Sums, counts (and the two others); K is the number of rates, times C with C columns. Under a
        rate ``among`` some, rows count by their share of these: precision is differentiable.
        Sums of different batches or processes may be added; means must not be.
    """
    labels = decisions.detach() if targets is None else targets.to(decisions.dtype)
    by_quantity: dict[Quantity, Tensor] = {}
    parts: list[Tensor] = []
    for rate in rates:  # one or two: never one per group
        values = by_quantity.get(rate.quantity)
        if values is None:
            values = by_quantity[rate.quantity] = rate.quantity(labels, decisions)
        slots = codes.unsqueeze(1).expand_as(values) if values.ndim == 2 else codes
        if rate.event is not None:
            slots = (slots + 1) * rate.event(labels) - 1
        if rate.among is not None:
            share = rate.among(labels, decisions)
            parts.append(_shared_sums(values, share, slots, num_groups, weights, squares))
            continue
        parts.append(moment_sums(values, slots, num_groups, weights, squares=squares))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _shared_sums(
    values: Tensor,
    share: Tensor,
    codes: Tensor,
    num_groups: int,
    weights: Tensor | None,
    squares: bool,
) -> Tensor:
    """As :func:`moment_sums`, of rows that count by a share: gradients flow through both."""
    parts, squared = [values * share, share], None if weights is None else weights**2
    sums = [group_sums(part, codes, num_groups, weights)[0] for part in parts]
    if squares:
        sums.append(group_sums(values * values * share, codes, num_groups, weights)[0])
        sums.append(group_sums(share * share, codes, num_groups, squared)[0])
    stacked = torch.stack(sums)
    return stacked.unsqueeze(1) if stacked.ndim == 2 else stacked


def moment_sums(
    values: Float[Tensor, "n *k"],
    codes: Integer[Tensor, "n *l"],
    num_groups: int,
    weights: Float[Tensor, " n"] | None = None,
    *,
    squares: bool = False,
) -> Float[Tensor, "s k2 g"]:
    """Stack what :func:`group_moments` reads: sums, counts and, with ``squares``, two more."""
    parts = [*group_sums(values, codes, num_groups, weights)]
    if squares:
        parts.append(group_sums(values * values, codes, num_groups, weights)[0])
        if weights is None:
            parts.append(parts[1])
        else:
            squared = weights.to(parts[0].dtype) ** 2
            parts.append(group_sums(torch.ones_like(values), codes, num_groups, squared)[0])
    stacked = torch.stack(parts)
    return stacked.unsqueeze(1) if stacked.ndim == 2 else stacked


def group_moments(sums: Float[Tensor, "s k g"]) -> GroupMoments:
    r"""Turn sums into means and, when squares were summed, sampling variances of the means.

    .. math::
       \widehat{\mathrm{Var}}(m_g) = \frac{s_g^2}{n_g}, \quad
       s_g^2 = \frac{n_g}{n_g - 1}\left(\overline{q^2}_g - m_g^2\right), \quad
       n_g = \frac{(\sum w)^2}{\sum w^2}

    Parameters
    ----------
    sums : Tensor of shape (2, K, G) or (4, K, G)
        From :func:`rate_sums`.

    Returns
    -------
    GroupMoments
    """
    counts = sums[1]
    means = sums[0] / _nonzero(counts)
    overall = sums[0].sum(-1) / _nonzero(counts.sum(-1))
    if len(sums) == 2:
        return GroupMoments(means, counts, overall)
    rows = counts**2 / _nonzero(sums[3])
    known = rows > 1.5  # two rows of equal weight; one row tells nothing
    spread = (sums[2] / _nonzero(counts) - means**2).clamp(min=0)
    variances = torch.where(known, spread / torch.where(known, rows - 1, 1), torch.inf)
    return GroupMoments(means, counts, overall, variances)


def shrink(
    means: Float[Tensor, "*k g"],
    counts: Float[Tensor, "*k g"],
    towards: Float[Tensor, "*k #g"],
    strength: float,
) -> Float[Tensor, "*k g"]:
    r"""Pull group means towards a parent, the more the fewer rows they rest on.

    .. math:: \tilde m_g = c_g + \frac{n_g}{n_g + k}\,(m_g - c_g)

    Parameters
    ----------
    means, counts : Tensors of shape (..., G)
        Group means and their rows.
    towards : Tensor of shape (..., G) or (..., 1)
        Parent means :math:`c_g`.
    strength : float >= 0
        Rows :math:`k` that the parent counts for.

    Returns
    -------
    Tensor of shape (..., G)
    """
    return torch.lerp(towards.expand_as(means), means, counts / (counts + strength))


def shrunk(moments: GroupMoments, strength: float) -> GroupMoments:
    """Pull group means to the overall mean as if it had ``strength`` rows; see :func:`shrink`."""
    if not strength:
        return moments
    towards = moments.overall.unsqueeze(-1)
    return moments._replace(means=shrink(moments.means, moments.counts, towards, strength))


def log_mean_exp(
    values: Float[Tensor, "*k n"], weights: Float[Tensor, "*k n"]
) -> Float[Tensor, "*k"]:
    r"""Logarithm of a weighted mean of exponentials, :math:`\ln \sum_i w_i e^{v_i}`.

    Parameters
    ----------
    values : Tensor of shape (..., n)
        Exponents.
    weights : Tensor of shape (..., n)
        Weights that sum to 1; where all are 0, or there is no value, the result is finite.

    Returns
    -------
    Tensor of shape (...)
    """
    top = values.detach().amax(-1, keepdim=True) if values.shape[-1] else values.new_zeros(1)
    mean = (weights * torch.exp(values - top)).sum(-1)
    return top.squeeze(-1) + torch.log(_nonzero(mean))


def combine_codes(columns: Int[Tensor, "n k"], levels: Sequence[int]) -> Int[Tensor, " n"]:
    """Number the intersections of several columns: the last column moves fastest.

    Parameters
    ----------
    columns : integer Tensor of shape (n, k)
        Level of each row in each column; -1 in any column makes the row unknown.
    levels : sequence of int
        Number of levels of each column.

    Returns
    -------
    integer Tensor of shape (n,)
        Codes below the product of ``levels``; -1 for unknown rows.

    Examples
    --------
    >>> combine_codes(torch.tensor([[0, 2], [1, 0], [1, -1]]), (2, 3))
    tensor([ 2,  3, -1])
    """
    codes = columns[:, 0]
    for j, size in enumerate(levels[1:], start=1):
        codes = codes * size + columns[:, j]
    return torch.where((columns < 0).any(dim=1), -1, codes)


def _at_least_float32(values: Tensor) -> Tensor:
    if values.dtype in (torch.float32, torch.float64):
        return values
    return values.float()


def _nonzero(counts: Tensor) -> Tensor:
    return torch.where(counts > 0, counts, 1)
