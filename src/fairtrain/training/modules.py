"""The module that is trained: a copy of the user's, one a factory makes, or a sensible MLP."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from fairtrain.exceptions import InvalidParameterError
from fairtrain.training.loop.steps import WEIGHT_DECAY

__all__ = ["DefaultModule", "ModuleSpec", "TableEncoding", "build_module"]

ModuleSpec = nn.Module | Callable[[int, int], nn.Module] | None
"""A module, a factory ``(n_features, n_outputs) -> module``, or None."""

_HIDDEN = 64
_PIECES = 16  # of a feature; 8 lose a thousandth of AUC, and 32 gain none
_BEHIND = 10  # people whose values make the end of a piece
_ENOUGH = 100_000  # rows that say where pieces end
_REACH = 3.0  # standard deviations, beyond which a value is drawn in
_NOTHING_YET = 1e30  # a reach that leaves every value as it is
_DRAWS_NOTHING_IN = 1e29  # so does this one, of a network that learnt before values were drawn in
_DECAYED = 8000.0  # rows times weight decay; see below
_MOST_DECAY = 20.0


class TableEncoding(nn.Module):
    r"""Standardised features, and where in their distribution those with many values lie.

    A feature is standardised, and what is far out is drawn in,
    :math:`z / \sqrt{1 + (z / 3)^2}` (Holzmüller, Grinsztajn & Steinwart, 2024). One with more than
    two values besides becomes a thermometer of up to 16 pieces, of which those below its value are
    1, those above -1, and the one it lies in says how far (Gorishniy, Rubachev & Babenko, 2022).
    Nothing is changed before :meth:`learn` has seen rows.

    Parameters
    ----------
    n_features : int
        Number of features d.
    n_pieces : int, default=0
        Pieces p of all features together.
    """

    mean: Tensor
    scale: Tensor
    reach: Tensor
    feature: Tensor
    start: Tensor
    width: Tensor

    def __init__(self, n_features: int, n_pieces: int = 0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))
        self.register_buffer("reach", torch.tensor(_NOTHING_YET))
        self._set_pieces(*torch.zeros(3, n_pieces))

    def _set_pieces(self, feature: Tensor, start: Tensor, width: Tensor) -> None:
        # All are floats: an average of weights over training takes buffers along.
        self.register_buffer("feature", feature)
        self.register_buffer("start", start)
        self.register_buffer("width", width)

    @property
    def n_outputs(self) -> int:
        """Numbers that a row becomes, d + p."""
        return len(self.mean) + len(self.feature)

    @torch.no_grad()
    def learn(self, x: Tensor, weight: Tensor | None = None) -> None:
        """Take mean, scale and pieces from training rows; a constant feature keeps scale 1."""
        share = torch.ones(len(x)) if weight is None else weight
        share = (share / share.sum()).double().unsqueeze(1)
        mean = (x.double() * share).sum(0)
        scale = ((x.double() - mean) ** 2 * share).sum(0).sqrt()
        self.mean = mean.to(x.dtype)
        self.scale = torch.where(scale > 1e-12, scale, 1.0).to(x.dtype)
        self.reach = torch.tensor(_REACH, dtype=x.dtype, device=x.device)
        edges = [_edges(column) for column in x.double().cpu().T]
        owner = [torch.full((len(e) - 1,), j) for j, e in enumerate(edges)]
        low = torch.cat([e[:-1] for e in edges])
        high = torch.cat([e[1:] for e in edges])
        found = torch.cat(owner).double(), low, high - low
        self._set_pieces(*(part.to(x.device, x.dtype) for part in found))

    def forward(self, x: Tensor) -> Tensor:
        """Encode rows of shape (n, d) as (n, d + p)."""
        z: Tensor = (x - self.mean) / self.scale
        z = z / torch.sqrt(1 + (z / self.reach) ** 2)
        if not len(self.feature):
            return z
        piece = ((x[:, self.feature.long()] - self.start) / self.width).clamp(0, 1)
        return torch.cat([z, 2 * piece - 1], dim=1)


def _edges(column: Tensor) -> Tensor:
    """Ends of the pieces of a feature; one alone, of no piece, where it has at most two values.

    They are quantiles of its values, each weighted by the root of its count: of a gain that is 0
    for nine of ten people the others are told apart too. None is one person's: ten people stand
    behind each.
    """
    column = column[:: -(-len(column) // _ENOUGH)]
    values, counts = torch.unique(column, return_counts=True)
    if 2 < len(values) <= _PIECES + 1:
        values = values[counts >= _BEHIND]
    elif len(values) > _PIECES + 1:
        together = column.sort().values[: len(column) // _BEHIND * _BEHIND].view(-1, _BEHIND)
        values, counts = torch.unique(together.mean(dim=1).float(), return_counts=True)
        values = values.double()
    if len(values) <= 2:
        return column[:1]
    if len(values) <= _PIECES + 1:
        return torch.as_tensor(values)
    mass = torch.cumsum(counts.double().sqrt(), 0)
    at = torch.linspace(0, 1, _PIECES + 1, dtype=torch.float64) * (mass[-1] - mass[0]) + mass[0]
    ends = np.interp(at.numpy(), mass.numpy(), values.numpy())
    return torch.from_numpy(np.unique(ends.astype(np.float32))).double()


class DefaultModule(nn.Sequential):
    """Two hidden layers of 64 on encoded features: what ``module=None`` trains.

    Parameters
    ----------
    n_features, n_outputs : int
        Numbers in and out.
    n_pieces : int, default=0
        Pieces of :class:`TableEncoding`, where they were learnt before.

    Attributes
    ----------
    weight_decay : float
        What the Lagrangian trainer decays the weights by: 8,000 over the rows that train, at most
        20.
    """

    # In 1,500 steps a network learns a few hundred rows by heart. The Lagrangian trainer at a
    # demographic parity of .05, without and with this decay (one split each; of
    # students and of 8,000 adults two; over sex, sex, sex, race, race, sex):
    #     rows            log loss     AUC          accuracy     gap
    #     364 students    1.55  .57    .753  .787   .685  .726   .062  .055
    #     800 borrowers   1.48  .45    .704  .748   .762  .797   .044  .025
    #     800 adults       .61  .35    .842  .904   .811  .844   .030  .011
    #     800 Californians .89  .51    .770  .819   .706  .732   .183  .171
    #     2,400 adults     .41  .35    .871  .885   .821  .840   .189  .160
    #     8,000 adults     .37  .37    .891  .890   .837  .836   .038  .039
    # 2,400 over the rows leaves the borrowers at .62. A ridge penalty does the same at 30 over the
    # rows, but at 100 every weight of the students' network falls to 0.
    # What else was tried, where the best epoch is kept, on three to six shared sets of 455 to
    # 1,000 rows: a linear layer beside the hidden ones, one or three of these, 128 in each, SiLU,
    # dropout, label smoothing, half and twice the learning rate, biases that start at base rates:
    # none gives on all what it gives on one. Two residual blocks with layer norms change log loss
    # by -.002 to .008 at twice the time, periodic embeddings by -.003 to -.001 at up to four times.
    weight_decay: float = WEIGHT_DECAY

    def __init__(self, n_features: int, n_outputs: int, n_pieces: int = 0) -> None:
        encoding = TableEncoding(n_features, n_pieces)
        super().__init__(
            encoding,
            nn.Linear(encoding.n_outputs, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, n_outputs),
        )
        self.n_features, self.n_outputs = n_features, n_outputs

    @classmethod
    def without_pieces(cls, n_features: int, n_outputs: int) -> Self:
        """A network as they were before features had pieces; its weights are to be set."""
        made = cls(n_features, n_outputs)
        made[0].reach = torch.tensor(_DRAWS_NOTHING_IN)  # fitted: learn lets it be
        return made

    @property
    def n_pieces(self) -> int:
        """Pieces that features of many values became."""
        encoding = self[0]
        assert isinstance(encoding, TableEncoding)
        return encoding.n_outputs - self.n_features

    def learn(self, x: Tensor, weight: Tensor | None = None) -> None:
        """Fit the encoding to training rows; one that was fitted stays, with the weights on it."""
        self.weight_decay = min(max(_DECAYED / len(x), WEIGHT_DECAY), _MOST_DECAY)
        encoding, first = self[0], self[1]
        assert isinstance(encoding, TableEncoding)
        assert isinstance(first, nn.Linear)
        if encoding.reach < _NOTHING_YET:
            return
        encoding.learn(x, weight)
        self[1] = nn.Linear(encoding.n_outputs, _HIDDEN).to(first.weight)


def build_module(spec: Any, n_features: int | None, n_outputs: int) -> nn.Module:
    """Make the module that is trained; a user's module is copied, never changed.

    Parameters
    ----------
    spec : nn.Module, callable or None
        See :data:`ModuleSpec`.
    n_features : int or None
        Features of a row; None where rows are no vectors.
    n_outputs : int
        Numbers a row that the task needs.

    Raises
    ------
    InvalidParameterError
        If the spec cannot make a module.
    """
    if isinstance(spec, nn.Module):
        return copy.deepcopy(spec)
    if spec is not None and not callable(spec):
        raise InvalidParameterError(
            f"module must be an nn.Module, a factory (n_features, n_outputs) -> nn.Module, or "
            f"None, got {type(spec).__name__}."
        )
    if n_features is None:
        raise InvalidParameterError(
            "a factory needs rows of shape (n, d); for other inputs pass an nn.Module."
        )
    made = (DefaultModule if spec is None else spec)(n_features, n_outputs)
    if not isinstance(made, nn.Module):
        raise InvalidParameterError(
            f"the factory given as module made {type(made).__name__}, expected nn.Module."
        )
    return made
