r"""What rows that come in clusters are worth: variances between clusters, by linearisation.

The mean of group g is a ratio of two totals, whose linearised value of a row is
:math:`z_i = w_i m_{ig} (v_i - \bar v_g) / \sum_i w_i m_{ig}`. Clusters are independent, whatever
goes on within them, so that with their sums :math:`z_{cg}` and shares :math:`w_{cg}` of the weight

.. math:: \widehat{\mathrm{Cov}}(\bar v_g, \bar v_h) = \sum_c
    \frac{z_{cg}\, z_{ch}}{\sqrt{(1 - w_{cg})(1 - w_{ch})}}

which is unbiased where clusters are alike (Bell and McCaffrey, 2002). The variance over that of
independent rows is the design effect; dividing the rows by it (Rao and Scott, 1992) makes the
intervals for independent rows serve, at Student's quantiles for as many degrees of freedom as
clusters of these sizes have (Korn and Graubard, 1998).

References
----------
Rao and Scott (1992), Biometrics 48, 577-585; Bell and McCaffrey (2002), Survey Methodology 28,
169-181; Korn and Graubard (1998), Survey Methodology 24, 193-201.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fairtrain.constraints.table import CellRows, RateTable
from fairtrain.metrics.intervals.single import Design

__all__ = ["LEAST_CLUSTERS", "Clustered", "clustered", "design_effects"]

Floats = NDArray[np.float64]

LEAST_CLUSTERS = 10
"""A group with fewer clusters is neither shown to keep a bound nor to break it."""

_RARE = 10.0  # rows of the rarer outcome below which a design effect of one's own is no estimate


class Clustered(NamedTuple):
    """What clusters do to the means of G groups.

    Attributes
    ----------
    effect : ndarray of shape (G,)
        Design effects, at least 1.
    number : ndarray of int64, shape (G,)
        Clusters that hold a row.
    design : Design
        Degrees of freedom, and correlations.
    """

    effect: Floats
    number: NDArray[np.int64]
    design: Design


def clustered(rows: CellRows, values: Floats, clusters: NDArray[np.int64]) -> Clustered:
    """Compare the variance between clusters with that of independent rows.

    Parameters
    ----------
    rows : CellRows
        The rows of an event.
    values : ndarray of shape (m,)
        The quantity, of these rows.
    clusters : ndarray of int64, shape (m,)
        Their clusters.
    """
    if not len(clusters):
        nothing = Design(np.zeros(rows.size), np.eye(rows.size))
        return Clustered(np.ones(rows.size), np.zeros(rows.size, dtype=np.int64), nothing)
    share, sums = _shares(rows), _sums(clusters)
    mean = np.nan_to_num(rows.mean(values))
    weight = sums @ share
    deviation = sums @ (share.multiply(values[:, None]).tocsr() - share @ sparse.diags(mean))
    left = weight.copy()
    # A cluster that is all of its group: nothing is known, and what is divided is 0.
    left.data = 1 / np.sqrt(np.maximum(1 - left.data, 1e-12))
    scaled = deviation.multiply(left).tocsr()
    covariance = np.asarray((scaled.T @ scaled).toarray())
    kish = np.divide(1, rows.effective, out=np.zeros(rows.size), where=rows.effective > 0)
    squares = np.asarray(weight.multiply(weight).sum(axis=0)).reshape(-1)
    apart = np.maximum(squares - kish, 0.0)  # what a correlation of 1 within clusters would add
    single = _variance(rows, values)
    own = np.divide(
        np.diag(covariance) - single * kish,
        single * apart,
        out=np.full(rows.size, np.nan),
        where=single * apart > 1e-15,
    )
    within = _pooled(own, rows, values, apart)
    variance = single * np.maximum(kish + within * apart, kish)
    effect = np.divide(kish + within * apart, kish, out=np.ones(rows.size), where=kish > 0)
    scale = np.sqrt(np.maximum(variance, np.diag(covariance)))
    both = np.outer(scale, scale)
    correlation = np.divide(covariance, both, out=np.zeros_like(both), where=both > 0)
    np.fill_diagonal(correlation, 1.0)
    freedom = _freedom(sums, share, weight, np.clip(within, 0, 1))
    count = np.asarray((weight > 0).sum(axis=0)).reshape(-1).astype(np.int64)
    return Clustered(np.maximum(effect, 1.0), count, Design(freedom, np.clip(correlation, -1, 1)))


def design_effects(
    table: RateTable, proxy: Floats, members: NDArray[Any], clusters: NDArray[np.int64] | None
) -> Floats:
    """Design effects of all rates of a table before it is known what will be decided.

    Parameters
    ----------
    table : RateTable
        What is compared.
    proxy : ndarray of shape (n,)
        0 or 1: what tells how alike rows of a cluster are, in the groups of each family; such as
        labels.
    members : ndarray of int64, shape (n,), or of shape (n, G)
        Finest group of each row, or memberships.
    clusters : ndarray of int64, shape (n,), or None
        Cluster of each row; all effects are 1 without.

    Returns
    -------
    ndarray of shape (n_cells,)
    """
    if clusters is None:
        return np.ones(table.n_cells)
    effects = []
    for cells in table.cells:
        everyone = CellRows(cells.family.merged(members), cells.size, table.weight)
        within = _within(everyone, proxy[everyone.rows], clusters[everyone.rows])
        effects.append(_effect(cells, clusters[cells.rows], within))
    return np.concatenate(effects)


def _within(rows: CellRows, values: Floats, clusters: NDArray[np.int64]) -> Floats:
    """Correlation within clusters that explains the design effect of each group."""
    full = _effect(rows, clusters, np.ones(rows.size)) - 1
    extra = clustered(rows, values, clusters).effect - 1
    return np.divide(extra, full, out=np.zeros(rows.size), where=full > 0)


def _effect(rows: CellRows, clusters: NDArray[np.int64], within: Floats) -> Floats:
    """Design effects of these rows at given correlations within clusters."""
    if not len(clusters):
        return np.ones(rows.size)
    weight = _sums(clusters) @ _shares(rows)
    squares = np.asarray(weight.multiply(weight).sum(axis=0)).reshape(-1)
    apart = np.maximum(squares * rows.effective - 1, 0.0)
    return np.asarray(1 + within * apart)


def _sums(clusters: NDArray[np.int64]) -> Any:
    """What sums rows by cluster, sparse, shape (clusters, m)."""
    _, at = np.unique(clusters, return_inverse=True)
    return sparse.csr_matrix((np.ones(len(at)), (at, np.arange(len(at)))))


def _shares(rows: CellRows) -> Any:
    """Share that each row has in the weight of each group, sparse, shape (m, G)."""
    weight = np.ones(len(rows.members)) if rows.weight is None else rows.weight
    total = np.divide(1, rows.totals, out=np.zeros(rows.size), where=rows.totals > 0)
    if not rows.hard:
        return sparse.csr_matrix(rows.members * weight[:, None] * total)
    at = np.arange(len(rows.members))
    entries = weight * total[rows.members]
    return sparse.csr_matrix((entries, (at, rows.members)), shape=(len(at), rows.size))


def _variance(rows: CellRows, values: Floats) -> Floats:
    """Variance of one row's value in each group; of 0 and 1, that which limits of rates suppose."""
    mean = rows.mean(values)
    if np.isin(values, (0.0, 1.0)).all():
        return np.nan_to_num(mean * (1 - mean))
    return np.nan_to_num(rows.variance(values))


