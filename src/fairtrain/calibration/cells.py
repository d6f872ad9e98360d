"""Rows as sums: what every calibration map and test is fitted on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from fairtrain.data.groups import group_sums
from fairtrain.data.inputs import as_float_column
from fairtrain.data.partition import compress
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

__all__ = ["CLIP", "Cells", "as_logits", "gather"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

CLIP = 1e-6
"""Scores are kept at least this far from 0 and 1, where logits end."""

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
        """Sums of rows whose ``X`` holds logits; see :func:`gather`."""
        assert rows.y is not None
        return gather(rows.X, rows.y, rows.groups.codes, len(rows.groups), rows.weight)

    def sums(self, values: Floats) -> Floats:
        """Sum of a value of each cell in every group, shape (G,)."""
        return group_sums(values, self.group, self.size)

    def take(self, keep: NDArray[Any]) -> Cells:
        """Only some cells; groups keep their numbers."""
        return Cells(
            self.group[keep],
            self.x[keep],
            self.weight[keep],
            self.events[keep],
            self.squares[keep],
            self.size,
        )

    def merged(self, parent: Codes, size: int) -> Cells:
        """The same sums in coarser groups: ``parent`` holds the new group of every old one."""
        return Cells(parent[self.group], self.x, self.weight, self.events, self.squares, size)


def as_logits(scores: Any, scale: str = "probability") -> Floats:
    """Read scores of one class as logits, clipped to those of ``CLIP`` and 1 - ``CLIP``.

    Parameters
    ----------
    scores : array-like of shape (n,)
        Probabilities, or logits.
    scale : {"probability", "logit"}
        Which of the two. Probabilities are never used as if they were logits.

    Raises
    ------
    InvalidDataError
        If scores are missing or, as probabilities, outside [0, 1].
    InvalidParameterError
        If ``scale`` is neither.
    """
    values = as_float_column(scores, "scores")
    if scale == "logit":
        limit = float(logit(1 - CLIP))
        return np.clip(values, -limit, limit)
    if scale != "probability":
        raise InvalidParameterError(f"scale must be 'probability' or 'logit', got {scale!r}.")
    if len(values) and (values.min() < 0 or values.max() > 1):
        raise InvalidDataError(
            f"scores must be probabilities in [0, 1], got {values.min():.4g} to "
            f"{values.max():.4g}; pass scale='logit' if they are logits."
        )
    return np.asarray(logit(np.clip(values, CLIP, 1 - CLIP)))


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
    if len(x) <= _EXACT_ROWS:
        w = np.ones(len(x)) if weight is None else weight
        return Cells(codes, x, w, w * y, w * w, size)
    bins = int(np.ceil(2 * float(logit(1 - CLIP)) / _WIDTH)) + 1
    place = ((x + float(logit(1 - CLIP))) / _WIDTH).astype(np.int64)
    keys, at = compress(codes * bins + place)
    ones = np.ones(len(x)) if weight is None else weight
    w = group_sums(ones, at, len(keys))
    return Cells(
        group=keys // bins,
        x=group_sums(ones * x, at, len(keys)) / w,
        weight=w,
        events=group_sums(ones * y, at, len(keys)),
        squares=w if weight is None else group_sums(weight**2, at, len(keys)),
        size=size,
    )
