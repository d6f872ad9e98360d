r"""Group rates as linear functions of decisions that read features only.

With :math:`J_i(g, y) = P(g, y \mid x_i)` a decision d(x) gives group g, on the rows of an event E,
the rate

.. math:: r_g(d) = c_g + \frac1n \sum_i h_{ig}\, d_i, \qquad
   h_{ig} = \frac{\sum_y s(y)\, 1[y \in E]\, J_i(g, y)}{\frac1n \sum_j \sum_{y \in E} J_j(g, y)},

with the slope :math:`s(y) = q(y, 1) - q(y, 0)` of the rate's quantity and :math:`c_g` the mean of
:math:`q(y, 0)` over the event: a rate of people whose group nobody needs to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairtrain.constraints.bounds import cell_parts
from fairtrain.constraints.families import RateFamily

__all__ = ["JointScores", "LinearRates", "linear_rates"]

Floats = NDArray[np.float64]

_LEAST_SHARE = 1e-12  # of all rows, below which a cell counts as empty


@dataclass(frozen=True, eq=False)
class JointScores:
    """What is known of each person's label and group from features alone.

    Attributes
    ----------
    outcome : ndarray of shape (n,)
        P(y = 1 | x), for the favourable label.
    groups : ndarray of shape (2, n, G)
        P(g | x, y = 0) and P(g | x, y = 1), over the finest groups.
    """

    outcome: Floats
    groups: Floats

    @classmethod
    def of_known(cls, outcome: Floats, codes: NDArray[np.int64], size: int) -> JointScores:
        """Scores of people whose groups are known: nothing about them is estimated."""
        known = np.eye(size)[codes]
        return cls(outcome, np.broadcast_to(known, (2, *known.shape)))

    @classmethod
    def of(cls, joint: Floats) -> JointScores:
        """From P(g, y | x), shape (n, G, 2)."""
        by_label = joint.sum(axis=1)
        known = np.where(by_label > 0, by_label, 1.0)
        return cls(by_label[:, 1], np.moveaxis(joint / known[:, None, :], 2, 0))

    def among(self, possible: NDArray[np.bool_] | None) -> JointScores:
        """The same, where some groups are known not to be a person's; all are possible if None."""
        if possible is None:
            return self
        groups = self.groups * possible
        total = groups.sum(axis=2, keepdims=True)
        return JointScores(
            self.outcome, np.divide(groups, total, out=self.groups.copy(), where=total > 0)
        )

    def __len__(self) -> int:
        return len(self.outcome)

    def joint(self, y: int) -> Floats:
        """P(g, y | x), shape (n, G)."""
        share = self.outcome if y == 1 else 1 - self.outcome
        return np.asarray(self.groups[y] * share[:, None])


@dataclass(frozen=True, eq=False)
class LinearRates:
    """The cells of several families as linear functions of decisions.

    Attributes
    ----------
    slopes : ndarray of shape (n, m)
        :math:`h_{ig}`, families one after the other; 0 in an empty cell.
    base : ndarray of shape (m,)
        :math:`c_g`; NaN in an empty cell.
    share : ndarray of shape (n,)
        Weight of each row, summing to 1.
    scale : ndarray of shape (m,)
        Share of the rows in each cell, by which slopes were divided.
    """

    slopes: Floats
    base: Floats
    share: Floats
    scale: Floats

    def __call__(self, decisions: Floats) -> Floats:
        """Rate of every cell, shape (m,)."""
        return np.asarray(self.base + (self.share * decisions) @ self.slopes)


def linear_rates(
    families: Sequence[RateFamily],
    scores: JointScores,
    weight: Floats | None = None,
    scale: Floats | None = None,
) -> LinearRates:
    """Write the rates of families as linear functions.

    Parameters
    ----------
    families : sequence of RateFamily
        What is compared.
    scores : JointScores
        Of n rows.
    weight : ndarray of shape (n,), optional
        Weights of the rows.
    scale : ndarray of shape (m,), optional
        Share of the rows in each cell, where it is known from other rows: those of fit, for rows
        that come one by one later.
    """
    n = len(scores)
    share = np.full(n, 1 / n) if weight is None else weight / weight.sum()
    joint = [scores.joint(0), scores.joint(1)]
    slopes: list[Floats] = []
    bases: list[Floats] = []
    scales: list[Floats] = []
    sizes = [len(family.scheme) for family in families]
    for family, size, part in zip(families, sizes, cell_parts(sizes), strict=True):
        slope, inside, base = np.zeros((n, size)), np.zeros((n, size)), np.zeros((n, size))
        labels = [y for y in (0, 1) if np.asarray(family.rate.mask(np.array([float(y)])))[0]]
        factor = family.factor
        if family.strata is not None and factor is None:
            factor = family.standard_weights(share @ np.sum([joint[y] for y in labels], axis=0))
        for y in labels:
            label = np.array([float(y)])
            members = family.merged(joint[y] if factor is None else joint[y] * factor)
            at_no, at_yes = (
                float(np.asarray(family.rate.quantity(label, np.array([d])))[0]) for d in (0.0, 1.0)
            )
            slope += (at_yes - at_no) * members
            base += at_no * members
            inside += members
        own = share @ inside if scale is None else scale[part]
        known = own > _LEAST_SHARE
        divisor = np.where(known, own, 1.0)
        slopes.append(np.where(known, slope / divisor, 0.0))
        bases.append(np.where(known, share @ base / divisor, np.nan))
        scales.append(own)
    return LinearRates(
        np.concatenate(slopes, axis=1), np.concatenate(bases), share, np.concatenate(scales)
    )
