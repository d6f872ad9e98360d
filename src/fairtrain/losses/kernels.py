r"""Kernel measures of dependence: HSIC and MMD, for scores and for representations.

Both read the same small matrix, the inner products of the groups' mean embeddings:
:math:`M = A^\top K A` with K the kernel matrix of a batch and A the row weights by group. Time and
memory are O(n^2): a batch of 8,192 rows needs 256 MB in float32.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from fairtrain._parameters import FLAG, NONE, Choice, Real, Table, checked
from fairtrain.exceptions import InvalidParameterError
from fairtrain.losses.batch import FairnessBatch
from fairtrain.losses.dependence import ScoreDependenceLoss, ScoreSettings, attribute_columns

__all__ = ["HSICLoss", "KernelLoss", "MMDLoss", "gaussian_kernel"]

SCALES = (0.25, 1.0, 4.0)
"""Multiples of the squared bandwidth over which the kernel is averaged."""


def gaussian_kernel(
    x: Float[Tensor, "n d"], rows: Float[Tensor, " n"], bandwidth: float | None = None
) -> Float[Tensor, "n n"]:
    r"""Gaussian kernel, averaged over three widths.

    .. math:: K_{ij} = \tfrac13 \sum_{s \in \{1/4, 1, 4\}} \exp\bigl(-\|x_i - x_j\|^2
              / (2 s \sigma^2)\bigr)

    Parameters
    ----------
    x : Tensor of shape (n, d)
        Points.
    rows : Tensor of shape (n,)
        Weights that sum to 1; used for the default bandwidth.
    bandwidth : float > 0, optional
        :math:`\sigma`. Default: :math:`\sigma^2` is half the mean squared distance of two points,
        which is not differentiated: a constant for the gradient.

    Returns
    -------
    Tensor of shape (n, n)
    """
    x = x - (rows @ x).detach()  # distances stay, rounding shrinks
    norms = (x * x).sum(1)
    squared = (norms.unsqueeze(1) + norms - 2 * x @ x.T).clamp(min=0)
    if bandwidth is None:
        variance = (rows @ norms).detach()
        variance = torch.where(variance > 0, variance, 1)
    else:
        variance = norms.new_tensor(bandwidth**2)
    kernels = [torch.exp(squared / (-2 * scale * variance)) for scale in SCALES]
    return torch.stack(kernels).mean(0)


class KernelSettings(ScoreSettings, total=False):
    """Keywords of every :class:`KernelLoss`."""

    bandwidth: float | None


class KernelLoss(ScoreDependenceLoss):
    """Base of the kernel losses.

    Parameters
    ----------
    on : {"decisions", "outputs"}, default="decisions"
        What one column of outputs is turned into. Representations of shape (n, d) are taken as
        they are.
    bandwidth : float > 0, optional
        Width of the Gaussian kernel. By default from the batch (half the mean squared distance of
        two rows' scores); that width is a constant for the gradient, which is therefore not the
        derivative of the value: give a number where it has to be.
    **settings
        Keywords of :class:`~fairtrain.losses.base.FairnessLoss`.
    """

    _allowed: ClassVar[Table] = {
        "bandwidth": Real(0, ends="()") | NONE,
    }

    @checked
    def __init__(
        self,
        *,
        bandwidth: float | None = None,
        **settings: Unpack[ScoreSettings],
    ) -> None:
        super().__init__(**settings)
        self.bandwidth = bandwidth

    def penalty(self, batch: FairnessBatch) -> Tensor:
        """Compute in full precision: under autocast a kernel matrix product would be bfloat16."""
        with torch.autocast(batch.outputs.device.type, enabled=False):
            attributes, rows = attribute_columns(batch)
            kernel = gaussian_kernel(self.scores(batch.outputs), rows, self.bandwidth)
            return self.compare(kernel, attributes, rows, batch)

    def compare(
        self,
        kernel: Float[Tensor, "n n"],
        attributes: Float[Tensor, "n k"],
        rows: Float[Tensor, " n"],
        batch: FairnessBatch,
    ) -> Tensor:
        """Compute the loss from the kernel of the scores, in at least float32."""
        raise NotImplementedError(f"{type(self).__name__} implements no compare.")


class HSICLoss(KernelLoss):
    r"""Hilbert-Schmidt independence criterion (Gretton et al., 2005).

    .. math:: \sum_{ij} \pi_i \pi_j K_{ij} L_{ij}
       + \sum_{ij} \pi_i \pi_j K_{ij} \sum_{ij} \pi_i \pi_j L_{ij}
       - 2 \sum_i \pi_i (K\pi)_i (L\pi)_i

    which for equal weights is :math:`\operatorname{tr}(KHLH) / n^2`. K is Gaussian; L is 1 for rows
    of the same group (scaled by its weight), or Gaussian for continuous attributes. Zero in the
    population exactly when scores and attributes are independent. In a batch it is biased upwards
    by O(1/n).

    Parameters
    ----------
    on, bandwidth
        See :class:`KernelLoss`: the default bandwidth, taken from the batch, is not differentiated.
    **settings
        Keywords of :class:`~fairtrain.losses.base.FairnessLoss`.

    Examples
    --------
    >>> import torch
    >>> from fairtrain.losses import HSICLoss
    >>> representation = torch.tensor([[0.0, 1.0], [0.0, 1.0], [2.0, 1.0], [2.0, 1.0]])
    >>> HSICLoss()(representation, sensitive_features=torch.tensor([0, 1, 0, 1]))
    tensor(0.)
    """

    accepts_continuous = True

    def compare(
        self, kernel: Tensor, attributes: Tensor, rows: Tensor, batch: FairnessBatch
    ) -> Tensor:
        """Criterion of scores and groups, or scores and continuous attributes."""
        if batch.attributes is not None:
            other = gaussian_kernel(attributes, rows)
            mixed = ((rows @ kernel) * (rows @ other)) @ rows
            joint = rows @ (kernel * other) @ rows
            return joint + (rows @ kernel @ rows) * (rows @ other @ rows) - 2 * mixed
        mean_map = attributes * rows.unsqueeze(1)
        inner = mean_map.T @ kernel @ mean_map
        share = mean_map.sum(0)
        weights = self.weights_of_groups(None, batch.levels, share)
        joint = (weights * inner.diagonal()).sum()
        product = inner.sum() * (weights * share**2).sum()
        mixed = (weights * share * inner.sum(1)).sum()
        enough = (share > 0).sum() > 1
        return (joint + product - 2 * mixed) * enough


class MMDLoss(KernelLoss):
    r"""Maximum mean discrepancy between groups (Gretton et al., 2012).

    .. math:: \operatorname{MMD}^2(g, h) = \mathbb E K(x_g, x_g') + \mathbb E K(x_h, x_h')
              - 2\, \mathbb E K(x_g, x_h)

    Parameters
    ----------
    reduction : {"squared_pairs", "max_gap", "squared_to_mean"}, default="squared_pairs"
        Mean over pairs (weighted by :math:`w_g w_h`), largest pair, or sum of
        :math:`w_g \operatorname{MMD}^2(g, \text{all})`. Always of squared discrepancies.
    debias : bool, default=False
        Leave a row's kernel with itself out: unbiased for pairs, may fall below 0. Groups with
        fewer than two rows are left out. Not with ``"squared_to_mean"`` or ``sample_weight``.
    on, bandwidth
        See :class:`KernelLoss`: the default bandwidth, taken from the batch, is not differentiated.
    **settings
        Keywords of :class:`~fairtrain.losses.base.FairnessLoss`.

    Examples
    --------
    >>> import torch
    >>> from fairtrain.losses import MMDLoss
    >>> scores = torch.tensor([0.0, 1.0, 0.0, 1.0])
    >>> MMDLoss(on="outputs")(scores, sensitive_features=torch.tensor([0, 0, 1, 1]))
    tensor(0.)
    """

    _allowed: ClassVar[Table] = {
        "reduction": Choice("squared_pairs", "max_gap", "squared_to_mean"),
        "debias": FLAG,
    }

    @checked
    def __init__(
        self,
        *,
        reduction: Literal["squared_pairs", "max_gap", "squared_to_mean"] = "squared_pairs",
        debias: bool = False,
        **settings: Unpack[KernelSettings],
    ) -> None:
        super().__init__(**settings)
        if debias and reduction == "squared_to_mean":
            raise InvalidParameterError(
                "debias=True needs pairs of groups; use reduction='squared_pairs' or 'max_gap'."
            )
        self.reduction = reduction
        self.debias = debias

    def compare(
        self, kernel: Tensor, attributes: Tensor, rows: Tensor, batch: FairnessBatch
    ) -> Tensor:
        """Reduce squared discrepancies."""
        if self.debias and batch.weights is not None:
            raise InvalidParameterError("MMDLoss with debias=True takes no sample_weight.")
        share = rows @ attributes
        present = share > 0
        means = attributes * rows.unsqueeze(1) / torch.where(present, share, 1)
        inner = means.T @ kernel @ means
        if self.debias:
            counts = attributes.sum(0)
            present = counts > 1
            own = (counts * inner.diagonal() - 1) / (counts - 1).clamp(min=1)  # K(x, x) = 1
            inner = inner - torch.diag_embed(inner.diagonal() - own)
        w = self.weights_of_groups(None, batch.levels, share) * present
        if self.reduction == "squared_to_mean":
            to_all = inner.diagonal() - 2 * inner @ share + share @ inner @ share
            return (w * to_all).sum() * ((w > 0).sum() > 1)
        diagonal = inner.diagonal()
        pairs = diagonal.unsqueeze(1) + diagonal - 2 * inner
        pair_weights = (w.unsqueeze(1) * w).fill_diagonal_(0)
        if self.reduction == "max_gap":
            return (pair_weights * pairs).amax()
        groups = (w > 0).sum()
        return (pair_weights * pairs).sum() / (groups * (groups - 1)).clamp(min=1)
