"""Gap and ratio between the extreme groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairtrain._parameters import ANYTHING, COLUMNS, CONFIDENCE, LABEL, MISSING, Of, Table, checks
from fairtrain.constraints import RateParity, strata_of
from fairtrain.constraints.families import RateFamily, families_of
from fairtrain.data.groups import Missing
from fairtrain.data.rows import Rows
from fairtrain.data.strata import GivenSpec
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.metrics.cells import Cells
from fairtrain.metrics.intervals import GapInterval
from fairtrain.metrics.measures import measure_cells

__all__ = ["Comparison", "gap", "ratio"]


@dataclass(frozen=True)
class Comparison:
    """A gap or ratio with its interval.

    Attributes
    ----------
    kind : {"difference", "ratio"}
        What compares the groups.
    metric : str
        What is compared.
    value : float
        Plug-in estimate. A gap is biased upward, a ratio downward: the extreme groups were chosen
        by looking, so that even equal groups show one.
    lower, upper : float
        Confidence limits that allow for that choice.
    confidence : float
        Their level.
    highest, lowest : str
        The extreme groups (for a ratio to a reference: reference and lowest other group); within
        strata, names of cells such as ``"female/low income"``.
    rates, counts : dict of str to float or int
        Rate and rows of every group that has rows.
    """

    kind: str
    metric: str
    value: float
    lower: float
    upper: float
    confidence: float
    highest: str
    lowest: str
    rates: dict[str, float]
    counts: dict[str, int]

    def __str__(self) -> str:
        word = "gap" if self.kind == "difference" else "ratio"
        bias = "upward" if self.kind == "difference" else "downward"
        ends = [
            f"{name!r} ({self.rates[name]:.3f}, {self.counts[name]} rows)"
            for name in (self.highest, self.lowest)
        ]
        return (
            f"{self.metric} {word} {self.value:.3f} ({self.confidence:.0%} interval "
            f"{self.lower:.3f} to {self.upper:.3f}; the estimate itself is biased {bias}) "
            f"between {ends[0]} and {ends[1]}"
        )

    def __float__(self) -> float:
        return self.value


_TABLE: Table = {
    "metric": Of("be the name of a metric", str),
    "over": COLUMNS,
    "given": ANYTHING,
    "positive_label": LABEL,
    "missing": MISSING,
    "confidence": CONFIDENCE,
}


@checks(**_TABLE)
def gap(
    y_true: Any,
    y_pred: Any,
    sensitive_features: Any,
    metric: str = "selection_rate",
    *,
    y_score: Any = None,
    over: str | Sequence[str] | None = None,
    given: GivenSpec = None,
    positive_label: Any = None,
    sample_weight: Any = None,
    clusters: Any = None,
    missing: Missing = "error",
    confidence: float = 0.95,
) -> Comparison:
    """Largest difference of a metric between two groups; its interval allows for looking.

    Two groups: Newcombe's hybrid score interval (1998, method 10). More: the lower limit holds
    simultaneously over all pairs (studentized range; exact for small cells), because the widest
    pair was chosen by looking. See :func:`fairtrain.metrics.group_rates` for the parameters.

    Parameters
    ----------
    y_true, y_pred, sensitive_features
        Labels, decisions, groups.
    metric : str, default="selection_rate"
        Any metric of :func:`fairtrain.metrics.group_rates`.
    y_score, over, given, positive_label, sample_weight, clusters, missing, confidence
        As there. Within strata, the widest gap of any of them; its near limit allows for looking at
        all.

    Returns
    -------
    Comparison

    Raises
    ------
    InvalidDataError
        If fewer than two groups have rows that the metric is defined on.

    Examples
    --------
    >>> found = gap([1, 0] * 50, [1] * 40 + [0] * 60, ["a"] * 50 + ["b"] * 50)
    >>> round(found.value, 2), round(found.lower, 2), round(found.upper, 2)
    (0.8, 0.65, 0.89)
    """
    people = (y_true, y_pred, sensitive_features)
    how = (y_score, over, given, positive_label, sample_weight, clusters, missing)
    parts = _cells(people, metric, *how)
    limits = [(cells.gap(confidence), cells.gap(_of(parts, confidence))) for cells, _ in parts]
    return _comparison("difference", metric, limits, parts, confidence)


@checks(**_TABLE, reference=LABEL)
def ratio(
    y_true: Any,
    y_pred: Any,
    sensitive_features: Any,
    metric: str = "selection_rate",
    *,
    reference: str | None = None,
    y_score: Any = None,
    over: str | Sequence[str] | None = None,
    given: GivenSpec = None,
    positive_label: Any = None,
    sample_weight: Any = None,
    clusters: Any = None,
    missing: Missing = "error",
    confidence: float = 0.95,
) -> Comparison:
    """Disparate impact: lowest group rate over the highest, or over that of a named group.

    Parameters
    ----------
    y_true, y_pred, sensitive_features
        Labels, decisions, groups.
    metric : str, default="selection_rate"
        Any metric of :func:`fairtrain.metrics.group_rates` that is a rate.
    reference : str, optional
        Name of the group that the others are compared with. The ratio may then exceed 1.
    y_score, over, given, positive_label, sample_weight, clusters, missing, confidence
        As in :func:`fairtrain.metrics.group_rates`. Within strata, the smallest ratio of any.

    Returns
    -------
    Comparison
    """
    people = (y_true, y_pred, sensitive_features)
    how = (y_score, over, given, positive_label, sample_weight, clusters, missing)
    parts = _cells(people, metric, *how, reference=reference)
    if any(cells.support != "unit" for cells, _ in parts):
        raise InvalidParameterError(f"a ratio of {metric} is not supported: it is no rate.")
    limits = []
    for cells, family in parts:
        names = family.scheme.names
        place = None if reference is None else names.index(reference)
        levels = (confidence, _of(parts, confidence))
        far, near = (cells.ratio(level, reference=place) for level in levels)
        limits.append((far, near))
    return _comparison("ratio", metric, limits, parts, confidence)


_Parts = list[tuple[Cells, RateFamily]]


def _of(parts: _Parts, confidence: float) -> float:
    """Level of each stratum's near limit: Bonferroni over the strata."""
    return 1 - (1 - confidence) / len(parts)


