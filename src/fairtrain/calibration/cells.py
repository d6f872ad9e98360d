"""Rows as sums: what every calibration map and test is fitted on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from fairtrain.constraints.table import CellRows
from fairtrain.data.groups import group_sums
from fairtrain.data.partition import compress
from fairtrain.data.rows import Rows
from fairtrain.metrics.clusters import clustered

__all__ = [
    "CLIP",
    "Cells",
    "Codes",
    "Floats",
    "Mask",
    "clipped_logit",
    "effective",
    "gather",
    "residual_effects",
]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]

CLIP = 1e-6
"""Scores are kept at least this far from 0 and 1, where logits end."""

_LARGEST_LOGIT = float(logit(1 - CLIP))
_EXACT_ROWS = 1 << 18
_WIDTH = 1 / 32


@dataclass(frozen=True)
class Cells:
    """Sums over rows of one group that share a logit, or nearly do.

    Attributes
    ----------
    group : ndarray of int64, shape (m,)
        Group of each cell.
    x : ndarray of shape (m,)
        Logit of the score; its weighted mean where rows were pooled.
    weight : ndarray of shape (m,)
        Sum of weights.
    events : ndarray of shape (m,)
        Sum of weights of rows with y = 1.
    squares : ndarray of shape (m,)
        Sum of squared weights: the weights themselves where all are 1.
    size : int
        Number of groups G.
    """

    group: Codes
    x: Floats
    weight: Floats
    events: Floats
    squares: Floats
    size: int

    @classmethod
    def of(cls, rows: Rows) -> Cells:
        """Sums of rows whose ``X`` holds logits; see :func:`gather`.

        Where rows come in clusters, squared weights count the design effect of what the scores
        leave unsaid, so that groups are worth fewer rows.
        """
        codes, size = rows.groups.codes, len(rows.groups)
        cells = gather(rows.X, rows.outcomes, codes, size, rows.weight)
        effect = residual_effects(rows, codes, size)
        return replace(cells, squares=cells.squares * effect[cells.group])

    def sums(self, values: Floats) -> Floats:
        """Sum of a value of each cell in every group, shape (G,)."""
        return group_sums(values, self.group, self.size)

    @property
    def effective(self) -> Floats:
        """Effective number of rows of every group, shape (G,)."""
        return effective(self.sums(self.weight), self.sums(self.squares))

    def take(self, keep: NDArray[Any]) -> Cells:
        """Only some cells; groups keep their numbers."""
        weight, events, squares = self.weight[keep], self.events[keep], self.squares[keep]
        return Cells(self.group[keep], self.x[keep], weight, events, squares, self.size)

    def merged(self, parent: Codes, size: int) -> Cells:
        """The same sums in coarser groups: ``parent`` holds the new group of every old one."""
        return replace(self, group=parent[self.group], size=size)


def residual_effects(rows: Rows, codes: Codes, size: int) -> Floats:
    """Design effects of outcomes less scores in every group, shape (G,); 1 without clusters."""
    if rows.clusters is None or rows.X.ndim > 1:
        return np.ones(size)
    people = CellRows(codes, size, rows.weight)
    residual = (rows.outcomes - expit(rows.X))[people.rows]
    return clustered(people, residual, rows.clusters[people.rows]).effect


def clipped_logit(q: Floats) -> Floats:
    """Logits of probabilities, clipped to those of ``CLIP`` and 1 - ``CLIP``."""
    return np.asarray(logit(np.clip(q, CLIP, 1 - CLIP)))


def effective(weight: Floats, squares: Floats) -> Floats:
    """Kish's effective number of rows, from sums of weights and of their squares."""
    return np.asarray(weight**2 / np.where(squares > 0, squares, 1.0))


def gather(
    x: Floats, y: NDArray[Any], codes: Codes, size: int, weight: Floats | None = None
) -> Cells:
    """Make cells of rows: one each, or, above 262,144 rows, one for each group and 1/32 of a logit.

    Pooling moves a logistic fit by less than 1e-5: the mean logit of a cell is kept, so only the
    curvature of the likelihood within 1/32 is lost.

    Parameters
    ----------
    x, y : ndarray of shape (n,)
        Logits, and outcomes 0 or 1.
    codes : ndarray of int64, shape (n,)
        Group of each row; rows of group -1 are left out.
    size : int
        Number of groups.
    weight : ndarray of shape (n,), optional
        Row weights; rows of weight 0 are left out.
    """
    keep = codes >= 0 if weight is None else (codes >= 0) & (weight > 0)
    if not keep.all():
        x, y, codes = x[keep], y[keep], codes[keep]
        weight = None if weight is None else weight[keep]
    w = np.ones(len(x)) if weight is None else weight
    if len(x) <= _EXACT_ROWS:
        return Cells(codes, x, w, w * y, w * w, size)
    bins = int(np.ceil(2 * _LARGEST_LOGIT / _WIDTH)) + 1
    place = ((x + _LARGEST_LOGIT) / _WIDTH).astype(np.int64)
    keys, at = compress(codes * bins + place)
    total, moment, events, squares = (
        group_sums(values, at, len(keys)) for values in (w, w * x, w * y, w * w)
    )
    return Cells(keys // bins, moment / total, total, events, squares, size)
