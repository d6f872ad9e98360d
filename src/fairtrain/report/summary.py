"""What a run found, as plain values: the one source of terminal table, page and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairtrain.constraints import Constraint
from fairtrain.groups import Groups
from fairtrain.metrics.measures import rates_frame, read_rows
from fairtrain.metrics.report import FairnessReport, report_on
from fairtrain.metrics.verdicts import ConstraintResult, RowsRole
from fairtrain.report.standing import GroupStanding, group_standings

__all__ = ["MIN_CELL", "Judged", "RunSummary", "judged", "small_cells"]

MIN_CELL = 10
"""Rates over fewer rows are left out: one over a single row discloses a person's label."""


@dataclass(frozen=True)
class Judged:
    """One model's decisions, judged on one set of rows.

    Attributes
    ----------
    title : str
        The model, such as ``"baseline"``.
    report : FairnessReport
        What was achieved.
    auc : float
        Area under the ROC curve of the score or decision probability; NaN if there is none.
    rates : DataFrame
        Rates of the groups that the constraint compares, as from ``group_rates``.
    standings : mapping of str to GroupStanding, one for each constraint
        What can be said of every group.
    names : tuple of str
        Those groups.
    """

    title: str
    report: FairnessReport
    auc: float
    rates: pd.DataFrame
    standings: tuple[Mapping[str, GroupStanding], ...]
    names: tuple[str, ...]

    @cached_property
    def hidden(self) -> frozenset[tuple[str, str]]:
        """Cells (metric, group) that are small, or that a small one could be worked out from."""
        cells = replace(self.report, group_rates=self.rates).to_dict(min_cell=MIN_CELL)
        return frozenset((c["metric"], c["group"]) for c in cells["group_rates"] if c["suppressed"])

    def rate(self, metric: str, group: str) -> dict[str, Any]:
        """One cell: rate, count, lower, upper; see :data:`MIN_CELL` for what is left out."""
        row = self.rates[(self.rates["metric"] == metric) & (self.rates["group"] == group)]
        cell = {str(key): value for key, value in row.iloc[0].items()}
        hidden = (metric, group) in self.hidden
        blank = {"rate": None, "lower": None, "upper": None} if hidden else {}
        return {**cell, **blank, "suppressed": hidden}

    def gap(self, result: ConstraintResult) -> tuple[float, float, float] | None:
        """What a constraint limits, with its limits; None where they rest on a small cell."""
        if min(result.counts.values(), default=0) < MIN_CELL:
            return None
        return result.achieved, result.lower, result.upper

    def words(self, result: ConstraintResult, outcome: str) -> str:
        """Say what was found, in the favourable outcome's name."""
        if self.gap(result) is None:
            return f"the numbers rest on a group of fewer than {MIN_CELL} rows and are not shown."
        said = result.words(self.report.confidence)
        return said.replace("selection rate", f"share {outcome}", 1)


def small_cells(rates: pd.DataFrame, metric: str) -> frozenset[str]:
    """Groups whose rate must not be shown, for a rate that stands by itself.

    Those with 1 to 9 rows; and, where these have fewer than ten between them, the smallest other
    group too, for otherwise the total minus the groups shown would tell.
    """
    rows = rates[rates["metric"] == metric]
    counts = dict(zip(rows["group"], rows["count"], strict=True))
    hidden = {name for name, count in counts.items() if 0 < count < MIN_CELL}
    others = {name: count for name, count in counts.items() if count >= MIN_CELL}
    if hidden and others and sum(counts[name] for name in hidden) < MIN_CELL:
        hidden.add(min(others, key=lambda name: others[name]))
    return frozenset(hidden)


