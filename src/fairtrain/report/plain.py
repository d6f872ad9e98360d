"""Parts of a summary as plain values for JSON, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fairtrain.metrics.disclosure import HIDDEN, MIN_CELL, hidden_count, shown_count
from fairtrain.metrics.paired import Change, Cost
from fairtrain.metrics.standing import GroupStanding
from fairtrain.metrics.verdicts import ConstraintResult, EmptyCell, Verdict
from fairtrain.report.chart import FrontierChart, FrontierPoint

__all__ = [
    "cell_dict",
    "cells",
    "chart",
    "chart_dict",
    "cost",
    "frame",
    "number",
    "real",
    "result",
    "setting_text",
    "standing",
    "uncount",
]

_FEW = f"under {MIN_CELL}"
_UNKNOWN_FEW = MIN_CELL - 1
_RATES = ("rate", "lower", "upper")


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


def uncount(count: Any) -> int:
    """Read a count that may have been hidden: "under 10" becomes nine."""
    # A cell without a rate stays hidden whatever its count, so any number will do.
    if count == HIDDEN:
        return MIN_CELL
    return _UNKNOWN_FEW if count == _FEW else int(count)


def number(value: Any) -> float | None:
    """A number for JSON; None where it is not finite."""
    return None if value is None or not math.isfinite(value) else float(value)


def real(value: Any) -> float:
    """Read a number; NaN where there was none."""
    return math.nan if value is None else float(value)


def cells(rates: pd.DataFrame, hidden: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Cells of a frame, hidden where they are now or were when it was written."""
    rows = rates.to_dict("records")
    return [
        cell_dict(row, cell["suppressed"] or (number(row["rate"]) is None and row["count"] > 0))
        for row, cell in zip(rows, hidden, strict=True)
    ]


def cell_dict(row: Mapping[Any, Any], hidden: bool) -> dict[str, Any]:
    """One cell, without its numbers where it is hidden."""
    count = int(row["count"])
    return {
        "metric": row["metric"],
        "group": row["group"],
        **{name: None if hidden else number(row[name]) for name in _RATES},
        "count": hidden_count(row["metric"], count) if hidden else shown_count(count),
        "suppressed": bool(hidden),
    }


def frame(cells: list[dict[str, Any]]) -> pd.DataFrame:
    """Read cells as a frame."""
    rows = [
        {
            "metric": cell["metric"],
            "group": cell["group"],
            "rate": real(cell["rate"]),
            "count": uncount(cell["count"]),
            "lower": real(cell["lower"]),
            "upper": real(cell["upper"]),
        }
        for cell in cells
    ]
    return pd.DataFrame(rows, columns=["metric", "group", "rate", "count", "lower", "upper"])


def result(found: Mapping[str, Any]) -> ConstraintResult:
    """Read a constraint's result."""
    return ConstraintResult(
        constraint=found["constraint"],
        kind=found["kind"],
        reference=found["reference"],
        bound=float(found["bound"]),
        rate=found["rate"],
        achieved=real(found["achieved"]),
        lower=real(found["lower"]),
        upper=real(found["upper"]),
        pairwise=real(found["pairwise"]),
        highest=found["highest"] or "",
        lowest=found["lowest"] or "",
        verdict=Verdict(found["verdict"]),
        rows_needed={
            name: math.inf if rows is None else float(rows)
            for name, rows in found["rows_needed"].items()
        },
        counts={name: uncount(count) for name, count in found["counts"].items()},
        empty=tuple(EmptyCell(**cell) for cell in found["empty"]),
        true_gap=found.get("true_gap"),
        smallest_bound=found.get("smallest_bound"),
    )


def standing(found: Mapping[str, Any]) -> GroupStanding:
    """Read what is said of a group."""
    verdict = None if found["verdict"] is None else Verdict(found["verdict"])
    return GroupStanding(verdict, uncount(found["rows"]), found["rows_needed"])


def cost(found: Mapping[str, Any]) -> Cost:
    """Read what a model costs."""
    low, middle, high = found["accuracy"]
    return Cost(
        accuracy=(low, middle, high),
        confidence=found["confidence"],
        gained=found["gained"],
        lost=found["lost"],
        changes=tuple(Change(**change) for change in found["changes"]),
    )


def chart_dict(chart: FrontierChart) -> dict[str, Any]:
    """Give a trade-off as plain values."""
    points = [
        {
            "value": point.value,
            "seed": point.seed,
            "performance": number(point.performance),
            "performance_limits": [number(v) for v in point.performance_limits],
            "gap": number(point.gap),
            "gap_limits": [number(v) for v in point.gap_limits],
            "dominated": point.dominated,
            "near_constant": point.near_constant,
        }
        for point in chart.points
    ]
    own = {k: getattr(chart, k) for k in ("name", "param", "chosen", "performance_name")}
    baseline = None if chart.baseline is None else [number(v) for v in chart.baseline]
    rest = {"gap_name": chart.gap_name, "bound": chart.bound, "baseline": baseline}
    return {**own, **rest, "points": points}


def chart(plain: Mapping[str, Any]) -> FrontierChart:
    """Read a trade-off."""
    points = tuple(
        FrontierPoint(
            value=found["value"],
            seed=int(found["seed"]),
            performance=real(found["performance"]),
            gap=real(found["gap"]),
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
    return real(first), real(second)
