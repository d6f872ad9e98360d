from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from tests.report import data

from fairtrain.constraints import DemographicParity
from fairtrain.data.groups import Groups
from fairtrain.metrics.verdicts import Verdict
from fairtrain.report import RunSummary, judged, render_card, render_report
from fairtrain.report.picture import pictures, plane

HOSTILE = '<img src=x onerror="alert(1)">\u202e\n'


def summary(names: tuple[str, str, str], *, small: int = 3) -> RunSummary:
    rng = np.random.default_rng(0)
    who = np.repeat(list(names), [400, 300, small])
    y = rng.integers(0, 2, len(who))
    unfair = np.where(who == names[0], 1, y)
    groups = Groups.from_sensitive({"group": who})
    constraint = DemographicParity(difference_bound=0.05)
    models = tuple(
        judged(title, (constraint,), y, decision, groups, outcome="approved")
        for title, decision in (("baseline", unfair), ("fair model", np.full(len(y), 0.5)))
    )
    counts = {n: {"all": int(c)} for n, c in zip(groups.names, groups.counts, strict=True)}
    return RunSummary(
        title=f"Run of {names[0]}",
        data="test",
        outcome="approved",
        constraint="demographic parity",
        models=models,
        row_counts={"training": 0, "steering": 0, "certification": len(y)},
        group_counts={n: {**c, "training": 0, "steering": 0, "x": 0} for n, c in counts.items()},
        settings={names[1]: names[2]},
        notes=(names[0],),
    )


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    assert not tags.open
    return tags


