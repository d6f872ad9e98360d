"""A model card: Markdown with the header that model hubs read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

from fairtrain._text import one_line
from fairtrain.metrics.disclosure import MIN_CELL, count_words
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

    def text(value: Any) -> str:
        words = str(value)
        for name, brief in short.items():
            words = words.replace(name, brief)
        return markdown_text(shorten(words, 2000))

    parts = [
        _header(summary, license),
        f"# {text(shorten(summary.title, 200))}",
        f"**In one sentence:** {text(in_one_sentence(summary))}",
        *_section("Warnings", _list([*group_warnings(summary), *summary.notes], text)),
        *_section("What was asked, and why", _asked(summary, text)),
        *_section("Data", _data(summary, text)),
        *_section("Results", _results(summary, text)),
        *_section("Choice and cost", _choice(summary, text)),
        *_section("Limits", [_LIMITS]),
        *_section("Made with", _made_with(summary, text)),
    ]
    return "\n\n".join(parts) + "\n"


_LIMITS = (
    "A verdict holds for people drawn like those who were judged, and for the groups listed here; "
    f"rates over fewer than {MIN_CELL} rows are left out. The label itself may be unfair: equal "
    "rates say nothing of whether it is."
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


def _header(summary: RunSummary, license: str | None) -> str:  # noqa: A002
    model = summary.models[-1]
    rows: list[str] = ["---", "language: en"]
    if license is not None:
        rows.append(f"license: {_quoted(license)}")
    rows += ["library_name: fairtrain", "pipeline_tag: tabular-classification", "tags:"]
    tags = ["fairness", "tabular", *dict.fromkeys(r.constraint for r in model.report.results)]
    rows += [f"  - {_quoted(tag)}" for tag in tags]
    rows += ["metrics:", "  - accuracy", "  - roc_auc"]
    measured = _measured(model)
    if measured:
        rows += [
            "model-index:",
            f"  - name: {_quoted(shorten(summary.title, 200))}",
            "    results:",
            "      - task:",
            "          type: tabular-classification",
            "        dataset:",
            f"          name: {_quoted(shorten(summary.data, 200))}",
            "          type: tabular",
            "        metrics:",
        ]
        for kind, name, value in measured:
            rows += [
                f"          - type: {_quoted(kind)}",
                f"            name: {_quoted(name)}",
                f"            value: {value:.6f}",
            ]
    return "\n".join([*rows, "---"])


def _quoted(text: object) -> str:
    """A double-quoted YAML scalar: JSON's are, once nothing unprintable is left."""
    return json.dumps(one_line(text), ensure_ascii=False)


def _measured(model: Judged) -> list[tuple[str, str, float]]:
    found = [
        ("accuracy", "accuracy on certification rows", model.report.accuracy[0]),
        ("roc_auc", "area under the ROC curve", model.auc),
    ]
    for result in model.report.results:
        gap = model.gap(result)
        if gap is not None:
            name = f"{result.constraint} ({result.kind})"
            found.append((result.constraint, name, gap[0]))
    return [row for row in found if math.isfinite(row[2])]


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [f"## {title}", *lines] if lines else []


def _list(lines: Sequence[str], text: Any) -> list[str]:
    return ["\n".join(f"- {text(line)}" for line in lines)] if lines else []


def _asked(summary: RunSummary, text: Any) -> list[str]:
    results = summary.models[0].report.results
    meanings = [text(constraint_meaning(r, summary.outcome)) for r in results]
    why = [text(line) for line in summary.rationale.splitlines() if line.strip()]
    why = why or ["no reason was recorded."]
    return [f"{text(summary.constraint)}.", *meanings, f"**Why:** {why[0]}", *why[1:]]


def _data(summary: RunSummary, text: Any) -> list[str]:
    rows = summary.row_counts
    said = (
        f"{text(shorten(summary.data, 400))}. Favourable outcome: {text(summary.outcome)}. "
        f"{rows['training']:,} rows trained, {rows['steering']:,} steered, "
        f"{rows['certification']:,} judged."
    )
    table = [
        [text(name), *(count_words(n) for n in summary.group_counts.get(name, {}).values())]
        for name in summary.models[0].names
    ]
    return [said, _table(["Group", "Rows", "Training", "Steering", "Judging"], table)]


def _results(summary: RunSummary, text: Any) -> list[str]:
    table = []
    for model in summary.models:
        accuracy = _limited(model.report.accuracy)
        for result in model.report.results:
            gap = model.gap(result)
            table.append(
                [
                    text(model.title),
                    accuracy,
                    text(result.constraint.replace("_", " ")),
                    f"under {MIN_CELL} rows" if gap is None else _limited(gap),
                    f"{result.bound:g}",
                    text(str(result.verdict).replace("_", " ")),
                ]
            )
    titles = [text(m.title) for m in summary.models]
    shares = [
        [text(name), *(_share(m.rate("selection_rate", name)["rate"]) for m in summary.models)]
        for name in summary.models[0].names
    ]
    head = ["Model", "Accuracy", "Constraint", "Achieved", "Bound", "Verdict"]
    return [
        _table(head, table),
        f"Share {text(summary.outcome)} by group:",
        _table(["Group", *titles], shares),
    ]


def _choice(summary: RunSummary, text: Any) -> list[str]:
    lines = _list(summary.choice, text)
    costs = [(m.title, m.cost) for m in summary.models if m.cost is not None]
    for title, cost in costs:
        lines.append(
            f"{text(title)}: {text(cost.words())} {cost.gained:.1%} of all get a favourable "
            f"decision that they did not get before, {cost.lost:.1%} no longer get one."
        )
    return lines


def _made_with(summary: RunSummary, text: Any) -> list[str]:
    values = {**summary.settings, **summary.made_with}
    rows = [
        [text(shorten(str(key))), text(shorten(str(setting_text(value)), 200))]
        for key, value in values.items()
        if value is not None
    ]
    return [_table(["What", "Value"], rows)] if rows else []


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _limited(found: tuple[float, float, float]) -> str:
    return "{:.3f} ({:.3f} to {:.3f})".format(*found)


def _share(value: float | None) -> str:
    return "not shown" if value is None or not math.isfinite(value) else f"{value:.1%}"
