"""Is a group calibrated by its parent's map? Rao's test, which fits only the hypothesis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit

from fairtrain.calibration.cells import Cells
from fairtrain.calibration.logistic import fit_logistic, information

__all__ = ["ScoreTest", "adjusted", "compare_with_parent", "score_test"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

FEW_EVENTS = 10.0
"""Fewer expected events, or non-events, make the chi-squared approximation doubtful."""

SIMULATIONS = 1999


@dataclass(frozen=True)
class ScoreTest:
    """Test of every group.

    Attributes
    ----------
    statistic : ndarray of shape (G,)
        Chi-squared under calibration; 0 for groups without rows.
    df : ndarray of int64, shape (G,)
        Degrees of freedom: 2; 1 where all scores of a group agree, 0 without rows.
    p_value : ndarray of shape (G,)
        Of each group by itself.
    simulated : ndarray of bool, shape (G,)
        Where the p-value comes from simulated outcomes, because events are few.
    """

    statistic: Floats
    df: NDArray[np.int64]
    p_value: Floats
    simulated: NDArray[np.bool_]


def adjusted(p_value: Floats) -> Floats:
    """Benjamini and Hochberg's (1995) adjusted p-values; NaN is left out.

    Examples
    --------
    >>> adjusted(np.array([0.01, 0.04, 0.03, np.nan])).round(3).tolist()
    [0.03, 0.04, 0.04, nan]
    """
    found = np.full(np.shape(p_value), np.nan)
    tested = ~np.isnan(p_value)
    if tested.any():
        found[tested] = stats.false_discovery_control(p_value[tested])
    return found


def score_test(cells: Cells, *, random_state: np.random.Generator | None = None) -> ScoreTest:
    r"""Test whether the scores themselves are calibrated in each group (Cox's test).

    With :math:`U_g = \sum (y - q)(1, x)` and :math:`I_g = \sum q (1 - q) (1, x)(1, x)^\top` at
    intercept 0 and slope 1, :math:`U_g^\top I_g^{-1} U_g \sim \chi^2_2`. Nothing is fitted, so that
    separated groups are no trouble, as they are for Wald and likelihood-ratio tests; and unlike
    Spiegelhalter's z it sees shifts.

    Parameters
    ----------
    cells : Cells
        Rows as sums. With weights the variance is
        :math:`\sum w^2 q (1-q) (1, x)(1, x)^\top`.
    random_state : Generator, optional
        Draws outcomes where fewer than 10 events or non-events are expected.

    References
    ----------
    Rao (1948), Proc. Cambridge Phil. Soc. 44, 50-57; Cox (1958), Biometrika 45, 562-565.
    """
    q = expit(cells.x)
    side = _Side.at(cells, q)
    none = np.zeros((cells.size, 2, 2))
    few = side.expected.min(1) < FEW_EVENTS
    return _tested(cells, q, side, none, none, few, random_state)


def compare_with_parent(
    cells: Cells,
    parent: Codes,
    *,
    wanted: NDArray[np.bool_] | None = None,
    random_state: np.random.Generator | None = None,
) -> ScoreTest:
    r"""Test every group against the logistic map of its parent's *other* rows.

    The hypothesis, one map for group and others, is fitted to both; what the group's score
    :math:`U_g` then loses to that fit is in its variance: with :math:`K = I_g (I_g + I_o)^{-1}` and
    J the variances of the scores,

    .. math:: U_g \sim N\bigl(0, (1 - K) J_g (1 - K)^\top + K J_o K^\top\bigr)

    Without that term a 5 % test of a group of about the parent's size would reject 15 to 23 % of
    calibrated groups. Fitting the others alone and adding their estimate's variance gives the same
    for many rows, but rejects up to 26 % where the others are few.

    Parameters
    ----------
    cells : Cells
        Rows as sums.
    parent : ndarray of int64, shape (G,)
        Family of each group: the others of g are the groups with the same number.
    wanted : ndarray of bool, shape (G,), optional
        Groups worth a simulation where events are few; all by default.
    random_state : Generator, optional
        As in :func:`score_test`.

    Returns
    -------
    ScoreTest
        A group without relatives has no degree of freedom and no p-value.
    """
    family = cells.merged(parent, int(parent.max(initial=0)) + 1)
    design = (np.ones_like(family.x), family.x)
    fitted = fit_logistic(family, design, np.array([0.0, 1.0]))
    q = expit(fitted[family.group, 0] + fitted[family.group, 1] * family.x)
    own, whole = _Side.at(cells, q), _Side.at(family, q)
    scale = np.maximum(np.trace(whole.slope, axis1=1, axis2=2), 1e-300)[:, None, None]
    inverse = np.linalg.inv(whole.slope + 1e-10 * scale * np.eye(2))
    K = own.slope @ inverse[parent]
    others = np.maximum(whole.expected[parent] - own.expected, 0.0)
    few = (others.min(1) < FEW_EVENTS) | (own.expected.min(1) < FEW_EVENTS)
    if wanted is not None:
        few &= wanted
    return _tested(cells, q, own, K, whole.variance[parent] - own.variance, few, random_state)


@dataclass(frozen=True)
class _Side:
    """Score, its slope and its variance in every group, and expected events and non-events."""

    score: Floats
    slope: Floats
    variance: Floats
    expected: Floats

    @classmethod
    def at(cls, cells: Cells, q: Floats) -> _Side:
        residual = cells.events - cells.weight * q
        design = (np.ones_like(cells.x), cells.x)
        return cls(
            np.stack([cells.sums(residual), cells.sums(residual * cells.x)], axis=1),
            information(cells, design, cells.weight * q * (1 - q)),
            information(cells, design, cells.squares * q * (1 - q)),
            np.stack([cells.sums(cells.weight * q), cells.sums(cells.weight * (1 - q))], axis=1),
        )


def _tested(
    cells: Cells,
    q: Floats,
    side: _Side,
    K: Floats,
    others: Floats,
    few: NDArray[np.bool_],
    random_state: np.random.Generator | None,
) -> ScoreTest:
    left = np.eye(2) - K
    noise = K @ others @ K.transpose(0, 2, 1)
    variance = left @ side.variance @ left.transpose(0, 2, 1) + noise
    inverse, df = _inverse(variance, np.trace(side.variance, axis1=1, axis2=2))
    statistic = np.einsum("gi,gij,gj->g", side.score, inverse, side.score)
    p_value = np.where(df > 0, stats.chi2.sf(statistic, np.maximum(df, 1)), np.nan)
    few = few & (df > 0)
    rng = np.random.default_rng(0) if random_state is None else random_state
    for g in np.flatnonzero(few):
        mine = cells.group == g
        drawn = _drawn_scores(cells.take(mine), q[mine], rng) @ left[g].T
        drawn -= rng.multivariate_normal(np.zeros(2), noise[g], len(drawn), method="eigh")
        simulated = np.einsum("si,ij,sj->s", drawn, inverse[g], drawn)
        beyond = (simulated >= statistic[g] * (1 - 1e-12)).sum()
        p_value[g] = (1 + beyond) / (1 + len(simulated))
    return ScoreTest(statistic, df, p_value, few)


def _inverse(variance: Floats, scale: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Pseudo-inverses of 2 x 2 matrices, and their ranks."""
    values, vectors = np.linalg.eigh(variance)
    keep = (values > 1e-8 * values[:, 1:]) & (values > 1e-8 * scale[:, None]) & (values > 1e-12)
    inverted = np.where(keep, 1 / np.where(keep, values, 1.0), 0.0)
    return (vectors * inverted[:, None, :]) @ vectors.transpose(0, 2, 1), keep.sum(1)


def _drawn_scores(cells: Cells, q: Floats, rng: np.random.Generator) -> Floats:
    """Scores of outcomes drawn from q, shape (simulations, 2)."""
    rows = np.maximum(np.rint(cells.weight**2 / cells.squares), 1).astype(np.int64)
    each = cells.weight / rows  # weight of a row, were they all alike
    found = np.empty((SIMULATIONS, 2))
    block = max(1, 4_000_000 // len(q))
    for first in range(0, SIMULATIONS, block):
        size = (min(block, SIMULATIONS - first), len(q))
        residual = each * rng.binomial(rows, q, size) - cells.weight * q
        found[first : first + block] = np.stack([residual.sum(1), residual @ cells.x], axis=1)
    return found
