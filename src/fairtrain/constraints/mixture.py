"""The linear program that mixes finished predictors, or thresholds, so that bounds hold.

Training rows cannot say whether a bound holds on new ones: a flexible base estimator memorises
fairness as it memorises labels. On steering rows a small linear program over the predictors that
were trained, and the two constant ones, finds the most accurate mixture that keeps every bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import block_diag
from scipy.optimize import linprog

from fairtrain.constraints.bounds import Inequalities, RateBounds, cell_parts
from fairtrain.constraints.table import RateTable
from fairtrain.exceptions import InvalidParameterError

__all__ = [
    "Mixture",
    "most_accurate_decisions",
    "most_accurate_lots",
    "most_accurate_mixture",
    "most_accurate_under",
    "most_accurate_weights",
]

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

    matrix: Any
    limit: Floats
    cost: Floats
    priority: NDArray[np.int64]


def most_accurate_mixture(
    table: RateTable, decisions: NDArray[Any], errors: Floats, *, n_constant: int = N_CONSTANT
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
    decisions : ndarray of shape (T, n)
        What each predictor says of them; the last ones are constant, which are used only where no
        mixture of the others keeps every bound.
    errors : ndarray of shape (T,)
        Error of each predictor on them.
    n_constant : int, default=2
        How many of them are constant.
    """
    rates = np.array([np.nan_to_num(table(row)) for row in decisions])
    rows = _all_rows(
        [c.family.bounds for c in table.cells],
        [c.family.bounds.inequalities(c.present, c.shares) for c in table.cells],
        [c.present for c in table.cells],
        [sparse.csr_array(rates[:, c.part].T) for c in table.cells],
    )
    return _mixed(rows, errors, n_constant)


def most_accurate_under(
    quantities: Floats,
    limits: Floats,
    errors: Floats,
    *,
    priority: NDArray[np.int64] | None = None,
    n_constant: int = N_CONSTANT,
) -> Mixture:
    """Solve for the mixture of least error under limits on quantities that are averaged.

    Parameters
    ----------
    quantities : ndarray of shape (T, K)
        What is limited, for each predictor.
    limits : ndarray of shape (K,)
        The limits.
    errors, n_constant
        As in :func:`most_accurate_mixture`.
    priority : ndarray of int64, shape (K,), optional
        Limits that cannot hold together give way from the lowest on, by as little as possible.
    """
    level = np.zeros(len(limits), dtype=np.int64) if priority is None else priority
    rows = _Rows(sparse.csr_array(quantities.T), limits, np.ones(len(limits)), level)
    return _mixed(rows, errors, n_constant)


def _mixed(rows: _Rows, errors: Floats, n_constant: int) -> Mixture:
    lots = sparse.csr_array(np.ones((1, len(errors))))
    slack = np.zeros(len(rows.limit))
    limit = rows.limit - _ROOM
    trained = np.arange(len(errors)) < len(errors) - n_constant
    solution = _solve(errors, rows.matrix, limit, lots, trained)
    if solution is None:
        solution = _solve(errors, rows.matrix, limit, lots)
    if solution is None:
        slack = _least_slack(rows, lots)
        solution = _solve(errors, rows.matrix, limit + slack, lots)
    assert solution is not None  # the slack was found by a feasible point
    return Mixture(_cleaned(solution[: len(errors)]), float(slack.max(initial=0.0)))


def most_accurate_weights(
    bounds: Sequence[RateBounds], rates: Floats, errors: Floats
) -> Floats | None:
    """Solve for the mixture of least error that keeps every bound, from rates that are known.

    Parameters
    ----------
    bounds : sequence of RateBounds
        One for each rate.
    rates : ndarray of shape (T, n_cells)
        Rates of each predictor, in the order of the bounds; NaN for a group without rows.
    errors : ndarray of shape (T,)
        Error of each predictor.

    Returns
    -------
    ndarray of shape (T,) or None
        Probability of each predictor; None where no mixture keeps every bound.
    """
    parts = [rates[:, part] for part in cell_parts(b.n_groups for b in bounds)]
    groups = [
        np.flatnonzero(b.present(own).all(axis=0)) for b, own in zip(bounds, parts, strict=True)
    ]
    rows = _all_rows(
        bounds,
        [
            b.inequalities(own, np.full(b.n_groups, 1 / max(len(own), 1)))
            for b, own in zip(bounds, groups, strict=True)
        ],
        groups,
        [sparse.csr_array(np.nan_to_num(own).T) for own in parts],
    )
    lots = sparse.csr_array(np.ones((1, len(errors))))
    solution = _solve(errors, rows.matrix, rows.limit - _ROOM, lots)
    return None if solution is None else _cleaned(solution[: len(errors)])


