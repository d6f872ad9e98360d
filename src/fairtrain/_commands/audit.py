"""``fairtrain audit``: how decisions that were made treat the groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairtrain._commands.columns import as_words
from fairtrain._commands.data import Data, read_data
from fairtrain._commands.operating import OperatingPoint, read_point
from fairtrain._commands.options import AuditOptions, Features, Shares
from fairtrain._commands.output import (
    finish,
    print_json,
    print_proxies,
    print_rates,
    print_standings,
    say,
)
from fairtrain._commands.plan import plan_columns
from fairtrain._commands.proxies import proxies_of
from fairtrain._commands.scores import read_score
from fairtrain._commands.tables import require_columns
from fairtrain._text import flatten, listed, one_line
from fairtrain.constraints import Constraint, as_constraints
from fairtrain.data.groups import Groups
from fairtrain.data.labels import LabelCoding
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.metrics import gap, group_rates
from fairtrain.metrics.disclosure import cell_dicts, hidden_cells, plain_value
from fairtrain.metrics.planning import CertificationPlan, certification_plan
from fairtrain.report.judged import Judged, judged

__all__ = ["audit"]


def audit(path: Path, options: AuditOptions) -> int:
    """Show group counts and base rates; where asked, verdicts on decisions and a plan for rows."""
    if options.score is not None and options.prediction is not None:
        raise InvalidParameterError("give --score or --prediction, not both.")
    point = _point(options)
    decided = options.score is not None or options.prediction is not None
    if options.show.require_met and not decided:
        raise InvalidParameterError("--require-met needs decisions: give --score or --prediction.")
    share = _certification_share(options)
    data = read_data(path, options.people)
    plans = _plans(options, data, share) if options.plan else None
    judgement = _judged(options, data, point) if decided else None
    hidden = _hidden(data, judgement)
    if judgement is not None:
        judgement = judgement.among(hidden)
    proxies = _proxies(options, data, hidden)
    if options.show.json:
        print_json(_to_dict(options, data, judgement, plans, hidden) | {"proxies": proxies})
    else:
        _show_base_rates(data, hidden)
        print_proxies(proxies, data.outcome, "labels")
        for name, plan in plans or ():
            say(f"{name}: what the rows can show, before training", *str(plan).splitlines(), "")
        if judgement is not None:
            _show(judgement, data.outcome, options)
    return finish(options.show, None if judgement is None else judgement.report.verdict)


def _proxies(
    options: AuditOptions, data: Data, hidden: frozenset[tuple[str, str]]
) -> tuple[dict[str, Any], ...]:
    """Columns that tell the group or go with the gap of the labels; none where rates are hidden."""
    rows, given = data.rows, flatten(options.people.given)
    people = [options.people.label, options.score, options.prediction, options.people.cluster]
    without = [*data.sensitive.columns, *(name for name in people if name is not None)]
    groups = rows.groups.over(tuple(n for n in data.sensitive.columns if n not in given))
    if hidden or set(rows.X.columns) <= set(without):
        return ()
    try:
        plan = plan_columns(rows.X, rows.outcomes, Features(), without=without)
    except InvalidDataError:  # no column tells anything but the label or the row
        return ()
    return proxies_of(rows.X, plan, rows.outcomes, groups, rows.clusters)


def _judged(options: AuditOptions, data: Data, point: OperatingPoint) -> Judged:
    rows = data.rows
    assert rows.labels is not None
    decision: NDArray[Any]
    if options.score is not None:
        score = read_score(rows.X, options.score)
        decision = point.among(len(rows)).decided(score)
    else:
        assert options.prediction is not None
        score, decision = None, _read_prediction(rows.X, options.prediction, rows.labels)
    return judged(
        "audit",
        _constraints(options),
        rows.outcomes,
        decision,
        rows.groups,
        clusters=rows.clusters,
        outcome=data.outcome,
        score=score,
        rows=options.rows,
    )


def _point(options: AuditOptions) -> OperatingPoint:
    """Where scores decide."""
    point = read_point(options.decide, None)
    if point.option and options.score is None:
        raise InvalidParameterError(f"{point.option} decides by scores: give --score.")
    return point


def _constraints(options: AuditOptions) -> tuple[Constraint, ...]:
    asked = as_constraints(
        list(options.constraint),
        difference_bound=None if options.ratio is not None else options.bound,
        ratio_bound=options.ratio,
    )
    given, pooled = flatten(options.people.given) or None, options.people.pooled
    if pooled and given is None:
        raise InvalidParameterError("--pooled averages over strata: say which with --given.")
    return tuple(replace(constraint, given=given, pooled=pooled) for constraint in asked)


def _certification_share(options: AuditOptions) -> float:
    """Share of the rows that will certify, once checked."""
    share = options.certification
    if share is None:
        return Shares().share
    if not options.plan:
        raise InvalidParameterError("--certification is read with --plan only; leave it out.")
    if not 0 < share <= 1:
        raise InvalidParameterError(f"--certification must lie in (0, 1], got {share:g}.")
    return share


def _plans(options: AuditOptions, data: Data, share: float) -> list[tuple[str, CertificationPlan]]:
    """What the rows can show of every constraint, for each family with groups to compare."""
    return [
        (
            name,
            certification_plan(
                part,
                constraint,
                y=data.rows.y,
                clusters=data.rows.clusters,
                certification_fraction=share,
                positive_label=1,
            ),
        )
        for name, part in _families(data.rows.groups)
        if len(part) > 1
        for constraint in _constraints(options)
    ]


def _families(groups: Groups) -> list[tuple[str, Groups]]:
    """Each sensitive column by itself, and all of them together."""
    parts = groups.marginals if len(groups.columns) > 1 else {}
    return [*parts.items(), (" x ".join(groups.columns), groups)]


def _base_rates(data: Data, part: Groups) -> pd.DataFrame:
    rates = group_rates(
        None,
        data.rows.y,
        part,
        metrics="selection_rate",
        positive_label=1,
        clusters=data.rows.clusters,
    )
    return rates.assign(metric="base_rate")


def _hidden(data: Data, judgement: Judged | None) -> frozenset[tuple[str, str]]:
    """What must be left out: labels by every family of groups and decisions are one publication."""
    tables = [_base_rates(data, part) for _, part in _families(data.rows.groups)]
    if judgement is None:
        return frozenset(hidden_cells([tables]))
    return frozenset(hidden_cells([[*tables, judgement.rates]], results=[judgement.report.results]))


def _show_base_rates(data: Data, hidden: frozenset[tuple[str, str]]) -> None:
    for name, part in _families(data.rows.groups):
        rates = _base_rates(data, part)
        heading = {"base_rate": f"share {data.outcome} [95 %]"}
        print_rates(f"{name}: labels", rates, heading, hidden)
        if len(part) < 2:
            continue
        widest = gap(
            None,
            data.rows.y,
            part,
            over=part.columns,
            positive_label=1,
            clusters=data.rows.clusters,
        )
        if not {("base_rate", end) for end in (widest.highest, widest.lowest)} & hidden:
            say(
                f"Base rates of '{widest.highest}' and '{widest.lowest}' differ by "
                f"{widest.value:.3f} (95 % interval {widest.lower:.3f} to {widest.upper:.3f}).",
                "",
            )


def _to_dict(
    options: AuditOptions,
    data: Data,
    judgement: Judged | None,
    plans: Sequence[tuple[str, CertificationPlan]] | None,
    hidden: frozenset[tuple[str, str]],
) -> dict[str, Any]:
    families = [
        {"over": name, "groups": _cells(_base_rates(data, part), hidden)}
        for name, part in _families(data.rows.groups)
    ]
    report = None
    if judgement is not None:
        report = replace(judgement.report, group_rates=judgement.rates).to_dict(hidden=hidden)
        report["auc"] = (
            judgement.auc if options.score is not None and np.isfinite(judgement.auc) else None
        )
    return {
        "data": data.name,
        "data_sha256": data.digest,
        "outcome": data.outcome,
        "base_rates": families,
        "decisions": report,
        "plans": None if plans is None else [_plan_dict(*one) for one in plans],
    }


def _plan_dict(over: str, plan: CertificationPlan) -> dict[str, Any]:
    """Plain values; counts of groups stand beside their base rates, small ones hidden."""
    return {
        "over": over,
        "constraint": plan.constraint,
        "kind": plan.kind,
        "bound": plan.bound,
        "power": plan.power,
        "confidence": plan.confidence,
        "certification": plan.fraction,
        "true_gap": plan.true_gap,
        "chance": plan.chance,
        "smallest_bounds": [
            {"certification": share, "bound": plain_value(bound)}
            for share, bound in plan.smallest_bounds.items()
        ],
        "rows_needed": [
            {"true_gap": round(gap, 10), "rows": plain_value(rows)}
            for gap, rows in plan.rows_needed.items()
        ],
        "merged": [list(names) for names in plan.merged],
        "words": str(plan),
    }


def _cells(rates: pd.DataFrame, hidden: frozenset[tuple[str, str]]) -> list[dict[str, Any]]:
    shown = ("group", "count", "rate", "lower", "upper")
    return [{name: cell[name] for name in shown} for cell in cell_dicts(rates, hidden=hidden)]


def _show(judgement: Judged, outcome: str, options: AuditOptions) -> None:
    names = {
        "selection_rate": f"share {outcome}",
        "true_positive_rate": "true positive rate",
        "false_positive_rate": "false positive rate",
        "accuracy": "accuracy",
    }
    if "mean_score" in set(judgement.rates["metric"]):
        names["mean_score"] = "mean score"
    print_rates("Decisions", judgement.rates, names, judgement.hidden)
    print_standings([judgement])
    accuracy, low, high = judgement.report.accuracy
    auc = "" if np.isnan(judgement.auc) or options.score is None else f", AUC {judgement.auc:.3f}"
    say(f"Accuracy {accuracy:.3f} ({low:.3f} to {high:.3f}){auc}.")
    for result in judgement.report.results:
        say(f"{result.constraint}: {judgement.verdict_words(result, outcome)}")
    say(*judgement.report.joint_words(shown=True))
    if options.rows == "certification":
        say(
            "These verdicts take it that none of the rows trained or tuned the model; if they "
            "did, say so with --rows training."
        )


def _read_prediction(frame: pd.DataFrame, name: str, labels: LabelCoding) -> NDArray[np.int64]:
    require_columns(frame, (name,), what="prediction column")
    words = as_words(frame[name])
    negative, positive = (str(label) for label in labels.labels)
    known: dict[Any, int] = {positive: 1, negative: 0}
    strange = [w for w in pd.unique(words) if w not in known]
    if strange:
        raise InvalidDataError(
            f"prediction column '{one_line(name)}' holds {listed(strange)}, which are no values "
            f"of the label ({listed(known)})."
        )
    return words.map(known).to_numpy(dtype=np.int64)
