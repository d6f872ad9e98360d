"""Means of a quantity in every group, with what their intervals need."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fairtrain.constraints.table import CellRows
from fairtrain.exceptions import InvalidDataError
from fairtrain.metrics.clusters import clustered
from fairtrain.metrics.intervals import GapInterval, gap_interval, ratio_interval, short_exact
from fairtrain.metrics.intervals.means import bounded_limits, loss_limits, mean_limits
from fairtrain.metrics.intervals.sides import single_limits
from fairtrain.metrics.intervals.single import Design, error_rate, student_rows, two_sided

__all__ = ["Cells", "cell_means"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Cells:
    """One quantity in G groups.

    Attributes
    ----------
    mean : ndarray of shape (G,)
        Weighted mean; NaN where a group has no row.
    count : ndarray of int64, shape (G,)
        Rows that enter it.
    effective : ndarray of shape (G,)
        Kish's effective sample size ``(sum w)^2 / sum w^2``; the count where weights are equal.
        Where rows come in clusters, that over the design effect.
    total : ndarray of shape (G,)
        Sum of weights; the count where there are none.
    variance : ndarray of shape (G,) or None
        Sample variance of the quantity; None where it is 0 or 1 in every row.
    support : {"unit", "positive", "real"}
        Where the quantity lies: in [0, 1], when its mean is a rate; at 0 or above; anywhere.
    clusters : ndarray of int64, shape (G,), or None
        Clusters that hold these rows, where they come in such.
    design : Design or None
        Their degrees of freedom, and how the means are correlated.
    """

    mean: Floats
    count: NDArray[np.int64]
    effective: Floats
    total: Floats
    variance: Floats | None
    support: Literal["unit", "positive", "real"] = "unit"
    clusters: NDArray[np.int64] | None = None
    design: Design | None = None

    def limits(self, confidence: float) -> tuple[Floats, Floats]:
        """Interval of each group's mean: exact for shares of rows, by the variance otherwise."""
        if self.variance is None:
            mean = np.nan_to_num(self.mean)
            return short_exact(mean, self.effective, confidence, design=self.design)
        z = two_sided(error_rate(confidence))
        if self.support == "positive":
            return loss_limits(self.mean, self.variance, self.effective, z, self._df)
        return self.limits_at(z)

    def limits_at(self, z: Floats) -> tuple[Floats, Floats]:
        """Limits that a comparison of two groups is made of, at a critical value."""
        if self.variance is None:
            rows = student_rows(self.effective, z, self.design)
            return single_limits(self.mean, rows, z, np.zeros(1, dtype=bool))
        limits = bounded_limits if self.support == "unit" else mean_limits
        return limits(self.mean, self.variance, self.effective, z, self._df)

    @property
    def _df(self) -> Floats | None:
        return None if self.design is None else self.design.df

    @property
    def known(self) -> Bools:
        """Groups whose mean has limits of any use, shape (G,)."""
        return self.count > 0 if self.support == "unit" else self.effective >= 2

    def gap(self, confidence: float) -> GapInterval:
        """Largest difference of two groups; see :func:`~.intervals.gap_interval`."""
        return gap_interval(*self.bare(), confidence, **self.spread)

    def ratio(self, confidence: float, reference: int | None = None) -> GapInterval:
        """Smallest ratio of two groups; see :func:`~.intervals.ratio_interval`."""
        if self.support != "unit":
            raise InvalidDataError("a ratio needs a rate in [0, 1].")
        return ratio_interval(
            *self.bare(),
            confidence,
            reference=reference,
            variance=self.variance,
            design=self.design,
        )

    @property
    def spread(self) -> dict[str, Any]:
        """What comparisons of differences are told about the values."""
        bounded = self.support == "unit"
        return {"variance": self.variance, "bounded": bounded, "design": self.design}

    def of(self, groups: NDArray[np.intp]) -> Cells:
        """Cells of some of the groups."""
        return Cells(
            mean=self.mean[groups],
            count=self.count[groups],
            effective=self.effective[groups],
            total=self.total[groups],
            variance=None if self.variance is None else self.variance[groups],
            support=self.support,
            clusters=None if self.clusters is None else self.clusters[groups],
            design=None
            if self.design is None
            else Design(self.design.df[groups], self.design.correlation[np.ix_(groups, groups)]),
        )

    def with_rows(self, rows: Floats) -> Cells:
        """The same means over so many effective rows, in clusters of the same kind."""
        if self.design is None:
            return replace(self, effective=rows)
        # A group without rows would come in clusters as large as those of the others.
        own, usual = self.effective > 0, self.design.df.sum() / max(self.effective.sum(), 1.0)
        per_row = np.divide(self.design.df, self.effective, where=own, out=np.full(len(own), usual))
        return replace(
            self, effective=rows, design=self.design._replace(df=rows * np.maximum(per_row, 0.0))
        )

    def inflated(self, design_effect: float) -> Cells:
        """Cells whose means vary so much more than those of independent rows (Kish, 1965)."""
        if design_effect == 1:
            return self
        return replace(self, effective=self.effective / design_effect)

    def bare(self) -> tuple[Floats, Floats]:
        """Means with 0 for empty groups, and effective counts: what comparisons take."""
        return np.nan_to_num(self.mean), self.effective


def cell_means(
    values: NDArray[Any],
    members: NDArray[Any],
    size: int,
    weights: Floats | None = None,
    inside: NDArray[np.bool_] | None = None,
    clusters: NDArray[np.int64] | None = None,
) -> Cells:
    """Mean of ``values`` in every group.

    Parameters
    ----------
    values : ndarray of shape (n,)
        The quantity.
    members : ndarray of int64, shape (n,), or of shape (n, G)
        Group of each row, -1 is left out; or memberships.
    size : int
        Number of groups G.
    weights : ndarray of shape (n,), optional
        Weight of each row.
    inside : ndarray of bool, shape (n,), optional
        Rows of the event; all by default.
    clusters : ndarray of int64, shape (n,), optional
        Cluster of each row; see :mod:`~fairtrain.metrics.clusters`.
    """
    if weights is not None:
        inside = weights > 0 if inside is None else inside & (weights > 0)
    rows = CellRows(members, size, weights, inside)
    values = np.asarray(values[rows.rows], dtype=np.float64)
    low, high = (values.min(), values.max()) if len(values) else (0.0, 0.0)
    support: Literal["unit", "positive", "real"] = (
        "real" if low < 0 else "unit" if high <= 1 else "positive"
    )
    flips = support == "unit" and not ((values > 0) & (values < 1)).any()
    cells = Cells(
        mean=rows.mean(values),
        count=rows.count,
        effective=rows.effective,
        total=rows.totals,
        variance=None if flips else rows.variance(values),
        support=support,
    )
    if clusters is None:
        return cells
    found = clustered(rows, values, clusters[rows.rows])
    return replace(
        cells,
        effective=cells.effective / found.effect,
        clusters=found.number,
        design=found.design,
    )