def _cells(
    people: tuple[Any, Any, Any],
    metric: str,
    y_score: Any,
    over: str | Sequence[str] | None,
    given: GivenSpec,
    positive_label: Any,
    sample_weight: Any,
    clusters: Any,
    missing: Missing,
    *,
    reference: str | None = None,
) -> _Parts:
    """The metric in every group, a stratum at a time."""
    compared = RateParity(over=over, given=given)
    rows = Rows.read_decided(
        *people,
        y_score=y_score,
        positive_label=positive_label,
        sample_weight=sample_weight,
        clusters=clusters,
        missing=missing,
        name_required=metric not in ("accuracy", "error_rate"),
        given=strata_of([compared]),
    )
    families = families_of([compared], rows.groups.scheme)
    names = families[0].scheme.names
    if reference is not None and reference not in names:
        raise InvalidParameterError(
            f"reference={reference!r} is not a group; groups: {list(names)[:12]}."
        )
    merged = (rows.groups.merged(family.scheme, family.parent) for family in families)
    return [
        (measure_cells(rows, metric, groups), family)
        for groups, family in zip(merged, families, strict=True)
    ]


def _comparison(
    kind: str,
    metric: str,
    limits: Sequence[tuple[GapInterval, GapInterval]],
    parts: _Parts,
    confidence: float,
) -> Comparison:
    known = [i for i, (far, _) in enumerate(limits) if far.highest >= 0]
    if not known:
        raise InvalidDataError(
            f"{metric} cannot be compared: fewer than two groups have rows it is defined on."
        )
    end, lower, upper = (max, 1, 0) if kind == "difference" else (min, 0, 1)
    # The ratio of two rates of 0 is not known, and never the smallest.
    worst = end(known, key=lambda i: float(np.nan_to_num(limits[i][0].estimate, nan=np.inf)))
    rates: dict[str, float] = {}
    counts: dict[str, int] = {}
    for cells, family in parts:
        for g in np.flatnonzero(cells.count > 0):
            rates[family.cell_names[g]] = float(cells.mean[g])
            counts[family.cell_names[g]] = int(cells.count[g])
    interval, names = limits[worst][0], parts[worst][1].cell_names
    return Comparison(
        kind=kind,
        metric=metric,
        value=float(interval.estimate),
        lower=float(end(limits[i][lower].lower for i in known)),
        upper=float(end(limits[i][upper].upper for i in known)),
        confidence=confidence,
        highest=names[int(interval.highest)],
        lowest=names[int(interval.lowest)],
        rates=rates,
        counts=counts,
    )
