"""What a frontier answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from tests.tradeoff.data import make_rows

from fairtrain import ParetoFrontier, ReductionsWrapper, pareto_frontier
from fairtrain.exceptions import InvalidParameterError, NearConstantWarning, SameRowsWarning
from fairtrain.report import FrontierChart
from fairtrain.tradeoff.dominance import dominated, hypervolume

BOUNDS = [0.02, 0.1, 0.3]


@pytest.fixture(scope="module")
def found() -> ParetoFrontier:
    rows = make_rows(3000)
    return pareto_frontier(
        ReductionsWrapper(LogisticRegression()), *rows[:2], sensitive_features=rows.who,
        param="difference_bound", values=BOUNDS, bound=0.12, random_state=0,
        validation_data=make_rows(2000, seed=1), baseline=LogisticRegression(),
    )  # fmt: skip


def with_points(found: ParetoFrontier, **columns: Any) -> ParetoFrontier:
    points = found.points.assign(**columns)
    points["dominated"] = dominated(points["gap"], points["performance"])
    return replace(found, points=points)


def test_front_and_area(found: ParetoFrontier) -> None:
    front = found.front
    assert front["gap"].is_monotonic_increasing
    assert front["performance"].is_monotonic_increasing
    expected = hypervolume(found.points["gap"], found.points["performance"], (0.5, 0.5))
    assert found.hypervolume((0.5, 0.5)) == expected > 0


def test_select_takes_the_best_under_the_limit(found: ParetoFrontier) -> None:
    assert found.select().value == 0.1
    assert found.select(max_gap=1.0).value == 0.3
    assert found.select(max_gap=0.12, by="gap_upper").value == 0.02
    assert found.select().model is found.models[1]
    with pytest.raises(InvalidParameterError, match="the smallest is"):
        found.select(max_gap=0.0001)
    with pytest.raises(InvalidParameterError, match="by must be"):
        found.select(by="luck")  # type: ignore[arg-type]


def test_select_prefers_models_that_decide(found: ParetoFrontier) -> None:
    some = with_points(found, near_constant=[True, False, False], performance=[0.9, 0.6, 0.8])
    assert some.select().value == 0.1
    with pytest.warns(NearConstantWarning):
        assert some.select(max_gap=0.05).value == 0.02


def test_knee_is_a_point(found: ParetoFrontier) -> None:
    bent = with_points(found, gap=[0.0, 0.02, 0.3], performance=[0.5, 0.8, 0.81])
    assert bent.knee().value == 0.1


def test_evaluate_certifies_on_other_rows_only(found: ParetoFrontier) -> None:
    fresh = make_rows(4000, seed=2)
    report = found.evaluate(*fresh)
    own = found.models[1].evaluate(fresh.X, fresh.y, sensitive_features=fresh.who)
    assert report.rows == "certification"
    assert report.results[0].bound == 0.12
    assert report.results[0].achieved == pytest.approx(own.results[0].achieved)
    with pytest.warns(SameRowsWarning):
        again = found.evaluate(*make_rows(2000, seed=1))
    assert again.rows == "steering"
    assert str(again.verdict) != "met"


def test_seeds_are_averaged_with_student_limits(found: ParetoFrontier) -> None:
    points = pd.concat([found.points.assign(seed=s, gap=found.points["gap"] + s / 100)
                        for s in (0, 1, 2)], ignore_index=True)  # fmt: skip
    table = replace(found, points=points).by_value()
    assert table["n_seeds"].tolist() == [3, 3, 3]
    first = points[points["difference_bound"] == 0.02]["gap"]
    assert table["gap"][0] == pytest.approx(first.mean())
    half = 4.302653 * 0.01 / np.sqrt(3)
    assert table["gap_upper"][0] - table["gap"][0] == pytest.approx(half)
    alone = found.by_value()
    assert alone["gap_upper"].tolist() == found.points["gap_upper"].tolist()


def test_files(found: ParetoFrontier, tmp_path: Path) -> None:
    found.to_csv(tmp_path / "f.csv")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "f.csv"), found.points)
    named = with_points(found, gap=[np.nan, 0.1, 0.2]).renamed("<b>\n$x$")
    named.to_json(tmp_path / "f.json")
    read = json.loads((tmp_path / "f.json").read_text())
    assert read["points"][0]["gap"] is None
    assert read["name"] == "<b>\n$x$"
    assert read["baseline"]["performance"] == found.baseline.performance  # type: ignore[union-attr]


def test_says_what_it_found(found: ParetoFrontier) -> None:
    said = str(found)
    assert "2,000 validation rows" in said
    assert "difference_bound = 0.1, seed 0:" in said


def test_a_bound_is_needed(found: ParetoFrontier) -> None:
    unbound = replace(found, bound=None)
    with pytest.raises(InvalidParameterError, match="max_gap is missing"):
        unbound.select()
    with pytest.raises(InvalidParameterError, match="max_gap is missing"):
        unbound.evaluate(*make_rows(100))


def test_gaps_that_rest_on_few_rows_are_not_published(
    found: ParetoFrontier, tmp_path: Path
) -> None:
    assert not found.rests_on_few
    assert found.published() is found
    held = found.scorer.read(*make_rows(2000, seed=1))
    assert not found.scorer.rests_on_few(held)
    few = held.take(np.flatnonzero((held.groups.codes == 0) | (np.arange(2000) < 12)))
    assert 0 < few.groups.counts[1] < 10
    assert found.scorer.rests_on_few(few)
    assert replace(found.scorer, metric=lambda y, p, who: 0.0).rests_on_few(few)
    secret = replace(found, rests_on_few=True)
    chart = FrontierChart.from_frontier(secret, secret.select())
    assert chart.chosen == 1
    assert all(np.isnan([p.gap, *p.gap_limits]).all() for p in chart.points)
    assert not chart.front
    assert np.isnan(chart.baseline).tolist() == [True, False]
    secret.to_csv(tmp_path / "points.csv")
    assert pd.read_csv(tmp_path / "points.csv")["gap"].isna().all()
    assert secret.to_dict()["baseline"]["gap_upper"] is None
    assert "fewer than 10 rows" in str(secret)
    assert secret.plot().get_title() == found.plot().get_title()
    drawn = secret.plot(chosen=secret.select())
    assert "chosen" not in {line.get_label() for line in drawn.get_lines()}
    shown = secret._repr_html_()
    assert "fewer than 10 rows" in shown
    assert "<circle" not in shown


def test_a_notebook_shows_the_front_and_the_bound(found: ParetoFrontier) -> None:
    shown = found._repr_html_()
    for row in found.front.to_dict("records"):
        assert f"{row['gap']:.3f} <small>at accuracy {row['performance']:.3f}" in shown
    assert "bound 0.12" in shown
    assert "<script" not in shown
