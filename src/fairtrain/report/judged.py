"""One model's decisions, judged, with what a page or a table shows of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairtrain.constraints import Constraint, Objective
from fairtrain.constraints.objectives import OBJECTIVES
from fairtrain.data.groups import Groups
from fairtrain.data.rows import Rows
from fairtrain.metrics.disclosure import (
    FEW_WORDS,
    HIDDEN,
    MIN_CELL,
    OF_ALL,
    hidden_cells,
    hidden_count,
    plain_value,
    rests_on_few,
    shown_count,
)
from fairtrain.metrics.joint import JointStatement
from fairtrain.metrics.ledger import spent_confidence
from fairtrain.metrics.measures import rates_frame
from fairtrain.metrics.paired import Cost, Narrowing, cost_against, narrowings
from fairtrain.metrics.report import FairnessReport, report_on, with_objective
from fairtrain.metrics.standing import GroupStanding, group_standings
from fairtrain.metrics.verdicts import ConstraintResult, RowsRole, Verdict
from fairtrain.report import plain

__all__ = ["Judged", "best_constant", "judged", "published"]

Cell = tuple[str, str]


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
        Area under the ROC curve of the score; NaN where decisions are all there is: chances of
        decisions rank people otherwise than scores do, and are not to be compared with them.
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
    published : frozenset of (metric, group) or None
        Cells that are hidden because of what is published beside it; None: it stands alone.
    narrowings : tuple of (Narrowing or None)
        For each constraint, how much nearer groups are than under the baseline, where that is
        known and there are too few rows to certify it.
    """

    title: str
    report: FairnessReport
    auc: float
    rates: pd.DataFrame
    standings: tuple[Mapping[str, GroupStanding], ...]
    names: tuple[str, ...]
    cost: Cost | None = None
    baseline: str = "baseline"
    published: frozenset[Cell] | None = None
    narrowings: tuple[Narrowing | None, ...] = ()

    @cached_property
    def hidden(self) -> frozenset[Cell]:
        """Cells (metric, group) that are small, or that a small one could be worked out from."""
        return published([self]) if self.published is None else self.published

    def among(self, hidden: frozenset[Cell]) -> Self:
        """The same model in a publication that hides these cells."""
        cost = self.cost
        if cost is not None:
            cost = cost.without({group for metric, group in hidden if metric == "selection_rate"})
        on_labels = {group for metric, group in hidden if metric not in OF_ALL}
        rows = zip(self.report.results, self.standings, strict=True)
        return replace(
            self,
            published=hidden,
            cost=cost,
            report=replace(
                self.report,
                results=tuple(_without_counts(r, on_labels) for r in self.report.results),
            ),
            standings=tuple(
                {
                    name: replace(
                        s,
                        told=s.told
                        and not (of_label(r) and name in on_labels and s.rows >= MIN_CELL),
                    )
                    for name, s in standing.items()
                }
                for r, standing in rows
            ),
        )

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
        """Say what it costs and who pays, beside which baseline; empty where that is not known."""
        if self.cost is None:
            return ""
        said = f"{self.cost.words()} {self.cost.who_pays()}".rstrip()
        if self.baseline == "baseline":
            return said
        its = said.replace("the baseline's", f"that of '{self.baseline}'", 1)
        return its.replace("beside the baseline:", f"beside '{self.baseline}':", 1)

    def words(self, result: ConstraintResult, outcome: str) -> str:
        """Say what was found, in the favourable outcome's name."""
        if self.gap(result) is None:
            return FEW_WORDS
        said = result.words(self.report.confidence)
        said = said.replace("selection rate", f"share {outcome}", 1)
        narrowing = self.narrowing(result)
        if narrowing is None:
            return said
        return f"{said} {narrowing.words().replace('selection rate', f'share {outcome}')}"

    def verdict_words(self, result: ConstraintResult, outcome: str) -> str:
        """Say the verdict, then what was found."""
        said = self.words(result, outcome)
        return f"{result.verdict}. {said[:1].upper()}{said[1:]}"

    def narrowing(self, result: ConstraintResult) -> Narrowing | None:
        """How much nearer groups are than under the baseline; None where it is not shown."""
        each = zip(self.report.results, self.narrowings, strict=False)
        found = next((n for r, n in each if r is result), None)
        return None if self.gap(result) is None else found

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON, small cells left out."""
        report = self.report.to_dict(hidden=self.hidden)
        for entry, result in zip(report["constraints"], self.report.results, strict=True):
            if (narrowing := self.narrowing(result)) is not None:
                entry["narrowing"] = asdict(narrowing)
            entry["counts"] = {name: shown_count(count) for name, count in result.counts.items()}
        return {
            "model": self.title,
            "auc": plain_value(self.auc),
            **report,
            "group_rates": plain.cells(self.report.group_rates, self.hidden),
            "shown_rates": plain.cells(self.rates, self.hidden),
            "names": list(self.names),
            "groups": [
                {
                    name: {
                        "verdict": None if s.verdict is None else str(s.verdict),
                        "rows": shown_count(s.rows) if s.told else HIDDEN,
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
            reading=int(values.get("reading", 1)),
            joint=JointStatement.from_dict(joint) if (joint := values.get("joint")) else None,
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
            narrowings=tuple(plain.narrowing(one) for one in values["constraints"]),
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
    design_effect: float = 1.0,
    reading: int = 1,
    objective: Objective = OBJECTIVES["accuracy"],
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
    design_effect : float, default=1
        Variance of a mean over these rows, over that of independent ones.
    reading : int, default=1
        How often these rows have certified the model; see :mod:`fairtrain.metrics.ledger`.
    objective : Objective, default=accuracy
        What the model was to be best at.
    """
    data = Rows.read_decided(
        target, decision, groups, y_score=score, clusters=clusters, positive_label=1
    )
    data = replace(data, design_effect=design_effect)
    level = spent_confidence(0.95, reading)
    report = report_on(data, tuple(constraints), rows=rows, confidence=level)
    report = with_objective(report, data, constraints, objective)
    report = replace(report, favourable=outcome, reading=reading)
    shown = groups.over(over)
    metrics = list(dict.fromkeys(report.group_rates["metric"]))
    metrics += ["mean_score"] if score is not None else []
    results = zip(constraints, report.results, strict=True)
    narrower: tuple[Narrowing | None, ...] = ()
    if against is not None and report.verdict is Verdict.TOO_FEW_ROWS:
        before = data.decided(np.asarray(against, dtype=np.float64))
        narrower = narrowings(constraints, report.results, before, data, level)
    return Judged(
        title=title,
        report=report,
        auc=_auc(target, score),
        rates=rates_frame(data, metrics, shown, report.confidence),
        standings=tuple(group_standings(c, data, r, report.confidence) for c, r in results),
        names=tuple(n for n, c in zip(shown.names, shown.scheme.counts, strict=True) if c),
        cost=None
        if against is None
        else cost_against(
            target,
            against,
            decision,
            shown,
            report.confidence,
            clusters=clusters,
            design_effect=design_effect,
        ),
        baseline=baseline,
        narrowings=narrower,
    )


