"""What page and card show of a summary, and the environments that their templates run in."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fairtrain._figures import MARKS
from fairtrain._text import one_line
from fairtrain.constraints.objectives import as_said
from fairtrain.metrics.disclosure import MIN_CELL, count_words
from fairtrain.metrics.paired import Change
from fairtrain.metrics.standing import GroupStanding
from fairtrain.metrics.verdicts import Verdict, rounded_rows
from fairtrain.report.judged import Judged
from fairtrain.report.picture import RATES
from fairtrain.report.plain import setting_text
from fairtrain.report.story import fair_models, plain_words
from fairtrain.report.summary import RunSummary
from fairtrain.report.words import constraint_meaning, group_warnings, in_one_sentence, shorten

__all__ = ["environment", "view"]

_LIMITS = (
    "A verdict holds for people drawn like those who were judged, and for the groups listed here; "
    "rates over fewer than {min_cell} rows are left out. The label itself may be unfair: equal "
    "rates say nothing of whether it is."
)


def environment(finalize: Callable[[Any], Any] = lambda value: value, *, html: bool) -> Environment:
    """Make an environment in which a forgotten name is an error, and data stay text.

    Parameters
    ----------
    finalize : callable
        Whatever is shown goes through it.
    html : bool
        Escape what HTML would read as more than text.
    """
    made = Environment(
        loader=PackageLoader("fairtrain.report", "templates"),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
    )
    made.filters |= {
        "share": lambda value: _shown(value, "{:.1%}"),
        "number": lambda value: _shown(value, "{:.3f}"),
        "points": _points,
        "said": _said,
        "limited": lambda three: "{:.3f} ({:.3f} to {:.3f})".format(*three),
        "people": _people,
        "quoted": lambda text: Markup(json.dumps(one_line(text), ensure_ascii=False)),
        "shorten": shorten,
    }
    return made


def _said(value: Any, objective: str) -> Any:
    """A value, or its limits, as people name it: costs and losses above 0."""
    if isinstance(value, tuple):
        ends = [as_said(objective, end) for end in value]
        return tuple(ends[::-1] if as_said(objective, 1.0) < 0 else ends)
    return as_said(objective, value)


def view(summary: RunSummary) -> dict[str, Any]:
    """What a template reads: plain values, small cells left out."""
    shown = [] if summary.constant is None else [summary.constant]
    return {
        "summary": summary,
        "min_cell": MIN_CELL,
        "usefulness": summary.warnings(),
        "plain": plain_words(summary),
        "lead": in_one_sentence(summary),
        "warnings": group_warnings(summary),
        "meanings": [
            constraint_meaning(r, summary.outcome) for r in summary.models[0].report.results
        ],
        "models": [*shown, *summary.models],
        "fair": fair_models(summary),
        "rates": RATES,
        "cells": lambda metric: _cells(summary.models, metric),
        "group_rows": _group_rows(summary),
        "limits_words": _LIMITS.format(min_cell=MIN_CELL),
        "settings": _texts(summary.settings),
        "made_with": _texts(summary.made_with),
    }


def _cells(models: tuple[Judged, ...], metric: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "cells": [{"model": m.title, **_cell(m.rate(metric, name))} for m in models],
        }
        for name in models[0].names
    ]


def _cell(cell: dict[str, Any]) -> dict[str, Any]:
    known = cell["rate"] is not None and math.isfinite(cell["rate"])
    numbers = {name: cell[name] for name in ("rate", "lower", "upper")} if known else {}
    return {"known": known, "count": count_words(cell["count"]), **numbers}


def _group_rows(summary: RunSummary) -> list[dict[str, Any]]:
    constraints = range(len(summary.models[0].standings))
    return [
        {
            "name": name,
            "counts": [count_words(n) for n in summary.group_counts.get(name, {}).values()],
            "standings": [_standings(summary.models, i, name) for i in constraints],
        }
        for name in summary.models[0].names
    ]


def _standings(models: tuple[Judged, ...], constraint: int, name: str) -> dict[str, Any]:
    """What each model does to a group, and the rows that it has and would need."""
    found = [m.standings[constraint].get(name) for m in models]
    known = [s for s in found if s is not None]
    few = [s for s in known if s.verdict is Verdict.TOO_FEW_ROWS]
    wanted = [math.inf if s.needed is None else s.needed for s in few]
    told = bool(known) and all(s.told for s in known)
    return {
        "cells": [_standing(s) for s in found],
        "rows": count_words(min(s.rows for s in known)) if told else "",
        "needed": rounded_rows(max(wanted)) if wanted else "",
    }


def _standing(standing: GroupStanding | None) -> dict[str, str]:
    if standing is None or standing.verdict is None:
        return {"verdict": "", "mark": "", "words": "" if standing is None else "enough rows"}
    verdict = str(standing.verdict)
    return {"verdict": verdict, "mark": MARKS[verdict], "words": verdict.replace("_", " ")}


def _texts(values: Any) -> dict[str, str]:
    texts = {str(key): setting_text(value) for key, value in values.items()}
    return {key: str(text) for key, text in texts.items() if text not in (None, "")}


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None or not math.isfinite(value) else form.format(value)  # noqa: RUF001


def _points(value: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{round(100 * value, 1) + 0.0:+.1f}"


def _people(change: Change, which: str) -> str:
    """How many of a group, from the share that is told."""
    share = change.gained if which == "gained" else change.lost
    return f"{round((share or 0.0) * (change.rows or 0)):,}"
