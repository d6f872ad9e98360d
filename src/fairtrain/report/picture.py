"""The first picture of a page: what groups get, before and after, and the room a bound leaves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fairtrain._figures import Dot, Lane, Scale, legend
from fairtrain.metrics.disclosure import count_words
from fairtrain.metrics.shown import rate_of, room
from fairtrain.metrics.verdicts import ConstraintResult
from fairtrain.report.chart import FrontierChart, FrontierPoint
from fairtrain.report.judged import Judged
from fairtrain.report.story import baseline_of, fair_models
from fairtrain.report.summary import RunSummary

__all__ = ["RATES", "Picture", "pictures", "plane"]

RATES = {
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
"""Rates that a page shows, their titles and what they mean."""

_MOST_LANES, _MOST_COLOURS = 14, 7


@dataclass(frozen=True)
class Picture:
    """One figure.

    Attributes
    ----------
    title, meaning : str
        What is drawn.
    key, body : str
        HTML.
    note : str
        What is left out.
    """

    title: str
    meaning: str
    key: str
    body: str
    note: str = ""


def pictures(summary: RunSummary, text: Callable[[str], str]) -> list[Picture]:
    """One figure for each rate that a constraint speaks of."""
    found: dict[str, tuple[int, ConstraintResult]] = {}
    for i, result in enumerate(summary.models[-1].report.results):
        for metric in _rates_of(result):
            found.setdefault(metric, (i, result))
    drawn = found or {"selection_rate": (0, summary.models[-1].report.results[0])}
    several = len(fair_models(summary)) > 1
    draw = _of_models if several else _of_groups
    return [draw(summary, metric, i, text) for metric, (i, _) in drawn.items()]


def _rates_of(result: ConstraintResult) -> list[str]:
    """Rates of a page that show what a constraint limits."""
    if result.constraint.startswith("equalized_odds"):
        return ["true_positive_rate", "false_positive_rate"]
    return [rate] if (rate := rate_of(result)) else []


def _known(model: Judged, metric: str, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Cells that may be shown."""
    cells = {name: model.rate(metric, name) for name in names}
    return {n: c for n, c in cells.items() if c["rate"] is not None and math.isfinite(c["rate"])}


