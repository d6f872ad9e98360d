"""The report as one self-contained page: no script, nothing loaded, every name escaped."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from markupsafe import Markup

from fairtrain._text import one_line
from fairtrain.plotting.style import COLOURS
from fairtrain.report.drawing import drawn
from fairtrain.report.summary import RunSummary
from fairtrain.report.view import environment, view
from fairtrain.report.words import short_names

__all__ = ["render_report"]


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
    style = templates.get_template("report.css.j2").render(colours=COLOURS)
    return templates.get_template("report.html.j2").render(
        **view(summary),
        style=Markup(style),
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        drawing=drawn(summary.frontiers),
    )
