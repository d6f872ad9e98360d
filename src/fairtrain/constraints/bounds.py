"""One bound on one rate as signed inequalities: what is asked, achieved, exceeded and priced.

NumPy only, and small: two inequalities a group and rate, whatever the kind of bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fairtrain.constraints.base import Constraint, ParityConstraint
from fairtrain.constraints.notions import BoundedGroupLoss

__all__ = ["RateBounds"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Side:
    r"""Half of a bound: :math:`\alpha\, r_g - \beta\, c \le e` (or its mirror image below)."""

    rate: float
    reference: float
    limit: float


@dataclass(frozen=True)
class RateBounds:
    r"""What one bound asks of one rate in G groups, as 2 G signed inequalities.

    ================= ================================ ================================ ==========
    bound             above                            below                            :math:`c`
    ================= ================================ ================================ ==========
    difference b      :math:`r_g - c \le b/2`          :math:`c - r_g \le b/2`          free
    ratio tau         :math:`r_g - c \le 0`            :math:`\tau c - r_g \le 0`       free
    difference, fl.   :math:`r_g - c \le b`            :math:`c - r_g \le b`            overall
    ratio, fairlearn  :math:`\tau r_g - c \le s`       :math:`\tau c - r_g \le s`       overall
    upper bound       :math:`r_g \le \zeta`            none                             none
    ================= ================================ ================================ ==========

    A free centre lets the rates lie in any interval of the bound's width, so that two multipliers
    a group say what G^2 pairs would. Being free, it is a minimiser of the Lagrangian, which
    balances the multipliers: :math:`\sum_g \lambda^+_g = \sum_g \lambda^-_g` for a difference,
    :math:`\sum_g \lambda^+_g = \tau \sum_g \lambda^-_g` for a ratio.

    Parameters
    ----------
    constraint : Constraint
        The bound.
    importance : ndarray of shape (G,)
        How strongly each group's violation moves its multipliers; 0 leaves the group out.
    margin : float, default=0
        Amount by which the bound is tightened (below 0: loosened).
    """

    constraint: Constraint
    importance: Floats
    margin: float = 0.0

    @property
    def n_groups(self) -> int:
        """Number of groups G."""
        return len(self.importance)

    @property
    def bound(self) -> float:
        """The bound in force, margin included."""
        sign = -1.0 if self.constraint.kind == "ratio" else 1.0
        moved = self.constraint.bound - sign * self.margin
        most = math.inf if self.constraint.kind == "upper" else 1.0
        return float(min(max(moved, 0.0), most))

    @property
    def room(self) -> float:
        """What shares of the bound are taken of: the bound itself, 1 minus it for a ratio."""
        bound = self.constraint.bound
        return 1 - bound if self.constraint.kind == "ratio" else bound

    @property
    def reference(self) -> Literal["free", "overall", "none"]:
        """What rates are compared with."""
        if isinstance(self.constraint, BoundedGroupLoss):
            return "none"
        assert isinstance(self.constraint, ParityConstraint)
        return "overall" if self.constraint.reference == "overall" else "free"

    @property
    def sides(self) -> tuple[_Side, _Side | None]:
        """The inequality above and the one below."""
        bound, kind = self.bound, self.constraint.kind
        if kind == "upper":
            return _Side(1.0, 0.0, bound), None
        overall = self.reference == "overall"
        if kind == "difference":
            width = bound if overall else bound / 2
            return _Side(1.0, 1.0, width), _Side(1.0, 1.0, width)
        if overall:
            slack = float(getattr(self.constraint, "ratio_slack", 0.0))
            return _Side(bound, 1.0, slack), _Side(1.0, bound, slack)
        return _Side(1.0, 1.0, 0.0), _Side(1.0, bound, 0.0)

    def present(self, rates: Floats) -> NDArray[np.bool_]:
        """Groups that take part and whose rate is known."""
        return np.asarray(np.isfinite(rates) & (self.importance > 0))

    def excess(self, rates: Floats) -> float:
        """Amount by which the bound is exceeded, in units of the rate; below 0 there is room.

        For a difference the gap less the bound, for a ratio ``tau max r - min r``, for an upper
        bound the largest rate less the bound. NaN where there is nothing to compare.
        """
        present = self.present(rates)
        if present.sum() < (1 if self.reference == "none" else 2):
            return math.nan
        above, below = self.violations(rates)
        worst_above = float(above[present].max())
        if self.reference != "free":
            return max(worst_above, float(below[present].max()))
        worst_below = float(below[present].max())
        if self.constraint.kind == "ratio":
            return worst_below  # the centre is the largest rate
        return worst_above + worst_below

    def achieved(self, rates: Floats) -> float:
        """The quantity that the bound limits between groups: gap, smallest ratio, or largest rate.

        NaN where there is nothing to compare.
        """
        seen = rates[self.present(rates)]
        if len(seen) < (1 if self.reference == "none" else 2):
            return math.nan
        low, high = float(seen.min()), float(seen.max())
        if self.constraint.kind == "ratio":
            return low / high if high > 0 else 1.0
        return high if self.reference == "none" else high - low

    def violations(self, rates: Floats, shares: Floats | None = None) -> Floats:
        """How far each inequality is broken, shape (2, G): above, below.

        Parameters
        ----------
        rates : ndarray of shape (G,)
            Rates; NaN for a group without rows.
        shares : ndarray of shape (G,), optional
            Share of every group among the rows of the event, for bounds around the overall rate.

        Returns
        -------
        ndarray of shape (2, G)
            Above 0 where broken; 0 for groups that do not take part, -inf below where there is no
            inequality below.
        """
        present = self.present(rates)
        above, below = self.sides
        centre = self._centre(rates, present, shares)
        out = np.zeros((2, self.n_groups))
        known = np.where(present, rates, 0.0)
        out[0] = above.rate * known - above.reference * centre - above.limit
        if below is None:
            out[1] = -np.inf
        else:
            out[1] = below.reference * centre - below.rate * known - below.limit
        out[:, ~present] = 0.0
        return out

    def pull(self, multipliers: Floats, shares: Floats | None = None) -> Floats:
        """Derivative of the Lagrangian in every group's rate, shape (G,).

        Parameters
        ----------
        multipliers : ndarray of shape (2, G)
            Above, below.
        shares : ndarray of shape (G,), optional
            As in :meth:`violations`.
        """
        above, below = self.sides
        pull: Floats = above.rate * multipliers[0]
        if below is not None:
            pull = pull - below.rate * multipliers[1]
            if self.reference == "overall" and shares is not None:
                total = above.reference * multipliers[0] - below.reference * multipliers[1]
                pull = pull - shares * total.sum()
        return pull

    def project(self, multipliers: Floats, cap: float = math.inf) -> Floats:
        """Nearest multipliers that are not negative, are balanced and keep the cap.

        Balancing after a step is the same as choosing the free centre that minimises the augmented
        Lagrangian.

        Parameters
        ----------
        multipliers : ndarray of shape (2, G)
            Above, below; any sign.
        cap : float, default=inf
            Largest sum on either side; both sides are scaled together.
        """
        above, below = self.sides
        kept = self.importance > 0
        part = multipliers[:, kept]
        if below is None:
            part = np.vstack([part[0], np.zeros(part.shape[1])])
        elif self.reference == "free" and part.size:
            part = _balanced(part, above.reference, below.reference)
        projected = np.zeros_like(multipliers)
        projected[:, kept] = np.maximum(part, 0.0)
        largest = float(projected.sum(axis=1).max(initial=0.0))
        return projected * (cap / largest) if largest > cap else projected

    def _centre(self, rates: Floats, present: NDArray[np.bool_], shares: Floats | None) -> float:
        if not present.any() or self.reference == "none":
            return 0.0
        known = rates[present]
        if self.reference == "overall":
            weight = np.ones(len(known)) if shares is None else shares[present]
            return float(known @ weight / weight.sum()) if weight.sum() > 0 else float(known.mean())
        if self.constraint.kind == "ratio":
            return float(known.max())
        return float((known.max() + known.min()) / 2)


def _balanced(values: Floats, above: float, below: float) -> Floats:
    r"""Project onto :math:`\{\alpha \sum \lambda^+ = \beta \sum \lambda^-,\ \lambda \ge 0\}`.

    The nearest point is :math:`[\lambda^+ - \alpha t]_+, [\lambda^- + \beta t]_+`; the balance is
    a falling, piecewise linear function of t, solved exactly between two of its kinks.
    """
    upper, lower = values

    def balance(t: float) -> float:
        return float(
            above * np.maximum(upper - above * t, 0).sum()
            - below * np.maximum(lower + below * t, 0).sum()
        )

    kinks = np.sort(np.concatenate([upper / above, -lower / below if below > 0 else lower[:0]]))
    low, high = -1, len(kinks)  # balance is >= 0 at kinks[low], < 0 at kinks[high]
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if balance(float(kinks[middle])) >= 0 else (low, middle)
    inside = _between(kinks, low, high)
    rising, falling = upper - above * inside > 0, lower + below * inside > 0
    slope = above**2 * rising.sum() + below**2 * falling.sum()
    t = inside
    if slope > 0:
        t = float((above * upper[rising].sum() - below * lower[falling].sum()) / slope)
    return np.vstack([np.maximum(upper - above * t, 0.0), np.maximum(lower + below * t, 0.0)])


def _between(kinks: Floats, low: int, high: int) -> float:
    if low < 0:
        return float(kinks[0]) - 1.0
    if high >= len(kinks):
        return float(kinks[-1]) + 1.0
    return float((kinks[low] + kinks[high]) / 2)
