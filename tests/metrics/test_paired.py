"""The price of fairness, against simulation and counting by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fairtrain.data.groups import Groups
from fairtrain.exceptions import InvalidDataError
from fairtrain.metrics.paired import Change, Cost, cost_against, paired_difference


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


def test_who_gains_and_who_loses_is_said_with_counts_and_limits() -> None:
    who = np.repeat(["a", "b", "c"], [400, 200, 3])
    base = np.r_[np.ones(400), np.zeros(200), np.ones(3)]
    fair = np.r_[np.ones(360), np.zeros(40), np.ones(10), np.zeros(190), np.zeros(3)]
    found = cost_against(np.ones(603), base, fair, Groups.from_sensitive(who))
    a, b, c = found.changes
    assert a.net == paired_difference((fair - base)[:400])
    assert a.words().startswith("'a' loses 10.0 in 100 (")
    assert "of 400, 0 gain one and 40 lose one" in a.words()
    assert b.net is None  # with it, the total would tell of c
    assert c.net is None
    assert found.who_pays().endswith("2 groups are not shown.")
    assert "'a'" not in found.without({"a"}).who_pays()


def test_rows_of_one_cluster_widen_the_limits_of_what_a_group_gains() -> None:
    rng = np.random.default_rng(0)
    base, fair = (np.repeat(rng.integers(0, 2, 60), 10) for _ in range(2))
    groups = Groups.from_sensitive(["a"] * 300 + ["b"] * 300)
    alone = cost_against(base, base, fair, groups).changes[0].net
    together = cost_against(base, base, fair, groups, clusters=np.repeat(np.arange(60), 10))
    wide = together.changes[0].net
    assert alone is not None
    assert wide is not None
    assert wide[2] - wide[1] > 2 * (alone[2] - alone[1])


def test_clear_changes_are_said_before_large_ones_of_a_few_rows() -> None:
    few = Change("few", 12, 0.0, 0.3, (-0.3, -0.6, 0.1))
    many = Change("many", 900, 0.0, 0.05, (-0.05, -0.07, -0.03))
    said = Cost((0.0, 0.0, 0.0), 0.95, 0, 0.05, (few, many)).who_pays(1)
    assert "'many' loses 5.0 in 100" in said
    assert "1 group is in the table" in said
