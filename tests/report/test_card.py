"""The model card: a header that YAML reads, and text that stays text."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt
from tests.report.data import summary

from fairtrain.report import render_card
from fairtrain.report.card import markdown_text

HOSTILE = [
    '<script>alert("1")</script>',
    "a|b\n| c |\n---\nkey: [x]",
    "`code` *b* _i_ ~~s~~ [link](http://evil.example) ![img](x)",
    "\u202egnp.exe\x00\x1b[31m",
    "http://evil.example www.evil.example me@evil.example",
    "'\"\\: {{7*7}} &amp; # - + 1. > !x",
    "    indented",
    "x" * 10_000,
]


def parts(card: str) -> tuple[dict[str, Any], str]:
    start, header, body = card.split("---\n", 2)
    assert start == ""
    return yaml.safe_load(header), body


def test_header_is_what_hubs_read() -> None:
    found = summary(sizes=(1500, 1200, 400))
    header, body = parts(render_card(found, license="apache-2.0"))
    assert header["library_name"] == "fairtrain"
    assert header["license"] == "apache-2.0"
    assert header["language"] == "en"
    assert {"fairness", "demographic_parity"} <= set(header["tags"])
    result = header["model-index"][0]["results"][0]
    numbers = {m["type"]: m["value"] for m in result["metrics"]}
    assert numbers["accuracy"] == pytest.approx(found.models[1].report.accuracy[0], abs=1e-6)
    gap = found.models[1].report.results[0].achieved
    assert numbers["demographic_parity"] == pytest.approx(gap, abs=1e-6)
    assert "Policy of 2024" in body
    assert "Chosen by run." in body


def test_no_reason_is_said() -> None:
    assert "**Why:** no reason was recorded." in render_card(summary(rationale=""))
    assert "license" not in parts(render_card(summary()))[0]


def test_small_cells_are_left_out() -> None:
    found = summary(sizes=(400, 300, 3))
    header, body = parts(render_card(found))
    types = [m["type"] for m in header["model-index"][0]["results"][0]["metrics"]]
    assert "demographic_parity" not in types
    assert "| c | not shown | not shown |" in body
    assert "| c | under 10 | under 10 | under 10 | under 10 |" in body


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text(name: str) -> None:
    why = name.replace("\n", " ") + "\nSecond reason."  # lines of a reason become paragraphs
    found = summary((name, "b", "c"), (400, 300, 100), word=name, n_models=3, rationale=why)
    header, body = parts(render_card(found))
    assert header["model-index"][0]["name"].startswith("Title ")
    tame = summary(("plain", "b", "c"), (400, 300, 100), word="plain", n_models=3)
    reader = MarkdownIt("gfm-like", {"linkify": False}).enable("table")
    wanted, got = (reader.parse(text) for text in (parts(render_card(tame))[1], body))
    assert sorted(kinds(got)) == sorted(kinds(wanted))
    assert "://" not in body
    assert "\u202e" not in body
    assert len(body) < 60_000


def kinds(tokens: list[Any]) -> list[str]:
    """Every element that Markdown found, inline ones too; soft breaks are no structure."""
    found = []
    for token in tokens:
        found.append(token.type)
        found += kinds(token.children or [])
    return [t for t in found if t not in ("text", "text_special", "softbreak")]


@pytest.mark.parametrize("name", HOSTILE[:-1])
def test_escaped_text_reads_as_it_was(name: str) -> None:
    reader = MarkdownIt("commonmark")
    (inline,) = [t for t in reader.parse(f"| {markdown_text(name)} |") if t.type == "inline"]
    shown = "".join(child.content for child in inline.children or [])
    assert shown.startswith("| ")
    for word in ("alert", "evil", "indented", "{{7*7}}"):
        assert (word in shown) == (word in name)
