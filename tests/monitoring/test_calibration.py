"""Windows of fresh outcomes: false alarms over time, drift found, words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import norm

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


def test_clusters_that_share_a_shock_raise_no_alarm_and_a_break_does() -> None:
    """In eight of ten such streams rows taken for independent raise one."""
    alarms = {"named": 0, "ignored": 0}
    for run in range(10):
        rng = np.random.default_rng([5, run])
        monitors = {name: CalibrationMonitor(random_state=run) for name in alarms}
        for _ in range(4):
            cluster = np.arange(1000) // 20
            scores = expit(rng.normal(-0.5, 1, 1000))
            draw = norm.cdf(0.7 * rng.normal(size=50)[cluster] + 0.71 * rng.normal(size=1000))
            row = scores, (draw < scores).astype(int), rng.choice(["a", "b"], 1000)
            monitors["named"].update(*row, clusters=cluster)
            monitors["ignored"].update(*row)
        for name, monitor in monitors.items():
            alarms[name] += monitor.refit
        broken = np.where(row[2] == "b", 0.9 * (1 - scores) + scores, scores)
        y = (rng.random(1000) < broken).astype(int)
        assert monitors["named"].update(scores, y, row[2], clusters=cluster)["alarm"].any()
    assert alarms["named"] == 0
    assert alarms["ignored"] >= 5


def test_a_cluster_for_each_row_is_none_and_few_clusters_are_only_counted() -> None:
    rows = window(3)
    plain, alone = (CalibrationMonitor(random_state=0) for _ in range(2))
    pd.testing.assert_frame_equal(plain.update(*rows), alone.update(*rows, clusters=range(400)))
    few = alone.update(*rows, clusters=np.arange(400) // 50).set_index("group")
    assert few["p_window"].isna().all()
    assert few["p_all"].isna().all()
    assert few["rows"].sum() == 400
    with pytest.raises(InvalidDataError, match="clusters has 3 rows, expected 400"):
        alone.update(*rows, clusters=[1, 1, 2])