def most_accurate_lots(bounds: Sequence[RateBounds], rates: Floats, right: Floats) -> Floats:
    """Solve for the best lot between candidates in every group.

    Parameters
    ----------
    bounds : sequence of R RateBounds
        One for each rate.
    rates : ndarray of shape (R, G, K)
        Rates of each group at each of its candidates.
    right : ndarray of shape (G, K)
        Right decisions there.

    Returns
    -------
    ndarray of shape (G, K)
        Probability of each candidate; every row sums to 1.
    """
    size, most = right.shape
    groups = np.arange(size)
    lots = sparse.kron(sparse.eye_array(size), np.ones((1, most)), format="csr")
    rows = _all_rows(
        bounds,
        [b.inequalities(groups) for b in bounds],
        [groups] * len(bounds),
        [lots.multiply(own.ravel()[None, :]).tocsr() for own in rates],
    )
    solution = _solve(-right.ravel() / right.sum(), rows.matrix, rows.limit, lots)
    assert solution is not None  # deciding alike for everybody keeps every parity
    weights = np.clip(solution[: right.size].reshape(right.shape), 0.0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def most_accurate_decisions(
    bounds: Sequence[RateBounds], base: Floats, slopes: Floats, gain: Floats
) -> Floats:
    r"""Solve for the best decision at every point of a population, or lot between the two.

    .. math::
       \max_{d \in [0, 1]^n} \sum_i a_i d_i \quad\text{s.t. every bound on the rates }
       r_j = c_j + \sum_i h_{ij} d_i

    Parameters
    ----------
    bounds : sequence of RateBounds
        One for each rate, of :math:`G` groups.
    base : ndarray of shape (m,)
        :math:`c_j`, rate by rate; NaN where a group has no point in the event.
    slopes : ndarray of shape (n, m)
        :math:`h_{ij}`.
    gain : ndarray of shape (n,)
        :math:`a_i`.

    Returns
    -------
    ndarray of shape (n,)

    Raises
    ------
    InvalidParameterError
        If no decisions keep every bound.
    """
    parts = cell_parts(b.n_groups for b in bounds)
    groups = [np.flatnonzero(b.present(base[part])) for b, part in zip(bounds, parts, strict=True)]
    asked = [b.inequalities(own) for b, own in zip(bounds, groups, strict=True)]
    rows = _all_rows(bounds, asked, groups, [sparse.csr_array(slopes[:, p].T) for p in parts])
    constant = [a.matrix @ np.nan_to_num(base[p]) for a, p in zip(asked, parts, strict=True)]
    free = sparse.csr_array((0, len(gain)))
    solution = _solve(-gain, rows.matrix, rows.limit - np.concatenate(constant), free)
    if solution is None:
        raise InvalidParameterError("no decisions keep all these bounds together; loosen one.")
    return np.asarray(np.clip(solution[: len(gain)], 0.0, 1.0))


def _cleaned(weights: Floats) -> Floats:
    """Weights without rounding, summing to 1."""
    weights = np.where(weights < 1e-10, 0.0, weights)
    return np.asarray(weights / weights.sum())


def _solve(
    cost: Floats, matrix: Any, limit: Floats, lots: Any, allowed: NDArray[np.bool_] | None = None
) -> Floats | None:
    """Minimise over weights that sum to 1 in every lot, and what other variables there are.

    ``cost`` may be longer than the weights; variables beyond it are free of cost.
    """
    n_variables, n_mix = matrix.shape[1], lots.shape[1]
    most = np.ones(n_mix) if allowed is None else allowed.astype(np.float64)
    solve: Any = linprog  # its stubs know no sparse matrices
    result = solve(
        np.append(cost, np.zeros(n_variables - len(cost))),
        A_ub=matrix,
        b_ub=limit,
        A_eq=sparse.hstack([lots, sparse.csr_array((lots.shape[0], n_variables - n_mix))]),
        b_eq=np.ones(lots.shape[0]),
        bounds=[(0.0, top) for top in most] + [(None, None)] * (n_variables - n_mix),
        method="highs",
    )
    return None if result.x is None else np.asarray(result.x)


def _least_slack(rows: _Rows, lots: Any) -> Floats:
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
            np.vstack([np.hstack([rows.matrix.toarray(), give])[kept], sign]),
            np.concatenate([(rows.limit - _ROOM + slack)[kept], np.zeros(len(now))]),
            lots,
        )
        assert solution is not None  # every row that may not give way was met a level before
        found = np.clip(solution[n_variables:], 0.0, None)
        slack[now] = np.where(found > _ROOM, found + _ROOM, 0.0)
    return slack


def _all_rows(
    bounds: Sequence[RateBounds],
    asked: Sequence[Inequalities],
    groups: Sequence[NDArray[np.int64]],
    rates: Sequence[Any],
) -> _Rows:
    """Rows of all bounds on (weights, centres); ``rates`` are those of each weight, (G, n)."""
    centre = block_diag(*(a.centre[:, None] for a in asked))
    own = sparse.vstack([sparse.csr_array(a.matrix) @ r for a, r in zip(asked, rates, strict=True)])
    cost = [
        np.tile(b.importance[g], len(a.limit) // len(g))
        for b, a, g in zip(bounds, asked, groups, strict=True)
    ]
    priority = [
        np.full(len(a.limit), b.constraint.priority) for b, a in zip(bounds, asked, strict=True)
    ]
    return _Rows(
        matrix=sparse.hstack([own, sparse.csr_array(centre)], format="csr"),
        limit=np.concatenate([a.limit for a in asked]),
        cost=np.concatenate(cost),
        priority=np.concatenate(priority),
    )
