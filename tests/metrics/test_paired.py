"""The price of fairness, against simulation and counting by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fairtrain.data.groups import Groups
from fairtrain.exceptions import InvalidDataError
from fairtrain.metrics.paired import Cost, cost_against, paired_difference


@pytest.mark.parametrize(("down", "up"), [(0.0, 0.0), (0.03, 0.01), (0.15, 0.1)])
def test_paired_interval_covers(down: float, up: float) -> None:
    rng = np.random.default_rng(0)
    hit = 0
    for _ in range(1500):
        d = rng.choice([1, -1, 0], size=300, p=[down, up, 1 - down - up])
        _, low, high = paired_difference(d)
        hit += low <= down - up <= high
    assert hit / 1500 >= 0.94


def test_pairing_makes_the_interval_narrower_than_two_samples() -> None:
    rng = np.random.default_rng(1)
    right = rng.random(2000) < 0.8
    d = np.where(rng.random(2000) < 0.03, right.astype(int), 0)
    value, low, high = paired_difference(d)
    assert low <= value <= high
    assert high - low < 2 * 1.96 * np.sqrt(2 * 0.16 / 2000) / 2


def test_no_disagreement_still_has_an_interval() -> None:
    value, low, high = paired_difference(np.zeros(100))
    assert value == 0
    assert low == -high
    assert 0.01 < high < 0.05


def test_decisions_that_change_are_counted_by_group() -> None:
    y = np.ones(60)
    base = np.array([1] * 30 + [0] * 30)
    fair = np.array([1] * 20 + [0] * 10 + [1] * 15 + [0] * 15)
    found = cost_against(y, base, fair, Groups.from_sensitive(["a"] * 30 + ["b"] * 30))
    assert found.accuracy[0] == pytest.approx(30 / 60 - 35 / 60)
    assert found.gained == pytest.approx(15 / 60)
    assert found.lost == pytest.approx(10 / 60)
    a, b = found.changes
    assert (a.group, a.rows, a.gained, a.lost) == ("a", 30, 0.0, pytest.approx(1 / 3))
    assert (b.gained, b.lost) == (pytest.approx(0.5), 0.0)
    assert "8.3 percentage points higher" in found.words()


def test_small_groups_are_left_out_with_what_would_tell_of_them() -> None:
    who = ["a"] * 40 + ["b"] * 20 + ["c"] * 3
    found = cost_against(np.ones(63), np.ones(63), np.zeros(63), Groups.from_sensitive(who))
    assert [c.gained for c in found.changes] == [0.0, None, None]
    assert [c.rows for c in found.changes] == [40, 20, None]


def test_words_name_the_direction() -> None:
    assert "0.4 to 2.0" in Cost((0.012, 0.004, 0.02), 0.95, 0, 0, ()).words()
    better = Cost((-0.012, -0.02, 0.004), 0.95, 0, 0, ()).words()
    assert "1.2 percentage points higher" in better
    assert "-0.4 to 2.0" in better
    assert "is the same" in Cost((0.0001, -0.01, 0.01), 0.95, 0, 0, ()).words()


def test_different_rows_are_refused() -> None:
    groups = Groups.from_sensitive(["a", "b"])
    with pytest.raises(InvalidDataError, match="got 3 and 2 decisions on 2 rows"):
        cost_against(np.ones(2), np.ones(3), np.ones(2), groups)
