"""The dual variables: what each bound costs, how that cost moves, and what it does to rates.

NumPy only, and small: two numbers a group and rate. Boosting and the network trainers read the same
multipliers; processes that see the same rates hold, bit for bit, the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairtrain.constraints.bounds import RateBounds, cell_parts
from fairtrain.constraints.families import RateFamily
from fairtrain.exceptions import InvalidParameterError

__all__ = ["Ascent", "DualRule", "MultiplierState", "Multipliers", "NuPI", "multiplier_frame"]

Floats = NDArray[np.float64]

DualName = Literal["ascent", "nu_pi", "augmented"]

MultiplierState = dict[str, Any]
"""Plain arrays and numbers: what a checkpoint keeps."""


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
    >>> multipliers.prices().round(3).tolist()  # push the first rate down, the second up
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
        self.slices = cell_parts(sizes)
        self.n_cells = sum(sizes)
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
            [
                b.excess(rates[part], self.shares[part])
                for b, part in zip(self.bounds, self.slices, strict=True)
            ]
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
        is :meth:`prices` of these.
        """
        violations = self._weighted(self.violations(rates), None)
        return self.projected(self.values + penalty * violations)

    def prices(self, values: Floats | None = None) -> Floats:
        """Derivative of the Lagrangian in every cell's rate, shape (n_cells,).

        Parameters
        ----------
        values : ndarray of shape (2, n_cells), optional
            Other multipliers than the present ones.
        """
        values = self.values if values is None else values
        return np.concatenate(
            [
                b.prices(values[:, part], self.shares[part])
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
        self.bounds[i] = replace(self.bounds[i], margin=float(margin))

    def _stepped(self, violations: Floats, reliability: Floats | None) -> Floats:
        moved = self.rule(self.values, self._weighted(violations, reliability))
        # A rate that is not a number says nothing: it must not poison a multiplier for ever.
        return self.projected(np.where(np.isfinite(moved), moved, self.values))

    def _weighted(self, violations: Floats, reliability: Floats | None) -> Floats:
        scale = np.concatenate([b.importance for b in self.bounds])
        if reliability is not None:
            scale = scale * reliability
        finite = np.where(np.isfinite(violations), violations, 0.0)
        return np.asarray(finite * scale)

    def projected(self, values: Floats) -> Floats:
        """Nearest values that multipliers may take; see RateBounds.project."""
        return np.concatenate(
            [
                b.project(values[:, part], self.cap)
                for b, part in zip(self.bounds, self.slices, strict=True)
            ],
            axis=1,
        )


def multiplier_frame(families: Sequence[RateFamily], multipliers: Multipliers) -> pd.DataFrame:
    """Multipliers as a table: ``constraint``, ``group``, ``above``, ``below``; one row a cell."""
    names = [(family.name, group) for family in families for group in family.scheme.names]
    above, below = multipliers.values
    return pd.DataFrame(names, columns=["constraint", "group"]).assign(above=above, below=below)


def _positive(name: str, value: float) -> float:
    if isinstance(value, bool) or not 0 < value < math.inf:
        raise InvalidParameterError(f"{name} must be a number above 0, got {value!r}.")
    return float(value)
