"""Comparisons between two groups at a time, with limits that hold for all of them together."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fairtrain.metrics.intervals.means import welch_half_width
from fairtrain.metrics.intervals.sides import (
    Family,
    Limits,
    Sides,
    compare,
    critical_value,
    sides,
)
from fairtrain.metrics.intervals.single import Design, error_rate

__all__ = ["pairwise_differences", "pairwise_ratios", "reference_ratios"]


def pairwise_differences(
    mean: ArrayLike,
    count: ArrayLike,
    confidence: float = 0.95,
    *,
    variance: ArrayLike | None = None,
    bounded: bool = False,
    design: Design | None = None,
    simultaneous: bool = True,
) -> Limits:
    r"""All differences between groups, with limits that hold together.

    Two groups: Newcombe's hybrid score interval (his method 10),
    :math:`d - \sqrt{(p_i - l_i)^2 + (u_j - p_j)^2}` to
    :math:`d + \sqrt{(u_i - p_i)^2 + (p_j - l_j)^2}` with Wilson's limits l, u; Clopper and
    Pearson's in a group with fewer than 10 successes or failures. A limit that leans on two such
    groups at opposite ends of the scale is exact: :math:`l_i - u_j` with alpha shared by both.

    More groups: the same combination of Jeffreys limits at the critical value
    :math:`q_{1-\alpha,G,\infty}/\sqrt 2` of the studentized range (Tukey, Kramer). A pair with
    a group of fewer than 5 successes or failures gets :math:`l_i - u_j` to :math:`u_i - l_j` of a
    simultaneous Clopper-Pearson rectangle (Bonferroni over groups) instead, which holds whatever
    the rates. Where both kinds of pair occur, each kind gets half of :math:`\alpha`.

    Parameters
    ----------
    mean : array_like, shape (..., G)
        Rates in [0, 1]; any means if ``variance`` is given.
    count : array_like, shape (..., G)
        Rows, or effective rows, of each group.
    confidence : float
        Probability that all limits hold; of each pair's alone if not ``simultaneous``.
    variance : array_like, shape (..., G), optional
        Sample variances: the limits are then Welch's, at the tail probability that the
        studentized range gives each pair (as Games and Howell do; a little wider).
    bounded : bool
        Whether the values are known to lie in [0, 1]: with ``variance`` the single limits are then
        those of `bounded_limits`, which are safe against rare values.
    design : Design, optional
        Where rows come in clusters: how the means of groups that share some are correlated, and
        the degrees of freedom. ``count`` are then effective rows.
    simultaneous : bool
        Whether the limits hold for all pairs at once. A pair singled out *after* looking needs
        it; the upper limit of the largest difference does not (see `gap_interval`).

    Returns
    -------
    Limits
        Arrays of shape (..., G, G): row minus column, 0 on the diagonal, NaN for empty groups.

    References
    ----------
    Newcombe (1998), Statistics in Medicine 17, 873-890; Agresti, Bini, Bertaccini and Ryu (2008),
    Biometrics 64, 1270-1275; Laud (2017), Pharmaceutical Statistics 16, 334-348; Games and Howell
    (1976), Journal of Educational Statistics 1, 113-125.

    Examples
    --------
    >>> limits = pairwise_differences([56 / 70, 48 / 80], [70, 80])
    >>> [round(float(v[0, 1]), 4) for v in limits]
    [0.2, 0.0524, 0.3339]
    """
    if variance is not None and not bounded:
        return _mean_differences(mean, variance, count, confidence, simultaneous, design)
    family: Family = "all pairs" if simultaneous else "one pair"
    groups = sides(mean, count, error_rate(confidence), family, variance, design)
    correlation = None if design is None else design.correlation
    return _own_pairs(compare(groups.rows(), groups.columns(), correlation=correlation), 0.0)


def pairwise_ratios(
    mean: ArrayLike,
    count: ArrayLike,
    confidence: float = 0.95,
    *,
    variance: ArrayLike | None = None,
    design: Design | None = None,
    simultaneous: bool = True,
) -> Limits:
    r"""All ratios between the rates of groups, with limits that hold together.

    The lower limit R of :math:`p_i / p_j` solves :math:`p_i - R p_j = \sqrt{(p_i - l_i)^2 +
    R^2 (u_j - p_j)^2}`: a ratio interval leaves out 1 exactly when the interval of the difference
    leaves out 0. The single limits l, u, the exact pairs (:math:`l_i/u_j` to :math:`u_i/l_j`) and
    the critical values are those of `pairwise_differences`.

    Parameters
    ----------
    mean, count, confidence, design, simultaneous
        As in `pairwise_differences`.
    variance : array_like, shape (..., G), optional
        Sample variances of values in [0, 1] that are not all 0 or 1.

    Returns
    -------
    Limits
        Arrays of shape (..., G, G): row over column, 1 on the diagonal, NaN for empty groups. A
        rate of 0 in the column gives an infinite upper limit (and a NaN estimate if both are 0).

    References
    ----------
    Donner and Zou (2012), Statistical Methods in Medical Research 21, 347-359.

    Examples
    --------
    >>> limits = pairwise_ratios([0.3, 0.5], [200, 200])
    >>> [round(float(v[0, 1]), 3) for v in limits]
    [0.6, 0.465, 0.77]
    """
    family: Family = "all pairs" if simultaneous else "one pair"
    groups = sides(mean, count, error_rate(confidence), family, variance, design)
    correlation = None if design is None else design.correlation
    limits = compare(groups.rows(), groups.columns(), ratio=True, correlation=correlation)
    return _own_pairs(limits, 1.0)


def reference_ratios(
    mean: ArrayLike,
    count: ArrayLike,
    reference: int,
    confidence: float = 0.95,
    *,
    variance: ArrayLike | None = None,
    design: Design | None = None,
    simultaneous: bool = True,
) -> Limits:
    r"""Ratio of every group's rate to that of one group named beforehand.

    Fewer comparisons than all pairs, so narrower limits: Bonferroni over the G - 1 of them
    (Dunnett's problem; his exact value is hardly smaller).

    Parameters
    ----------
    mean, count, confidence, variance, design, simultaneous
        As in `pairwise_ratios`.
    reference : int
        Position of the reference group.

    Returns
    -------
    Limits
        Arrays of shape (..., G); 1 at the reference itself.

    References
    ----------
    Dunn (1961), Journal of the American Statistical Association 56, 52-64.

    Examples
    --------
    >>> limits = reference_ratios([0.3, 0.5, 0.4], [200, 200, 200], reference=1)
    >>> limits.lower.round(3).tolist()
    [0.446, 1.0, 0.621]
    """
    family: Family = "reference" if simultaneous else "one pair"
    groups = sides(mean, count, error_rate(confidence), family, variance, design)
    named = Sides._make(v[..., reference, None] for v in groups)
    correlation = None if design is None else design.correlation[..., :, reference]
    limits = compare(groups, named, ratio=True, correlation=correlation)
    positions = np.arange(groups.rate.shape[-1])
    itself = positions == positions[reference]
    return Limits(*(np.where(itself & ~np.isnan(limits.lower), 1.0, v) for v in limits))


def _own_pairs(limits: Limits, value: float) -> Limits:
    """Put in what is certain: a group compared with itself."""
    itself = np.eye(limits.lower.shape[-1], dtype=bool) & ~np.isnan(limits.lower)
    return Limits(*(np.where(itself, value, v) for v in limits))


def _mean_differences(
    mean: ArrayLike,
    variance: ArrayLike,
    count: ArrayLike,
    confidence: float,
    simultaneous: bool,
    design: Design | None,
) -> Limits:
    r, s, n = np.broadcast_arrays(*(np.asarray(v, dtype=float) for v in (mean, variance, count)))
    n = np.where((n >= 2) & ~np.isnan(r), n, np.nan)
    groups = (~np.isnan(n)).sum(-1, keepdims=True)
    z = critical_value(error_rate(confidence), "all pairs" if simultaneous else "one pair", groups)
    estimate = r[..., :, None] - r[..., None, :]
    half = welch_half_width(s, n, z[..., None], design)
    estimate = np.where(np.isnan(half), np.nan, estimate)
    return _own_pairs(Limits(estimate, estimate - half, estimate + half), 0.0)
