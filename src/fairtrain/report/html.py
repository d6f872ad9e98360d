"""The report as one self-contained page: no script, nothing loaded, every name escaped."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from typing import Any

from markupsafe import Markup

from fairtrain._figures import LANES_CSS, MARKS, pill
from fairtrain._text import one_line
from fairtrain.plotting.style import COLOURS, ON_DARK
from fairtrain.report.drawing import HEIGHT, drawn
from fairtrain.report.picture import pictures, plane
from fairtrain.report.story import answer, fair_models
from fairtrain.report.summary import RunSummary
from fairtrain.report.view import environment, view
from fairtrain.report.words import short_names

__all__ = ["render_report"]

_HALF = 310
"""Height of a picture beside text."""


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
    short = short_names(summary)

    def as_text(value: Any) -> Any:
        """No control characters, no direction marks, no endless names."""
        if not isinstance(value, str) or isinstance(value, Markup):
            return value
        for name, brief in short.items():
            value = value.replace(name, brief)
        return one_line(value)

    templates = environment(as_text, html=True)
    style = templates.get_template("report.css.j2").render(
        colours=COLOURS, on_dark=ON_DARK, lanes_css=Markup(LANES_CSS)
    )
    first = bool(summary.frontiers) and len(fair_models(summary)) == 1
    models = None if first else plane(summary)
    return templates.get_template("report.html.j2").render(
        **view(summary),
        style=Markup(style),
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        drawing=drawn(summary.frontiers, height=_HALF if first else HEIGHT),
        sweep_first=first,
        plane=None if models is None else drawn([models], steps=False, height=_HALF),
        pictures=[
            replace(p, key=Markup(p.key), body=Markup(p.body)) for p in pictures(summary, as_text)
        ],
        verdict_pill=Markup(pill(*map(as_text, answer(summary)))),
        marks=MARKS,
    )
