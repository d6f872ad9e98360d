"""A trade-off as a drawing: where every mark of the chart goes, in units of its viewBox."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fairtrain._figures import ticks
from fairtrain.constraints.objectives import as_said
from fairtrain.plotting.style import COLOURS
from fairtrain.report.chart import FrontierChart, FrontierPoint
from fairtrain.report.words import shorten

__all__ = ["HEIGHT", "WIDTH", "drawn"]

WIDTH, HEIGHT = 720, 430
_LEFT, _RIGHT, _TOP, _UNDER = 66, 700, 16, 58
_MOST_LABELS = 8
_BESIDE_TEXT = 2  # units a pixel: models are drawn on half a page, and letters do not shrink
_DASHES = ("", "7 3", "2 3", "9 3 2 3")


def drawn(
    charts: Sequence[FrontierChart], *, steps: bool = True, height: int = HEIGHT
) -> dict[str, Any]:
    """Lay charts over each other, performance up and gap to the right.

    Parameters
    ----------
    charts : sequence of FrontierChart
        Sweeps measured in the same two quantities.
    steps : bool, default=True
        Draw a sweep: a line along the front, limits at the chosen point. Else the points are
        models that no one parameter connects: each has its limits and its name.
    height : int, default=430
        Of the viewBox.

    Returns
    -------
    dict
        Ticks, bound, and for each chart its step line, marks and labels; empty where no point has
        two numbers.
    """
    spots = [spot for chart in charts for spot in _spots(chart, steps)]
    if not spots:
        return {}
    bounds = sorted({c.bound for c in charts if c.bound is not None and math.isfinite(c.bound)})
    gaps = ticks([0.0, *(s[0] for s in spots), *bounds])
    heights = ticks([s[1] for s in spots])
    bottom = height - _UNDER
    scale = _Scale(gaps, heights, bottom)
    name, letter = charts[0].performance_name, 7 if steps else 7 * _BESIDE_TEXT
    curves = [_curve(chart, i, scale, steps) for i, chart in enumerate(charts)]
    curves = _apart(curves, letter)
    return {
        "width": WIDTH,
        "height": height,
        "left": _LEFT,
        "right": _RIGHT,
        "top": _TOP,
        "bottom": bottom,
        "x_ticks": [{"at": scale.x(v), "text": f"{v:g}"} for v in gaps],
        "y_ticks": [{"at": scale.y(v), "text": f"{as_said(name, v):g}"} for v in heights],
        "bounds": [
            {"at": (at := scale.x(b)), "text": f"{b:g}", "foot": _foot(at, curves, letter, bottom)}
            for b in bounds
        ],
        "feasible": scale.x(max(bounds)) if len(bounds) == 1 else None,
        "x_name": charts[0].gap_name,
        "y_name": name,
        "y_better": "less is better" if as_said(name, 1.0) < 0 else "higher is better",
        "curves": curves,
    }


_DOT, _MIDDLE = 5, 4  # pixels: radius of a mark; from a label's foot to its middle


def _apart(curves: list[dict[str, Any]], letter: float) -> list[dict[str, Any]]:
    """Put each label at a corner of its mark where no other lies; the chosen point's come first.

    A label without such a corner is dropped.
    """
    placed: list[tuple[float, float]] = []  # middle of a label; all are of about one height
    marks = [(mark, curve["chosen"]) for curve in curves for mark in curve["marks"]]
    spots = [(mark["x"], mark["y"]) for mark, _ in marks]
    spots += [(b["x"], b["y"]) for curve in curves if (b := curve["baseline"])]
    for mark, _ in sorted(marks, key=lambda m: {"x": m[0]["x"], "y": m[0]["y"]} != m[1]):
        wide = letter * len(mark["label"]) + 6
        corners = [(side, down) for down in (16, -9) for side in (1, -1)]
        free = [
            (side, down)
            for side, down in corners
            if _LEFT <= mark["x"] + side * wide <= WIDTH
            and not any(
                abs(mark["x"] + side * wide / 2 - x) < wide and abs(mark["y"] + down - y) < 14
                for x, y in placed
            )
        ]
        # Of the free corners, the first that covers fewest marks.
        free.sort(
            key=lambda at: sum(
                -_DOT < at[0] * (x - mark["x"]) < wide + 8
                and abs(mark["y"] + at[1] - _MIDDLE - y) < 7 + _DOT
                for x, y in spots
            )
        )
        if not (mark["label"] and free):
            mark["label"] = ""
            continue
        side, down = free[0]
        mark |= {"dx": 8 * side, "dy": down, "anchor": "start" if side > 0 else "end"}
        placed.append((mark["x"] + side * wide / 2, mark["y"] + down))
    return curves


def _foot(at: float, curves: Sequence[dict[str, Any]], letter: float, bottom: float) -> float:
    """Foot of a bound's label: at the top of its line, or at the bottom where something lies."""
    wide, high = letter * 11, _TOP + 15
    marks = [mark for curve in curves for mark in curve["marks"]]
    things = [(mark["x"], mark["x"], mark["y"]) for mark in marks]
    things += [(bar["x1"], bar["x2"], bar["y1"]) for mark in marks for bar in mark["bars"]]
    taken = any(
        low - _DOT < at + wide and end + _DOT > at and abs(y - high + _MIDDLE) < 7 + _DOT
        for low, end, y in things
    )
    return bottom - 8 if taken else high


