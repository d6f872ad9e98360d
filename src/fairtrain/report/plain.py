"""A summary as plain values for JSON, and back: what is written makes the same page again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fairtrain.exceptions import InvalidDataError
from fairtrain.metrics.disclosure import MIN_CELL
from fairtrain.metrics.paired import Change, Cost
from fairtrain.metrics.report import FairnessReport
from fairtrain.metrics.standing import GroupStanding
from fairtrain.metrics.verdicts import ConstraintResult, Verdict
from fairtrain.report.chart import FrontierChart, FrontierPoint

if TYPE_CHECKING:
    from fairtrain.report.summary import Judged, RunSummary

__all__ = ["SCHEMA", "setting_text", "summary_from_dict", "summary_to_dict"]

SCHEMA = 1
"""Version of the structure; whoever changes the meaning of a key raises it."""

_FEW = f"under {MIN_CELL}"
_UNKNOWN_FEW = MIN_CELL - 1
_LIMITED = ("achieved", "lower", "upper", "pairwise")
_RATES = ("rate", "lower", "upper")


def summary_to_dict(summary: RunSummary) -> dict[str, Any]:
    """Body of :meth:`RunSummary.to_dict`."""
    return {
        "schema": SCHEMA,
        "title": summary.title,
        "data": summary.data,
        "outcome": summary.outcome,
        "constraint": summary.constraint,
        "rationale": summary.rationale,
        "choice": list(summary.choice),
        "rows": {name: int(count) for name, count in summary.row_counts.items()},
        "group_counts": {
            group: {part: _count(count) for part, count in parts.items()}
            for group, parts in summary.group_counts.items()
        },
        "models": [_model_to_dict(model) for model in summary.models],
        "frontiers": [_chart_to_dict(chart) for chart in summary.frontiers],
        "settings": {str(k): setting_text(v) for k, v in summary.settings.items()},
        "made_with": {str(k): setting_text(v) for k, v in summary.made_with.items()},
        "notes": list(summary.notes),
    }


def summary_from_dict(plain: Any) -> RunSummary:
    """Body of :meth:`RunSummary.from_dict`."""
    from fairtrain.report.summary import RunSummary

    schema = plain.get("schema") if isinstance(plain, Mapping) else None
    if schema != SCHEMA:
        raise InvalidDataError(
            f"these numbers have schema {schema!r}, and this fairtrain reads schema {SCHEMA}; "
            "use the version of fairtrain that wrote them, or run again."
        )
    try:
        return RunSummary(
            title=plain["title"],
            data=plain["data"],
            outcome=plain["outcome"],
            constraint=plain["constraint"],
            models=tuple(_model_from_dict(model) for model in plain["models"]),
            row_counts=dict(plain["rows"]),
            group_counts={
                group: {part: _uncount(count) for part, count in parts.items()}
                for group, parts in plain["group_counts"].items()
            },
            settings=dict(plain["settings"]),
            notes=tuple(plain["notes"]),
            rationale=plain["rationale"],
            choice=tuple(plain["choice"]),
            frontiers=tuple(_chart_from_dict(chart) for chart in plain["frontiers"]),
            made_with=dict(plain["made_with"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InvalidDataError):
            raise
        raise InvalidDataError(
            f"these numbers are damaged or no summary of a run ({type(error).__name__}: {error})."
        ) from error


def setting_text(value: Any) -> str | int | float | bool | None:
    """One setting as a plain value.

    Examples
    --------
    >>> setting_text(("race", "sex")), setting_text(0.05)
    ('race, sex', 0.05)
    """
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(str(setting_text(v)) for v in value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _count(count: int) -> int | str:
    return _FEW if 0 < count < MIN_CELL else int(count)


def _uncount(count: Any) -> int:
    # Nine of two small groups do not add up to fewer than ten, so nothing more gets hidden.
    return _UNKNOWN_FEW if count == _FEW else int(count)


def _number(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)


def _model_to_dict(model: Judged) -> dict[str, Any]:
    report = model.report.to_dict(min_cell=MIN_CELL)
    for found, result in zip(report["constraints"], model.report.results, strict=True):
        found["counts"] = {name: _count(count) for name, count in result.counts.items()}
    report["group_rates"] = _cells(model.report.group_rates, report["group_rates"])
    return {
        "model": model.title,
        "auc": _number(model.auc),
        **report,
        "shown_rates": [
            _cell(row, (row["metric"], row["group"]) in model.hidden)
            for row in model.rates.to_dict("records")
        ],
        "names": list(model.names),
        "groups": [
            {
                name: {
                    "verdict": None if s.verdict is None else str(s.verdict),
                    "rows": _count(s.rows),
                    "rows_needed": _number(s.needed) or None,
                }
                for name, s in standing.items()
            }
            for standing in model.standings
        ],
        "cost": None if model.cost is None else asdict(model.cost),
    }


def _cells(rates: pd.DataFrame, hidden: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Cells of a frame, hidden where they are now or were when it was written."""
    rows = rates.to_dict("records")
    return [
        _cell(row, cell["suppressed"] or (_number(row["rate"]) is None and row["count"] > 0))
        for row, cell in zip(rows, hidden, strict=True)
    ]


