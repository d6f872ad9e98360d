"""Measures against brute force, null references and intervals against simulation."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fairtrain import GroupFairnessCalibrator, calibration_audit
from fairtrain.calibration.audit.errors import (
    brier_parts,
    debiased_ece,
    folded_mean,
    make_cells,
    measures_of,
    smooth_ece,
)
from fairtrain.calibration.audit.measuring import ece_interval, null_reference
from fairtrain.calibration.lattice import families, hidden_subgroups, screen
from fairtrain.data.groups import Groups
from fairtrain.data.rows import Rows
from fairtrain.datasets import make_miscalibrated
from fairtrain.exceptions import InvalidDataError, InvalidParameterError, SameRowsWarning

edges = [0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0]
some_rows = st.lists(
    st.tuples(st.sampled_from(edges) | st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=30
)


def cells_of(s: Any, y: Any, codes: Any = None, n_bins: int = 10) -> Any:
    s, y = np.asarray(s, dtype=float), np.asarray(y)
    codes = np.zeros(len(s), dtype=np.int64) if codes is None else np.asarray(codes)
    order = np.lexsort((s, codes))
    return make_cells(s[order], y[order], codes[order], int(codes.max()) + 1, n_bins)


def plug_in(cells: Any) -> Any:
    rows = cells.by_mass(cells.weight)
    return np.abs(cells.by_mass(cells.events - cells.score)).sum(-1) / rows.sum(-1)


def brute_force(s: Any, y: Any, bin_of: Any) -> tuple[float, float]:
    """ECE and MCE by a loop over bins, one mask each."""
    distances, shares = [], []
    for b in sorted(set(bin_of)):
        mine = np.array([k == b for k in bin_of])
        distances.append(abs(np.asarray(y)[mine].mean() - np.asarray(s)[mine].mean()))
        shares.append(mine.mean())
    return float(np.dot(shares, distances)), max(distances)


@settings(max_examples=150)
@given(some_rows, st.integers(1, 12))
def test_ece_is_brute_force_on_adversarial_bins(rows: Any, n_bins: int) -> None:
    s, y = (list(column) for column in zip(*rows, strict=True))
    cells = cells_of(s, y, n_bins=n_bins)
    found = {name: value[0] for name, value in measures_of(cells, cells.events).items()}
    steps = -(-200 // n_bins)
    width = [min(int(v * steps * n_bins), steps * n_bins - 1) // steps for v in s]
    assert found["ece_equal_width"] == pytest.approx(brute_force(s, y, width)[0], abs=1e-12)
    ranks = [sum(other < v for other in s) for v in s]
    mass = [n_bins * rank // len(s) for rank in ranks]
    ece, mce = brute_force(s, y, mass)
    assert plug_in(cells)[0] == pytest.approx(ece, abs=1e-12)
    assert found["mce"] == pytest.approx(mce, abs=1e-12)
    assert found["brier"] == pytest.approx(np.mean((np.array(s) - y) ** 2), abs=1e-5)
    assert all(np.isfinite(value) for value in found.values())


def test_bins_that_libraries_misalign() -> None:
    """Scores in steps of .1, where counts over other bins than means give .028 for .141."""
    rng = np.random.default_rng(0)
    s = rng.integers(0, 11, 4000) / 10
    y = (rng.uniform(size=4000) < np.clip(s + np.where(s < 0.5, 0.14, -0.14), 0, 1)).astype(int)
    cells = cells_of(s, y)
    expected = brute_force(s, y, [min(round(v * 10), 9) for v in s])[0]
    assert measures_of(cells, cells.events)["ece_equal_width"][0] == pytest.approx(expected)
    equal = cells_of(np.full(50, 0.3), np.arange(50) % 2)
    assert plug_in(equal)[0] == pytest.approx(0.2)
    assert cells_of([0.4], [1]).by_mass(np.ones(1)).sum() == 1


def test_groups_at_once_are_groups_one_by_one() -> None:
    rng = np.random.default_rng(0)
    s, codes = rng.uniform(size=5000), rng.choice(4, 5000, p=[0.7, 0.2, 0.09, 0.01])
    y = (rng.uniform(size=5000) < s**1.5).astype(int)
    cells = cells_of(s, y, codes)
    together = measures_of(cells, cells.events)
    for g in range(4):
        alone = cells_of(s[codes == g], y[codes == g])
        for name, value in measures_of(alone, alone.events).items():
            assert together[name][g] == pytest.approx(value[0], rel=1e-9), name


def test_debiasing_removes_the_bias_of_small_groups() -> None:
    rng = np.random.default_rng(0)
    s, codes = rng.uniform(size=100 * 400), np.repeat(np.arange(400), 100)
    cells = cells_of(s, (rng.uniform(size=len(s)) < s).astype(int), codes)
    debiased = measures_of(cells, cells.events)["ece"].mean()
    assert plug_in(cells).mean() > 0.08
    assert debiased < 0.4 * plug_in(cells).mean()
    shifted = cells_of(s, (rng.uniform(size=len(s)) < 0.7 * s).astype(int), codes)
    truth = 0.15
    assert measures_of(shifted, shifted.events)["ece"].mean() == pytest.approx(truth, abs=0.015)


def test_debiased_formula_without_noise_is_the_plug_in() -> None:
    share, distance = np.full((1, 4), 0.25), np.array([[0.1, -0.2, 0.0, 0.3]])
    assert debiased_ece(share, distance, np.zeros((1, 4)))[0] == pytest.approx(0.15)
    draws = np.abs(np.random.default_rng(0).normal(0.3, 0.5, 200_000)).mean()
    assert folded_mean(np.array(0.3), np.array(0.5)) == pytest.approx(draws, abs=0.004)


def test_smooth_ece_against_reflected_kernels_summed_one_by_one() -> None:
    rng = np.random.default_rng(0)
    s = rng.beta(2, 3, 300)
    y = (rng.uniform(size=300) < s**1.7).astype(int)
    grid = (np.arange(200) + 0.5) / 200

    def integral(width: float) -> float:
        images = [s, -s, 2 - s, s + 2, -s - 2, 4 - s, s - 2]
        kernel = sum(stats.norm.pdf(grid[:, None], m, width) for m in images)
        return float(np.abs(kernel @ (y - s) / 300).mean())

    low, high = 0.0025, 1.0
    for _ in range(40):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if integral(middle) > middle else (low, middle)
    cells = cells_of(s, y)
    found = measures_of(cells, cells.events)["smooth_ece"][0]
    assert found == pytest.approx(low, rel=0.02)
    assert smooth_ece(np.zeros((2, 100))).max() <= 0.005


def test_brier_parts_add_up() -> None:
    rng = np.random.default_rng(0)
    s = rng.uniform(size=2000)
    y = (rng.uniform(size=2000) < s).astype(int)
    cells = cells_of(s, y)
    parts = brier_parts(cells)
    total = parts["reliability"] - parts["resolution"] + parts["uncertainty"] + parts["within"]
    assert total[0] == pytest.approx(np.mean((s - y) ** 2), abs=1e-5)
    assert parts["uncertainty"][0] == pytest.approx(y.mean() * (1 - y.mean()))


@pytest.mark.parametrize("n", [30, 1500])
def test_p_values_reject_as_often_as_they_say(n: int) -> None:
    rng = np.random.default_rng(1)
    size = 250
    s, codes = rng.beta(1, 4, n * size), np.repeat(np.arange(size), n)
    cells = cells_of(s, (rng.uniform(size=n * size) < s).astype(int), codes)
    null = null_reference(cells, 100, rng)
    for name in null.observed:
        assert (null.p_value(name) <= 0.05).mean() < 0.05 + 3.3 * np.sqrt(0.05 * 0.95 / size), name
        above = (null.observed[name] > null.quantile(name, 0.95)).mean()
        assert above < 0.05 + 3.3 * np.sqrt(0.05 * 0.95 / size) + 0.01


@pytest.mark.parametrize("shift", [0.0, 0.08])
@pytest.mark.parametrize("n", [40, 600])
def test_intervals_cover(n: int, shift: float) -> None:
    rng = np.random.default_rng(0)
    size = 200
    s, codes = rng.uniform(0.1, 0.9, n * size), np.repeat(np.arange(size), n)
    y = (rng.uniform(size=n * size) < s + shift).astype(int)
    lower, upper = ece_interval(cells_of(s, y, codes), 0.95, 100, rng)
    assert ((lower <= shift) & (shift <= upper)).mean() > 0.89


def test_disparity_of_calibrated_groups_is_mostly_their_size() -> None:
    data = make_miscalibrated(6000, strength=0.0, random_state=0)
    audit = calibration_audit(data.scores, data.y, data.sensitive_features, random_state=0)
    assert audit.disparity_p > 0.05
    assert audit.disparity_null > 0.05  # from noise alone
    assert (audit.groups["calibration_p_adjusted"] > 0.01).all()
    assert audit.disparity_interval[0] == 0.0


def test_audit_finds_what_is_wrong_and_says_so() -> None:
    data = make_miscalibrated(20_000, random_state=0)
    audit = calibration_audit(
        data.scores,
        data.y,
        data.sensitive_features,
        max_ece=0.05,
        max_disparity=0.02,
        n_simulations=100,
        random_state=0,
    )
    assert len(audit.groups) == 7 + 16 + 12
    assert audit.disparity_p < 0.05
    assert audit.disparity_verdict in ("not_met", "too_few_rows")
    assert set(audit.groups["verdict"]) <= {"met", "not_met", "too_few_rows"}
    assert (audit.groups.query("rows > 1000")["verdict"] == "not_met").all()
    assert len(audit.finest) == 12
    assert audit.maximum["ece"] == audit.groups["ece"].max()
    assert "miscalibrated beyond chance" in str(audit)
    assert (audit.groups["ece_lower"] <= audit.groups["ece"]).all()
    rows = audit.bins.groupby("group")["rows"].sum()
    assert rows.to_dict() == audit.groups.set_index("group")["rows"].to_dict()
    small = calibration_audit(
        data.scores[:60],
        data.y[:60],
        data.sensitive_features[:60],
        n_simulations=50,
        random_state=0,
    )
    records = small.to_dict()["groups"]
    assert all(r["events"] is None for r in records if r["rows"] == "< 10")
    assert any(r["rows"] == "< 10" for r in records)
    again = calibration_audit(
        data.scores[:60],
        data.y[:60],
        data.sensitive_features[:60],
        n_simulations=50,
        random_state=0,
    )
    assert again.to_dict() == small.to_dict()
    shown = small._repr_html_()
    for record in records:
        assert (f">{record['group']} <small>" in shown) == (record["ece"] is not None)
    assert f"{sum(r['ece'] is None for r in records)} groups are not shown" in shown


def test_calibration_repairs_what_the_audit_sees() -> None:
    data = make_miscalibrated(20_000, random_state=0)
    model = GroupFairnessCalibrator().fit(data.scores, data.y, data.sensitive_features)
    fresh = data.fresh(1500, random_state=1)
    q = model.transform(fresh.scores, fresh.sensitive_features)
    before, after = (
        calibration_audit(s, fresh.y, fresh.sensitive_features, n_simulations=50, random_state=0)
        for s in (fresh.scores, q)
    )
    assert after.disparity < 0.5 * before.disparity
    assert after.maximum["ece"] < 0.5 * before.maximum["ece"]


def test_the_rows_of_the_fit_warn_in_any_order_and_others_do_not() -> None:
    data = make_miscalibrated(2000, random_state=0)
    who = data.sensitive_features
    model = GroupFairnessCalibrator("isotonic").fit(data.scores, data.y, who)
    q = model.transform(data.scores, who)
    rows = np.random.default_rng(0).permutation(2000)
    mixed = who.iloc[rows].reset_index(drop=True)
    quick: Any = {"n_simulations": 20, "depth": 1}
    with pytest.warns(SameRowsWarning, match="audit rows that took no part"):
        calibration_audit(q[rows], data.y[rows], mixed, calibrator=model, **quick)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick["calibrator"] = model
        calibration_audit(data.scores, data.y, who, **quick)  # before calibration
        calibration_audit(q[1:], data.y[1:], who[1:], **quick)
        quick["calibrator"] = GroupFairnessCalibrator().fit(data.scores, data.y, who)
        calibration_audit(q, data.y, who, **quick)  # of another calibrator


def test_what_an_audit_says_depends_on_its_arguments_alone() -> None:
    data = make_miscalibrated(2000, random_state=0)
    who = data.sensitive_features
    model = GroupFairnessCalibrator().fit(data.scores, data.y, who)
    q, quick = model.transform(data.scores, who), {"n_simulations": 20, "depth": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calibration_audit(q, data.y, who, **quick)  # model is alive, but nobody named it
    again = pickle.loads(pickle.dumps(model))
    with pytest.warns(SameRowsWarning):
        calibration_audit(q, data.y, who, calibrator=again, **quick)
    with pytest.raises(InvalidParameterError, match="must be a fitted GroupFairnessCalibrator"):
        calibration_audit(q, data.y, who, calibrator=GroupFairnessCalibrator())


def three_attributes(n: int = 30_000) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    who = rng.integers(0, 2, (n, 4))
    s = rng.uniform(0.1, 0.7, n)
    bad = who[:, 0] & who[:, 2]
    return s, (rng.uniform(size=n) < s + 0.15 * bad).astype(np.int8), who


def test_screened_sums_are_the_subgroups_own() -> None:
    s, y, who = three_attributes()
    groups = Groups.from_sensitive(who)
    rng = np.random.default_rng(0)
    options: Any = {"depth": 4, "n_bins": 5, "min_rows": 30, "rng": rng}
    rows = Rows(None, y, groups, score=s)
    found = screen(rows, max_subgroups=1000, **options)
    assert not found.sampled
    assert len(found.table) + found.pruned == 3**4 - 1
    assert found.table.loc[0, "subgroup"] == "group_0=1 & group_2=1"
    edges = np.quantile(s, [0.2, 0.4, 0.6, 0.8])
    for _, line in found.table.head(10).iterrows():
        mine = np.ones(len(s), dtype=bool)
        for part in line["subgroup"].split(" & "):
            name, level = part.split("=")
            mine &= who[:, int(name[-1])] == int(level)
        b = np.searchsorted(edges, s[mine], side="right")
        D = np.bincount(b, y[mine] - s[mine])
        V = np.bincount(b, s[mine] * (1 - s[mine]))
        assert line["statistic"] == pytest.approx((D**2 / V).sum())
        assert line["rows"] == mine.sum()
    drawn = screen(rows, max_subgroups=20, **options)
    assert drawn.sampled
    assert len(drawn.table) <= 20


def test_errors_that_cancel_in_a_whole_are_not_pruned_away() -> None:
    rng = np.random.default_rng(0)
    n = 20_000
    who = rng.integers(0, 2, (n, 2))
    s = rng.uniform(0.2, 0.8, n)
    sign = np.where(who[:, 0] == who[:, 1], 0.1, -0.1)
    y = (rng.uniform(size=n) < s + sign).astype(np.int8)
    found = screen(
        Rows(None, y, Groups.from_sensitive(who), score=s),
        depth=2,
        n_bins=5,
        min_rows=30,
        max_subgroups=100,
        rng=rng,
    )
    assert (found.table["depth"] == 2).sum() == 4


def test_families_are_all_combinations() -> None:
    groups = Groups.from_sensitive(three_attributes(500)[2])
    found = {family.columns: len(family) for family in families(groups.scheme, 3)}
    for columns in product([0, 1], repeat=4):
        chosen = tuple(np.flatnonzero(columns))
        if 0 < len(chosen) <= 3:
            assert found[chosen] == 2 ** len(chosen)


def test_a_large_lattice_is_screened_and_reported_in_part() -> None:
    s, y, who = three_attributes(6000)
    audit = calibration_audit(
        s, y, who, max_reported=12, n_simulations=40, n_bins=5, random_state=0
    )
    assert len(audit.groups) == 12
    assert audit.groups["group"].iloc[8] == "group_0=1 & group_2=1"
    assert "screened" in audit.explain()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"n_bins": 0}, "n_bins must lie between 1 and 100, got 0"),
        ({"confidence": 1}, "confidence must lie strictly between 0 and 1"),
        ({"n_simulations": 3}, "n_simulations must be at least 20"),
        ({"max_ece": 2}, r"max_ece must be a number in \[0, 1\], got 2"),
        ({"max_ece": float("nan")}, "max_ece must be a number"),
        ({"max_disparity": -0.1}, "max_disparity must be a number"),
    ],
)
def test_settings_are_checked(options: Any, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        calibration_audit([0.2, 0.8], [0, 1], ["a", "b"], **options)


def test_rows_are_checked() -> None:
    with pytest.raises(InvalidDataError, match=r"must be probabilities in \[0, 1\], got 0.2 to 3"):
        calibration_audit([0.2, 3], [0, 1], ["a", "b"])
    with pytest.raises(InvalidDataError, match="sensitive_features has 1 rows, expected 2"):
        calibration_audit([0.2, 0.3], [0, 1], ["a"])
    with pytest.raises(InvalidParameterError, match="positive_label is missing"):
        calibration_audit([0.2, 0.3], ["no", "yes"], ["a", "b"])
    audit = calibration_audit([-1.0, 2.0], [0, 1], ["a", "b"], scale="logit", random_state=0)
    assert audit.groups["rows"].tolist() == [1, 1]


def known(members: Any, hidden: Any, target: Any) -> bool:
    """Whether a sum over leaves follows from those of the lines shown, by ranks."""
    shown = np.vstack([np.ones(members.shape[1]), members[~hidden]])
    return bool(np.linalg.matrix_rank(np.vstack([shown, target])) == np.linalg.matrix_rank(shown))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=12, max_size=12), st.booleans())
def test_small_subgroups_do_not_follow_from_what_is_shown(sizes: list[int], deep: bool) -> None:
    levels = np.array(list(np.ndindex(2, 3, 2)))
    codes = np.repeat(np.arange(12), sizes)
    if len(codes) < 10:
        return
    groups = Groups.from_sensitive(levels[codes])
    lattice = list(families(groups.scheme, 3 if deep else 2))
    members = np.concatenate([f.of_leaf == np.arange(len(f))[:, None] for f in lattice])
    over = [str(f.columns) for f in lattice for _ in range(len(f))]
    hidden = hidden_subgroups(members, over, groups.counts, 10)
    rows = members @ groups.counts
    assert hidden[rows < 10].all()
    if (rows == len(codes)).any():  # everybody is one group, and always shown
        return
    secret = members[rows < 10]
    assert not any(known(members, hidden, line) for line in secret)
    for g in np.flatnonzero(hidden & (rows >= 10)):  # no more is hidden than must be
        fewer = hidden.copy()
        fewer[g] = False
        rests = [
            line - members[[o == name for o in over] & ~fewer & (members <= line).all(1)].sum(0)
            for line in [np.ones(members.shape[1]), *members[~fewer]]
            for name in dict.fromkeys(over)
        ]
        small_rest = any(0 < rest @ groups.counts < 10 for rest in rests)
        assert small_rest or any(known(members, fewer, line) for line in secret)


def test_one_small_intersection_takes_its_neighbours_along() -> None:
    rows = {("a", "f"): 4, ("a", "m"): 40, ("b", "f"): 30, ("b", "m"): 60, ("c", "f"): 70}
    who = np.repeat(list(rows), list(rows.values()), axis=0)
    rng = np.random.default_rng(0)
    s = rng.uniform(0.2, 0.8, len(who))
    audit = calibration_audit(
        s, rng.binomial(1, s), {"race": who[:, 0], "sex": who[:, 1]}, n_simulations=20
    )
    hidden = set(audit.groups["group"][audit.hidden()])
    # Race a less its men, and women less those of b and c, would each be the four.
    assert hidden == {
        "race=a & sex=f",
        "race=a & sex=m",
        "race=b & sex=f",
        "race=b & sex=m",
    }
    written = {r["group"]: r for r in audit.to_dict()["groups"]}
    assert written["race=a & sex=f"]["rows"] == "< 10"
    assert all(written["race=b & sex=m"][name] is None for name in ("rows", "events", "ece"))
    assert written["race=a"]["rows"] == 44
    assert not audit.hidden(min_cell=2).any()
    told = audit.to_dict()["disparity"]["value"]
    ends = audit.disparities.query("measure == 'ece'").iloc[-1][["highest", "lowest"]]
    assert (told is None) == bool(hidden & set(ends))


def test_integer_weights_are_repeated_rows_and_noise_knows_better() -> None:
    rng = np.random.default_rng(0)
    s, who = rng.uniform(size=600).round(2), rng.integers(0, 2, 600)
    y, w = rng.binomial(1, 0.8 * s), rng.integers(0, 4, 600)
    quick: Any = {"n_simulations": 40, "random_state": 0}
    weighted = calibration_audit(s, y, who, w, **quick).groups
    r = np.repeat(np.arange(600), w)
    repeated = calibration_audit(s[r], y[r], who[r], **quick).groups
    for name in (
        *("mean_score", "event_rate", "ece_equal_width", "smooth_ece", "mce", "brier", "log_loss"),
        *("reliability", "resolution", "uncertainty", "within", "intercept", "slope"),
    ):
        np.testing.assert_allclose(weighted[name], repeated[name], atol=1e-6, err_msg=name)
    assert weighted["rows"].sum() == (w > 0).sum()
    kish = [w[who == g].sum() ** 2 / (w[who == g] ** 2).sum() for g in (0, 1)]
    np.testing.assert_allclose(weighted["effective_rows"], kish)
    assert (weighted["ece_null"] > repeated["ece_null"]).all()
    assert (weighted["calibration_p"] > repeated["calibration_p"]).all()
    # The unit of weights is nobody's business.
    other = calibration_audit(s, y, who, 7.0 * w, **quick).groups
    for name in ("ece", "ece_lower", "ece_upper", "ece_null", "ece_p", "calibration_p"):
        np.testing.assert_allclose(other[name], weighted[name], atol=1e-9, err_msg=name)


def test_a_group_of_weight_0_has_a_line_without_numbers() -> None:
    rng = np.random.default_rng(0)
    s, who = rng.uniform(size=300), np.repeat(["a", "b", "c"], 100)
    y = rng.binomial(1, s)
    audit = calibration_audit(s, y, who, who != "c", n_simulations=20, random_state=0)
    present = calibration_audit(s[:200], y[:200], who[:200], n_simulations=20, random_state=0)
    table = audit.groups.set_index("group")
    assert table.loc["group=c", "rows"] == 0
    assert np.isnan(table.loc["group=c", "ece"])
    assert audit.disparity == present.disparity
    assert np.isfinite(audit.disparity_interval).all()
    assert audit.n_rows == 200


def test_weighted_p_values_and_intervals_keep_their_level() -> None:
    rng = np.random.default_rng(1)
    groups, n = 400, 80
    codes = np.repeat(np.arange(groups), n)
    s = rng.uniform(0.1, 0.9, groups * n)
    order = np.lexsort((s, codes))
    w = rng.exponential(size=groups * n)
    cells = make_cells(s[order], rng.binomial(1, s)[order], codes, groups, 10, w[order])
    rejected = (null_reference(cells, 200, rng).p_value("ece") <= 0.05).mean()
    assert 0.02 < rejected < 0.09
    lower, _ = ece_interval(cells, 0.95, 100, rng)
    assert (lower == 0).mean() > 0.93


def test_screened_sums_are_weighted() -> None:
    s, y, who = three_attributes(4000)
    groups = Groups.from_sensitive(who)
    rows = Rows(np.zeros(len(s)), y, groups, score=s)
    options: Any = {"depth": 2, "n_bins": 5, "min_rows": 30, "max_subgroups": 10**5}
    plain, constant, doubled = (
        screen(replace(rows, weight=w), rng=np.random.default_rng(0), **options).table
        for w in (None, np.full(len(s), 3.0), np.where(who[:, 0] == 0, 1.0, 2.0))
    )
    pd.testing.assert_frame_equal(plain, constant)
    assert not np.allclose(plain["statistic"], doubled["statistic"])
