"""Blocks of windows, dispersion between windows, and the tests that are due."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import special

from fairtrain import FairnessMonitor, load, save
from fairtrain.monitoring.alarms import look
from fairtrain.monitoring.dispersion import MIN_WINDOWS, estimate_dispersion, is_overdispersed
from fairtrain.monitoring.pooling import Part, WindowSequence


def windows_of(means: np.ndarray, rows: float = 1000.0) -> list[Part]:
    """Windows of shape (T, ..., G), as many rows in each."""
    return [Part(mean, np.full(mean.shape, rows), np.full(mean.shape, rows)) for mean in means]


def test_blocks_overlap_by_three_quarters() -> None:
    means = np.random.default_rng(0).random((32, 3))
    sequence, shares = WindowSequence(), []
    for t, window in enumerate(windows_of(means), start=1):
        due = list(sequence.take(window).due())
        lengths = [
            L for L, step in ((1, 1), (2, 1), (4, 1), (8, 2), (16, 4)) if t >= L and t % step == 0
        ]
        assert [d.windows for d in due] == [*lengths, t]
        for d in due:
            assert d.part.mean == pytest.approx(means[t - d.windows : t].mean(axis=0))
            assert d.part.rows == pytest.approx(d.windows * 1000)
        shares += [d.share for d in due[:-1] if d.windows == 16]
    k = np.arange(1, 6)
    spread = 25 / (k + 25) / (k + 24)  # a block of 16 is looked at 25 times in a hundred windows
    assert shares == pytest.approx((6 / np.pi**2 / k**2 / 4 + spread * 3 / 4) / 4)


def test_what_all_tests_may_spend_is_one() -> None:
    sequence = WindowSequence()
    spent = 0.0
    for window in windows_of(np.full((900, 1), 0.5)):
        spent += sum(d.share for d in sequence.take(window).due())
    assert 0.9 < spent < 1  # the rest is for windows to come


@pytest.mark.parametrize(("kind", "bound"), [("difference", 0.05), ("ratio", 0.8)])
@pytest.mark.parametrize("rows", [40.0, 4000.0])
def test_a_bound_is_found_broken_by_one_side_of_the_gap(
    kind: str, bound: float, rows: float
) -> None:
    mean = np.array([0.5, 0.4])
    part = Part(mean, *np.full((2, 2), rows))
    level = part.one_sided(0.001, bound, kind)
    # By hand: a normal estimate at the bound lies beyond it on its own side or the other one.
    rate = (mean * rows + 2) / (rows + 4)
    odd = (1 - rate) / rate if kind == "ratio" else rate * (1 - rate)
    error = np.sqrt(2 * odd.max() / rows)
    across = 2 * (bound if kind == "difference" else -np.log(bound)) / error
    z = special.ndtri(1 - level / 2)
    assert 0.00095 < special.ndtr(-z) + special.ndtr(-z - across) <= 0.001001
    assert part.one_sided(0.001, 0.0 if kind == "difference" else 1.0, kind) == pytest.approx(0.001)


def test_a_pool_of_uneven_windows_by_hand() -> None:
    sequence = WindowSequence(names=["a", "b"])
    sequence.take(Part(np.array([0.2, 0.4]), np.array([100.0, 50.0]), np.array([100.0, 100.0])))
    third = Part(np.array([0.5, 0.0, 0.9]), *np.array([[300.0, 0.0, 100.0]] * 2))
    sequence.names.append("c")
    whole = sequence.take(third).all
    # Weights are the windows' rows, 200 and 400; who is absent has the window's rate.
    first, second = 0.3, (0.5 * 300 + 0.9 * 100) / 400
    expected = [(200 * 0.2 + 400 * 0.5) / 600, (200 * 0.4 + 400 * second) / 600]
    assert whole.mean == pytest.approx([*expected, (200 * first + 400 * 0.9) / 600])
    variance = [200**2 / 100 + 400**2 / 300, 200**2 / 50 + 400**2 / 400, 200 + 400**2 / 100]
    assert whole.rows == pytest.approx(600**2 / np.array(variance))
    assert whole.count.tolist() == [400, 100, 100]


def wandering(seed: int, streams: int, length: int, correlation: float, sd: float) -> np.ndarray:
    """Rates of two groups whose logits are autoregressive, shape (T, S, 2)."""
    rng = np.random.default_rng(seed)
    u = np.empty((length, streams, 2))
    u[0] = rng.normal(0, sd, u[0].shape)
    for t in range(1, length):
        u[t] = correlation * u[t - 1] + rng.normal(0, sd * (1 - correlation**2) ** 0.5, u[0].shape)
    return np.asarray(rng.binomial(1000, special.expit(u)) / 1000)


@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_dispersion_is_found(correlation: float) -> None:
    found = estimate_dispersion(windows_of(wandering(1, 200, 60, correlation, 0.3)), 30)
    assert found is not None
    truth = (0.3 / 4) ** 2  # the logistic function rises by a quarter at one half
    # Rather too much: the correlation is taken two standard errors too high, and lifts it.
    assert 0.9 < np.median(found.variance) / truth < 1.5
    error = 2 * np.sqrt((1 - correlation**2) / 60)
    assert np.median(found.correlation) == pytest.approx(correlation + error, abs=0.1)


def test_independent_rows_have_next_to_none_and_a_line_or_a_season_is_none() -> None:
    rng = np.random.default_rng(2)
    time = np.arange(40)[:, None, None]
    p = 0.4 + 0.1 * np.sin(time / 3) + 0.004 * time * np.array([1.0, 0.0])
    windows = windows_of(rng.binomial(1000, np.broadcast_to(p, (40, 300, 2))) / 1000)
    found = estimate_dispersion(windows, 30)
    assert found is not None
    assert np.median(found.variance) < 0.1 * 0.24 / 1000
    one_each = [[Part(w.mean[s], w.rows[s], w.count[s]) for w in windows] for s in range(300)]
    assert 0 <= np.mean([is_overdispersed(each, 30) for each in one_each]) < 0.03
    moved = windows_of(wandering(3, 1, 40, 0.5, 0.3)[:, 0])
    assert is_overdispersed(moved, 30)
    assert not is_overdispersed(moved[: MIN_WINDOWS - 1], 30)


def test_few_windows_or_groups_tell_no_dispersion() -> None:
    windows = windows_of(wandering(4, 1, 30, 0.5, 0.3)[:, 0])
    assert estimate_dispersion(windows[: MIN_WINDOWS - 1], 30) is None
    assert estimate_dispersion(windows, 2000) is None
    one = [Part(w.mean, w.rows, np.array([1000.0, 10.0])) for w in windows]
    assert estimate_dispersion(one, 30) is None


def test_widened_rows_by_hand() -> None:
    windows = windows_of(wandering(5, 1, 30, 0.5, 0.3)[:, 0])
    found = estimate_dispersion(windows, 30)
    assert found is not None
    part = Part(np.array([0.5, 0.2]), np.array([4000.0, 4000.0]), np.array([4000.0, 4000.0]))
    v, r = float(found.variance), float(found.correlation)
    of_mean = v * (4 + 2 * (3 * r + 2 * r**2 + r**3)) / 16
    student = (special.stdtrit(float(found.df), 0.005) / special.ndtri(0.005)) ** 2
    own = np.array([0.25, 0.16])
    expected = own / (student * (own / 4000 + of_mean))
    assert found.widened(part, 4, 0.01).rows == pytest.approx(expected)


def test_streams_side_by_side_are_streams_alone() -> None:
    means = wandering(6, 4, 20, 0.7, 0.4)
    settings = {"bound": 0.05, "kind": "difference", "alpha": 0.05, "min_rows": 30}
    together, alone = WindowSequence(), [WindowSequence() for _ in range(4)]
    raised = 0
    for window in windows_of(means):
        all_ = look(together.take(window), None, **settings)  # type: ignore[arg-type]
        for s, sequence in enumerate(alone):
            own = Part(window.mean[s], window.rows[s], window.count[s])
            each = look(sequence.take(own), None, **settings)  # type: ignore[arg-type]
            assert [bool(a.breaks[s]) for a in all_] == [bool(a.breaks) for a in each]
            raised += any(bool(a.breaks) for a in each)
    assert raised > 10


def update(
    monitor: FairnessMonitor, rng: np.random.Generator, *rates: float, n: int = 1000
) -> None:
    who = np.repeat(np.arange(len(rates)), n)
    monitor.update((rng.random(len(who)) < np.array(rates)[who]).astype(int), who)


def test_a_slow_drift_shows_in_a_block() -> None:
    rng, monitor = np.random.default_rng(7), FairnessMonitor(difference_bound=0.9)
    while not monitor.drifted and len(monitor.windows) < 40:
        update(monitor, rng, 0.4 + 0.005 * len(monitor.windows), 0.4)
    last = monitor.history.iloc[-1]
    assert last["window"] <= 24  # 34 before there were blocks
    assert last["together"] in (2, 4, 8, 16)
    assert f"(told by {last['together']} windows together)" in monitor.explain()


def test_estimated_dispersion_waits_and_then_withstands_rates_that_wander() -> None:
    rng = np.random.default_rng(8)
    means = wandering(9, 1, 40, 0.5, 0.1)[:, 0]
    plain = FairnessMonitor(difference_bound=0.01)
    careful = FairnessMonitor(difference_bound=0.01, dispersion="estimated")
    for t, rates in enumerate(means):
        update(plain, rng, *rates, n=3000)
        update(careful, rng, *rates, n=3000)
        if t == MIN_WINDOWS - 1:
            assert "show the dispersion, and raise none" in careful.explain()
    assert plain.broken
    assert not careful.broken
    assert not careful.drifted
    assert 'use dispersion="estimated"' in plain.explain()
    for _ in range(8):
        update(careful, rng, 0.9, 0.2, n=3000)
    assert careful.broken


@pytest.mark.parametrize("dispersion", ["binomial", "estimated"])
def test_saved_in_any_window_and_resumed_bit_for_bit(dispersion: str, tmp_path: Path) -> None:
    def stream(monitor: FairnessMonitor, first: int, last: int) -> FairnessMonitor:
        for t in range(first, last):
            rng = np.random.default_rng(t)
            rates = (0.5, 0.4, *((0.3,) if t >= 9 else ()))  # a group that comes later
            update(monitor, rng, *rates, n=200 + 10 * (t % 3))
        return monitor

    settings = {"difference_bound": 0.02, "dispersion": dispersion}
    whole = stream(FairnessMonitor(**settings), 0, 24)  # type: ignore[arg-type]
    for stop in (3, 8, 17):
        save(stream(FairnessMonitor(**settings), 0, stop), tmp_path / str(stop))  # type: ignore[arg-type]
        again = stream(load(tmp_path / str(stop)), stop, 24)
        pd.testing.assert_frame_equal(again.history, whole.history, check_exact=True)
        for key, sequence in whole._sequences.items():
            other = again._sequences[key].pool
            for name, value in vars(sequence.pool).items():
                assert np.array_equal(value, getattr(other, name))
