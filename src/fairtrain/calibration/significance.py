"""Is a group calibrated by its parent's map? Rao's test, which fits only the hypothesis."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from scipy import stats
from scipy.special import expit

from fairtrain.calibration.cells import Cells, Codes, Floats, Mask
from fairtrain.calibration.maps.logistic import fit_logistic, information, line, score_of
from fairtrain.data.groups import GroupScheme

__all__ = [
    "EVERYONE",
    "Evidence",
    "Parents",
    "ScoreTest",
    "adjusted",
    "compare_with_parent",
    "compare_with_parents",
    "find_parents",
    "score_test",
    "statistic_of",
]


FEW_EVENTS = 10.0
"""Fewer expected events, or non-events, make the chi-squared approximation doubtful."""

SIMULATIONS = 1999

EVERYONE = "everyone"


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
    df: Codes
    p_value: Floats
    simulated: Mask


def adjusted(p_value: Floats) -> Floats:
    """Benjamini and Hochberg's (1995) adjusted p-values; NaN is left out.

    Examples
    --------
    >>> adjusted(np.array([0.01, 0.04, 0.03, np.nan])).round(3).tolist()
    [0.03, 0.04, 0.04, nan]
    """
    result = np.full(np.shape(p_value), np.nan)
    tested = ~np.isnan(p_value)
    if tested.any():
        result[tested] = stats.false_discovery_control(p_value[tested])
    return result


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
    own = Evidence.at(cells, q)
    none = np.zeros((cells.size, 2, 2))
    few = own.expected.min(1) < FEW_EVENTS
    return _tested(cells, q, own, none, none, few, random_state)


def compare_with_parent(
    cells: Cells,
    parent: Codes,
    *,
    wanted: Mask | None = None,
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
    fitted = fit_logistic(family, line(family), np.array([0.0, 1.0]))
    q = expit(fitted[family.group, 0] + fitted[family.group, 1] * family.x)
    own, whole = Evidence.at(cells, q), Evidence.at(family, q)
    # Not so small that the inverse of a family without rows overflows on some processors.
    scale = np.maximum(np.trace(whole.slope, axis1=1, axis2=2), 1e-200)[:, None, None]
    inverse = np.linalg.inv(whole.slope + 1e-10 * scale * np.eye(2))
    K = own.slope @ inverse[parent]
    others = np.maximum(whole.expected[parent] - own.expected, 0.0)
    few = (others.min(1) < FEW_EVENTS) | (own.expected.min(1) < FEW_EVENTS)
    if wanted is not None:
        few &= wanted
    return _tested(cells, q, own, K, whole.variance[parent] - own.variance, few, random_state)


@dataclass(frozen=True)
class Evidence:
    """What rows say against probabilities q of theirs, in every group.

    Attributes
    ----------
    score : ndarray of shape (G, 2)
        Sums of (y - q)(1, x).
    slope, variance : ndarray of shape (G, 2, 2)
        Minus the score's derivative in intercept and slope, and its variance: equal without
        weights.
    expected : ndarray of shape (G, 2)
        Expected events and non-events.
    """

    score: Floats
    slope: Floats
    variance: Floats
    expected: Floats

    @classmethod
    def at(cls, cells: Cells, q: Floats) -> Evidence:
        """Sum it up."""
        design, variance = line(cells), q * (1 - q)
        return cls(
            score_of(cells, design, cells.events - cells.weight * q),
            information(cells, design, cells.weight * variance),
            information(cells, design, cells.squares * variance),
            np.stack([cells.sums(cells.weight * p) for p in (q, 1 - q)], axis=1),
        )


def statistic_of(score: Floats, variance: Floats, scale: Floats) -> tuple[Floats, Codes, Floats]:
    """Chi-squared statistic of scores, its degrees of freedom, and the pseudo-inverses behind it.

    Parameters
    ----------
    score : ndarray of shape (G, 2)
    variance : ndarray of shape (G, 2, 2)
    scale : ndarray of shape (G,)
        Eigenvalues below 1e-8 of it, or of the largest one, count as 0.
    """
    values, vectors = np.linalg.eigh(variance)
    keep = (values > 1e-8 * values[:, 1:]) & (values > 1e-8 * scale[:, None]) & (values > 1e-12)
    inverted = np.where(keep, 1 / np.where(keep, values, 1.0), 0.0)
    inverse = (vectors * inverted[:, None, :]) @ vectors.transpose(0, 2, 1)
    return np.einsum("gi,gij,gj->g", score, inverse, score), keep.sum(1), inverse


def _tested(
    cells: Cells,
    q: Floats,
    own: Evidence,
    K: Floats,
    others: Floats,
    few: Mask,
    random_state: np.random.Generator | None,
) -> ScoreTest:
    left = np.eye(2) - K
    noise = K @ others @ K.transpose(0, 2, 1)
    variance = left @ own.variance @ left.transpose(0, 2, 1) + noise
    statistic, df, inverse = statistic_of(
        own.score, variance, np.trace(own.variance, axis1=1, axis2=2)
    )
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


def _drawn_scores(cells: Cells, q: Floats, rng: np.random.Generator) -> Floats:
    """Scores of outcomes drawn from q, shape (simulations, 2)."""
    rows = np.maximum(np.rint(cells.weight**2 / cells.squares), 1).astype(np.int64)
    each = cells.weight / rows  # weight of a row, were they all alike
    # A design effect leaves less than one row where a cell holds one.
    wider = np.sqrt(np.maximum(cells.squares / cells.weight**2, 1.0))
    result = np.empty((SIMULATIONS, 2))
    block = max(1, 4_000_000 // len(q))
    for first in range(0, SIMULATIONS, block):
        size = (min(block, SIMULATIONS - first), len(q))
        residual = wider * (each * rng.binomial(rows, q, size) - cells.weight * q)
        result[first : first + block] = np.stack([residual.sum(1), residual @ cells.x], axis=1)
    return result


@dataclass(frozen=True)
class Parents:
    """Coarser partitions, and which of them holds the parent of each group.

    Attributes
    ----------
    partitions : tuple of (names, codes) pairs
        Names of the coarse groups, and the coarse group of every group, shape (G,).
    choice : ndarray of int64, shape (G,)
        Partition in which each group's parent is.
    """

    partitions: tuple[tuple[tuple[str, ...], Codes], ...]
    choice: Codes

    @property
    def names(self) -> tuple[str, ...]:
        """Name of every group's parent."""
        return tuple(
            self.partitions[p][0][self.partitions[p][1][g]] for g, p in enumerate(self.choice)
        )


