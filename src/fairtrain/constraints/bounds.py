"""One bound on one rate as signed inequalities: what is asked, achieved, exceeded and priced.

NumPy only, and small: two inequalities a group and rate, whatever the kind of bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from fairtrain.constraints.base import Constraint, ParityConstraint
from fairtrain.exceptions import InvalidDataError

__all__ = ["Inequalities", "RateBounds", "cell_parts"]

_MOST_GROUPS = 5_000
"""Inequalities are written as a matrix, a row and a column a group."""

Floats = NDArray[np.float64]


def cell_parts(sizes: Iterable[int]) -> list[slice]:
    """Where each family's cells stand in a vector of all rates, one family after the other."""
    return [slice(a, b) for a, b in pairwise(accumulate(sizes, initial=0))]


@dataclass(frozen=True)
class _Side:
    r"""Half of a bound: :math:`\alpha\, r_g - \beta\, c \le e` (or its mirror image below)."""

    rate: float
    reference: float
    limit: float


_NOTHING = _Side(0.0, 0.0, math.inf)
"""The half that an absolute bound does not have."""


@dataclass(frozen=True)
class Inequalities:
    """A bound written out: ``matrix @ rates + centre * c <= limit`` for some number c.

    Attributes
    ----------
    matrix : ndarray of shape (K, G)
        Coefficients of the group rates: a row above for each group, then a row below for each.
    centre : ndarray of shape (K,)
        Coefficients of the free centre c; 0 where there is none.
    limit : ndarray of shape (K,)
        Right-hand sides.
    """

    matrix: Floats
    centre: Floats
    limit: Floats

    def without_centre(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> Inequalities:
        """Eliminate c: the row above of each ``first`` group plus that below of the ``second``."""
        above, below = first, len(self.limit) // 2 + second
        scale = -self.centre[below] / self.centre[above]
        matrix = scale[:, None] * self.matrix[above] + self.matrix[below]
        limit = scale * self.limit[above] + self.limit[below]
        return Inequalities(matrix, np.zeros(len(limit)), limit)


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
    upper bound       :math:`r_g \le \zeta_g`          none                             none
    lower bound       none                             :math:`-r_g \le -\zeta_g`        none
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
    shift : float or ndarray of shape (G,), default=0
        How far the bound of each group lies above the common one, where it is absolute.
    """

    constraint: Constraint
    importance: Floats
    margin: float = 0.0
    shift: float | Floats = 0.0

    @property
    def n_groups(self) -> int:
        """Number of groups G."""
        return len(self.importance)

    @property
    def bound(self) -> float:
        """The bound in force, margin included."""
        sign = -1.0 if self.constraint.larger_is_fairer else 1.0
        moved = self.constraint.bound - sign * self.margin
        return float(moved if self.constraint.absolute else min(max(moved, 0.0), 1.0))

    @property
    def room(self) -> float:
        """What shares of the bound are taken of: itself, or 1 minus it for a ratio or a floor."""
        bound = self.constraint.bound
        return max(1 - bound, 0.0) if self.constraint.larger_is_fairer else max(bound, 0.0)

    @property
    def reference(self) -> Literal["free", "overall", "none"]:
        """What rates are compared with."""
        if self.constraint.absolute:
            return "none"
        assert isinstance(self.constraint, ParityConstraint)
        return "overall" if self.constraint.reference == "overall" else "free"

    @property
    def sides(self) -> tuple[_Side, _Side]:
        """The inequality above and the one below; the limit of one that does not exist is inf."""
        bound, kind = self.bound, self.constraint.kind
        if kind == "upper":
            return _Side(1.0, 0.0, bound), _NOTHING
        if kind == "lower":
            return _NOTHING, _Side(1.0, 0.0, -bound)
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

    def inequalities(self, groups: NDArray[np.int64], shares: Floats | None = None) -> Inequalities:
        """Write the bound out for some groups.

        Parameters
        ----------
        groups : ndarray of int64, shape (P,)
            Groups that are compared.
        shares : ndarray of shape (G,), optional
            As in :meth:`violations`.
        """
        if self.n_groups > _MOST_GROUPS:
            raise InvalidDataError(
                f"the sensitive columns make {self.n_groups:,} groups, and a constraint compares "
                f"at most {_MOST_GROUPS:,}: join values to fewer groups, or numbers to ranges."
            )
        own = np.eye(self.n_groups)[groups]
        overall = np.zeros(self.n_groups)
        if self.reference == "overall" and shares is not None:
            overall[groups] = shares[groups]
        free = float(self.reference == "free")
        halves = [
            (
                sign * (side.rate * own - side.reference * overall),
                np.full(len(groups), -sign * free * side.reference),
                side.limit + sign * side.rate * np.broadcast_to(self.shift, own[0].shape)[groups],
            )
            for sign, side in zip((1.0, -1.0), self.sides, strict=True)
            if side is not _NOTHING
        ]
        return Inequalities(*(np.concatenate(part) for part in zip(*halves, strict=True)))

    def around_overall(self) -> Self:
        r"""Give a bound around the overall rate that implies this pairwise one.

        Half a difference; :math:`\sqrt\tau` of a ratio.
        """
        assert isinstance(self.constraint, ParityConstraint)
        bound = self.constraint.bound
        by_ratio = self.constraint.kind == "ratio"
        tighter: dict[str, Any] = (
            {"ratio_bound": math.sqrt(bound)} if by_ratio else {"difference_bound": bound / 2}
        )
        return replace(self, constraint=replace(self.constraint, reference="overall", **tighter))

    def excess(self, rates: Floats, shares: Floats | None = None) -> Any:
        """Amount by which the bound is exceeded, in units of the rate; below 0 there is room.

        For a difference the gap less the bound, for a ratio ``tau max r - min r``, for an upper
        bound the largest rate less the bound, for a lower one the bound less the smallest. NaN
        where there is nothing to compare.

        Parameters
        ----------
        rates : ndarray of shape (..., G)
            Rates; NaN for a group without rows.
        shares : ndarray of shape (G,), optional
            As in :meth:`violations`.

        Returns
        -------
        float or ndarray of shape (...)
        """
        low, high, enough = self._range(rates)
        above, below = self.sides
        centre = self._centre(rates, shares)
        found = above.rate * high - above.reference * centre - above.limit
        under = below.reference * centre - below.rate * low - below.limit
        # A free centre serves both ends: what one end is short of, the other may have to spare.
        found = found + under if self.reference == "free" else np.maximum(found, under)
        found = np.where(enough, found, np.nan)
        return found if found.ndim else float(found)

    def achieved(self, rates: Floats) -> Any:
        """The quantity that the bound limits: gap, smallest ratio, largest or smallest rate.

        Where groups have bounds of their own, the rate nearest to its bound less what that bound
        lies above the common one.

        Parameters
        ----------
        rates : ndarray of shape (..., G)
            Rates; NaN for a group without rows.

        Returns
        -------
        float or ndarray of shape (...)
            NaN where there is nothing to compare.
        """
        low, high, enough = self._range(rates)
        if self.constraint.absolute:
            found = low if self.constraint.larger_is_fairer else high
        elif self.constraint.kind == "ratio":
            found = np.divide(low, high, out=np.ones_like(low), where=high > 0)
        else:
            found = high - low
        found = np.where(enough, found, np.nan)
        return found if found.ndim else float(found)

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
            Above 0 where broken; 0 for groups that do not take part, -inf where there is no such
            inequality.
        """
        present = self.present(rates)
        above, below = self.sides
        centre = self._centre(rates, shares)
        out = np.zeros((2, self.n_groups))
        known = np.where(present, rates - self.shift, 0.0)
        out[0] = above.rate * known - above.reference * centre - above.limit
        out[1] = below.reference * centre - below.rate * known - below.limit
        out[:, ~present] = 0.0
        return out

    def prices(self, multipliers: Floats, shares: Floats | None = None) -> Floats:
        """Derivative of the Lagrangian in every group's rate, shape (G,).

        Parameters
        ----------
        multipliers : ndarray of shape (2, G)
            Above, below.
        shares : ndarray of shape (G,), optional
            As in :meth:`violations`.
        """
        above, below = self.sides
        prices: Floats = above.rate * multipliers[0] - below.rate * multipliers[1]
        if self.reference == "overall" and shares is not None:
            total = above.reference * multipliers[0] - below.reference * multipliers[1]
            prices = prices - shares * total.sum()
        return prices

    def project(self, multipliers: Floats, cap: float = math.inf) -> Floats:
        """Nearest multipliers that are not negative, are balanced and keep the cap.

        Balancing after a step is the same as choosing the free centre that minimises the augmented
        Lagrangian.

        Parameters
        ----------
        multipliers : ndarray of shape (2, G)
            Above, below; any sign.
        cap : float, default=inf
            Largest sum on either side.
        """
        above, below = self.sides
        kept = self.importance > 0
        upper, lower = multipliers[:, kept]
        if self.reference == "free" and len(upper):
            part = _balanced(np.vstack([upper, lower]), above.reference, below.reference)
            if part.sum(axis=1).max() > cap:
                # The set is convex and the nearest balanced point lies beyond the cap: the nearest
                # of all is on the cap, where both sums are known.
                ratio = below.reference / above.reference
                most = cap / max(ratio, 1.0)
                part = np.vstack([_on_simplex(upper, ratio * most), _on_simplex(lower, most)])
        else:
            exist = [side is not _NOTHING for side in (above, below)]
            part = np.vstack([_capped(upper * exist[0], cap), _capped(lower * exist[1], cap)])
        projected = np.zeros_like(multipliers)
        projected[:, kept] = part
        return projected

    def _range(self, rates: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Smallest and largest known rate, and whether there are enough of them to compare."""
        present = self.present(rates)
        rates = rates - self.shift
        enough = present.sum(axis=-1) >= (1 if self.reference == "none" else 2)
        ends = (
            np.where(present, rates, math.inf).min(axis=-1, initial=math.inf),
            np.where(present, rates, -math.inf).max(axis=-1, initial=-math.inf),
        )
        low, high = (np.where(enough, end, 0.0) for end in ends)
        return low, high, enough

    def _centre(self, rates: Floats, shares: Floats | None) -> Floats:
        """What rates are compared with, shape (...)."""
        present = self.present(rates)
        if self.reference == "overall":
            weight = np.where(present, 1.0 if shares is None else shares, 0.0)
            total = weight.sum(axis=-1)
            known = (np.where(present, rates, 0.0) * weight).sum(axis=-1)
            return np.asarray(np.divide(known, total, out=np.zeros_like(total), where=total > 0))
        if self.reference == "none":
            return np.zeros(rates.shape[:-1])
        low, high, _ = self._range(rates)
        return high if self.constraint.kind == "ratio" else (high + low) / 2


def _on_simplex(values: Floats, total: float) -> Floats:
    """Nearest numbers that are not negative and sum to ``total`` (Held et al., 1974)."""
    falling = np.sort(values)[::-1]
    shift = (np.cumsum(falling) - total) / np.arange(1, len(values) + 1)
    last = max(int(np.count_nonzero(falling > shift)), 1) - 1
    return np.asarray(np.maximum(values - shift[last], 0.0))


def _capped(values: Floats, cap: float) -> Floats:
    """Nearest numbers that are not negative and sum to ``cap`` at most."""
    positive = np.maximum(values, 0.0)
    return positive if positive.sum() <= cap else _on_simplex(values, cap)


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
