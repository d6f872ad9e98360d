"""Rates, gaps and scores of groups as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest

from fairtrain import AtLeast, AtMost, FairnessReport, fairness_report
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.plotting import plot_before_after, plot_group_rates, plot_scores

mpl.use("agg")
plt = pytest.importorskip("matplotlib.pyplot")


def report(groups: int = 3, n: int = 3000, seed: int = 0, shift: float = 0.3) -> FairnessReport:
    rng = np.random.default_rng(seed)
    who = rng.integers(0, groups, n)
    y = rng.integers(0, 2, n)
    decided = (rng.random(n) < 0.3 + shift * who / groups + 0.2 * y).astype(int)
    names = np.array([f"group {i}" for i in range(groups)])
    names[0] = r"$\frac{$" + "x" * 200
    both = ["demographic_parity", "equal_opportunity"]
    return fairness_report(y, decided, names.astype(object)[who], both, difference_bound=0.05)


@pytest.fixture(autouse=True)
def closed() -> Any:
    yield
    plt.close("all")


def points(ax: Any, label: str) -> tuple[np.ndarray, np.ndarray]:
    container = next(c for c in ax.containers if c.get_label() == label)
    line = container.lines[0]
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


def test_rates_are_those_of_the_frame(tmp_path: Path) -> None:
    before, after = report(), report(shift=0.0, seed=1)
    ax = plot_group_rates({"before": before.group_rates, "after": after.group_rates}, bound=0.05)
    ax.figure.savefig(tmp_path / "rates.png")
    rates = before.group_rates
    expected = rates[rates["metric"] == "selection_rate"]["rate"]
    np.testing.assert_allclose(sorted(points(ax, "before")[0]), sorted(expected))
    assert "closer" in ax.get_xlabel()
    assert max(len(t.get_text()) for t in ax.get_yticklabels()) < 45


@pytest.mark.parametrize("groups", [1, 64])
def test_one_and_many_groups(groups: int, tmp_path: Path) -> None:
    found = report(max(groups, 2), n=6000)
    rates = found.group_rates
    if groups == 1:
        rates = rates[rates["group"] == rates["group"].iloc[0]]
    ax = plot_group_rates(rates, "accuracy", most=20)
    ax.figure.savefig(tmp_path / "rates.png")
    assert len(ax.get_yticks()) == min(groups, 20)


def test_small_groups_are_not_drawn() -> None:
    y = [0, 1] * 50 + [1] * 3
    who = ["a", "b"] * 50 + ["tiny"] * 3
    rates = fairness_report(y, y, who).group_rates
    shown = [t.get_text() for t in plot_group_rates(rates).get_yticklabels()]
    assert [name.split()[0] for name in shown] == ["a", "b"]
    with pytest.raises(InvalidDataError, match="no group has 500 rows"):
        plot_group_rates(rates, min_cell=500)
    with pytest.raises(InvalidParameterError, match="no 'speed'"):
        plot_group_rates(rates, "speed")
    with pytest.raises(InvalidParameterError, match="at most 7"):
        plot_group_rates({str(i): rates for i in range(8)})


def test_before_and_after_show_gaps_and_bounds(tmp_path: Path) -> None:
    before, after = report(), report(shift=0.0, seed=1)
    ax = plot_before_after({"before": before, "after": after})
    ax.figure.savefig(tmp_path / "gaps.png")
    assert points(ax, "before")[0].tolist() == [r.achieved for r in before.results]
    assert points(ax, "after")[0].tolist() == [r.achieved for r in after.results]
    bounds = [line for line in ax.get_lines() if set(line.get_xdata()) == {0.05}]
    assert len(bounds) == 2
    assert "lower is fairer" in ax.get_xlabel()
    other = fairness_report([0, 1] * 50, [0, 1] * 50, ["a", "b"] * 50, "error_rate_parity")
    with pytest.raises(InvalidParameterError, match="different constraints"):
        plot_before_after({"before": before, "after": other})
    with pytest.raises(InvalidParameterError, match="no model"):
        plot_before_after({})


def test_score_curves_cross_the_threshold_at_selection_rates(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    who = np.repeat(["a", "b", "few"], [600, 400, 5])
    scores = np.clip(rng.normal(0.5, 0.2, 1005) + 0.1 * (who == "a"), 0, 1)
    ax = plot_scores(scores, who, threshold=0.5)
    ax.figure.savefig(tmp_path / "scores.png")
    labels = [t.get_text() for t in ax.get_legend().get_texts()]
    assert labels[:2] == ["a (600)", "b (400)"]
    assert "1 smaller groups not drawn" in labels
    line = ax.get_lines()[0]
    x, share = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    at = np.searchsorted(x, 0.5)
    assert share[at] == pytest.approx(np.mean(scores[who == "a"] >= 0.5))


def test_bad_scores() -> None:
    with pytest.raises(InvalidDataError, match="lower min_cell"):
        plot_scores([0.1, 0.2], ["a", "b"])
    with pytest.raises(InvalidDataError, match="NaN"):
        plot_scores([np.nan] * 60, ["a"] * 60)
    with pytest.raises(InvalidParameterError, match="most must lie"):
        plot_scores([0.1] * 60, ["a"] * 60, most=9)


def test_limits_are_no_differences() -> None:
    y = np.array([0, 1] * 50)
    limits = [AtLeast("recall", 0.5), AtMost("selection_rate", 0.6)]
    found = fairness_report(y, y, ["a"] * 50 + ["b"] * 50, limits)
    assert "rate of the group nearest to its limit" in plot_before_after({"m": found}).get_xlabel()
