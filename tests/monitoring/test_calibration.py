"""Windows of fresh outcomes: false alarms over time, drift found, words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from fairtrain import CalibrationMonitor
from fairtrain.exceptions import InvalidDataError, InvalidParameterError


def window(seed: int, n: int = 400, shift: float = 0.0) -> tuple:
    rng = np.random.default_rng(seed)
    x, group = rng.normal(-1, 1, n), rng.choice(["a", "b", "$c$"], n, p=[0.5, 0.4, 0.1])
    moved = x + shift * (group == "b")
    return expit(x), (rng.uniform(size=n) < expit(moved)).astype(int), group


def test_false_alarms_stay_under_alpha_over_many_windows() -> None:
    alarms = 0
    for run in range(60):
        monitor = CalibrationMonitor(alpha=0.2, random_state=run)
        for t in range(12):
            monitor.update(*window(1000 * run + t))
        alarms += monitor.refit
    assert alarms / 60 < 0.2 + 0.1


def test_a_break_is_found_at_once_and_named() -> None:
    monitor = CalibrationMonitor(random_state=0)
    for t in range(3):
        assert not monitor.update(*window(t))["alarm"].any()
    assert "no alarm" in monitor.explain()
    table = monitor.update(*window(3, n=1500, shift=1.0)).set_index("group")
    assert table["alarm"].to_dict() == {"$c$": False, "a": False, "b": True}
    assert table.loc["b", "gap"] > 0.1
    assert monitor.refit
    assert "first alarm in window 4, for 'b'" in monitor.explain()


def test_slow_drift_adds_up() -> None:
    monitor = CalibrationMonitor(random_state=0)
    for t in range(25):
        monitor.update(*window(t, shift=0.35))
    found = monitor.history[-1].set_index("group")
    assert found.loc["b", "p_all"] < 1e-4
    assert monitor.refit


def test_small_groups_are_counted_but_not_judged_and_windows_may_lack_groups() -> None:
    monitor = CalibrationMonitor(min_rows=50, random_state=0)
    s, y, group = window(0, n=100)
    table = monitor.update(s, y, group).set_index("group")
    assert np.isnan(table.loc["$c$", "p_window"])
    assert table["rows"].sum() == 100
    kept = group != "a"
    assert len(monitor.update(s[kept], y[kept], group[kept])) == 2
    assert monitor.history[1]["level"].iloc[0] == pytest.approx(0.05 * 6 / (np.pi**2 * 4))


def test_settings_and_rows_are_checked() -> None:
    assert CalibrationMonitor().explain() == "No window yet."
    with pytest.raises(InvalidParameterError, match=r"alpha must lie in \(0, 1\)"):
        CalibrationMonitor(alpha=2)
    with pytest.raises(InvalidParameterError, match="min_rows must be a whole number >= 1"):
        CalibrationMonitor(min_rows=0)
    with pytest.raises(InvalidDataError, match="y must hold 0 and 1"):
        CalibrationMonitor().update([0.2, 0.4], [0, 2], ["a", "b"])


def test_an_index_that_differs_is_an_error() -> None:
    y = pd.Series([0, 1] * 50)
    with pytest.raises(InvalidDataError, match="y carries another index than scores"):
        CalibrationMonitor().update(y * 0.5, y.iloc[::-1], ["a"] * 100)
