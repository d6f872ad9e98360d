r"""Prices of cells: the dual of the best decisions under linear rate constraints.

Among decisions that read x only, the optimum is :math:`d(x) = 1[a(x) - \sum_j p_j h_j(x) > 0]`
(Menon & Williamson, 2018; Xian & Zhao, 2024). The prices p come from signed multipliers, one above
and one below each cell, that minimise the convex dual

.. math:: \frac1n \sum_i T \operatorname{softplus}\frac{a_i - h_i^\top p}{T} - p^\top c
   + \sum_j e_j \lambda_j

over non-negative, balanced multipliers. Its gradient is minus the violations of the bounds, so that
:class:`~fairtrain.constraints.bounds.RateBounds` says all there is to say of a bound. A handful of
numbers is fitted on all rows: there is nothing to memorise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fairtrain.constraints.bounds import RateBounds
from fairtrain.lagrangian.multipliers import Ascent, Multipliers
from fairtrain.plugin.linear import LinearRates

__all__ = ["DualProblem", "multipliers_of", "smooth_step", "solve_dual"]

Floats = NDArray[np.float64]

TEMPERATURE = 0.01
"""Width of the smoothed step, in units of the gain: one point of probability difference."""

CAP = 4.0
"""Largest sum of a bound's multipliers: beyond, a point of gap costs four points of accuracy."""

_FAR = 20.0  # exp(-20) = 2e-9
_MEMORY = 8  # values that a step may not exceed: spectral steps are not monotone
_SUFFICIENT = 1e-4
_TOLERANCE = 1e-5  # of a rate: far below what rows can tell


@dataclass(frozen=True, eq=False)
class DualProblem:
    """What prices are sought for.

    Attributes
    ----------
    gain : ndarray of shape (n,)
        :math:`a_i`: what the favourable decision gains, in units of the objective.
    rates : LinearRates
        The cells.
    bounds : sequence of RateBounds
        One for every family of cells.
    offset : ndarray of shape (m,)
        Added to the smoothed rates: what is known better of them from counting.
    temperature : float
        Width T of the smoothed step.
    """

    gain: Floats
    rates: LinearRates
    bounds: Sequence[RateBounds]
    offset: Floats
    temperature: float = TEMPERATURE

    def smoothed(self, price: Floats) -> Floats:
        """Rates of smoothed decisions at some prices, with what is known better of them."""
        margin = self.gain - self.rates.slopes @ price
        soft = smooth_step(margin / self.temperature)[0]
        return np.asarray(self.rates(soft) + self.offset)

    def take(self, rows: NDArray[np.int64]) -> DualProblem:
        """The same problem on some of the rows, whose shares stand for all."""
        share = self.rates.share[rows]
        some = LinearRates(
            self.rates.slopes[rows], self.rates.base, share / share.sum(), self.rates.scale
        )
        return replace(self, gain=self.gain[rows], rates=some)


def solve_dual(
    problem: DualProblem, start: Floats | None = None, *, iterations: int = 100
) -> Multipliers:
    """Minimise the dual by spectral projected gradients (Birgin, Martinez & Raydan, 2000).

    Parameters
    ----------
    problem : DualProblem
        What is sought.
    start : ndarray of shape (2, m), optional
        Multipliers to start from.
    iterations : int, default=100
        Most steps.

    Returns
    -------
    Multipliers
        ``values`` (2, m) and their prices.
    """
    found = multipliers_of(problem.bounds, problem.rates.scale)
    limits = _limits(found)

    def look(values: Floats) -> tuple[float, Floats]:
        price = found.prices(values)
        margin = problem.gain - problem.rates.slopes @ price
        soft, plus = smooth_step(margin / problem.temperature)
        value = problem.temperature * float(problem.rates.share @ plus)
        rates = problem.rates(soft) + problem.offset
        constant = np.nan_to_num(problem.rates.base + problem.offset)
        violations = found.violations(rates)
        gradient = -np.where(np.isfinite(violations), violations, 0.0)
        return value - float(price @ constant) + float((limits * values).sum()), gradient

    # Multipliers of another bound may be none of this one's, and better than any that is.
    values = np.zeros((2, found.n_cells)) if start is None else found.projected(start)
    value, gradient = look(values)
    recent, step = [value], 1.0
    near = _TOLERANCE * np.sqrt(values.size)
    for _ in range(iterations):
        direction = found.projected(values - step * gradient) - values
        slope = float((gradient * direction).sum())
        # A projected step grows with its length, and in relation to its length it falls: a long
        # way to go says, without the unit step's own projection, that this is not the end.
        maybe = np.sqrt((direction**2).sum()) <= near * max(step, 1.0)
        if slope >= 0 or (
            maybe and np.abs(found.projected(values - gradient) - values).max() < _TOLERANCE
        ):
            break
        share = 1.0
        while True:
            moved = values + share * direction
            new_value, new_gradient = look(moved)
            if new_value <= max(recent) + _SUFFICIENT * share * slope or share < 1e-6:
                break
            share /= 2
        change, turn = moved - values, new_gradient - gradient
        curvature = float((change * turn).sum())
        step = float((change**2).sum()) / curvature if curvature > 0 else 10.0
        step = float(np.clip(step, 1e-6, 1e4))
        values, value, gradient = moved, new_value, new_gradient
        recent = [*recent[1 - _MEMORY :], value]
    found.values = values
    return found


def multipliers_of(bounds: Sequence[RateBounds], scale: Floats) -> Multipliers:
    """Multipliers of bounds, all 0; the solver moves them by a rule of its own.

    Bounds around the overall rate are told it by ``scale``, the share of the rows in each cell.
    """
    made = Multipliers(bounds, Ascent(1.0), cap=CAP)
    made.set_shares(scale)
    return made


def smooth_step(scaled: Floats) -> tuple[Floats, Floats]:
    """Logistic step and its integral, softplus; exact to 1e-9, and few exponentials.

    Most people are far from the threshold, where the step is 0 or 1.
    """
    step, plus = (scaled > 0).astype(np.float64), np.maximum(scaled, 0.0)
    near = np.flatnonzero(np.abs(scaled) < _FAR)
    small = np.exp(-np.abs(scaled[near]))
    plus[near] += np.log1p(small)
    step[near] = np.where(scaled[near] > 0, 1.0, small) / (1.0 + small)
    return step, plus


def _limits(multipliers: Multipliers) -> Floats:
    limits = np.zeros((2, multipliers.n_cells))
    for bounds, part in zip(multipliers.bounds, multipliers.slices, strict=True):
        for row, (sign, side) in enumerate(zip((1.0, -1.0), bounds.sides, strict=True)):
            if np.isfinite(side.limit):
                limits[row, part] = side.limit + sign * side.rate * bounds.shift
    return limits
