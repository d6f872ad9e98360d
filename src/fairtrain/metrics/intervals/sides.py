"""How limits of single groups make limits of a comparison.

Every limit of a comparison combines limits of the two groups, so it stays in its range, needs no
pooled variance, and is right in both tails where the single limits are. Which single limits serve,
and when they are combined by a root of squares or exactly, was settled by enumerating all outcomes
of two groups and by simulating up to 1,000: ``tests/test_intervals.py`` repeats a part of it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from fairtrain.metrics.intervals.means import bounded_limits
from fairtrain.metrics.intervals.single import (
    BoolArray,
    Design,
    FloatArray,
    beta_limits,
    rates,
    score_limits,
    student_rows,
    two_sided,
)

__all__ = ["Family", "Limits", "Sides", "compare", "critical_value", "sides", "single_limits"]

# Successes or failures below which a cell is small. A single comparison only widens its limits
# there (Clopper-Pearson for Wilson), and needs it up to 10. A family, far out in the tails, makes
# them exact, and needs it up to 5: its other limits (Jeffreys') are right in either tail.
SMALL_PAIR = 10.0
SMALL_FAMILY = 5.0

Family = Literal["one pair", "all pairs", "reference"]


class Limits(NamedTuple):
    """Estimates and limits of a set of comparisons, all of one shape."""

    estimate: FloatArray
    lower: FloatArray
    upper: FloatArray


class Sides(NamedTuple):
    """Limits of each group's rate, ready to be combined into those of a comparison."""

    rate: FloatArray
    lower: FloatArray
    upper: FloatArray
    exact_lower: FloatArray
    exact_upper: FloatArray
    exact: BoolArray
    near_zero: BoolArray
    near_one: BoolArray

    def rows(self) -> Sides:
        """Place the groups first in their pairs: a new last axis."""
        return Sides._make(v[..., :, None] for v in self)

    def columns(self) -> Sides:
        """Place the groups second in their pairs: a new axis before the last."""
        return Sides._make(v[..., None, :] for v in self)


def sides(
    mean: ArrayLike,
    count: ArrayLike,
    alpha: float,
    family: Family,
    variance: ArrayLike | None = None,
    design: Design | None = None,
) -> Sides:
    """Limits of each group at the critical values that its family of comparisons asks for.

    Those of means of values in [0, 1], where ``variance`` is given, need no exact ones beside them.
    ``count`` are effective rows where a ``design`` says that rows come in clusters.
    """
    p, n = rates(mean, count)
    groups = (n > 0).sum(-1, keepdims=True)
    if variance is not None:
        z = critical_value(alpha, family, groups)
        df = None if design is None else design.df
        lower, upper = bounded_limits(p, np.asarray(variance, dtype=float), n, z, df)
        never = np.zeros(p.shape, dtype=bool)
        return Sides(p, lower, upper, lower, upper, never, never, never)
    many = (groups > 2) & (family != "one pair")
    small = many & (n > 0) & (n * np.minimum(p, 1 - p) < SMALL_FAMILY - 1e-9)
    z, z_exact = _rate_critical_values(alpha, family, groups, small.sum(-1, keepdims=True))
    exact_n, n = student_rows(n, z_exact, design), student_rows(n, z, design)
    lower, upper = single_limits(p, n, z, many)
    # Opposite ends of the scale: both limits then lean on a handful of rows, and a root of
    # squares understates the sum of two exponential tails.
    near_zero = ~many & (n * p < SMALL_PAIR - 1e-9) & ((p < 0.5) | (n < SMALL_FAMILY))
    near_one = ~many & (n * (1 - p) < SMALL_PAIR - 1e-9) & ((p > 0.5) | (n < SMALL_FAMILY))
    needed = np.where(many, small.any(-1, keepdims=True), near_zero | near_one)
    exact_lower, exact_upper = beta_limits(p, exact_n, z_exact, prior=0.0, where=needed)
    return Sides(p, lower, upper, exact_lower, exact_upper, small, near_zero, near_one)