def test_page_is_self_contained() -> None:
    tags = parsed(render_report(summary(("a", "b", "c"))))
    assert not {tag for tag, _ in tags.seen} & {"script", "link", "img", "iframe", "object"}
    assert not [a for _, a in tags.seen if {"src", "href", "style", "onerror"} & set(a)]
    policy = next(a["content"] for _, a in tags.seen if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_hostile_names_are_text() -> None:
    page = render_report(summary((HOSTILE, "{{ 7 * 7 }}", "'; drop")))
    parsed(page)
    assert "<img" not in page
    assert "\u202e" not in page
    assert "{{ 7 * 7 }}" in page


def test_small_cells_are_not_shown() -> None:
    found = summary(("a", "b", "c"))
    assert found.models[0].rate("selection_rate", "c")["rate"] is None
    # With 'c' alone hidden, the total would tell: the next smallest group is hidden too.
    assert found.models[0].rate("selection_rate", "b")["rate"] is None
    assert found.models[0].rate("selection_rate", "a")["rate"] == 1.0
    page = render_report(found)
    assert "under 10" in page
    assert "has 3," not in page
    assert found.to_dict()["models"][0]["constraints"][0]["achieved"] is None


def test_verdicts_in_words() -> None:
    found = summary(("a", "b", "c"), small=40)
    standings = found.models[0].standings[0]
    assert standings["a"].verdict is Verdict.NOT_MET
    assert standings["b"].verdict is Verdict.NOT_MET
    page = render_report(found)
    assert "not met: the bound is broken" in page
    assert "Share approved" in page
    assert "differs by" in page


def test_small_group_without_a_clear_gap_has_too_few_rows() -> None:
    rng = np.random.default_rng(1)
    who = np.repeat(["a", "b", "c"], [2000, 2000, 30])
    decision = np.where(who == "a", 1, rng.integers(0, 2, len(who)))
    decision[who == "c"] = [1] * 22 + [0] * 8
    constraint = DemographicParity(difference_bound=0.05)
    groups = Groups.from_sensitive({"g": who})
    model = judged("m", (constraint,), decision, decision, groups, outcome=1)
    assert model.report.verdict is Verdict.NOT_MET
    assert model.standings[0]["b"].verdict is Verdict.NOT_MET


@pytest.mark.parametrize("score", [None, "given"])
def test_auc_is_that_of_a_score_or_none(score: str | None) -> None:
    y = np.array([0, 1] * 50)
    given = None if score is None else 1.0 - y
    groups = Groups.from_sensitive({"g": ["a"] * 50 + ["b"] * 50})
    constraint = DemographicParity(difference_bound=0.05)
    model = judged("m", (constraint,), y, y, groups, outcome=1, score=given)
    np.testing.assert_equal(model.auc, np.nan if score is None else 0.0)  # never of decisions


def test_page_tells_what_was_chosen_why_and_at_what_cost() -> None:
    found = data.summary(several=2, n_models=3)
    page = render_report(found)
    cost = found.models[1].cost
    assert cost is not None
    for said in (
        "In one sentence",
        "Policy of 2024 run.",
        "<p>Second reason.</p>",
        "may in no group differ by more than 10 percentage points",
        "Chosen by run.",
        f"{-100 * cost.accuracy[0]:+.1f}<br>",
        f"{cost.gained:.1%}",
        "Whose decision changes: run 1",
        'data_sha256</th><td class="long">e3b0c442',
        "beaten by another",
    ):
        assert said in page, said
    drawings = [a for tag, a in parsed(page).seen if tag == "svg" and a.get("class") == "frontier"]
    assert len(drawings) == 1


def test_what_is_not_known_is_said() -> None:
    found = data.summary(rationale="", choice=(), frontiers=(), made_with={})
    page = render_report(replace(found, models=tuple(replace(m, cost=None) for m in found.models)))
    assert "<strong>Why:</strong> no reason was recorded." in page
    assert "No choice was recorded" in page
    assert "<h2>Trade-off</h2>" not in page


def test_eight_models_are_a_lane_each_once() -> None:
    page = render_report(data.summary(n_models=8))
    lanes = [a for _, a in parsed(page).seen if a.get("class") == "lane"]
    assert len(lanes) == 9  # and the axis
    assert page.count('<line class="span"') == 9  # and its key
    assert "In words" not in page


@pytest.mark.parametrize(("n_models", "several"), [(2, 1), (2, 2), (8, 2)])
def test_page_can_be_read_by_ear_and_by_keyboard(n_models: int, several: int) -> None:
    page = render_report(data.summary(n_models=n_models, several=several))
    seen = parsed(page).seen
    tags = [tag for tag, _ in seen]
    levels = [int(tag[1]) for tag in tags if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert (tags.count("main"), tags.count("header")) == (1, 1)
    assert next(a for tag, a in seen if tag == "html")["lang"] == "en"
    ids = [a["id"] for _, a in seen if "id" in a]
    assert len(ids) == len(set(ids))
    for tag, a in seen:
        if tag == "section":
            assert a.get("aria-label") or a["aria-labelledby"] in ids
        if tag == "th":
            assert a["scope"] in ("col", "row")
        if a.get("class") == "scroll":  # whoever has no mouse scrolls by arrow keys
            assert (a["tabindex"], a["role"]) == ("0", "region")
            assert a["aria-label"]
    drawings = re.findall(r"<svg[^>]*>", page)
    outer = [svg for svg in drawings if "overflow=" not in svg]
    assert all('aria-hidden="true"' in svg or 'role="img"' in svg for svg in outer)
    # A verdict is told by mark and word, not by colour alone.
    for verdict in re.findall(r'<span class="(?:v|pill) [a-z_]+">(.*?)</span>', page):
        assert verdict.strip()


def test_page_has_what_a_model_card_asks_for() -> None:
    page = render_report(data.summary())
    assert "<strong>Intended use:</strong> not recorded." in page
    for said in ("Prepared by", "Approved by", "Limits:"):
        assert said in page
    signed = data.summary(intended_use="Loans.\nNot jobs.", signed=("R. Roe, risk, 3 May.",))
    again = RunSummary.from_dict(json.loads(json.dumps(signed.to_dict())))
    for text in (render_report(signed), render_report(again), render_card(again)):
        for said in ("Loans.", "Not jobs.", "R. Roe, risk, 3 May."):
            assert said in text
        assert "Prepared by" not in text


def test_dots_lie_where_the_numbers_say() -> None:
    found = data.summary(sizes=(1500, 1200, 400))
    picture = pictures(found, str)[0]
    places = [float(x) for x in re.findall(r'cx="([\d.]+)%"', picture.body)]
    rates = [m.rate("selection_rate", n)["rate"] for m in found.models for n in "abc"]
    ordered = sorted("abc", key=lambda n: -found.models[1].rate("selection_rate", n)["rate"])
    wanted = [m.rate("selection_rate", n)["rate"] for n in ordered for m in found.models]
    slope, start = np.polyfit(wanted, places, 1)
    np.testing.assert_allclose(places, start + slope * np.array(wanted), atol=0.02)
    assert slope > 0
    assert len(rates) == len(places)


def test_eight_models_share_one_plane() -> None:
    found = data.summary(n_models=8)
    chart = plane(found)
    assert chart is not None
    assert [p.performance for p in chart.points] == [m.report.accuracy[0] for m in found.models]
    small = plane(data.summary(sizes=(400, 300, 3)))
    assert small is None  # gaps that rest on few rows are not drawn
