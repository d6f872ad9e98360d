"""Where the marks of the trade-off go."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pandas as pd
import pytest
from tests.report.data import GAPS, chart

from fairtrain.exceptions import InvalidDataError
from fairtrain.report import FrontierChart, FrontierPoint
from fairtrain.report.drawing import drawn


def test_marks_lie_where_the_numbers_say() -> None:
    found = drawn([chart()])
    xs, ys = found["x_ticks"], found["y_ticks"]
    assert float(xs[0]["text"]) == 0
    assert float(xs[-1]["text"]) >= 0.31
    unit = (xs[-1]["at"] - xs[0]["at"]) / float(xs[-1]["text"])
    curve = found["curves"][0]
    for mark, gap in zip(curve["marks"], GAPS.values(), strict=False):
        assert mark["x"] == pytest.approx(xs[0]["at"] + gap * unit, abs=0.06)
    assert ys[0]["at"] > ys[-1]["at"]
    assert found["feasible"] == pytest.approx(xs[0]["at"] + 0.06 * unit, abs=0.06)
    assert curve["chosen"] == {k: curve["marks"][4][k] for k in ("x", "y")}
    assert not curve["marks"][-1]["front"]
    assert curve["marks"][5]["hollow"]


def test_front_is_a_step_line() -> None:
    path = drawn([chart()])["curves"][0]["path"]
    assert path.count("H") == len(GAPS)
    assert path.count("V") == len(GAPS) - 1


def test_labels_are_few_and_apart() -> None:
    points = tuple(FrontierPoint(float(i), 0, 0.7 + i / 1e3, i / 1e3) for i in range(100))
    marks = drawn([FrontierChart("s", "eta", points, chosen=50)])["curves"][0]["marks"]
    told = [m for m in marks if m["label"]]
    assert 2 <= len(told) <= 9
    assert "50" in [m["label"] for m in told]


@pytest.mark.parametrize(
    "points",
    [
        (),
        (FrontierPoint(0.0, 0, math.nan, 0.1),),
        (FrontierPoint(0.0, 0, 0.5, 0.0),),
        (FrontierPoint(0.0, 0, 0.5, 0.1), FrontierPoint(1.0, 0, 0.5, 0.1)),
    ],
)
def test_odd_charts_do_not_fail(points: tuple[FrontierPoint, ...]) -> None:
    found = drawn([FrontierChart("s", "eta", points)])
    assert bool(found) == any(math.isfinite(p.performance) for p in points)


def test_a_point_that_is_not_there_cannot_be_chosen() -> None:
    with pytest.raises(InvalidDataError, match="chosen=7 is no point of the 7"):
        chart(chosen=7)


def test_a_frontier_becomes_a_chart() -> None:
    row = {"seed": 3, "performance": 0.8, "gap": 0.1, "dominated": False, "near_constant": False}
    row |= {f"{n}_{end}": 0.5 for n in ("performance", "gap") for end in ("lower", "upper")}
    frontier = SimpleNamespace(
        points=pd.DataFrame([{"eta": 0.0, **row}, {"eta": 2.0, **row}]),
        param="eta", name="sweep", performance_name="AUC", gap_name="gap", bound=None,
        baseline=SimpleNamespace(gap=0.3, performance=0.9),
    )  # fmt: skip
    frontier.published = lambda: frontier
    found = FrontierChart.from_frontier(frontier, SimpleNamespace(value=2.0, seed=3))  # type: ignore[arg-type]
    assert found.chosen == 1
    assert found.baseline == (0.3, 0.9)
    assert [p.label for p in found.points] == ["0", "2"]
    assert found.performance_name == "AUC"


def test_names_of_models_keep_off_the_marks_on_half_a_page() -> None:
    values = {"constant": (-0.14, 0.0), "baseline": (-0.106, 0.198), "fair model": (-0.105, 0.145)}
    points = tuple(
        FrontierPoint(name, 0, *at, gap_limits=(0.0, 0.35)) for name, at in values.items()
    )
    found = drawn([FrontierChart("s", "model", points, chosen=2)], steps=False, height=300)
    sides = {m["label"]: m["anchor"] for m in found["curves"][0]["marks"]}
    assert sides == {"constant": "start", "baseline": "start", "fair model": "end"}


def test_costs_are_drawn_as_they_are_paid_and_the_bound_is_named_where_nothing_lies() -> None:
    points = (FrontierPoint("fair model", 0, -0.2, 0.12), FrontierPoint("constant", 0, -0.55, 0.0))
    made = FrontierChart("s", "model", points, performance_name="cost", bound=0.1)
    found = drawn([made], steps=False, height=300)
    assert found["y_better"] == "less is better"
    at = {tick["text"]: tick["at"] for tick in found["y_ticks"]}
    assert at["0.2"] < at["0.5"]  # less is up
    assert found["bounds"][0]["foot"] == found["bottom"] - 8
    clear = FrontierChart("s", "model", points[1:], bound=0.1)
    assert drawn([clear], steps=False)["bounds"][0]["foot"] < 50