def published(models: Sequence[Judged]) -> frozenset[Cell]:
    """Cells to hide where these models, all judged on the same rows, are published together."""
    tables = [[m.report.group_rates, m.rates] for m in models]
    # A summary read from a file has no rate where one was hidden when it was written.
    blank = {cell for model in tables for table in model for cell in _blank(table)}
    hidden = hidden_cells(tables, results=[m.report.results for m in models])
    return frozenset({*hidden, *blank, *(c for m in models for c in m.published or ())})


def _blank(table: pd.DataFrame) -> list[Cell]:
    left_out = table[table["rate"].isna() & (table["count"] > 0)]
    return list(zip(left_out["metric"], left_out["group"], strict=True))


def of_label(result: ConstraintResult) -> bool:
    """Whether what is compared is a rate among people of one label."""
    return result.rate not in (*OF_ALL, "error_rate", "zero_one_loss", "squared_loss")


def _without_counts(result: ConstraintResult, groups: Collection[str]) -> ConstraintResult:
    """Leave out the rows of one label of groups where few have the other."""
    if not of_label(result) or rests_on_few(result):
        return result
    return replace(result, counts={n: c for n, c in result.counts.items() if n not in groups})


def best_constant(
    target: NDArray[Any], objective: Objective = OBJECTIVES["accuracy"], most: float = 1.0
) -> NDArray[np.float64]:
    """The better of the two decisions that are the same for everybody, shape (n,).

    Parameters
    ----------
    target : ndarray of shape (n,)
        1 for the favourable label.
    objective : Objective, default=accuracy
        By which it is the better one; a measure of scores says nothing of decisions.
    most : float in (0, 1], default=1
        Share of people who can be decided favourably: then the one decision is a lot at that share.
    """
    measure = OBJECTIVES["accuracy"] if objective.scored else objective
    alike = [np.full(len(target), share) for share in (most, 0.0)]
    return max(alike, key=lambda decision: measure(target, decision))


def _auc(target: NDArray[Any], score: NDArray[Any] | None) -> float:
    from sklearn.metrics import roc_auc_score

    if score is None or len(np.unique(target)) < 2:
        return float("nan")
    return float(roc_auc_score(target, score))
