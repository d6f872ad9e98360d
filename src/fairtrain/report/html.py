"""The report as one self-contained page: no script, nothing loaded, every name escaped."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fairtrain._text import one_line
from fairtrain.metrics.disclosure import MIN_CELL, count_words
from fairtrain.plotting.style import COLOURS
from fairtrain.report.drawing import drawn
from fairtrain.report.judged import Judged
from fairtrain.report.plain import setting_text
from fairtrain.report.summary import RunSummary
from fairtrain.report.words import (
    constraint_meaning,
    group_warnings,
    in_one_sentence,
    short_names,
    shorten,
)

__all__ = ["render_report"]

_METRICS = {
    "selection_rate": ("Share {outcome}", "of all people in the group, how many are {outcome}"),
    "true_positive_rate": (
        "True positive rate",
        "of those whose label is {outcome}, how many are {outcome}",
    ),
    "false_positive_rate": (
        "False positive rate",
        "of those whose label is not {outcome}, how many are {outcome}",
    ),
    "accuracy": ("Accuracy", "of all decisions in the group, how many agree with the label"),
}

_VERDICTS = {
    "met": "met: the confidence limit lies within the bound on rows that steered nothing",
    "met_on_steering_rows": "met only on rows that took part in choosing the model",
    "not_met": "not met: the bound is broken, or not kept although there were rows enough",
    "too_few_rows": "too few rows: they cannot tell whether the bound is kept",
}


def render_report(summary: RunSummary) -> str:
    """Write the page.

    Parameters
    ----------
    summary : RunSummary
        What the run found.

    Returns
    -------
    str
        HTML. Cells of fewer than ten rows are left out. The page may load nothing, run nothing
        and apply no style but its own: its policy names the hash of its style sheet.
    """
    environment = _environment(summary)
    style = environment.get_template("report.css.j2").render(colours=COLOURS)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    outcome = summary.outcome
    return environment.get_template("report.html.j2").render(
        summary=summary,
        style=Markup(style),
        style_hash=digest,
        min_cell=MIN_CELL,
        verdict_words=_VERDICTS,
        lead=in_one_sentence(summary),
        warnings=group_warnings(summary),
        meanings=[constraint_meaning(r, outcome) for r in summary.models[0].report.results],
        overview=[_overview(model) for model in summary.models],
        charts=[
            {
                "title": title.format(outcome=outcome),
                "meaning": meaning.format(outcome=outcome),
                "groups": _bars(summary.models, metric),
            }
            for metric, (title, meaning) in _METRICS.items()
        ],
        group_rows=_group_rows(summary),
        drawing=drawn(summary.frontiers),
        chart_rows=_chart_rows(summary),
        settings=_texts(summary.settings),
        made_with=_texts(summary.made_with),
    )


def _environment(summary: RunSummary) -> Environment:
    environment = Environment(
        loader=PackageLoader("fairtrain.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_as_text(short_names(summary)),
    )
    environment.filters["share"] = _percent
    environment.filters["number"] = _number
    environment.filters["points"] = _points
    environment.filters["shorten"] = shorten
    return environment


def _as_text(short: dict[str, str]) -> Callable[[Any], Any]:
    """Whatever is shown goes through this: no control characters, no direction marks."""

    def finalize(value: Any) -> Any:
        if not isinstance(value, str) or isinstance(value, Markup):
            return value
        for name, brief in short.items():
            value = value.replace(name, brief)
        return one_line(value)

    return finalize


def _overview(model: Judged) -> dict[str, Any]:
    report = model.report
    return {
        "title": model.title,
        "accuracy": report.accuracy,
        "auc": model.auc,
        "selection_rate": report.selection_rate,
        "near_constant": report.near_constant,
        "cost": model.cost,
        "results": [
            {"result": result, "gap": model.gap(result), "verdict": str(result.verdict)}
            for result in report.results
        ],
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
    return {
        "known": True,
        "count": count,
        "rate": cell["rate"],
        "lower": cell["lower"],
        "upper": cell["upper"],
        "x": round(100 * cell["rate"], 2),
        "x1": round(100 * cell["lower"], 2),
        "x2": round(100 * cell["upper"], 2),
    }


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
    if standing is None:
        return {"verdict": "", "words": ""}
    words = standing.words()
    return {"verdict": words.partition(":")[0], "words": words.replace("_", " ")}


def _chart_rows(summary: RunSummary) -> list[dict[str, Any]]:
    """The points of all frontiers, for those who cannot see the drawing."""
    return [
        {
            "name": chart.name,
            "value": f"{chart.param} = {point.label}",
            "point": point,
            "note": ", ".join(_notes(chart.chosen == i, point.dominated, point.near_constant)),
        }
        for chart in summary.frontiers
        for i, point in enumerate(chart.points)
    ]


def _notes(chosen: bool, dominated: bool, near_constant: bool) -> list[str]:
    told = {"chosen": chosen, "beaten by another": dominated, "near constant": near_constant}
    return [words for words, holds in told.items() if holds]


def _texts(values: Any) -> dict[str, str]:
    texts = {str(key): setting_text(value) for key, value in values.items()}
    return {key: str(text) for key, text in texts.items() if text is not None}


def _percent(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.1%}"  # noqa: RUF001


def _number(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"  # noqa: RUF001


def _points(value: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{round(100 * value, 1) + 0.0:+.1f}"
