"""Parts of a summary as plain values for JSON, and back."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from fairtrain.metrics.disclosure import (
    HIDDEN,
    MIN_CELL,
    hidden_count,
    plain_value,
    shown_count,
)
from fairtrain.metrics.paired import Change, Cost, Narrowing
from fairtrain.metrics.standing import GroupStanding
from fairtrain.metrics.verdicts import ConstraintResult, EmptyCell, Verdict
from fairtrain.report.chart import FrontierChart, FrontierPoint

__all__ = [
    "cells",
    "chart",
    "chart_dict",
    "cost",
    "frame",
    "narrowing",
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


def real(value: Any) -> float:
    """Read a number; NaN where there was none."""
    return math.nan if value is None else float(value)


def cells(rates: pd.DataFrame, left_out: Collection[tuple[str, str]]) -> list[dict[str, Any]]:
    """Cells of a frame, without the numbers of those that are hidden."""
    rows = rates.to_dict("records")
    return [cell_dict(row, (row["metric"], row["group"]) in left_out) for row in rows]


def cell_dict(row: Mapping[Any, Any], hidden: bool) -> dict[str, Any]:
    """One cell, without its numbers where it is hidden."""
    count = int(row["count"])
    return {
        "metric": row["metric"],
        "group": row["group"],
        **{name: None if hidden else plain_value(row[name]) for name in _RATES},
        "count": hidden_count(row["metric"], count) if hidden else shown_count(count),
        "suppressed": bool(hidden),
    }


def frame(cells: list[dict[str, Any]]) -> pd.DataFrame:
    """Read cells as a frame."""
    columns = ("metric", "group", "rate", "count", "lower", "upper")
    read = {"count": uncount, **dict.fromkeys(_RATES, real)}
    return pd.DataFrame(
        [{name: read.get(name, str)(cell[name]) for name in columns} for cell in cells],
        columns=list(columns),
    )


def result(values: Mapping[str, Any]) -> ConstraintResult:
    """Read a constraint's result."""
    needed = values["rows_needed"].items()
    return ConstraintResult(
        constraint=values["constraint"],
        kind=values["kind"],
        reference=values["reference"],
        bound=float(values["bound"]),
        rate=values["rate"],
        **{name: real(values[name]) for name in ("achieved", "lower", "upper", "pairwise")},
        highest=values["highest"] or "",
        lowest=values["lowest"] or "",
        verdict=Verdict(values["verdict"]),
        rows_needed={name: math.inf if rows is None else float(rows) for name, rows in needed},
        counts={n: uncount(rows) for n, rows in values["counts"].items() if rows != HIDDEN},
        empty=tuple(EmptyCell(**cell) for cell in values["empty"]),
        true_gap=values.get("true_gap"),
        smallest_bound=values.get("smallest_bound"),
        left_out=tuple(values.get("left_out", ())),
        strata_left_out=tuple(values.get("strata_left_out", ())),
        chance_broken=values.get("chance_broken"),
        clusters=dict(values.get("clusters", {})),
    )


def narrowing(values: Mapping[str, Any]) -> Narrowing | None:
    """Read how much nearer groups are than under the baseline, if a constraint says so."""
    found = values.get("narrowing")
    return None if found is None else Narrowing(**{**found, "change": tuple(found["change"])})


def standing(values: Mapping[str, Any]) -> GroupStanding:
    """Read what is said of a group."""
    verdict = None if values["verdict"] is None else Verdict(values["verdict"])
    told = values["rows"] != HIDDEN
    return GroupStanding(verdict, uncount(values["rows"]), values["rows_needed"], told)


def cost(values: Mapping[str, Any]) -> Cost:
    """Read what a model costs."""
    changes = tuple(
        Change(**{**c, "net": tuple(c["net"]) if c.get("net") else None}) for c in values["changes"]
    )
    return Cost(**{**values, "accuracy": tuple(values["accuracy"]), "changes": changes})


def chart_dict(chart: FrontierChart) -> dict[str, Any]:
    """Give a trade-off as plain values."""
    values: dict[str, Any] = _plain(asdict(chart))
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else plain_value(value)


def chart(values: Mapping[str, Any]) -> FrontierChart:
    """Read a trade-off."""
    points = tuple(
        FrontierPoint(**{name: _numbers(value) for name, value in point.items()})
        for point in values["points"]
    )
    baseline = values["baseline"]
    read = {"points": points, "baseline": None if baseline is None else _numbers(baseline)}
    return FrontierChart(**{**values, **read})


def _numbers(value: Any) -> Any:
    """NaN where JSON has no number, pairs as tuples."""
    if isinstance(value, list):
        return tuple(map(real, value))
    return math.nan if value is None else value