def _cell(row: Mapping[Any, Any], hidden: bool) -> dict[str, Any]:
    return {
        "metric": row["metric"],
        "group": row["group"],
        **{name: None if hidden else _number(row[name]) for name in _RATES},
        "count": _count(int(row["count"])),
        "suppressed": bool(hidden),
    }


def _model_from_dict(plain: Mapping[str, Any]) -> Judged:
    from fairtrain.report.summary import Judged

    report = FairnessReport(
        results=tuple(_result(found) for found in plain["constraints"]),
        rows=plain["rows"],
        n_rows=int(plain["n_rows"]),
        accuracy=tuple(_float(plain["accuracy"][k]) for k in ("estimate", "lower", "upper")),  # type: ignore[arg-type]
        selection_rate=_float(plain["selection_rate"]),
        near_constant=bool(plain["near_constant"]),
        favourable=plain["favourable"],
        group_rates=_frame(plain["group_rates"]),
        confidence=float(plain["confidence"]),
    )
    return Judged(
        title=plain["model"],
        report=report,
        auc=_float(plain["auc"]),
        rates=_frame(plain["shown_rates"]),
        standings=tuple(
            {name: _standing(found) for name, found in groups.items()} for groups in plain["groups"]
        ),
        names=tuple(plain["names"]),
        cost=None if plain["cost"] is None else _cost(plain["cost"]),
    )


def _frame(cells: list[dict[str, Any]]) -> pd.DataFrame:
    rows = [
        {
            "metric": cell["metric"],
            "group": cell["group"],
            "rate": _float(cell["rate"]),
            "count": _uncount(cell["count"]),
            "lower": _float(cell["lower"]),
            "upper": _float(cell["upper"]),
        }
        for cell in cells
    ]
    return pd.DataFrame(rows, columns=["metric", "group", "rate", "count", "lower", "upper"])


def _result(found: Mapping[str, Any]) -> ConstraintResult:
    return ConstraintResult(
        constraint=found["constraint"],
        kind=found["kind"],
        reference=found["reference"],
        bound=float(found["bound"]),
        rate=found["rate"],
        **{name: _float(found[name]) for name in _LIMITED},
        highest=found["highest"] or "",
        lowest=found["lowest"] or "",
        verdict=Verdict(found["verdict"]),
        rows_needed={
            name: math.inf if rows is None else float(rows)
            for name, rows in found["rows_needed"].items()
        },
        counts={name: _uncount(count) for name, count in found["counts"].items()},
    )


def _standing(found: Mapping[str, Any]) -> GroupStanding:
    verdict = None if found["verdict"] is None else Verdict(found["verdict"])
    return GroupStanding(verdict, _uncount(found["rows"]), found["rows_needed"])


def _cost(found: Mapping[str, Any]) -> Cost:
    low, middle, high = found["accuracy"]
    return Cost(
        accuracy=(low, middle, high),
        confidence=found["confidence"],
        gained=found["gained"],
        lost=found["lost"],
        changes=tuple(Change(**change) for change in found["changes"]),
    )


def _chart_to_dict(chart: FrontierChart) -> dict[str, Any]:
    points = [
        {
            "value": point.value,
            "seed": point.seed,
            "performance": _number(point.performance),
            "performance_limits": [_number(v) for v in point.performance_limits],
            "gap": _number(point.gap),
            "gap_limits": [_number(v) for v in point.gap_limits],
            "dominated": point.dominated,
            "near_constant": point.near_constant,
        }
        for point in chart.points
    ]
    own = {k: getattr(chart, k) for k in ("name", "param", "chosen", "performance_name")}
    baseline = None if chart.baseline is None else [_number(v) for v in chart.baseline]
    rest = {"gap_name": chart.gap_name, "bound": chart.bound, "baseline": baseline}
    return {**own, **rest, "points": points}


def _chart_from_dict(plain: Mapping[str, Any]) -> FrontierChart:
    points = tuple(
        FrontierPoint(
            value=found["value"],
            seed=int(found["seed"]),
            performance=_float(found["performance"]),
            gap=_float(found["gap"]),
            performance_limits=_pair(found["performance_limits"]),
            gap_limits=_pair(found["gap_limits"]),
            dominated=bool(found["dominated"]),
            near_constant=bool(found["near_constant"]),
        )
        for found in plain["points"]
    )
    names = ("name", "param", "chosen", "performance_name", "gap_name", "bound")
    baseline = None if plain["baseline"] is None else _pair(plain["baseline"])
    return FrontierChart(points=points, baseline=baseline, **{k: plain[k] for k in names})


def _pair(values: Any) -> tuple[float, float]:
    first, second = values
    return _float(first), _float(second)