def find_parents(scheme: GroupScheme) -> Parents:
    """Choose the parent of every group: one column left out, whichever leaves most other rows.

    With one column, or where a group is alone in all coarser groups, the parent is everyone.
    """
    partitions = [(c.names, codes) for c, codes in scheme.parents.values()]
    others = [np.bincount(codes, scheme.counts)[codes] - scheme.counts for _, codes in partitions]
    everyone = ((EVERYONE,), np.zeros(len(scheme), dtype=np.int64))
    partitions.append(everyone)
    choice = np.full(len(scheme), len(partitions) - 1)
    if others:
        best = np.argmax(others, axis=0)
        choice = np.where(np.max(others, axis=0) > 0, best, choice)
    return Parents(tuple(partitions), choice)


def compare_with_parents(
    cells: Cells, parents: Parents, rng: np.random.Generator | None = None
) -> ScoreTest:
    """Test every group against its own parent's other rows."""
    tests = {
        p: compare_with_parent(
            cells, parents.partitions[p][1], wanted=parents.choice == p, random_state=rng
        )
        for p in np.unique(parents.choice)
    }
    own = [(tests[p], g) for g, p in enumerate(parents.choice)]
    return ScoreTest(
        *(
            np.array([getattr(test, field.name)[g] for test, g in own])
            for field in fields(ScoreTest)
        )
    )
