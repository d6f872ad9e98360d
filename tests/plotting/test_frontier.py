"""The picture of a trade-off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from tests.tradeoff.data import make_rows

from fairtrain import ParetoFrontier, pareto_frontier
from fairtrain.exceptions import InvalidParameterError
from fairtrain.plotting import plot_frontier
from fairtrain.tradeoff.dominance import dominated

mpl.use("agg")
plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(scope="module")
def base() -> ParetoFrontier:
    rows = make_rows(400)
    return pareto_frontier(
        LogisticRegression(), *rows[:2], sensitive_features=rows.who, param="C", values=[0.1, 1.0],
        bound=0.1, random_state=0, baseline=LogisticRegression(),
    )  # fmt: skip


def of(base: ParetoFrontier, n: int, seeds: int = 1) -> ParetoFrontier:
    """A frontier of n values, as a sweep would find it."""
    rng = np.random.default_rng(0)
    gap = np.repeat(np.linspace(0.01, 0.3, n), seeds) + rng.normal(0, 0.003, n * seeds)
    performance = 0.85 - 0.2 * np.exp(-12 * gap) + rng.normal(0, 0.004, n * seeds)
    points = pd.DataFrame(
        {
            "C": np.repeat(np.geomspace(0.01, 100, n), seeds),
            "seed": np.tile(np.arange(seeds), n),
            "performance": performance,
            "performance_lower": performance - 0.01,
            "performance_upper": performance + 0.01,
            "gap": gap,
            "gap_lower": gap - 0.02,
            "gap_upper": gap + 0.02,
            "dominated": dominated(gap, performance),
            "near_constant": False,
            "seconds": 1.0,
        }
    )
    return replace(base, points=points, models=(None,) * len(points))


def test_costs_are_drawn_as_they_are_paid(base: ParetoFrontier) -> None:
    points = base.points.assign(performance=-base.points["performance"])
    scorer = replace(base.scorer, performance="log_loss")
    ax = plot_frontier(replace(base, points=points, scorer=scorer, baseline=None))
    ax.set_yticks([-0.25, -0.125])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0.25", "0.125"]
    assert ax.get_ylabel() == "log loss (less is better →)"
    plt.close(ax.figure)


@pytest.mark.parametrize("style", ["default", "dark_background", "grayscale"])
@pytest.mark.parametrize("n", [1, 2, 64])
def test_few_and_many_points(base: ParetoFrontier, tmp_path: Path, n: int, style: str) -> None:
    with plt.style.context(style):
        figure, ax = plt.subplots(figsize=(8, 5.5), layout="constrained")
        assert plot_frontier(of(base, n), ax) is ax
        figure.savefig(tmp_path / "f.png")
        values = [text for text in ax.texts if text.get_text().startswith("C ")]
        assert 1 <= len(values) <= 8
        boxes = [text.get_window_extent() for text in values]
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
        assert "fairer" in ax.get_xlabel()
        plt.close(figure)


def test_hostile_names_stay_text(base: ParetoFrontier, tmp_path: Path) -> None:
    names = [r"$\frac{$", "two\nlines", "long " * 60, "<script>"]
    figure, ax = plt.subplots(layout="constrained")
    plot_frontier([of(base, 4).renamed(name) for name in names], ax)
    figure.savefig(tmp_path / "f.png")
    shown = [text.get_text() for text in ax.get_legend().get_texts()]
    assert r"\$\frac{\$" in shown
    assert max(map(len, shown)) < 60
    plt.close(figure)


def test_bound_baseline_and_choice(base: ParetoFrontier) -> None:
    found = of(base, 6)
    ax = plot_frontier(found, chosen=found.select(0.2), bound=0.2)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert {"chosen", "bound 0.2", "unconstrained"} <= set(labels)
    line = next(line for line in ax.get_lines() if line.get_label() == "bound 0.2")
    assert list(line.get_xdata()) == [0.2, 0.2]
    plt.close("all")


def test_the_front_is_a_step_line_through_the_means(base: ParetoFrontier) -> None:
    found = of(base, 5, seeds=3)
    ax = plot_frontier(found)
    table = found.by_value()
    front = table[~table["dominated"]].sort_values("gap")
    steps = [line for line in ax.get_lines() if line.get_drawstyle() == "steps-post"]
    assert np.allclose(steps[0].get_xdata(), front["gap"])
    assert np.allclose(steps[0].get_ydata(), front["performance"])
    plt.close("all")


def test_what_a_constant_beats_is_crossed_out_and_in_the_legend(base: ParetoFrontier) -> None:
    found = of(base, 4)
    without = {text.get_text() for text in plot_frontier(found).get_legend().get_texts()}
    worse = [True, False, False, False]
    marked = replace(found, points=found.points.assign(no_better_than_constant=worse))
    ax = plot_frontier([marked, marked.renamed("another")])
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "no better than a constant" not in without
    assert labels.count("no better than a constant") == 1
    cross = next(line for line in ax.get_lines() if line.get_marker() == "x")
    assert np.allclose(cross.get_xdata(), found.points["gap"].iloc[:1])
    marks = [line for line in ax.get_lines() if line.get_marker() == "o"]
    assert cross.get_color() not in {mark.get_color() for mark in marks}  # it is seen on them
    plt.close("all")


def test_too_many_and_none(base: ParetoFrontier) -> None:
    with pytest.raises(InvalidParameterError, match="at most 7"):
        plot_frontier([base] * 8)
    with pytest.raises(InvalidParameterError, match="no frontier"):
        plot_frontier([])


def test_saved_beside_the_sweep(tmp_path: Path) -> None:
    rows = make_rows(300)
    path = tmp_path / "frontier.png"
    pareto_frontier(
        LogisticRegression(), *rows[:2], sensitive_features=rows.who, param="C", values=[1.0],
        random_state=0, save_path=path,
    )  # fmt: skip
    assert path.read_bytes().startswith(b"\x89PNG")


def test_bars_stay_in_the_picture_or_point_out_of_it(base: ParetoFrontier) -> None:
    found = of(base, 5)
    ends = {"gap_upper": 0.05, "performance_lower": -0.03, "performance_upper": 0.03}
    usual = found.points.assign(
        **{name: found.points[name.rpartition("_")[0]] + by for name, by in ends.items()}
    )
    ax = plot_frontier(replace(found, points=usual))
    front = usual[~usual["dominated"]]
    assert ax.get_xlim()[1] >= front["gap_upper"].max()
    assert ax.get_ylim()[0] <= front["performance_lower"].min()
    assert ax.get_ylim()[1] >= front["performance_upper"].max()
    endless = usual.assign(performance_upper=usual["performance"] + 5.0)
    ax = plot_frontier(replace(found, points=endless))
    assert ax.get_ylim()[1] < 1.5  # the points are not pushed together
    (arrows,) = [line for line in ax.get_lines() if line.get_marker() == "^"]
    assert np.allclose(arrows.get_xdata(), front["gap"])
    assert np.allclose(arrows.get_ydata(), ax.get_ylim()[1])
    plt.close("all")


def test_labels_lie_on_no_mark_and_not_on_the_bound(base: ParetoFrontier) -> None:
    found = of(base, 6)
    figure, ax = plt.subplots(figsize=(8, 5.5), layout="constrained")
    plot_frontier(found, ax, bound=float(found.points["gap"][1]) + 0.005)
    figure.canvas.draw()
    boxes = [t.get_window_extent() for t in ax.texts if t.get_text().startswith("C ")]
    marks = ax.transData.transform(found.points[["gap", "performance"]].to_numpy())
    assert len(boxes) >= 3
    assert not any(box.contains(x, y) for box in boxes for x, y in marks)
    line = ax.transData.transform((float(found.points["gap"][1]) + 0.005, 0))[0]
    assert not any(box.x0 < line < box.x1 for box in boxes)
    plt.close(figure)
