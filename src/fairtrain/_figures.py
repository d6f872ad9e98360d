"""Values with their intervals, a lane each on one scale: HTML and SVG without script or loading."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from fairtrain._text import one_line

__all__ = [
    "LANES_CSS",
    "MARKS",
    "Dot",
    "Html",
    "Lane",
    "Scale",
    "fragment",
    "grid",
    "legend",
    "pill",
    "ticks",
]

_STEP = 15  # pixels between two dots of a lane
MARKS = {"met": "\u2713", "not_met": "\u2715", "too_few_rows": "?", "not_certified": "~"}
"""Verdicts without words or colour."""

LANES_CSS = """\
.lanes { --ft-1: #0072b2; --ft-2: #d55e00; --ft-3: #009e73; --ft-4: #cc79a7; --ft-5: #e69f00;
  --ft-6: #56b4e9; --ft-7: #6b6b6b; --ft-0: #5f6b7a; --ft-room: #009e73; margin: .5rem 0 .25rem; }
.lane { display: grid;
  grid-template-columns: minmax(6rem, 12rem) minmax(8rem, 1fr) 15.5rem;
  gap: 0 1rem; align-items: center; break-inside: avoid; }
.lane svg { display: block; width: 100%; overflow: visible; }
.lane .who { overflow-wrap: anywhere; line-height: 1.25; padding: .3rem 0; }
.lane .who small, .lane .said small { display: block; opacity: .82; font-size: .8rem; }
.lane .said { font-variant-numeric: tabular-nums; font-size: .88rem; line-height: 1.3; }
.lane .said small { display: inline; }
.lanes .room { fill: var(--ft-room); fill-opacity: .16; }
.lanes .rule { stroke: currentColor; stroke-opacity: .16; stroke-width: 1; }
.lanes .tick { fill: currentColor; font-size: 12px; text-anchor: middle; }
.lanes .span { stroke: currentColor; stroke-opacity: .45; stroke-width: 3; }
.lanes line.bar { stroke-width: 2; }
.lanes circle { stroke-width: 2.5; }
.lanes .s0 { stroke: var(--ft-0); fill: var(--paper, none); }
.lanes .s1 { stroke: var(--ft-1); fill: var(--ft-1); }
.lanes .s2 { stroke: var(--ft-2); fill: var(--ft-2); }
.lanes .s3 { stroke: var(--ft-3); fill: var(--ft-3); }
.lanes .s4 { stroke: var(--ft-4); fill: var(--ft-4); }
.lanes .s5 { stroke: var(--ft-5); fill: var(--ft-5); }
.lanes .s6 { stroke: var(--ft-6); fill: var(--ft-6); }
.lanes .s7 { stroke: var(--ft-7); fill: var(--ft-7); }
.legend { list-style: none; padding: 0; margin: .25rem 0; display: flex; flex-wrap: wrap;
  gap: .2rem 1.25rem; font-size: .85rem; }
.legend li { overflow-wrap: anywhere; margin: 0; }
.legend svg { width: 1.5rem; height: .8rem; vertical-align: -.08rem; overflow: visible; }
.pill { display: inline-block; border: 1.5px solid currentColor; border-radius: 1rem;
  padding: .05rem .7rem; font-weight: 600; }
@media (prefers-color-scheme: dark) {
  .lanes { --ft-1: #4da3e0; --ft-2: #f08a3c; --ft-3: #2fc08f; --ft-4: #e39cc5; --ft-5: #f0b93a;
    --ft-6: #9fd4f5; --ft-7: #c7ccd4; --ft-0: #aab4c3; --ft-room: #2fc08f; }
}
@media print {
  .lanes { --ft-1: #0072b2; --ft-2: #d55e00; --ft-3: #009e73; --ft-4: #cc79a7; --ft-5: #e69f00;
    --ft-6: #56b4e9; --ft-7: #6b6b6b; --ft-0: #5f6b7a; --ft-room: #009e73; }
  .lane .who { padding: 0; }
}
@media (max-width: 44rem) {
  .lane { grid-template-columns: 1fr; gap: 0; padding: .25rem 0; }
  .lane .who { padding: .2rem 0 0; }
  .lane .who small { display: inline; }
}
"""
"""Style of what :meth:`Scale.draw` gives; ``--paper`` is the colour behind it, if it is known."""


_FRAGMENT_CSS = """\
.fairtrain { max-width: 60rem; line-height: 1.4; }
.fairtrain p { margin: .4rem 0; }
.fairtrain table { border-collapse: collapse; font-size: .9rem; }
.fairtrain td, .fairtrain th { text-align: left; padding: .2rem .9rem .2rem 0; }
"""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


@dataclass(frozen=True)
class Dot:
    """A value with its limits, which are NaN where there are none.

    Attributes
    ----------
    value, lower, upper : float
        On the scale.
    series : int
        Its colour, 0 (hollow) to 7.
    level : int
        Its place in the lane, from the top.
    """

    value: float
    lower: float = math.nan
    upper: float = math.nan
    series: int = 1
    level: int = 0


@dataclass(frozen=True)
class Lane:
    """What is drawn in one line, and said beside it.

    Attributes
    ----------
    name, note : str
        Who it is, and how many.
    dots : sequence of Dot
        What is drawn.
    said : sequence of (str, str)
        Lines of text that say the same: a value, and something smaller after it.
    room : tuple of two floats, or None
        What a bound leaves.
    span : tuple of two floats, or None
        A thick line.
    """

    name: str
    note: str = ""
    dots: Sequence[Dot] = ()
    said: Sequence[tuple[str, str]] = ()
    room: tuple[float, float] | None = None
    span: tuple[float, float] | None = None


def ticks(values: Sequence[float], about: int = 5) -> list[float]:
    """Round numbers from below the smallest value to above the largest.

    Examples
    --------
    >>> ticks([0.12, 0.43])
    [0.1, 0.2, 0.3, 0.4, 0.5]
    """
    low, high = min(values), max(values)
    room = (high - low) or max(abs(high), 1.0) * 0.1
    power = 10.0 ** math.floor(math.log10(room / about))
    step = next(m * power for m in (1, 2, 5, 10) if room / (m * power) <= about)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return [float(np.round(i * step, 10)) for i in range(first, last + 1)]


class Scale:
    """One scale for several lanes.

    Parameters
    ----------
    lanes : sequence of Lane
        What is to be drawn.
    percent : bool, default=True
        Whether values are shares.
    text : callable
        Makes a name fit to be shown.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        *,
        percent: bool = True,
        text: Callable[[str], str] = one_line,
    ) -> None:
        self._lanes, self._percent, self._text = lanes, percent, text
        ends = [v for lane in lanes for dot in lane.dots for v in (dot.value, dot.lower, dot.upper)]
        ends += [v for lane in lanes for pair in (lane.room, lane.span) for v in pair or ()]
        known = [v for v in ends if math.isfinite(v)]
        self._ticks = ticks(known or [0.0, 1.0])

    def draw(self, key: str = "") -> Html:
        """Give the lanes and their axis, after a key; what is drawn is said in words as well."""
        rows = "".join(self._lane(lane) for lane in self._lanes)
        return Html(f'{key}<div class="lanes">{rows}{self._axis()}</div>')

    def _at(self, value: float) -> str:
        low, high = self._ticks[0], self._ticks[-1]
        return f"{100 * min(max((value - low) / (high - low), 0.0), 1.0):.2f}%"

    def _width(self, pair: tuple[float, float]) -> str:
        low, high = (float(self._at(v)[:-1]) for v in pair)
        return f"{max(high - low, 0.0):.2f}%"

    def _lane(self, lane: Lane) -> str:
        levels = 1 + max((dot.level for dot in lane.dots), default=0)
        height = max(_STEP * (levels + 1), 28)
        drawn = [
            f'<line class="rule" x1="{self._at(v)}" x2="{self._at(v)}" y1="0" y2="{height}"></line>'
            for v in self._ticks
        ]
        if lane.room is not None:
            drawn.append(
                f'<rect class="room" x="{self._at(lane.room[0])}" y="0" '
                f'width="{self._width(lane.room)}" height="{height}"></rect>'
            )
        if lane.span is not None:
            low, high = map(self._at, lane.span)
            y = height / 2
            drawn.append(f'<line class="span" x1="{low}" x2="{high}" y1="{y}" y2="{y}"></line>')
        drawn += [
            _dot(self._at(d.value), *self._ends(d), height * (d.level + 1) / (levels + 1), d.series)
            for d in lane.dots
        ]
        show = self._text
        note = f" <small>{escape(show(lane.note))}</small>" if lane.note else ""
        said = "<br>".join(
            escape(show(value)) + (f" <small>{escape(show(more))}</small>" if more else "")
            for value, more in lane.said
        )
        return (
            f'<div class="lane"><div class="who">{escape(show(lane.name))}{note}</div>'
            f'<svg height="{height}" aria-hidden="true">{"".join(drawn)}</svg>'
            f'<div class="said">{said}</div></div>'
        )

    def _ends(self, dot: Dot) -> tuple[str, str]:
        known = math.isfinite(dot.lower) and math.isfinite(dot.upper)
        return (self._at(dot.lower), self._at(dot.upper)) if known else ("", "")

    def _axis(self) -> str:
        form = "{:.0%}" if self._percent else "{:g}"
        if self._percent and any(abs(100 * t - round(100 * t)) > 1e-6 for t in self._ticks):
            form = "{:.1%}"
        words = "".join(
            f'<text class="tick" x="{self._at(v)}" y="13">{form.format(v)}</text>'
            for v in self._ticks
        )
        return (
            f'<div class="lane"><div></div><svg height="18" aria-hidden="true">{words}</svg>'
            "<div></div></div>"
        )


def _dot(at: str, low: str, high: str, y: float, series: int) -> str:
    line = (
        f'<line class="bar s{series}" x1="{low}" x2="{high}" y1="{y:g}" y2="{y:g}"></line>'
        if low
        else ""
    )
    return f'{line}<circle class="s{series}" cx="{at}" cy="{y:g}" r="5"></circle>'


def legend(entries: Sequence[tuple[int | str, str]], text: Callable[[str], str] = one_line) -> Html:
    """Say what dots of a series (a number), ``"room"`` and ``"span"`` stand for."""
    marks = {
        "room": '<rect class="room" width="100%" height="100%"></rect>',
        "span": '<line class="span" x1="0" x2="100%" y1="50%" y2="50%"></line>',
    }
    items = "".join(
        '<li><svg aria-hidden="true">'
        + (
            marks[key]
            if isinstance(key, str)
            else f'<line class="bar s{key}" x1="0" x2="100%" y1="50%" y2="50%"></line>'
            f'<circle class="s{key}" cx="50%" cy="50%" r="4.5"></circle>'
        )
        + f"</svg> {escape(text(words))}</li>"
        for key, words in entries
    )
    return Html(f'<ul class="legend lanes">{items}</ul>')


def pill(verdict: str, words: str | None = None) -> Html:
    """A verdict as a mark and words: never by colour alone."""
    said = verdict.replace("_", " ") if words is None else words
    mark = MARKS.get(verdict, "")
    mark = f'<span aria-hidden="true">{mark}</span>'
    return Html(f'<span class="pill {escape(verdict)}">{mark} {escape(said)}</span>')


def grid(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> Html:
    """A table of texts."""
    head = "".join(f'<th scope="col">{escape(one_line(h))}</th>' for h in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(one_line(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return Html(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")


def fragment(*parts: str) -> str:
    """Paragraphs, pictures and tables as one piece of HTML with its style, for a notebook."""
    body = "".join(
        part if isinstance(part, Html) else f"<p>{escape(one_line(part))}</p>"
        for part in parts
        if part
    )
    return f'<div class="fairtrain"><style>{LANES_CSS}{_FRAGMENT_CSS}</style>{body}</div>'
