"""The dual variables: what each bound costs, how that cost moves, and what it does to rates.

NumPy only, and small: two numbers a group and rate. Boosting and the network trainers read the same
multipliers; processes that see the same rates hold, bit for bit, the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from fairtrain.constraints import BoundedGroupLoss, Constraint, ParityConstraint
from fairtrain.exceptions import InvalidParameterError

__all__ = ["Ascent", "DualRule", "MultiplierState", "Multipliers", "NuPI", "RateBounds"]

Floats = NDArray[np.float64]

DualName = Literal["ascent", "nu_pi", "augmented"]

MultiplierState = dict[str, Any]
"""Plain arrays and numbers: what a checkpoint keeps."""


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


class DualRule(Protocol):
    """How multipliers move: an optimizer of two rows of numbers."""

    def __call__(self, multipliers: Floats, violations: Floats) -> Floats:
        """Next multipliers, before they are made non-negative and balanced.

        Parameters
        ----------
        multipliers, violations : ndarray of shape (2, N)
            All inequalities, above and below. A violation of 0 belongs to a group without rows, or
            to an inequality that does not exist.
        """
        ...

    def state_dict(self) -> MultiplierState:
        """Return what has to be kept to go on later."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        ...


class Ascent:
    r"""Plain gradient ascent, :math:`\lambda \leftarrow \lambda + \rho\, v` (Arrow et al., 1958).

    Parameters
    ----------
    lr : float > 0
        Step size :math:`\rho`: what a violation of 1 adds.
    """

    def __init__(self, lr: float) -> None:
        self.lr = _positive("dual_lr", lr)

    def __call__(self, multipliers: Floats, violations: Floats) -> Floats:
        """Take one step."""
        return multipliers + self.lr * violations

    def state_dict(self) -> MultiplierState:
        """Only the step size, which callers may change on the way."""
        return {"lr": self.lr}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a step size."""
        self.lr = float(state["lr"])


class NuPI:
    r"""PI control of the multipliers (Sohrabi et al., 2024, algorithm 1).

    .. math::
       \xi_t = \nu\, \xi_{t-1} + (1 - \nu)\, v_t, \qquad
       \lambda_{t+1} = \lambda_t + \rho\, v_t + \kappa\, (\xi_t - \xi_{t-1}).

    The proportional term damps
    oscillation; with :math:`\kappa = 0` this is plain ascent.

    Parameters
    ----------
    lr : float > 0
        Step size :math:`\rho` of the integral term.
    proportional : float >= 0
        :math:`\kappa`.
    nu : float in [0, 1), default=0
        Smoothing of the violations in the proportional term.
    """

    def __init__(self, lr: float, proportional: float, nu: float = 0.0) -> None:
        self.lr = _positive("dual_lr", lr)
        if not 0 <= nu < 1 or not 0 <= proportional < math.inf:
            raise InvalidParameterError(
                f"nu must lie in [0, 1) and proportional be 0 or more, got {nu!r}, "
                f"{proportional!r}."
            )
        self.proportional = float(proportional)
        self.nu = float(nu)
        self._smooth: Floats | None = None

    def __call__(self, multipliers: Floats, violations: Floats) -> Floats:
        """Take one step."""
        before = np.full_like(violations, np.nan) if self._smooth is None else self._smooth
        seen = violations != 0
        after = np.where(seen, self.nu * before + (1 - self.nu) * violations, before)
        after = np.where(seen & np.isnan(before), 0.0, after)  # the first step is plain ascent
        self._smooth = after
        change = np.nan_to_num(after - before)
        return multipliers + self.lr * violations + self.proportional * change

    def state_dict(self) -> MultiplierState:
        """Step size and smoothed violations."""
        return {"lr": self.lr, "smooth": None if self._smooth is None else self._smooth.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        self.lr = float(state["lr"])
        smooth = state["smooth"]
        self._smooth = None if smooth is None else np.array(smooth, dtype=np.float64)


class Multipliers:
    r"""The multipliers of several bounds, one after the other.

    Parameters
    ----------
    bounds : sequence of RateBounds
        One for every rate of every constraint; cell ``i`` of all is a rate in a group.
    rule : DualRule
        How they move.
    cap : float, default=inf
        Largest sum of one bound's multipliers on either side. A bound at its cap is one that could
        not be kept at any price up to it.

    Attributes
    ----------
    values : ndarray of shape (2, n_cells)
        Above, below; never negative.
    n_updates : int
        Steps taken.

    Examples
    --------
    >>> from fairtrain.constraints import DemographicParity
    >>> parity = RateBounds(DemographicParity(difference_bound=0.1), np.ones(2))
    >>> multipliers = Multipliers([parity], Ascent(lr=1.0))
    >>> multipliers.update(np.array([0.7, 0.3])).round(3).tolist()
    [[0.15, -0.25], [-0.25, 0.15]]
    >>> multipliers.pull().round(3).tolist()  # push the first rate down, the second up
    [0.15, -0.15]
    """

    def __init__(
        self, bounds: Sequence[RateBounds], rule: DualRule, *, cap: float = math.inf
    ) -> None:
        if not cap > 0:
            raise InvalidParameterError(f"the cap of multipliers must be above 0, got {cap!r}.")
        self.bounds = list(bounds)
        self.rule = rule
        self.cap = float(cap)
        sizes = [b.n_groups for b in self.bounds]
        ends = np.cumsum([0, *sizes])
        self.slices = [slice(int(a), int(b)) for a, b in pairwise(ends)]
        self.n_cells = int(ends[-1])
        self.values: Floats = np.zeros((2, self.n_cells))
        self.shares: Floats = np.concatenate([np.full(n, 1 / n) for n in sizes])
        self.n_updates = 0

    def set_shares(self, counts: Floats) -> None:
        """Tell the share of every group among its event's rows, for bounds around the overall rate.

        Parameters
        ----------
        counts : ndarray of shape (n_cells,)
            Rows, or sums of weights.
        """
        for part in self.slices:
            total = counts[part].sum()
            if total > 0:
                self.shares[part] = counts[part] / total

    def violations(self, rates: Floats) -> Floats:
        """How far each inequality is broken, shape (2, n_cells); see RateBounds.violations."""
        parts = [
            b.violations(rates[part], self.shares[part])
            for b, part in zip(self.bounds, self.slices, strict=True)
        ]
        return np.concatenate(parts, axis=1)

    def excess(self, rates: Floats) -> Floats:
        """Amount by which each bound is exceeded, one number a bound; NaN where unknown."""
        return np.array(
            [b.excess(rates[part]) for b, part in zip(self.bounds, self.slices, strict=True)]
        )

    def update(self, rates: Floats, *, reliability: Floats | None = None) -> Floats:
        """Move the multipliers by what the rates say.

        Parameters
        ----------
        rates : ndarray of shape (n_cells,)
            Rates; NaN where a group has no rows, which leaves its multipliers where they are.
        reliability : ndarray of shape (n_cells,), optional
            Trust in each rate, in [0, 1]: scales its violation.

        Returns
        -------
        ndarray of shape (2, n_cells)
            The violations the step was made with, before importance and reliability.
        """
        violations = self.violations(rates)
        self.values = self._stepped(violations, reliability)
        self.n_updates += 1
        return violations

    def shifted(self, rates: Floats, penalty: float) -> Floats:
        r"""Multipliers of the augmented Lagrangian, :math:`[\lambda + \rho v]_+` balanced.

        The gradient of :math:`\tfrac{\rho}{2} \min_c \|[\lambda / \rho + v(c)]_+\|^2` in the rates
        is :meth:`pull` of these.
        """
        violations = self._weighted(self.violations(rates), None)
        return self._projected(self.values + penalty * violations)

    def pull(self, values: Floats | None = None) -> Floats:
        """Derivative of the Lagrangian in every cell's rate, shape (n_cells,).

        Parameters
        ----------
        values : ndarray of shape (2, n_cells), optional
            Other multipliers than the present ones.
        """
        values = self.values if values is None else values
        return np.concatenate(
            [
                b.pull(values[:, part], self.shares[part])
                for b, part in zip(self.bounds, self.slices, strict=True)
            ]
        )

    @property
    def sums(self) -> Floats:
        """Sum of every bound's multipliers, both sides, shape (n_bounds,)."""
        return np.array([float(self.values[:, part].sum()) for part in self.slices])

    @property
    def at_cap(self) -> NDArray[np.bool_]:
        """Which bounds have reached the cap."""
        sums = [self.values[:, part].sum(axis=1).max(initial=0.0) for part in self.slices]
        return np.array(sums) >= self.cap * (1 - 1e-9)

    def state_dict(self) -> MultiplierState:
        """Return all that is needed to go on later, bit for bit."""
        return {
            "values": self.values.copy(),
            "shares": self.shares.copy(),
            "n_updates": self.n_updates,
            "margins": [b.margin for b in self.bounds],
            "rule": self.rule.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state of the same bounds."""
        values = np.array(state["values"], dtype=np.float64)
        if values.shape != self.values.shape:
            raise InvalidParameterError(
                f"the saved multipliers have shape {values.shape}, these bounds need "
                f"{self.values.shape}: groups or constraints have changed."
            )
        self.values, self.shares = values, np.array(state["shares"], dtype=np.float64)
        self.n_updates = int(state["n_updates"])
        for i, margin in enumerate(state["margins"]):
            self.set_margin(i, margin)
        self.rule.load_state_dict(state["rule"])

    def set_margin(self, i: int, margin: float) -> None:
        """Tighten (above 0) or loosen (below 0) bound number ``i``."""
        old = self.bounds[i]
        self.bounds[i] = RateBounds(old.constraint, old.importance, float(margin))

    def _stepped(self, violations: Floats, reliability: Floats | None) -> Floats:
        moved = self.rule(self.values, self._weighted(violations, reliability))
        # A rate that is not a number says nothing: it must not poison a multiplier for ever.
        return self._projected(np.where(np.isfinite(moved), moved, self.values))

    def _weighted(self, violations: Floats, reliability: Floats | None) -> Floats:
        scale = np.concatenate([b.importance for b in self.bounds])
        if reliability is not None:
            scale = scale * reliability
        finite = np.where(np.isfinite(violations), violations, 0.0)
        return np.asarray(finite * scale)

    def _projected(self, values: Floats) -> Floats:
        return np.concatenate(
            [
                b.project(values[:, part], self.cap)
                for b, part in zip(self.bounds, self.slices, strict=True)
            ],
            axis=1,
        )


def _positive(name: str, value: float) -> float:
    if isinstance(value, bool) or not 0 < value < math.inf:
        raise InvalidParameterError(f"{name} must be a number above 0, got {value!r}.")
    return float(value)
