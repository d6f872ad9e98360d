"""A trade-off as a drawing: where every mark of the chart goes, in units of its viewBox."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fairtrain.plotting.style import COLOURS
from fairtrain.report.chart import FrontierChart, FrontierPoint
from fairtrain.report.words import shorten

__all__ = ["HEIGHT", "WIDTH", "drawn"]

WIDTH, HEIGHT = 720, 430
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 700, 16, 372
_FRAME = {"left": _LEFT, "right": _RIGHT, "top": _TOP, "bottom": _BOTTOM}
_MOST_LABELS = 8
_DASHES = ("", "7 3", "2 3", "9 3 2 3")


def drawn(charts: Sequence[FrontierChart]) -> dict[str, Any]:
    """Lay charts over each other, performance up and gap to the right.

    Parameters
    ----------
    charts : sequence of FrontierChart
        Sweeps measured in the same two quantities.

    Returns
    -------
    dict
        Ticks, bound, and for each chart its step line, marks and labels; empty where no point has
        two numbers.
    """
    spots = [spot for chart in charts for spot in _spots(chart)]
    if not spots:
        return {}
    bounds = sorted({c.bound for c in charts if c.bound is not None and math.isfinite(c.bound)})
    gaps = _ticks([0.0, *(s[0] for s in spots), *bounds])
    heights = _ticks([s[1] for s in spots])
    scale = _Scale(gaps, heights)
    return {
        "width": WIDTH,
        "height": HEIGHT,
        **_FRAME,
        "x_ticks": [{"at": scale.x(v), "text": f"{v:g}"} for v in gaps],
        "y_ticks": [{"at": scale.y(v), "text": f"{v:g}"} for v in heights],
        "bounds": [{"at": scale.x(b), "text": f"{b:g}"} for b in bounds],
        "feasible": scale.x(max(bounds)) if len(bounds) == 1 else None,
        "x_name": charts[0].gap_name,
        "y_name": charts[0].performance_name,
        "curves": _apart([_curve(chart, i, scale) for i, chart in enumerate(charts)]),
    }


def _apart(curves: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop labels that would lie on others; the chosen point's come first."""
    placed: list[tuple[float, float]] = []
    marks = [(mark, curve["chosen"]) for curve in curves for mark in curve["marks"]]
    for mark, _ in sorted(marks, key=lambda m: {"x": m[0]["x"], "y": m[0]["y"]} != m[1]):
        wide = 7 * len(mark["label"]) + 6
        close = any(abs(mark["x"] - x) < wide and abs(mark["y"] - y) < 14 for x, y in placed)
        if close or mark["x"] + wide > WIDTH:
            mark["label"] = ""
        elif mark["label"]:
            placed.append((mark["x"], mark["y"]))
    return curves


class _Scale:
    """Numbers to places."""

    def __init__(self, gaps: list[float], heights: list[float]) -> None:
        self._gap = (gaps[0], gaps[-1])
        self._height = (heights[0], heights[-1])

    def x(self, gap: float) -> float:
        low, high = self._gap
        return round(_LEFT + (gap - low) / (high - low) * (_RIGHT - _LEFT), 1)

    def y(self, height: float) -> float:
        low, high = self._height
        return round(_BOTTOM - (height - low) / (high - low) * (_BOTTOM - _TOP), 1)

    def spot(self, gap: float, height: float) -> dict[str, float] | None:
        """Where a point goes; None where one of its numbers is not known."""
        known = math.isfinite(gap) and math.isfinite(height)
        return {"x": self.x(gap), "y": self.y(height)} if known else None


def _finite(point: FrontierPoint) -> bool:
    return math.isfinite(point.gap) and math.isfinite(point.performance)


def _spots(chart: FrontierChart) -> list[tuple[float, float]]:
    spots = [(p.gap, p.performance) for p in chart.points if _finite(p)]
    if chart.baseline is not None and all(map(math.isfinite, chart.baseline)):
        spots.append(chart.baseline)
    return spots


def _ticks(values: list[float], about: int = 5) -> list[float]:
    """Round numbers from below the smallest value to above the largest."""
    low, high = min(values), max(values)
    room = (high - low) or max(abs(high), 1.0) * 0.1
    power = 10.0 ** math.floor(math.log10(room / about))
    step = next(m * power for m in (1, 2, 5, 10) if room / (m * power) <= about)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return [float(np.round(i * step, 10)) for i in range(first, last + 1)]


def _curve(chart: FrontierChart, i: int, scale: _Scale) -> dict[str, Any]:
    front = [p for p in chart.front if _finite(p)]
    chosen = None if chart.chosen is None else chart.points[chart.chosen]
    labelled = _labelled(front, chosen)
    marks = [
        {
            "x": scale.x(p.gap),
            "y": scale.y(p.performance),
            "front": not p.dominated,
            "hollow": p.near_constant,
            "label": shorten(p.label, 14) if any(p is q for q in labelled) else "",
            "words": f"{chart.param} = {p.label}",
        }
        for p in chart.points
        if _finite(p)
    ]
    return {
        "name": chart.name,
        "colour": COLOURS[i % len(COLOURS)],
        "number": i % len(COLOURS),
        "dash": _DASHES[i % len(_DASHES)],
        "path": _steps(front, scale),
        "marks": marks,
        "baseline": None if chart.baseline is None else scale.spot(*chart.baseline),
        "chosen": None if chosen is None else scale.spot(chosen.gap, chosen.performance),
    }


def _steps(front: Sequence[FrontierPoint], scale: _Scale) -> str:
    """Best performance within a gap, to the right edge: between two points it is the left one's."""
    if not front:
        return ""
    first, *rest = front
    path = [f"M{scale.x(first.gap)} {scale.y(first.performance)}"]
    for point in rest:
        path += [f"H{scale.x(point.gap)}", f"V{scale.y(point.performance)}"]
    return "".join([*path, f"H{_RIGHT}"])


def _labelled(front: Sequence[FrontierPoint], chosen: FrontierPoint | None) -> list[FrontierPoint]:
    """Points whose value is written beside them: some of the front, and the chosen one."""
    places = np.unique(np.linspace(0, len(front) - 1, min(len(front), _MOST_LABELS)).astype(int))
    picked = [front[int(i)] for i in places] if front else []
    return picked if chosen is None else [*picked, chosen]
