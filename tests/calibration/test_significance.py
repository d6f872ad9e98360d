"""The score test: level under the null, power, oracles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit

from fairtrain.calibration.cells import Cells, gather
from fairtrain.calibration.significance import (
    EVERYONE,
    adjusted,
    compare_with_parent,
    compare_with_parents,
    find_parents,
    score_test,
)
from fairtrain.data.groups import Groups


def drawn(sizes: list[int], seed: int, a: float = 0.0, b: float = 1.0) -> tuple[Cells, Any]:
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(len(sizes)), sizes)
    x = rng.normal(size=len(codes)) * 1.2
    y = (rng.uniform(size=len(codes)) < expit(a + b * x)).astype(int)
    return gather(x, y, codes, len(sizes)), rng


def test_statistic_is_rao_s() -> None:
    cells, _ = drawn([80], 0)
    q = expit(cells.x)
    design = np.stack([np.ones(80), cells.x], axis=1)
    score = design.T @ (cells.events - q)
    information = (design * (q * (1 - q))[:, None]).T @ design
    found = score_test(cells)
    expected = score @ np.linalg.solve(information, score)
    assert found.statistic[0] == pytest.approx(expected)
    assert found.p_value[0] == pytest.approx(stats.chi2.sf(expected, 2))


def test_against_a_parent_is_the_two_sample_score_test_in_either_direction() -> None:
    cells, _ = drawn([200, 300], 1)
    found = compare_with_parent(cells, np.zeros(2, dtype=np.int64))
    assert found.statistic[0] == pytest.approx(found.statistic[1], rel=1e-6)


def test_a_constant_weight_changes_nothing() -> None:
    cells, _ = drawn([200, 300], 1)
    doubled = Cells(cells.group, cells.x, 2 * cells.weight, 2 * cells.events, 4 * cells.squares, 2)
    parent = np.zeros(2, dtype=np.int64)
    for test in (score_test, lambda c: compare_with_parent(c, parent)):
        np.testing.assert_allclose(test(cells).statistic, test(doubled).statistic, rtol=1e-6)


@pytest.mark.parametrize(("a", "b"), [(0.0, 1.0), (-2.5, 0.8)])
def test_five_percent_tests_reject_five_percent(a: float, b: float) -> None:
    """Groups of like size too: there, a test that trusts the parent rejects 15 to 23 %."""
    sizes, rejected = [25, 60, 120, 400], []
    for seed in range(120):
        cells, rng = drawn(sizes, seed, a, b)
        found = compare_with_parent(cells, np.zeros(4, dtype=np.int64), random_state=rng)
        rejected.append(found.p_value < 0.05)
    share = np.mean(rejected, axis=0)
    assert (share < 0.05 + 3.5 * np.sqrt(0.05 * 0.95 / 120)).all()
    assert 0.03 < share.mean() < 0.075


def test_p_values_with_few_events_are_uniform() -> None:
    p_values = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        x = rng.normal(-3.5, 0.8, 60)  # about two events
        y = (rng.uniform(size=60) < expit(x)).astype(int)
        found = score_test(gather(x, y, np.zeros(60, np.int64), 1), random_state=rng)
        assert found.simulated[0]
        p_values.append(found.p_value[0])
    assert np.mean(np.array(p_values) < 0.05) < 0.09
    assert stats.kstest(p_values, "uniform").statistic < 0.09


def test_a_shift_and_a_slope_are_seen_and_separation_is_no_failure() -> None:
    shifted, _ = drawn([300], 0, a=0.7)
    sloped, _ = drawn([600], 0, b=0.5)
    assert score_test(shifted).p_value[0] < 1e-3
    assert score_test(sloped).p_value[0] < 1e-3
    x = np.array([-2.0, -1.0, 1.0, 2.0])
    separated = score_test(
        Cells(np.zeros(4, np.int64), x, np.ones(4), (x > 0) * 1.0, np.ones(4), 1)
    )
    assert 0 < separated.p_value[0] <= 1


def test_degrees_of_freedom_follow_the_scores() -> None:
    x = np.concatenate([np.full(50, 0.4), [1.0, 2.0]])
    codes = np.repeat([0, 1], [50, 2])
    cells = gather(x, np.arange(52) % 2, codes, 3)
    found = score_test(cells)
    assert found.df.tolist() == [1, 2, 0]
    assert np.isnan(found.p_value[2])
    alone = compare_with_parent(cells, np.array([0, 1, 2]))
    assert alone.df.tolist() == [0, 0, 0]


def test_parents_leave_out_one_column_and_keep_most_rows() -> None:
    groups = Groups.from_sensitive(
        {"race": ["a"] * 9 + ["b"] * 3 + ["c"], "sex": ["f"] * 5 + ["m"] * 7 + ["d"]}
    )
    parents = find_parents(groups.scheme)
    assert dict(zip(groups.names, parents.names, strict=True)) == {
        "a/f": "a",
        "a/m": "a",
        "b/m": "m",
        "c/d": EVERYONE,
    }
    assert find_parents(groups.over("sex").scheme).names == (EVERYONE,) * 3


def test_parents_do_not_depend_on_the_order_of_columns() -> None:
    rng = np.random.default_rng(0)
    n = 2000
    race, sex = rng.choice(["a", "b", "c"], n, p=[0.6, 0.3, 0.1]), rng.choice(["f", "m"], n)
    x = rng.normal(size=n)
    y = (rng.uniform(size=n) < expit(x + 0.5 * (race == "c"))).astype(int)
    found = {}
    for columns in ({"race": race, "sex": sex}, {"sex": sex, "race": race}):
        groups = Groups.from_sensitive(columns)
        cells = gather(x, y, groups.codes, len(groups))
        test = compare_with_parents(cells, find_parents(groups.scheme))
        for name, value in zip(groups.names, test.statistic, strict=True):
            found.setdefault("/".join(sorted(name.split("/"))), []).append(value)
    for pair in found.values():
        assert pair[0] == pytest.approx(pair[1])


def test_adjusted_p_values_leave_out_what_was_not_tested() -> None:
    p = np.array([0.01, np.nan, 0.02, 0.5])
    np.testing.assert_allclose(adjusted(p), [0.03, np.nan, 0.03, 0.5])
    assert np.isnan(adjusted(np.array([np.nan]))).all()
