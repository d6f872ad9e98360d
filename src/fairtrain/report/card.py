"""A model card: Markdown with the header that model hubs read."""

from __future__ import annotations

import math
import re
from typing import Any

from markupsafe import Markup

from fairtrain._text import one_line
from fairtrain.report.judged import Judged
from fairtrain.report.summary import RunSummary
from fairtrain.report.view import environment, view
from fairtrain.report.words import short_names, shorten

__all__ = ["markdown_text", "render_card"]

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;"}
_SPECIAL = re.compile(r"([\\`*_{}\[\]#+!|~$]|^-)")


def render_card(summary: RunSummary, *, license: str | None = None) -> str:  # noqa: A002
    """Write the model card.

    Parameters
    ----------
    summary : RunSummary
        What the run found.
    license : str, optional
        Licence of the model, as hubs name them, such as ``"apache-2.0"``.

    Returns
    -------
    str
        Markdown. Whatever comes from the data is text in it: neither markup nor a link.
    """
    short = short_names(summary)

    def as_text(value: Any) -> Any:
        if not isinstance(value, str) or isinstance(value, Markup):
            return value
        for name, brief in short.items():
            value = value.replace(name, brief)
        return markdown_text(shorten(value, 2000))

    model = summary.models[-1]
    return (
        environment(as_text, html=False)
        .get_template("card.md.j2")
        .render(
            **view(summary),
            license=license,
            tags=[
                "fairness",
                "tabular",
                *dict.fromkeys(r.constraint for r in model.report.results),
            ],
            measured=_measured(model),
        )
    )


def markdown_text(value: object) -> str:
    r"""Escape whatever Markdown, its tables, HTML or automatic links would read as more than text.

    Examples
    --------
    >>> print(markdown_text("a|b <b> *c* http://x.y"))
    a\|b &lt;b&gt; \*c\* http&#58;//x.y
    """
    words = " ".join(one_line(value).split())  # four spaces would make code of it
    text = "".join(_ENTITIES.get(c, c) for c in _SPECIAL.sub(r"\\\1", words))
    return text.replace("://", "&#58;//").replace("www.", "www&#46;").replace("WWW.", "WWW&#46;")


def _measured(model: Judged) -> list[tuple[str, str, float]]:
    """Numbers for the header: kind, name, value."""
    numbers = [
        ("accuracy", "accuracy on certification rows", model.report.accuracy[0]),
        ("roc_auc", "area under the ROC curve", model.auc),
    ]
    for result in model.report.results:
        gap = model.gap(result)
        if gap is not None:
            name = f"{result.constraint} ({result.kind})"
            numbers.append((result.constraint, name, gap[0]))
    return [row for row in numbers if math.isfinite(row[2])]