def single_limits(
    p: FloatArray, n: FloatArray, z: FloatArray, many: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """Limits of single rates for a root of squares: Wilson's, for ``many`` groups Jeffreys'."""
    small = n * np.minimum(p, 1 - p) < np.where(many, SMALL_FAMILY, SMALL_PAIR) - 1e-9
    score = score_limits(p, n, z)
    jeffreys = beta_limits(p, n, z, prior=0.5, where=many & ~small)
    exact = beta_limits(p, n, z, prior=0.0, where=small)
    lower, upper = (
        np.where(small, e, np.where(many, j, s))
        for e, j, s in zip(exact, jeffreys, score, strict=True)
    )
    return lower, upper


def compare(
    a: Sides, b: Sides, *, ratio: bool = False, correlation: FloatArray | None = None
) -> Limits:
    """Difference or ratio of a to b, broadcast against each other.

    Groups that share clusters are correlated: what clusters do to both cancels in part (Zou and
    Donner, 2008; Donner and Zou, 2012). Exact limits hold whatever the correlation.
    """
    r = np.zeros(()) if correlation is None else correlation
    with np.errstate(divide="ignore", invalid="ignore"):
        if ratio:
            return Limits(a.rate / b.rate, _lower_ratio(a, b, r), 1.0 / _lower_ratio(b, a, r))
        return Limits(a.rate - b.rate, _lower_difference(a, b, r), -_lower_difference(b, a, r))


def _lower_difference(a: Sides, b: Sides, r: FloatArray) -> FloatArray:
    below, above = a.rate - a.lower, b.upper - b.rate
    half = np.hypot(below, above)
    if r.any():
        half = np.sqrt(np.maximum(half**2 - 2 * r * below * above, 0.0))
    mover = a.rate - b.rate - half
    return np.where(_exactly(a, b), a.exact_lower - b.exact_upper, mover)


def _lower_ratio(a: Sides, b: Sides, r: FloatArray) -> FloatArray:
    first, second = a.lower * (2 * a.rate - a.lower), b.upper * (2 * b.rate - b.upper)
    product = a.rate * b.rate - r * (a.rate - a.lower) * (b.upper - b.rate)
    # Donner and Zou's quotient, multiplied out so that nothing is divided by ``second``.
    mover = first / (product + np.sqrt(np.maximum(product**2 - first * second, 0.0)))
    limit = np.where(_exactly(a, b), a.exact_lower / b.exact_upper, mover)
    return np.where((a.lower == 0) & (b.upper > 0), 0.0, limit)


def _exactly(a: Sides, b: Sides) -> BoolArray:
    return a.exact | b.exact | (a.near_zero & b.near_one)


def critical_value(alpha: ArrayLike, family: Family, groups: NDArray[Any]) -> FloatArray:
    """Critical value of one comparison so that the error of its whole family is alpha."""
    if family == "reference":
        return two_sided(np.divide(alpha, np.maximum(groups - 1, 1)))
    plain = two_sided(np.broadcast_to(alpha, groups.shape))
    if family == "one pair" or not (groups > 2).any():
        return plain
    # Looped in Python once a problem (not once a group), and remembered.
    return np.where(groups > 2, np.vectorize(_range_quantile, otypes=[float])(alpha, groups), plain)


@lru_cache(maxsize=4096)
def _range_quantile(alpha: float, groups: int) -> float:
    """Upper quantile of the range of standard normals over the root of 2 (Tukey)."""
    # Right to 1e-10 up to 1,000 groups against numerical integration, in 5 ms.
    return float(stats.studentized_range.isf(alpha, max(groups, 2), np.inf)) / float(np.sqrt(2))


def _rate_critical_values(
    alpha: float, family: Family, groups: NDArray[Any], small: NDArray[Any]
) -> tuple[FloatArray, FloatArray]:
    """Critical values of the roots of squares and of the exact limits.

    The exact limits of all pairs come from one rectangle over the groups, so they cost G
    statements, not G(G-1)/2. If there are pairs without a small cell as well, the rectangle gets
    half of alpha and those pairs the other half. Both count all groups, not those they happen to
    be used for: which cells are small is itself read from the data. A comparison on its own splits
    its alpha between its two groups.
    """
    if family != "all pairs":
        each = np.divide(alpha, np.maximum(groups - 1, 1) if family == "reference" else 1.0)
        return critical_value(alpha, family, groups), two_sided(each / 2 + 0 * groups)
    mixed = (small > 0) & (small < groups - 1)
    share = np.where(mixed, alpha / 2, alpha)
    return critical_value(share, family, groups), two_sided(share / np.maximum(groups, 2))
