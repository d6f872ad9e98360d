"""What page and card show of a summary, and the environments that their templates run in."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fairtrain._text import one_line
from fairtrain.metrics.disclosure import MIN_CELL, count_words
from fairtrain.report.judged import Judged
from fairtrain.report.plain import setting_text
from fairtrain.report.summary import RunSummary
from fairtrain.report.words import constraint_meaning, group_warnings, in_one_sentence, shorten

__all__ = ["environment", "view"]


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
        "limited": lambda three: "{:.3f} ({:.3f} to {:.3f})".format(*three),
        "quoted": lambda text: Markup(json.dumps(one_line(text), ensure_ascii=False)),
        "shorten": shorten,
    }
    return made


def view(summary: RunSummary) -> dict[str, Any]:
    """What a template reads: plain values, small cells left out."""
    shown = [] if summary.constant is None else [summary.constant]
    return {
        "summary": summary,
        "min_cell": MIN_CELL,
        "usefulness": summary.warnings(),
        "lead": in_one_sentence(summary),
        "warnings": group_warnings(summary),
        "meanings": [
            constraint_meaning(r, summary.outcome) for r in summary.models[0].report.results
        ],
        "models": [*shown, *summary.models],
        "bars": lambda metric: _bars(summary.models, metric),
        "group_rows": _group_rows(summary),
        "settings": _texts(summary.settings),
        "made_with": _texts(summary.made_with),
    }


def _bars(models: tuple[Judged, ...], metric: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "bars": [{"model": m.title, **_bar(m.rate(metric, name))} for m in models],
        }
        for name in models[0].names
    ]


def _bar(cell: dict[str, Any]) -> dict[str, Any]:
    """One bar in percent of the chart's width."""
    count = count_words(cell["count"])
    if cell["rate"] is None or not math.isfinite(cell["rate"]):
        return {"known": False, "count": count}
    ends = {"x": cell["rate"], "x1": cell["lower"], "x2": cell["upper"]}
    numbers = {name: cell[name] for name in ("rate", "lower", "upper")}
    percent = {name: round(100 * value, 2) for name, value in ends.items()}
    return {"known": True, "count": count, **numbers, **percent}


def _group_rows(summary: RunSummary) -> list[dict[str, Any]]:
    constraints = range(len(summary.models[0].standings))
    return [
        {
            "name": name,
            "counts": [count_words(n) for n in summary.group_counts.get(name, {}).values()],
            "standings": [[_standing(m, i, name) for m in summary.models] for i in constraints],
        }
        for name in summary.models[0].names
    ]


def _standing(model: Judged, constraint: int, name: str) -> dict[str, str]:
    standing = model.standings[constraint].get(name)
    words = "" if standing is None else standing.words()
    return {"verdict": words.partition(":")[0], "words": words.replace("_", " ")}


def _texts(values: Any) -> dict[str, str]:
    texts = {str(key): setting_text(value) for key, value in values.items()}
    return {key: str(text) for key, text in texts.items() if text not in (None, "")}


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None or not math.isfinite(value) else form.format(value)  # noqa: RUF001


def _points(value: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{round(100 * value, 1) + 0.0:+.1f}"
