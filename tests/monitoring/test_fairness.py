"""Gaps over windows: right numbers, few false alarms, breaks found."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fairtrain import DemographicParity, FairnessMonitor, gap, load, save
from fairtrain.exceptions import InvalidDataError, InvalidParameterError


def window(
    rng: np.random.Generator, n: int = 1000, shift: float = 0.0, groups: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    who = rng.integers(0, groups, n)
    decided = rng.random(n) < 0.4 + shift * (who == 0)
    return decided.astype(int), np.array(list("abcdefgh"))[who]


def test_a_window_s_gap_is_gap_s() -> None:
    decided, who = window(np.random.default_rng(0), groups=4)
    row = FairnessMonitor().update(decided, who).iloc[0]
    expected = gap(None, decided, who)
    assert row["gap"] == pytest.approx(expected.value)
    assert (row["lower"], row["upper"]) == pytest.approx((expected.lower, expected.upper))
    assert (row["highest"], row["lowest"]) == (expected.highest, expected.lowest)
    assert row["rows"] == 1000


def test_all_windows_together_weigh_windows_by_their_rows() -> None:
    rng = np.random.default_rng(1)
    monitor = FairnessMonitor("equalized_odds")
    parts = []
    for n in (300, 500, 400):
        parts.append((*window(rng, n, 0.1), rng.integers(0, 2, n)))
        table = monitor.update(*parts[-1])
    for event, row in zip((0, 1), table.sort_values("rate").itertuples(), strict=True):
        means = dict.fromkeys("ab", 0.0)
        for decided, who, y in parts:
            rows = y == event
            for name in means:
                means[name] += rows.sum() * decided[rows & (who == name)].mean()
        total = sum((y == event).sum() for _, _, y in parts)
        assert row.gap_all == pytest.approx(abs(means["a"] - means["b"]) / total)


def test_groups_that_come_at_other_times_are_no_gap() -> None:
    rng = np.random.default_rng(8)
    monitor = FairnessMonitor(difference_bound=0.05)
    for share, rate in ((0.9, 0.2), (0.1, 0.8)):
        who = np.where(rng.random(2000) < share, "a", "b")
        table = monitor.update((rng.random(2000) < rate).astype(int), who)
    assert not monitor.broken
    assert not monitor.drifted
    assert table["gap_all"].iloc[0] < 0.05


def test_a_group_too_small_in_the_reference_does_not_drift() -> None:
    rng = np.random.default_rng(9)
    monitor = FairnessMonitor(difference_bound=0.9)
    who = np.repeat(["a", "b", "c"], [1000, 1000, 20])
    for _ in range(6):
        monitor.update((rng.random(2020) < np.where(who == "c", 0.05, 0.4)).astype(int), who)
    assert not monitor.drifted


def test_a_first_window_that_is_too_small_is_no_reference() -> None:
    rng = np.random.default_rng(10)
    monitor = FairnessMonitor(difference_bound=0.9)
    monitor.update(*window(rng, 40))
    for shift in (0.0, 0.4):
        monitor.update(*window(rng, 5000, shift))
    assert monitor.drifted


@pytest.mark.parametrize("groups", [2, 6])
def test_false_alarms_stay_rare_at_the_bound(groups: int) -> None:
    rng = np.random.default_rng(2)
    alarms = 0
    for _ in range(40):
        monitor = FairnessMonitor(difference_bound=0.05, alpha=0.2)
        for _ in range(8):
            monitor.update(*window(rng, 600, 0.05, groups))
        alarms += monitor.broken or monitor.drifted
    assert alarms <= 14  # 8 expected at most; 14 has a chance of one in a hundred beyond


def test_a_break_is_found_at_once_and_a_drift_in_the_end() -> None:
    rng = np.random.default_rng(3)
    sudden, slow = FairnessMonitor(difference_bound=0.05), FairnessMonitor(difference_bound=0.4)
    for t in range(30):
        sudden.update(*window(rng, 2000, 0.2 if t >= 5 else 0.0))
        slow.update(*window(rng, 2000, 0.006 * t))
    assert sudden.history.query("broken")["window"].min() in (6, 7)
    assert slow.drifted
    assert not slow.broken
    assert "broke its bound in window" in sudden.explain()
    assert "wider than in the reference" in slow.explain()


def test_a_reference_of_one_s_own() -> None:
    rng = np.random.default_rng(4)
    monitor = FairnessMonitor(difference_bound=0.9)
    monitor.set_reference(*window(rng, 5000))
    assert bool(monitor.update(*window(rng, 5000, 0.2))["drifted"].iloc[0])
    with pytest.raises(InvalidParameterError, match="before the first window"):
        monitor.set_reference(*window(rng))


def test_ratios_break_from_below() -> None:
    rng = np.random.default_rng(5)
    monitor = FairnessMonitor(ratio_bound=0.8)
    assert not monitor.update(*window(rng, 4000))["broken"].iloc[0]
    assert monitor.update(*window(rng, 4000, 0.4))["broken"].iloc[0]


def test_groups_that_come_go_or_are_small() -> None:
    rng = np.random.default_rng(6)
    monitor = FairnessMonitor()
    monitor.update(*window(rng))
    alone = monitor.update(np.ones(50, int), np.repeat("a", 50))
    assert np.isnan(alone["gap"].iloc[0])
    decided, who = window(rng)
    new = monitor.update(np.append(decided, [1, 1]), np.append(who, ["new", "new"]))
    assert new["new_groups"].iloc[0] == "new"
    assert set(new[["highest", "lowest"]].iloc[0]) == {"a", "b"}
    assert new["rows_needed"].iloc[0] > 30
    assert "had too few rows" in monitor.explain()


def test_keeps_sums_and_no_rows() -> None:
    rng = np.random.default_rng(7)
    monitor = FairnessMonitor()
    sizes = []
    for n in (1000, 200_000):
        monitor.update(*window(rng, n))
        sizes.append(len(pickle.dumps(monitor)))
    assert sizes[1] - sizes[0] < 4000


BAD: list[tuple[dict[str, Any], str]] = [
    ({"alpha": 1.0}, "alpha must lie"),
    ({"min_rows": 0}, "min_rows must be"),
    ({"constraints": "bounded_group_loss"}, "."),
]


@pytest.mark.parametrize(("settings", "says"), BAD)
def test_bad_settings(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidParameterError, match=says):
        FairnessMonitor(**settings)


def test_labels_where_they_are_needed() -> None:
    with pytest.raises(InvalidDataError, match="y_true is missing"):
        FairnessMonitor("equal_opportunity").update([0, 1], ["a", "b"])
    assert FairnessMonitor().explain() == "No window yet."


def rows_with_labels(seed: int, n: int = 1500) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    decided, who = window(rng, n, 0.1)
    return np.arange(n) + n * seed, decided, who, rng.integers(0, 2, n)


def test_late_labels_give_what_labels_at_once_give() -> None:
    both = ["demographic_parity", "equalized_odds"]
    at_once, late = FairnessMonitor(both), FairnessMonitor(both)
    parts = [rows_with_labels(seed) for seed in range(2)]
    for ids, decided, who, y in parts:
        at_once.update(decided, who, y)
        early = late.update(decided, who, ids=ids)
        assert early["constraint"].tolist() == ["demographic_parity"]
    assert late.n_waiting == 3000
    for ids, _, _, y in parts:
        mixed = np.random.default_rng(9).permutation(len(ids))
        table = late.add_labels(ids[mixed], y[mixed])
        assert set(table["constraint"]) == {"equalized_odds"}
    assert late.n_waiting == 0
    assert late.history["window"].unique().tolist() == [1, 2, 3, 4]
    numbers = ["rows", "gap", "lower", "upper", "gap_all"]
    for name in ("demographic_parity", "equalized_odds"):
        a, b = (m.history[m.history["constraint"] == name] for m in (at_once, late))
        assert np.allclose(a[numbers], b[numbers])


def test_a_part_of_the_labels_and_rows_given_up() -> None:
    ids, decided, who, y = rows_with_labels(1)
    monitor = FairnessMonitor("equal_opportunity")
    assert not len(monitor.update(decided, who, ids=ids))
    assert not monitor.windows
    expected = gap(y[:900], decided[:900], who[:900], metric="true_positive_rate")
    assert monitor.add_labels(ids[:900], y[:900])["gap"].iloc[0] == pytest.approx(expected.value)
    monitor.forget(ids[900:1000])
    assert monitor.n_waiting == 500
    assert len(pickle.dumps(monitor)) < 100_000


def test_ids_that_do_not_join() -> None:
    ids, decided, who, y = rows_with_labels(2, 60)
    with pytest.raises(InvalidParameterError, match="leave out one of the two"):
        FairnessMonitor().update(decided, who, y, ids=ids)
    monitor = FairnessMonitor("equal_opportunity")
    monitor.update(decided, who, ids=ids)
    for wrong in (ids[:2] + 1000, ids[[3, 3]]):
        with pytest.raises(InvalidDataError, match="ids must name waiting rows once"):
            monitor.add_labels(wrong, y[:2])
    with pytest.raises(InvalidDataError, match="ids must name each waiting row"):
        monitor.update(decided, who, ids=ids)
    with pytest.raises(InvalidDataError, match="another index"):
        monitor.add_labels(pd.Series(ids), pd.Series(y, index=ids))
    with pytest.raises(InvalidDataError, match="has 59"):
        monitor.update(decided, who, ids=ids[1:])
    assert monitor.n_waiting == 60


def test_words_as_labels_and_missing_groups_come_late_too() -> None:
    ids, decided, who, y = rows_with_labels(3)
    words = np.array(["no", "yes"])
    groups = np.where(ids % 7 == 0, None, who)
    settings: dict[str, Any] = {"positive_label": "yes", "missing": "group"}
    at_once = FairnessMonitor("equalized_odds", **settings)
    late = FairnessMonitor("equalized_odds", **settings)
    table = at_once.update(words[decided], groups, words[y])
    late.update(words[decided], groups, ids=ids)
    assert late.add_labels(ids, words[y])["gap"].tolist() == pytest.approx(table["gap"].tolist())


def test_a_saved_monitor_goes_on_where_it_was(tmp_path: Path) -> None:
    both = ["demographic_parity", "equalized_odds"]
    whole = FairnessMonitor(both)
    first, second = rows_with_labels(4), rows_with_labels(5)
    whole.update(*first[1:3], ids=first[0])
    save(whole, tmp_path / "monitor")
    again = load(tmp_path / "monitor")
    assert again.n_waiting == 1500
    for monitor in (whole, again):
        monitor.add_labels(first[0], first[3])
        monitor.update(*second[1:])
    pd.testing.assert_frame_equal(again.history, whole.history, check_dtype=False)
    assert again.explain() == whole.explain()


def test_rows_that_wait_together_have_the_same_columns() -> None:
    monitor = FairnessMonitor("equal_opportunity", missing="group")
    monitor.update([1, 0], {"sex": ["f", "m"]}, ids=["a", "b"])
    with pytest.raises(InvalidDataError, match="columns 'sex', these 'race'; pass the same"):
        monitor.update([1, 0], {"race": ["x", "y"]}, ids=["c", "d"])
    assert monitor.n_waiting == 2
    with pytest.raises(InvalidDataError, match="not 'a' twice"):
        monitor.update([1, 0], {"sex": ["f", "m"]}, ids=["a", "c"])
    with pytest.raises(InvalidDataError, match="ids must have one column"):
        monitor.forget("a")  # would be read letter by letter
    monitor.forget(["a"])
    monitor.forget([])
    assert monitor.n_waiting == 1


@pytest.mark.parametrize(
    ("bound", "implied"),
    [({"difference_bound": 0.1}, 0.2), ({"ratio_bound": 0.8}, 0.64)],
)
def test_a_bound_around_the_overall_rate_is_no_pairwise_one(
    bound: dict[str, float], implied: float
) -> None:
    rng = np.random.default_rng(0)
    who = rng.integers(0, 2, 20_000)
    decided = (rng.random(20_000) < 0.5 + 0.07 * (2 * who - 1)).astype(int)
    overall = FairnessMonitor(DemographicParity(reference="overall", **bound))
    row = overall.update(decided, who).iloc[0]
    assert row["bound"] == pytest.approx(implied)
    assert not row["broken"]  # each group is .07 from all rows, .14 from the other
    assert FairnessMonitor(DemographicParity(**bound)).update(decided, who)["broken"].all()
    apart = np.where(rng.random(20_000) < 0.9, who, 1 - who)
    assert overall.update(apart, who)["broken"].all()


def test_groups_of_weight_zero_are_not_watched() -> None:
    who = np.repeat(["a", "b", "other"], 1000)
    decided = (np.arange(3000) % 2) * (who != "other")
    monitor = FairnessMonitor(DemographicParity(weights={"other": 0, "elsewhere": 0}))
    row = monitor.update(decided, who).iloc[0]
    assert not row["broken"]
    assert row["rows"] == 2000
    assert FairnessMonitor().update(decided, who)["broken"].all()


def branches(rng: np.random.Generator, n: int = 100, size: int = 20) -> dict[str, np.ndarray]:
    """Rows of ``n`` branches, whose rates are beta distributed with a correlation of .2."""
    branch = np.repeat(np.arange(n), size)
    own = rng.beta(0.4 * 4, 0.6 * 4, n)
    decided = (rng.random(n * size) < own[branch]).astype(int)
    return {"y_pred": decided, "sensitive_features": branch % 2, "clusters": branch}


def test_rows_in_clusters_are_worth_less() -> None:
    data = branches(np.random.default_rng(0))
    row = FairnessMonitor().update(**data).iloc[0]
    expected = gap(None, **data)
    assert row["gap"] == pytest.approx(expected.value)
    assert (row["lower"], row["upper"]) == pytest.approx((expected.lower, expected.upper), abs=1e-3)
    alone = FairnessMonitor().update(data["y_pred"], data["sensitive_features"]).iloc[0]
    assert row["upper"] - row["lower"] > 1.7 * (alone["upper"] - alone["lower"])


def test_clusters_raise_no_alarm_if_they_are_named() -> None:
    rng = np.random.default_rng(1)
    named, unnamed = (FairnessMonitor(difference_bound=0.02) for _ in range(2))
    for _ in range(16):
        data = branches(rng, n=60, size=60)
        named.update(**data)
        unnamed.update(data["y_pred"], data["sensitive_features"])
    assert unnamed.broken
    assert not named.broken
    for _ in range(4):
        data = branches(rng, n=60, size=60)
        data["y_pred"][data["sensitive_features"] == 0] |= 1
        named.update(**data)
    assert named.broken


def test_groups_in_few_clusters_are_not_compared() -> None:
    data = branches(np.random.default_rng(2), n=16)
    assert np.isnan(FairnessMonitor().update(**data)["gap"].iloc[0])
    monitor = FairnessMonitor()
    for seed in range(2):
        row = monitor.update(**branches(np.random.default_rng(seed), n=16)).iloc[0]
    assert np.isnan(row["gap"])
    assert row["gap_all"] >= 0  # in two windows there are clusters enough


def test_clusters_wait_with_their_rows() -> None:
    rng = np.random.default_rng(3)
    data = branches(rng)
    y, ids = rng.integers(0, 2, 2000), np.arange(2000)
    at_once, late = FairnessMonitor("equalized_odds"), FairnessMonitor("equalized_odds")
    table = at_once.update(**data, y_true=y)
    late.update(**data, ids=ids)
    with pytest.raises(InvalidDataError, match="clusters for all of them or for none"):
        late.update(data["y_pred"], data["sensitive_features"], ids=ids + 2000)
    pd.testing.assert_frame_equal(late.add_labels(ids, y), table)


def test_windows_with_and_without_clusters_pool() -> None:
    rng = np.random.default_rng(4)
    mixed = FairnessMonitor()
    mixed.update(*window(rng))
    mixed.update(
        **{
            **(data := branches(rng)),
            "sensitive_features": np.array(["a", "new"])[data["sensitive_features"]],
        }
    )
    df = mixed._sequences[0, "selection_rate"].pool.df
    assert df is not None
    assert (df[:2] >= 1e9).all()
    assert 30 < df[2] < 50
