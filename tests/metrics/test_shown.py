"""What a notebook shows of a report, and its picture."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairtrain import FairnessReport, fairness_report
from fairtrain.metrics.shown import room, shown_rates

mpl.use("agg")
plt = pytest.importorskip("matplotlib.pyplot")


def report(small: int = 40, name: str = "rare", seed: int = 0, **settings: Any) -> FairnessReport:
    rng = np.random.default_rng(seed)
    group = np.repeat(["a", "b", name], [300, 200, small])
    y, p = rng.integers(0, 2, len(group)), rng.integers(0, 2, len(group))
    return fairness_report(y, p, group, "demographic_parity", **settings)


class Text(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.said = ""
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open += [] if tag == "br" else [tag]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said += data


def test_a_notebook_shows_verdict_bound_and_every_group() -> None:
    found = report(difference_bound=0.1)
    shown = Text(found._repr_html_())
    (result,) = found.results
    assert str(found.verdict).replace("_", " ") in shown.said
    assert f"{result.achieved:.3f} ({result.lower:.3f} to {result.upper:.3f})" in shown.said
    rates = found.group_rates[found.group_rates["metric"] == "selection_rate"]
    for cell in rates.to_dict("records"):
        assert cell["group"] in shown.said
        assert f"{cell['rate']:.1%}" in shown.said
    assert shown.tags.count("circle") == 4  # three groups and the key
    assert "script" not in shown.tags


def test_small_cells_and_what_tells_of_them_are_left_out() -> None:
    found = report(small=3)
    hidden = {"rare", "b"}  # with all rows known, 'b' would tell 'rare'
    assert not hidden & set(shown_rates(found)["group"])
    shown = Text(found._repr_html_()).said
    assert "rare" not in shown
    assert "fewer than 10 rows" in shown
    written = json.dumps(found.to_dict())
    assert f"{found.results[0].achieved:.3f}" not in shown
    assert "suppressed" in written
    ax = found.plot()
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a (300)"]
    plt.close("all")


def test_names_stay_text() -> None:
    shown = Text(report(name="<script>alert(1)</script>")._repr_html_())
    assert "script" not in shown.tags
    assert "<script>" in shown.said


def test_plot_takes_axes_and_gives_them_back() -> None:
    ax = plt.figure().subplots()
    found = report(difference_bound=0.1)
    assert found.plot(ax=ax) is ax
    assert "selection rate" in ax.get_xlabel()
    band = ax.patches[0].get_extents().transformed(ax.transData.inverted())
    assert band.width == pytest.approx(0.1)
    assert "accuracy" in found.plot("accuracy").get_xlabel()
    plt.close("all")


RATES = st.lists(st.floats(0, 1), min_size=2, max_size=6)


@given(rates=RATES, bound=st.floats(0.01, 1))
def test_room_holds_every_rate_exactly_where_the_bound_is_kept(
    rates: list[float], bound: float
) -> None:
    result = replace(BASE, bound=bound)
    low, high = room(result, rates) or (np.nan, np.nan)
    assert 0 <= low <= high <= 1
    held = all(low - 1e-9 <= rate <= high + 1e-9 for rate in rates)
    assert held == (max(rates) - min(rates) <= bound + 1e-9)


@given(rates=RATES, bound=st.floats(0.01, 1))
def test_room_of_a_ratio(rates: list[float], bound: float) -> None:
    low, _ = room(replace(BASE, bound=bound, kind="ratio"), rates) or (np.nan, np.nan)
    assert (min(rates) >= low) == (min(rates) >= bound * max(rates))


@pytest.mark.parametrize(
    "changes",
    [
        {"reference": "overall"},
        {"constraint": "demographic_parity given income"},
        {"constraint": "recall at least its own number", "kind": "lower"},
        {"kind": "ratio", "rate": "error_rate"},
    ],
)
def test_where_no_one_band_says_what_is_asked_there_is_none(changes: dict[str, Any]) -> None:
    assert room(replace(BASE, **changes), [0.2, 0.4]) is None


BASE = report().results[0]
