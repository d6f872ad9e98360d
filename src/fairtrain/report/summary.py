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
from fairtrain.data.groups import Groups
from fairtrain.exceptions import InvalidDataError
from fairtrain.metrics.disclosure import MIN_CELL, small_cells
from fairtrain.metrics.measures import rates_frame, read_rows
from fairtrain.metrics.paired import Cost, cost_against
from fairtrain.metrics.report import FairnessReport, hidden_cells, report_on
from fairtrain.metrics.standing import GroupStanding, group_standings
from fairtrain.metrics.verdicts import ConstraintResult, RowsRole
from fairtrain.report.chart import FrontierChart

__all__ = ["MIN_CELL", "Judged", "RunSummary", "judged", "small_cells"]


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
    cost : Cost or None
        What it costs beside the baseline; None for the baseline, or where that is not known.
    """

    title: str
    report: FairnessReport
    auc: float
    rates: pd.DataFrame
    standings: tuple[Mapping[str, GroupStanding], ...]
    names: tuple[str, ...]
    cost: Cost | None = None

    @cached_property
    def hidden(self) -> frozenset[tuple[str, str]]:
        """Cells (metric, group) that are small, or that a small one could be worked out from."""
        # A summary read from a file has no rate where one was hidden when it was written.
        left_out = self.rates[self.rates["rate"].isna() & (self.rates["count"] > 0)]
        blank = zip(left_out["metric"], left_out["group"], strict=True)
        return frozenset({*hidden_cells(self.rates, MIN_CELL), *blank})

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
    against: NDArray[Any] | None = None,
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
    against : ndarray of shape (n,), optional
        The baseline's decisions on the same rows: what the model costs is then measured.
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
        cost=None
        if against is None
        else cost_against(target, against, decision, shown, report.confidence),
    )


def _auc(target: NDArray[Any], score: NDArray[Any]) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(target, score)) if len(np.unique(target)) == 2 else float("nan")


@dataclass(frozen=True)
class RunSummary:
    """A baseline beside fair models.

    Attributes
    ----------
    title, data : str
        What the run is about, and where its rows came from.
    outcome : str
        The favourable outcome in words, such as ``"approved"``.
    constraint : str
        What was asked, in words.
    models : tuple of Judged
        Two or more, baseline first.
    row_counts : mapping of str to int
        Rows that train, steer and certify.
    group_counts : mapping of str to mapping
        Group -> rows of each of those, and in all.
    settings : mapping
        Options.
    notes : tuple of str
        Warnings of the run.
    rationale : str
        Why this constraint was asked for, in the words of whoever did.
    choice : tuple of str
        Sentences: what was chosen, and what it costs.
    frontiers : tuple of FrontierChart
        Sweeps to draw.
    made_with : mapping
        Versions, seed, hash of the data.
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
    rationale: str = ""
    choice: tuple[str, ...] = ()
    frontiers: tuple[FrontierChart, ...] = ()
    made_with: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.models) < 2:
            raise InvalidDataError(
                f"a summary compares a baseline with at least one model, got {len(self.models)}."
            )

    def explanation(self) -> list[str]:
        """Say in plain sentences what was done and what can be concluded."""
        rows = self.row_counts
        everyone = "both models" if len(self.models) == 2 else f"all {len(self.models)} models"
        lines = [
            f"Asked for: {self.constraint}.",
            f"{rows['training']:,} rows trained, {rows['steering']:,} steered, and {everyone} "
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
            if model.cost is not None:
                lines.append(f"{model.title}: {model.cost.words()}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Give everything that the page shows as plain values for JSON, small cells left out."""
        from fairtrain.report.plain import summary_to_dict

        return summary_to_dict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> RunSummary:
        """Read what :meth:`to_dict` gave: it makes the same page.

        Counts of fewer than ten rows come back as nine, and are shown as "under 10".

        Raises
        ------
        InvalidDataError
            If another version wrote it, or it is something else.
        """
        from fairtrain.report.plain import summary_from_dict

        return summary_from_dict(plain)