class _Scale:
    """Numbers to places."""

    def __init__(self, gaps: list[float], heights: list[float], bottom: float) -> None:
        self._bottom = bottom
        self._gap = (gaps[0], gaps[-1])
        self._height = (heights[0], heights[-1])

    def x(self, gap: float) -> float:
        low, high = self._gap
        return round(_LEFT + (gap - low) / (high - low) * (_RIGHT - _LEFT), 1)

    def y(self, height: float) -> float:
        low, high = self._height
        return round(self._bottom - (height - low) / (high - low) * (self._bottom - _TOP), 1)

    def bars(self, point: FrontierPoint) -> list[dict[str, float]]:
        """Lines from limit to limit, where these are known."""
        x, y = self.x(point.gap), self.y(point.performance)
        across = [self.x(v) for v in point.gap_limits if math.isfinite(v)]
        along = [self.y(v) for v in point.performance_limits if math.isfinite(v)]
        lines = [{"x1": across[0], "x2": across[1], "y1": y, "y2": y}] if len(across) == 2 else []
        if len(along) == 2:
            lines.append({"x1": x, "x2": x, "y1": along[0], "y2": along[1]})
        return lines

    def spot(self, gap: float, height: float) -> dict[str, float] | None:
        """Where a point goes; None where one of its numbers is not known."""
        known = math.isfinite(gap) and math.isfinite(height)
        return {"x": self.x(gap), "y": self.y(height)} if known else None


def _finite(point: FrontierPoint) -> bool:
    return math.isfinite(point.gap) and math.isfinite(point.performance)


def _spots(chart: FrontierChart, steps: bool) -> list[tuple[float, float]]:
    """Whatever is to lie in the picture, ends of limits too."""
    spots = [(p.gap, p.performance) for p in chart.points if _finite(p)]
    for p in _limited(chart, steps):
        spots += [(end, p.performance) for end in p.gap_limits if math.isfinite(end)]
        spots += [(p.gap, end) for end in p.performance_limits if math.isfinite(end)]
    if chart.baseline is not None and all(map(math.isfinite, chart.baseline)):
        spots.append(chart.baseline)
    return spots


def _limited(chart: FrontierChart, steps: bool) -> list[FrontierPoint]:
    """Points whose limits are drawn: those of a whole sweep would hide it."""
    finite = [p for p in chart.points if _finite(p)]
    chosen = None if chart.chosen is None else chart.points[chart.chosen]
    return [p for p in finite if p is chosen] if steps else finite if len(finite) <= 4 else []


def _curve(chart: FrontierChart, i: int, scale: _Scale, steps: bool) -> dict[str, Any]:
    front = [p for p in chart.front if _finite(p)]
    chosen = None if chart.chosen is None else chart.points[chart.chosen]
    labelled = _labelled(front, chosen) if steps else chart.points
    limited = _limited(chart, steps)
    marks = [
        {
            "x": scale.x(p.gap),
            "y": scale.y(p.performance),
            "front": not p.dominated,
            "hollow": p.near_constant,
            "label": shorten(p.label, 14 if steps else 24) if any(p is q for q in labelled) else "",
            "words": f"{chart.param} = {p.label}" if steps else p.label,
            "bars": scale.bars(p) if any(p is q for q in limited) else [],
        }
        for p in chart.points
        if _finite(p)
    ]
    return {
        "name": chart.name,
        "colour": COLOURS[i % len(COLOURS)],
        "number": i % len(COLOURS),
        "dash": _DASHES[i % len(_DASHES)],
        "lines": (lines := _steps(front, scale) if steps else []),
        "path": _path(lines),
        "marks": marks,
        "baseline": None if chart.baseline is None else scale.spot(*chart.baseline),
        "chosen": None if chosen is None else scale.spot(chosen.gap, chosen.performance),
    }


def _steps(front: Sequence[FrontierPoint], scale: _Scale) -> list[dict[str, float]]:
    """Best performance within a gap, to the right edge: between two points it is the left one's."""
    lines = []
    for i, point in enumerate(front):
        x, y = scale.x(point.gap), scale.y(point.performance)
        until = scale.x(front[i + 1].gap) if i + 1 < len(front) else _RIGHT
        lines.append({"x1": x, "y1": y, "x2": until, "y2": y})
        if i + 1 < len(front):
            up = scale.y(front[i + 1].performance)
            lines.append({"x1": until, "y1": y, "x2": until, "y2": up})
    return lines


def _path(lines: Sequence[dict[str, float]]) -> str:
    """Lines that follow each other as a path."""
    if not lines:
        return ""
    # Across and up take turns.
    parts = [f"V{li['y2']}" if k % 2 else f"H{li['x2']}" for k, li in enumerate(lines)]
    return "".join([f"M{lines[0]['x1']} {lines[0]['y1']}", *parts])


def _labelled(front: Sequence[FrontierPoint], chosen: FrontierPoint | None) -> list[FrontierPoint]:
    """Points whose value is written beside them: some of the front, and the chosen one."""
    places = np.unique(np.linspace(0, len(front) - 1, min(len(front), _MOST_LABELS)).astype(int))
    picked = [front[int(i)] for i in places] if front else []
    return picked if chosen is None else [*picked, chosen]
