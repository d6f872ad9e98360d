"""The report as one self-contained page: no script, nothing loaded, every name escaped."""

from __future__ import annotations

import math
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from fairtrain._text import one_line
from fairtrain.report.summary import Judged, RunSummary
from fairtrain.report.suppression import MIN_CELL

__all__ = ["render_report"]

_METRICS = {
    "selection_rate": ("Share {outcome}", "of all applicants in the group, how many are {outcome}"),
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
        HTML. Cells of fewer than ten rows are left out.
    """
    environment = Environment(
        loader=PackageLoader("fairtrain.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Whatever is shown goes through this: no control characters, no direction marks.
        finalize=lambda value: one_line(value) if isinstance(value, str) else value,
    )
    environment.filters["share"] = _percent
    environment.filters["number"] = _number
    template = environment.get_template("report.html.j2")
    outcome = summary.outcome
    return template.render(
        summary=summary,
        min_cell=MIN_CELL,
        verdict_words=_VERDICTS,
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
    )


def _overview(model: Judged) -> dict[str, Any]:
    report = model.report
    return {
        "title": model.title,
        "accuracy": report.accuracy,
        "auc": model.auc,
        "selection_rate": report.selection_rate,
        "verdict": str(report.verdict),
        "near_constant": report.near_constant,
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
    known = cell["rate"] is not None and math.isfinite(cell["rate"])
    count = int(cell["count"])
    few = 0 < count < MIN_CELL
    if not known:
        return {"known": False, "count": f"under {MIN_CELL}" if few else count}
    return {
        "known": True,
        "count": f"{count:,}",
        "rate": cell["rate"],
        "lower": cell["lower"],
        "upper": cell["upper"],
        "x": round(100 * cell["rate"], 2),
        "x1": round(100 * cell["lower"], 2),
        "x2": round(100 * cell["upper"], 2),
    }


def _group_rows(summary: RunSummary) -> list[dict[str, Any]]:
    rows = []
    for name in summary.models[0].names:
        counts = summary.group_counts.get(name, {})
        rows.append(
            {
                "name": name,
                "counts": [
                    f"under {MIN_CELL}" if 0 < count < MIN_CELL else f"{count:,}"
                    for count in counts.values()
                ],
                "standings": [
                    _standing(model, constraint, name)
                    for model in summary.models
                    for constraint in range(len(model.standings))
                ],
            }
        )
    return rows


def _standing(model: Judged, constraint: int, name: str) -> str:
    standing = model.standings[constraint].get(name)
    if standing is None:
        return ""
    words = standing.words()
    hidden = 0 < standing.rows < MIN_CELL
    return words.replace(f"has {standing.rows},", f"has under {MIN_CELL},", 1) if hidden else words


def _percent(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.1%}"  # noqa: RUF001


def _number(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"  # noqa: RUF001
