"""One model's decisions, judged, with what a page or a table shows of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairtrain.constraints import Constraint
from fairtrain.data.groups import Groups
from fairtrain.data.rows import Rows
from fairtrain.metrics.disclosure import (
    FEW_WORDS,
    hidden_count,
    plain_value,
    rests_on_few,
    shown_count,
)
from fairtrain.metrics.measures import rates_frame
from fairtrain.metrics.paired import Cost, cost_against
from fairtrain.metrics.report import FairnessReport, report_on
from fairtrain.metrics.standing import GroupStanding, group_standings
from fairtrain.metrics.verdicts import ConstraintResult, RowsRole
from fairtrain.report import plain

__all__ = ["Judged", "best_constant", "judged"]


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
    baseline : str
        Title of that baseline.
    """

    title: str
    report: FairnessReport
    auc: float
    rates: pd.DataFrame
    standings: tuple[Mapping[str, GroupStanding], ...]
    names: tuple[str, ...]
    cost: Cost | None = None
    baseline: str = "baseline"

    @cached_property
    def hidden(self) -> frozenset[tuple[str, str]]:
        """Cells (metric, group) that are small, or that a small one could be worked out from."""
        return plain.hidden(self.rates, results=self.report.results)

    @cached_property
    def _cells(self) -> dict[tuple[str, str], dict[Any, Any]]:
        rows = self.rates.to_dict("records")
        return {(row["metric"], row["group"]): row for row in rows}

    def rate(self, metric: str, group: str) -> dict[str, Any]:
        """One cell: rate, count, lower, upper; small ones are left out."""
        cell = self._cells[metric, group]
        hidden = (metric, group) in self.hidden
        if hidden:
            count = hidden_count(metric, int(cell["count"]))
            cell = {**cell, "rate": None, "lower": None, "upper": None, "count": count}
        return {**cell, "suppressed": hidden}

    def gap(self, result: ConstraintResult) -> tuple[float, float, float] | None:
        """What a constraint limits, with its limits; None where they rest on a small cell."""
        limits = result.achieved, result.lower, result.upper
        return None if rests_on_few(result) or np.isnan(result.achieved) else limits

    @property
    def cost_words(self) -> str:
        """Say what it costs, beside which baseline; empty where that is not known."""
        if self.cost is None or self.baseline == "baseline":
            return "" if self.cost is None else self.cost.words()
        return self.cost.words().replace("the baseline's", f"that of '{self.baseline}'")

    def words(self, result: ConstraintResult, outcome: str) -> str:
        """Say what was found, in the favourable outcome's name."""
        if self.gap(result) is None:
            return FEW_WORDS
        said = result.words(self.report.confidence)
        return said.replace("selection rate", f"share {outcome}", 1)

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON, small cells left out."""
        report = self.report.to_dict()
        for entry, result in zip(report["constraints"], self.report.results, strict=True):
            entry["counts"] = {name: shown_count(count) for name, count in result.counts.items()}
        return {
            "model": self.title,
            "auc": plain_value(self.auc),
            **report,
            "group_rates": plain.cells(self.report.group_rates, report["group_rates"]),
            "shown_rates": plain.cells(self.rates),
            "names": list(self.names),
            "groups": [
                {
                    name: {
                        "verdict": None if s.verdict is None else str(s.verdict),
                        "rows": shown_count(s.rows),
                        "rows_needed": plain_value(s.needed) or None,
                    }
                    for name, s in standing.items()
                }
                for standing in self.standings
            ],
            "cost": None if self.cost is None else asdict(self.cost),
            "baseline": self.baseline,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` gave."""
        accuracy = {name: plain.real(value) for name, value in values["accuracy"].items()}
        report = FairnessReport(
            results=tuple(plain.result(one) for one in values["constraints"]),
            rows=values["rows"],
            n_rows=int(values["n_rows"]),
            accuracy=(accuracy["estimate"], accuracy["lower"], accuracy["upper"]),
            selection_rate=plain.real(values["selection_rate"]),
            near_constant=bool(values["near_constant"]),
            favourable=values["favourable"],
            group_rates=plain.frame(values["group_rates"]),
            confidence=float(values["confidence"]),
            constant_accuracy=plain.real(values.get("constant_accuracy")),
            objective=values.get("objective", "accuracy"),
            performance=plain.real(values.get("performance")),
            constant_performance=plain.real(values.get("constant_performance")),
        )
        return cls(
            title=values["model"],
            report=report,
            auc=plain.real(values["auc"]),
            rates=plain.frame(values["shown_rates"]),
            standings=tuple(
                {name: plain.standing(one) for name, one in groups.items()}
                for groups in values["groups"]
            ),
            names=tuple(values["names"]),
            cost=None if values["cost"] is None else plain.cost(values["cost"]),
            baseline=values.get("baseline", "baseline"),
        )


def judged(
    title: str,
    constraints: Sequence[Constraint],
    target: NDArray[Any],
    decision: NDArray[Any],
    groups: Groups,
    *,
    outcome: Any,
    score: NDArray[Any] | None = None,
    clusters: NDArray[np.int64] | None = None,
    rows: RowsRole = "certification",
    over: Sequence[str] | None = None,
    against: NDArray[Any] | None = None,
    baseline: str = "baseline",
) -> Judged:
    """Judge decisions, 0/1 or probabilities of the favourable one, against constraints.

    Parameters
    ----------
    title : str
        The model's name.
    constraints : sequence of Constraint
        The constraints that decisions are to keep.
    target, decision : ndarray of shape (n,)
        1 for the favourable label, and for the favourable decision.
    groups : Groups
        The sensitive features: which group each person belongs to.
    outcome : label
        The favourable outcome.
    score : ndarray of shape (n,), optional
        Probability of the favourable label.
    clusters : ndarray of int64, shape (n,), optional
        Which rows belong together.
    rows : {"certification", "steering", "training"}
        What the rows were used for before.
    over : sequence of str, optional
        Sensitive columns whose groups are shown; all by default.
    against : ndarray of shape (n,), optional
        The baseline's decisions on the same rows: what the model costs is then measured.
    baseline : str, default="baseline"
        The baseline's title.
    """
    data = Rows.read_decided(
        target, decision, groups, y_score=score, clusters=clusters, positive_label=1
    )
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
        else cost_against(target, against, decision, shown, report.confidence, clusters=clusters),
        baseline=baseline,
    )


def best_constant(target: Any) -> NDArray[np.float64]:
    """The more accurate of the two decisions that are the same for everybody, shape (n,)."""
    return np.full(len(target), float(np.mean(target) >= 0.5))


def _auc(target: NDArray[Any], score: NDArray[Any]) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(target, score)) if len(np.unique(target)) == 2 else float("nan")
