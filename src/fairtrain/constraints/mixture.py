"""Re-weighting a mixture of finished predictors so that bounds hold on rows they never saw.

Training rows cannot say whether a bound holds on new ones: a flexible base estimator memorises
fairness as it memorises labels. On steering rows a small linear program over the predictors that
were trained, and the two constant ones, finds the most accurate mixture that keeps every bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from fairtrain.constraints import BoundedGroupLoss, ParityConstraint
from fairtrain.constraints.table import Family, RateTable

__all__ = ["Mixture", "most_accurate_mixture"]

Floats = NDArray[np.float64]

N_CONSTANT = 2
"""The two constant predictors, last among the columns."""

_ROOM = 1e-9  # kept free inside a bound, so that a vertex on it does not read as broken


@dataclass(frozen=True)
class Mixture:
    """Outcome of the program.

    Attributes
    ----------
    weights : ndarray of shape (T,)
        Probability of each predictor.
    slack : float
        Largest amount by which a bound had to give way; 0 where all hold.
    """

    weights: Floats
    slack: float


@dataclass(frozen=True)
class _Rows:
    """Inequalities ``matrix @ (q, c) <= limit`` of all bounds, with the cost of breaking each."""

    matrix: Floats
    limit: Floats
    cost: Floats
    priority: NDArray[np.int64]


def most_accurate_mixture(
    table: RateTable, decisions: NDArray[np.bool_], errors: Floats
) -> Mixture:
    r"""Solve for the mixture of least error under every bound.

    .. math::
       \min_{q, c} \sum_t q_t e_t \quad\text{s.t.}\quad
       c_f \le \sum_t q_t r_{tfg} \le c_f + b_f \ \ \forall f, g

    with one free edge :math:`c_f` for each rate f, so that rates must fit into an interval of the
    bound's width wherever it lies; a ratio bound reads
    :math:`\tau c_f \le \sum_t q_t r_{tfg} \le c_f`. Bounds that cannot hold together give way in
    the order of their ``priority``, lowest first, by as little as possible.

    Parameters
    ----------
    table : RateTable
        Rates on the rows that steer.
    decisions : ndarray of bool, shape (T, n)
        Decisions of each predictor on them; the last two are the constant ones, which are used
        only where no mixture of the others keeps every bound.
    errors : ndarray of shape (T,)
        Error of each predictor on them.
    """
    rates = np.array([np.nan_to_num(table(row)) for row in decisions])
    rows = _all_rows(table.families, rates)
    objective = np.concatenate([errors, np.zeros(len(table.families))])
    slack = np.zeros(len(rows.limit))
    trained = np.ones(len(rates), dtype=bool)
    trained[-N_CONSTANT:] = False
    solution = _solve(objective, rows.matrix, rows.limit, len(rates), trained)
    if solution is None:
        solution = _solve(objective, rows.matrix, rows.limit, len(rates))
    if solution is None:
        slack = _least_slack(rows, len(rates))
        solution = _solve(objective, rows.matrix, rows.limit + slack, len(rates))
    assert solution is not None  # the slack was found by a feasible point
    weights = np.clip(solution[: len(rates)], 0.0, None)
    weights[weights < 1e-10] = 0.0
    return Mixture(weights / weights.sum(), float(slack.max(initial=0.0)))


def _solve(
    objective: Floats,
    matrix: Floats,
    limit: Floats,
    n_mix: int,
    allowed: NDArray[np.bool_] | None = None,
) -> Floats | None:
    """Minimise over a mixture of the allowed predictors (the first variables) and free others."""
    n_free = len(objective) - n_mix
    total = np.concatenate([np.ones(n_mix), np.zeros(n_free)])[None, :]
    most = np.ones(n_mix) if allowed is None else allowed.astype(np.float64)
    bounds = [(0.0, top) for top in most] + [(None, None)] * n_free
    result = linprog(
        objective, A_ub=matrix, b_ub=limit, A_eq=total, b_eq=[1.0], bounds=bounds, method="highs"
    )
    return None if result.x is None else np.asarray(result.x)


def _least_slack(rows: _Rows, n_mix: int) -> Floats:
    """Smallest breaches that make the bounds compatible, decided from high priority to low."""
    n_rows, n_variables = rows.matrix.shape
    slack = np.zeros(n_rows)
    for level in sorted(set(rows.priority.tolist()), reverse=True):
        kept = rows.priority >= level
        now = np.flatnonzero(rows.priority == level)
        give = np.zeros((n_rows, len(now)))
        give[now, np.arange(len(now))] = -1.0
        # A slack variable must not be negative: -s <= 0.
        sign = np.hstack([np.zeros((len(now), n_variables)), -np.eye(len(now))])
        solution = _solve(
            np.concatenate([np.zeros(n_variables), rows.cost[now]]),
            np.vstack([np.hstack([rows.matrix, give])[kept], sign]),
            np.concatenate([(rows.limit + slack)[kept], np.zeros(len(now))]),
            n_mix,
        )
        assert solution is not None  # every row that may not give way was met a level before
        found = np.clip(solution[n_variables:], 0.0, None)
        slack[now] = np.where(found > _ROOM, found + _ROOM, 0.0)
    return slack


def _all_rows(families: list[Family], rates: Floats) -> _Rows:
    blocks = [_family_rows(family, i, rates, len(families)) for i, family in enumerate(families)]
    return _Rows(
        matrix=np.vstack([block.matrix for block in blocks]),
        limit=np.concatenate([block.limit for block in blocks]),
        cost=np.concatenate([block.cost for block in blocks]),
        priority=np.concatenate([block.priority for block in blocks]),
    )


def _family_rows(family: Family, i: int, rates: Floats, n_families: int) -> _Rows:
    constraint, present = family.constraint, family.present
    own = rates[:, family.start + present].T  # (groups, predictors)
    edge = np.zeros((len(own), n_families))
    if isinstance(constraint, BoundedGroupLoss):
        matrix, limit = np.hstack([own, edge]), np.full(len(own), constraint.bound)
        return _rows_of(family, matrix, limit)
    assert isinstance(constraint, ParityConstraint)
    by_ratio = constraint.kind == "ratio"
    ratio = constraint.bound if by_ratio else 1.0
    if constraint.reference == "pairwise":
        # difference: r - c <= b and c - r <= 0; ratio: r - c <= 0 and tau c - r <= 0
        edge[:, i] = 1.0
        above, below = np.hstack([own, -edge]), np.hstack([-own, ratio * edge])
        limit = np.repeat([0.0 if by_ratio else constraint.bound, 0.0], len(own))
    else:
        overall = np.broadcast_to(family.shares[present] @ own, own.shape)
        above = np.hstack([ratio * own - overall, edge])
        below = np.hstack([ratio * overall - own, edge])
        slack = constraint.ratio_slack if by_ratio else constraint.bound
        limit = np.full(2 * len(own), slack)
    return _rows_of(family, np.vstack([above, below]), limit)


def _rows_of(family: Family, matrix: Floats, limit: Floats) -> _Rows:
    constraint, present = family.constraint, family.present
    weights = constraint.group_weights(family.cells.scheme.names)[present]
    return _Rows(
        matrix=matrix,
        limit=limit - _ROOM,
        cost=np.tile(weights, len(limit) // len(weights)),
        priority=np.full(len(limit), constraint.priority),
    )
