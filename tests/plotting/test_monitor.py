"""The picture of windows after deployment."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from fairtrain import FairnessMonitor
from fairtrain.exceptions import InvalidDataError
from fairtrain.plotting import plot_monitor

mpl.use("agg")
plt = pytest.importorskip("matplotlib.pyplot")


def watched(shifts: list[float], **settings: float) -> FairnessMonitor:
    rng = np.random.default_rng(0)
    monitor = FairnessMonitor(**settings)  # type: ignore[arg-type]
    for shift in shifts:
        who = rng.integers(0, 2, 2000)
        monitor.update((rng.random(2000) < 0.4 + shift * (who == 0)).astype(int), who)
    return monitor


def labels(ax: object) -> set[str]:
    return {text.get_text() for text in ax.get_legend().get_texts()}  # type: ignore[attr-defined]


def test_gaps_bound_and_alarms(tmp_path: Path) -> None:
    monitor = watched([0.0, 0.0, 0.3], difference_bound=0.1)
    figure, ax = plt.subplots(layout="constrained")
    assert monitor.plot(ax) is ax
    figure.savefig(tmp_path / "m.png")
    curve = ax.containers[0][0]
    assert curve.get_xdata().tolist() == [1, 2, 3]
    assert np.allclose(curve.get_ydata(), monitor.history["gap"])
    ends = [segment[:, 1] for segment in ax.containers[0][2][0].get_segments()]
    assert np.allclose(ends, monitor.history[["lower", "upper"]])
    assert {"bound 0.1", "broken"} <= labels(ax)
    crosses = [line for line in ax.get_lines() if line.get_label() == "broken"]
    assert crosses[0].get_xdata().tolist() == [3]
    assert "lower is fairer" in ax.get_ylabel()
    assert all(tick == round(tick) for tick in ax.get_xticks())  # there is no window 1.5
    plt.close(figure)


def test_no_alarm_has_no_mark_and_ratios_say_so() -> None:
    ax = plot_monitor(watched([0.0, 0.0], ratio_bound=0.5).history)
    assert labels(ax) == {"demographic parity selection rate", "bound 0.5"}
    assert "higher is fairer" in ax.get_ylabel()
    plt.close("all")


def test_windows_without_a_gap_leave_a_hole() -> None:
    monitor = watched([0.0, 0.0])
    monitor.update([1, 0, 1], [0, 0, 0])
    ax = plot_monitor(monitor.history)
    assert np.isnan(ax.containers[0][0].get_ydata()[2])
    plt.close("all")


def test_nothing_to_draw() -> None:
    with pytest.raises(InvalidDataError, match="no window yet"):
        plot_monitor(pd.DataFrame())