def _of_groups(
    summary: RunSummary, metric: str, constraint: int, text: Callable[[str], str]
) -> Picture:
    """A lane a group: the baseline hollow, the model filled."""
    (model,) = fair_models(summary)
    before = baseline_of(summary, model)
    now = _known(model, metric, model.names)
    was = _known(before, metric, [n for n in model.names if n in before.names])
    ordered = sorted(now, key=lambda name: -now[name]["rate"])
    few = len(ordered) > _MOST_LANES
    if few:
        ordered = ordered[: _MOST_LANES // 2] + ordered[-_MOST_LANES // 2 :]
    hidden = [n for n in model.names if n not in now][: max(0, _MOST_LANES - len(ordered))]
    result = model.report.results[constraint]
    band = room(result, [cell["rate"] for cell in now.values()])
    lanes = [
        Lane(
            name,
            _rows(now[name]),
            dots=[_dot(cells[name], i, i) for i, cells in enumerate((was, now)) if name in cells],
            said=[
                _said(cells.get(name), title.title)
                for cells, title in ((was, before), (now, model))
            ],
            room=band,
        )
        for name in ordered
    ]
    lanes += [Lane(n, _rows(model.rate(metric, n)), said=[("not shown", "")]) for n in hidden]
    left = len(model.names) - len(lanes)
    entries: list[tuple[int | str, str]] = [(0, before.title), (1, model.title)]
    if band is not None:
        entries.append(("room", _room_words(result, model)))
    return _picture(
        summary, metric, legend(entries, text), Scale(lanes, text=text).draw(),
        f"{left} more groups are in the table of rates." if left else "",
    )  # fmt: skip


def _of_models(
    summary: RunSummary, metric: str, constraint: int, text: Callable[[str], str]
) -> Picture:
    """A lane a model: a dot a group, and a line from the lowest to the highest."""
    names = [n for n in summary.models[0].names if n in _known(summary.models[0], metric, [n])]
    coloured = len(names) <= _MOST_COLOURS
    lanes = []
    for at, model in enumerate(summary.models, 1):
        cells = _known(model, metric, [n for n in names if n in model.names])
        rates = [cell["rate"] for cell in cells.values()]
        result = model.report.results[constraint]
        dots = [
            Dot(c["rate"], series=1 + names.index(n) if coloured else 1) for n, c in cells.items()
        ]
        gap = model.gap(result)
        said = [("not shown", "")] if gap is None else [(f"{gap[0]:.3f}", _limits(gap, "{:.3f}"))]
        lanes.append(
            Lane(
                f"{at}  {model.title}", "", dots, said,
                room=room(result, rates),
                span=(min(rates), max(rates)) if rates else None,
            )
        )  # fmt: skip
    entries: list[tuple[int | str, str]] = (
        [(1 + i, name) for i, name in enumerate(names)] if coloured else [(1, "a group")]
    )
    entries += [("span", "all groups of a model"), ("room", "room that the bound leaves")]
    left = len(summary.models[0].names) - len(names)
    result = summary.models[-1].report.results[constraint]
    note = f"Beside each: what the bound of {result.bound:g} limits, with its 95 % interval."
    if left:
        note += f" {left} {'group is' if left == 1 else 'groups are'} too small to be shown."
    return _picture(summary, metric, legend(entries, text), Scale(lanes, text=text).draw(), note)


def _picture(summary: RunSummary, metric: str, key: str, body: str, note: str) -> Picture:
    title, meaning = (words.format(outcome=summary.outcome) for words in RATES[metric])
    return Picture(title, meaning, key, body, note)


def _dot(cell: dict[str, Any], series: int, level: int) -> Dot:
    return Dot(cell["rate"], cell["lower"], cell["upper"], series, level)


def _rows(cell: dict[str, Any]) -> str:
    count = count_words(cell["count"])
    return f"{count} rows" if count[0].isdigit() or count.startswith("under") else ""


def _said(cell: dict[str, Any] | None, title: str) -> tuple[str, str]:
    if cell is None:
        return "not shown", title
    limits = _limits((cell["rate"], cell["lower"], cell["upper"]), "{:.1%}")
    return f"{cell['rate']:.1%}", f"{title}, {limits}" if limits else title


def _limits(found: tuple[float, float, float], form: str) -> str:
    known = math.isfinite(found[1]) and math.isfinite(found[2])
    return f"{form.format(found[1])} to {form.format(found[2])}" if known else ""


def _room_words(result: ConstraintResult, model: Judged) -> str:
    if result.absolute:
        return "within the bound"
    return f"room that the bound leaves: {model.title} keeps it if it holds every dot"


def plane(summary: RunSummary) -> FrontierChart | None:
    """The models as points: what each is worth against its gap, on the rows that judged them."""
    models = [m for m in (summary.constant, *summary.models) if m is not None]
    shown = fair_models(summary)
    points: list[FrontierPoint] = []
    chosen: int | None = None
    for model in models:
        report, result = model.report, model.report.results[0]
        gap = model.gap(result)
        if gap is None or not math.isfinite(report.worth):
            continue
        if len(shown) == 1 and model is shown[0]:
            chosen = len(points)
        limits = report.accuracy[1:] if report.objective == "accuracy" else (math.nan, math.nan)
        at = "constant" if model is summary.constant else 1 + summary.models.index(model)
        few = len(models) <= 4
        points.append(
            FrontierPoint(
                model.title if few else str(at), 0, report.worth, gap[0],
                (limits[0], limits[1]), (gap[1], gap[2]), near_constant=report.near_constant,
            )
        )  # fmt: skip
    result = summary.models[-1].report.results[0]
    if len(points) < 2 or result.larger_is_fairer:
        return None
    return FrontierChart(
        "models", "", tuple(points), chosen,
        performance_name=summary.models[-1].report.objective.replace("_", " "),
        gap_name=f"{result.constraint.replace('_', ' ')} gap",
        bound=result.bound,
    )  # fmt: skip