def _pooled(own: Floats, rows: CellRows, values: Floats, apart: Floats) -> Floats:
    """Correlations within clusters, with that of all groups where a group's own tells too little.

    Without a rare outcome in any group nothing tells, and rows of a cluster count as one.
    """
    known = np.isfinite(own)
    pool = float(np.average(own[known], weights=rows.totals[known])) if known.any() else 1.0
    mean = np.nan_to_num(rows.mean(values))
    rare = rows.effective * np.minimum(mean, 1 - mean) < _RARE
    flips = np.isin(values, (0.0, 1.0)).all()
    filled = np.where(known, own, pool)
    return np.asarray(np.where(rare & flips, np.fmax(filled, pool), filled))


def _freedom(sums: Any, share: Any, weight: Any, within: Floats) -> Floats:
    r"""Degrees of freedom of the variance between clusters, :math:`(\sum a_c)^2/\sum a_c^2 - 1`.

    :math:`a_c` is what a cluster adds to the variance if its rows are correlated so much; m equal
    clusters have m - 1 (Satterthwaite, 1946).
    """
    squares = sums @ share.multiply(share).tocsr()
    parts = squares @ sparse.diags(1 - within) + weight.multiply(weight) @ sparse.diags(within)
    total = np.asarray(parts.sum(axis=0)).reshape(-1)
    square = np.asarray(parts.multiply(parts).sum(axis=0)).reshape(-1)
    return np.asarray(np.divide(total**2, square, out=np.ones(len(total)), where=square > 0) - 1.0)