def judged(
    title: str,
    constraints: Sequence[Constraint],
    target: NDArray[Any],
    decision: NDArray[Any],
    groups: Groups,
    *,
    outcome: Any,
    score: NDArray[Any] | None = None,
    rows: RowsRole = "certification",
    over: Sequence[str] | None = None,
) -> Judged:
    """Judge decisions, 0/1 or probabilities of the favourable one, against constraints.

    Parameters
    ----------
    title : str
        The model's name.
    constraints : sequence of Constraint
        What is asked.
    target, decision : ndarray of shape (n,)
        1 for the favourable label, and for the favourable decision.
    groups : Groups
        Who.
    outcome : label
        The favourable outcome.
    score : ndarray of shape (n,), optional
        Probability of the favourable label.
    rows : {"certification", "steering", "training"}
        What the rows were used for before.
    over : sequence of str, optional
        Sensitive columns whose groups are shown; all by default.
    """
    data = read_rows(target, decision, groups, y_score=score, positive_label=1)
    report = replace(report_on(data, tuple(constraints), rows=rows), favourable=outcome)
    shown = groups.over(over)
    metrics = list(dict.fromkeys(report.group_rates["metric"]))
    metrics += ["mean_score"] if score is not None else []
    results = zip(constraints, report.results, strict=True)
    return Judged(
        title=title,
        report=report,
        auc=_auc(target, decision if score is None else score),
        rates=rates_frame(data, metrics, shown, report.confidence),
        standings=tuple(group_standings(c, data, r, report.confidence) for c, r in results),
        names=tuple(n for n, c in zip(shown.names, shown.scheme.counts, strict=True) if c),
    )


def _auc(target: NDArray[Any], score: NDArray[Any]) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(target, score)) if len(np.unique(target)) == 2 else float("nan")


@dataclass(frozen=True)
class RunSummary:
    """A baseline beside a fair model.

    Attributes
    ----------
    title, data : str
        What the run is about, and where its rows came from.
    outcome : str
        The favourable outcome in words, such as ``"approved"``.
    constraint : str
        What was asked, in words.
    models : tuple of Judged
        Baseline first.
    row_counts : mapping of str to int
        Rows that train, steer and certify.
    group_counts : mapping of str to mapping
        Group -> rows of each of those, and in all.
    settings : mapping
        Options, versions, seed.
    notes : tuple of str
        Warnings of the run.
    """

    title: str
    data: str
    outcome: str
    constraint: str
    models: tuple[Judged, ...]
    row_counts: Mapping[str, int]
    group_counts: Mapping[str, Mapping[str, int]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def explanation(self) -> list[str]:
        """Say in plain sentences what was done and what can be concluded."""
        rows = self.row_counts
        lines = [
            f"Asked for: {self.constraint}.",
            f"{rows['training']:,} rows trained, {rows['steering']:,} steered, and both models "
            f"were judged on {rows['certification']:,} rows that took part in neither.",
        ]
        for model in self.models:
            for result in model.report.results:
                said = model.words(result, self.outcome)
                lines.append(f"{model.title}: {result.verdict}. {said[:1].upper()}{said[1:]}")
            if model.report.near_constant:
                lines.append(
                    f"{model.title}: near_constant. (Almost) everybody gets the same decision, "
                    "which keeps any bound and helps nobody."
                )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Give the numbers as plain values for JSON, small cells left out."""
        return {
            "title": self.title,
            "outcome": self.outcome,
            "constraint": self.constraint,
            "rows": dict(self.row_counts),
            "models": [_model_dict(model) for model in self.models],
            "notes": list(self.notes),
        }


def _model_dict(model: Judged) -> dict[str, Any]:
    return {
        "model": model.title,
        "auc": None if np.isnan(model.auc) else model.auc,
        **model.report.to_dict(min_cell=MIN_CELL),
        "groups": [
            {
                name: {
                    "verdict": None if s.verdict is None else str(s.verdict),
                    "rows": s.rows if not 0 < s.rows < MIN_CELL else f"under {MIN_CELL}",
                    "rows_needed": s.needed if s.needed and np.isfinite(s.needed) else None,
                }
                for name, s in standing.items()
            }
            for standing in model.standings
        ],
    }
