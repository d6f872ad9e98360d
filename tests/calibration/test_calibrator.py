"""``GroupFairnessCalibrator``: what it promises, method by method and policy by policy."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logit
from sklearn.base import clone

from fairtrain import GroupFairnessCalibrator
from fairtrain.calibration.cells import gather
from fairtrain.calibration.intake import as_logits
from fairtrain.calibration.maps.assignment import PLAIN_METHODS
from fairtrain.datasets import MiscalibratedData, make_miscalibrated
from fairtrain.exceptions import (
    InvalidDataError,
    InvalidParameterError,
    UnseenGroupWarning,
)

METHODS = [*PLAIN_METHODS, "hierarchical"]


@pytest.fixture(scope="module")
def data() -> MiscalibratedData:
    return make_miscalibrated(20_000, random_state=0)


def fit(data: MiscalibratedData, *arguments: Any, **options: Any) -> GroupFairnessCalibrator:
    model = GroupFairnessCalibrator(*arguments, **options)
    return model.fit(data.scores, data.y, data.sensitive_features)


@pytest.mark.parametrize(
    ("distortion", "most"), [("additive", 0.06), ("own", 0.14), ("one", 0.025)]
)
def test_the_worst_group_gets_better_over_seeds(distortion: Any, most: float) -> None:
    ours, theirs = [], []
    for seed in range(6):
        data = make_miscalibrated(distortion=distortion, random_state=seed)
        fresh = data.fresh(500, random_state=seed + 50)
        for found, method in ((ours, "hierarchical"), (theirs, "isotonic")):
            q = fit(data, method).transform(fresh.scores, fresh.sensitive_features)
            found.append(fresh.group_errors(q).max())
    assert np.mean(ours) < most
    assert np.mean(ours) < 0.75 * np.mean(theirs)


@pytest.mark.parametrize("method", METHODS)
def test_one_group_is_the_plain_map(method: str) -> None:
    data = make_miscalibrated(1500, levels={"all": 1}, random_state=0)
    model = fit(data, method)
    if method == "hierarchical":
        assert (
            np.corrcoef(model.transform(data.scores, data.sensitive_features), data.y)[0, 1] > 0.3
        )
        return
    x = as_logits(data.scores)
    zero = np.zeros(len(x), dtype=np.int64)
    expected = PLAIN_METHODS[method](gather(x, data.y, zero, 1))(x, zero)
    np.testing.assert_allclose(model.transform(data.scores, data.sensitive_features), expected)


@pytest.mark.parametrize("method", [*METHODS, "auto"])
def test_names_order_of_rows_and_of_columns_do_not_matter(data: Any, method: str) -> None:
    q = fit(data, method, random_state=0).transform(data.scores, data.sensitive_features)
    renamed = data.sensitive_features.replace({"race0": "zz", "race1": "$x_$", "sex1": "<b>"})
    other = renamed[["age", "sex", "race"]].rename(columns={"sex": "gender"})
    rows = np.random.default_rng(0).permutation(len(data))
    model = GroupFairnessCalibrator(method, random_state=0).fit(
        data.scores[rows], data.y[rows], other.iloc[rows].reset_index(drop=True)
    )
    again = model.transform(data.scores, other)
    if method == "auto":  # folds are drawn: the methods chosen may differ where they are close
        assert np.abs(again - q).mean() < 0.02
    else:
        np.testing.assert_allclose(again, q, atol=2e-6)


@pytest.mark.parametrize("method", ["platt", "isotonic", "beta", "venn_abers", "hierarchical"])
def test_maps_rise_within_each_group(data: Any, method: str) -> None:
    model = fit(data, method)
    grid = np.linspace(0, 1, 301)
    for _, levels in data.groups.iterrows():
        frame = pd.DataFrame([levels[["sex", "race", "age"]]] * 301)
        q = model.transform(grid, frame.reset_index(drop=True))
        slack = -1e-12
        if method == "platt" and q[0] > q[-1]:
            continue  # a plain fit of a tiny group may fall
        assert (np.diff(q) >= slack).all()


def test_a_group_may_have_its_own_method(data: Any) -> None:
    name = fit(data).scheme_.names[0]
    model = fit(data, "platt", group_methods={name: "isotonic"})
    report = model.group_report_.set_index("group")
    assert report.loc[name, "method"] == "isotonic"
    assert (report.drop(name)["method"] == "platt").all()
    mine = np.array(["/".join(r) for r in data.sensitive_features.to_numpy()]) == name
    q = model.transform(data.scores, data.sensitive_features)
    isotonic = fit(data, "isotonic").transform(data.scores, data.sensitive_features)
    platt = fit(data, "platt").transform(data.scores, data.sensitive_features)
    np.testing.assert_allclose(q, np.where(mine, isotonic, platt))
    with pytest.raises(InvalidParameterError, match="group_methods names the group 'martian'"):
        fit(data, group_methods={"martian": "platt"})


def test_policies_for_plain_methods(data: Any) -> None:
    everyone = GroupFairnessCalibrator("platt").fit(data.scores, data.y, np.zeros(len(data)))
    shared = everyone.transform(data.scores, np.zeros(len(data)))
    own = fit(data, "platt").transform(data.scores, data.sensitive_features)
    model = fit(data, "platt", fallback="global", min_group_size=100)
    small = (data.groups["rows"].to_numpy() < 100)[data.codes]
    q = model.transform(data.scores, data.sensitive_features)
    np.testing.assert_allclose(q, np.where(small, shared, own), atol=1e-6)

    tested = fit(data, "platt", fallback="parent_test")
    report = tested.group_report_
    assert ((report["map"] == "own") == (report["p_adjusted"] < 0.05)).all()
    assert (report["map"] == report["parent"])[report["map"] != "own"].all()
    assert 0 < (report["map"] == "own").sum() < len(report)


def test_parent_map_is_the_parent_s(data: Any) -> None:
    tested = fit(data, "platt", fallback="parent_test", alpha=1e-12)
    row = tested.group_report_.query("map != 'own' and map != 'everyone'").iloc[0]
    rows = data.sensitive_features
    inside = np.array([set(row["parent"].split("/")) <= set(r) for r in rows.to_numpy()])
    parent = GroupFairnessCalibrator("platt").fit(
        data.scores[inside], data.y[inside], np.zeros(inside.sum())
    )
    mine = np.array(["/".join(r) for r in rows.to_numpy()]) == row["group"]
    np.testing.assert_allclose(
        tested.transform(data.scores[mine], rows[mine]),
        parent.transform(data.scores[mine], np.zeros(mine.sum())),
        atol=1e-6,
    )


def test_report_says_what_was_done(data: Any) -> None:
    report = fit(data).group_report_
    assert report["rows"].sum() == len(data)
    assert report["event_rate"] @ report["rows"] == pytest.approx(data.y.sum())
    assert (report["method"] == "hierarchical").all()
    assert (report["map"] == "shrunk").all()
    big = report["rows"] > 500
    assert (report["gap_after"].abs() < report["gap_before"].abs())[big].all()
    assert (report["log_loss_after"] < report["log_loss_before"])[big].all()
    assert (report["warning"].str.startswith("only ") == (report["rows"] < 30)).all()
    assert (report["p_adjusted"] >= report["p_value"]).all()


def test_positions_arrays_and_lists_are_groups_too(data: Any) -> None:
    expected = fit(data).transform(data.scores, data.sensitive_features)
    codes = data.sensitive_features.to_numpy()
    model = GroupFairnessCalibrator().fit(list(data.scores), list(data.y), codes)
    np.testing.assert_allclose(model.transform(data.scores, codes), expected)
    proba = np.stack([1 - data.scores, data.scores], axis=1)
    model = GroupFairnessCalibrator().fit(proba, data.y, codes)
    np.testing.assert_allclose(model.transform(proba, codes), expected)
    model = GroupFairnessCalibrator(scale="logit").fit(logit(data.scores), data.y, codes)
    np.testing.assert_allclose(model.transform(logit(data.scores), codes), expected)


def test_a_permuted_index_is_refused(data: Any) -> None:
    scores = pd.Series(data.scores)
    mixed = data.sensitive_features.sample(frac=1, random_state=0)
    with pytest.raises(InvalidDataError, match="sensitive_features carries another index"):
        GroupFairnessCalibrator().fit(scores, pd.Series(data.y), mixed)
    with pytest.raises(InvalidDataError, match="sensitive_features carries another index"):
        fit(data).transform(scores, mixed)


def test_labels_of_any_kind(data: Any) -> None:
    words = np.where(data.y == 1, "deny", "approve")
    with pytest.raises(InvalidParameterError, match="positive_label is missing"):
        GroupFairnessCalibrator().fit(data.scores, words, data.sensitive_features)
    model = GroupFairnessCalibrator(positive_label="deny")
    model.fit(data.scores, words, data.sensitive_features)
    assert model.classes_.tolist() == ["approve", "deny"]
    expected = fit(data).transform(data.scores, data.sensitive_features)
    found = model.transform(data.scores, data.sensitive_features)
    np.testing.assert_allclose(found, expected)
    mirrored = GroupFairnessCalibrator(positive_label="approve")
    mirrored.fit(1 - data.scores, words, data.sensitive_features)
    other = mirrored.transform(1 - data.scores, data.sensitive_features)
    np.testing.assert_allclose(1 - other, expected, atol=2e-3)


def test_unseen_groups_inherit(data: Any) -> None:
    gone = (data.sensitive_features == ["sex0", "race1", "age1"]).all(axis=1).to_numpy()
    kept = data.sensitive_features[~gone].reset_index(drop=True)
    for method in ("hierarchical", "platt", "isotonic"):
        model = GroupFairnessCalibrator(method).fit(data.scores[~gone], data.y[~gone], kept)
        fresh = data.fresh(200, random_state=0)
        q = model.transform(fresh.scores, fresh.sensitive_features)
        assert ((q >= 0) & (q <= 1)).all()
    strange = fresh.sensitive_features.replace({"race2": "new"})
    model = fit(data)
    with pytest.warns(UnseenGroupWarning, match="'race' has values that fit never saw in 800 rows"):
        q = model.transform(fresh.scores, strange)
    assert np.isfinite(q).all()
    with pytest.raises(InvalidDataError, match="transform needs sensitive_features"):
        model.transform(fresh.scores)


def test_integer_weights_are_repeated_rows(data: Any) -> None:
    some = slice(0, 3000)
    times = np.random.default_rng(0).integers(0, 3, 3000)
    rows = np.repeat(np.arange(3000), times)
    scores, y, groups = data.scores[some], data.y[some], data.sensitive_features.iloc[some]
    seen = pd.unique(groups.iloc[rows].agg("/".join, axis=1))
    known = groups.agg("/".join, axis=1).isin(seen).to_numpy()
    for method in ("platt", "isotonic", "beta"):
        weighted = GroupFairnessCalibrator(method).fit(
            scores[known], y[known], groups[known], sample_weight=times[known]
        )
        repeated = GroupFairnessCalibrator(method).fit(
            scores[rows], y[rows], groups.iloc[rows].reset_index(drop=True)
        )
        np.testing.assert_allclose(
            weighted.transform(scores[rows], groups.iloc[rows]),
            repeated.transform(scores[rows], groups.iloc[rows]),
            atol=1e-6,
        )


def test_the_model_holds_no_row_and_little_memory(data: Any) -> None:
    canary = 0.123456789012345
    scores = np.where(np.arange(len(data)) == 500, canary, data.scores)
    for method in ("hierarchical", "platt", "temperature", "beta", "histogram", "auto"):
        model = GroupFairnessCalibrator(method, random_state=0)
        saved = pickle.dumps(model.fit(scores, data.y, data.sensitive_features))
        assert np.float64(canary).tobytes() not in saved
        assert np.float64(logit(canary)).tobytes() not in saved
        assert len(saved) < 60_000, method


def test_a_pickle_gives_the_same_answers(data: Any) -> None:
    model = fit(data)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(
        again.transform(data.scores, data.sensitive_features),
        model.transform(data.scores, data.sensitive_features),
    )
    assert not hasattr(clone(model), "scheme_")


def test_auto_prefers_what_predicts() -> None:
    rng = np.random.default_rng(0)
    n = 12_000
    s, group = rng.uniform(size=n), rng.integers(0, 2, n)
    steps = np.where(s < 0.5, 0.05, 0.95)  # no logistic map does this
    y = (rng.uniform(size=n) < np.where(group == 1, steps, s)).astype(int)
    model = GroupFairnessCalibrator("auto", random_state=0).fit(s, y, group)
    assert model.group_report_["method"].tolist()[1] == "isotonic"


tiny = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "$c$"]),
        st.integers(0, 1),
        st.sampled_from([0.0, 0.3, 0.5, 0.99, 1.0]),
        st.integers(0, 1),
    ),
    min_size=2,
    max_size=20,
).filter(lambda rows: len({row[3] for row in rows}) == 2)


@settings(max_examples=15)
@given(tiny, st.sampled_from([None, "global", "parent_test"]))
def test_tiny_groups_never_break_anything(rows: Any, fallback: Any) -> None:
    race, sex, s, y = (list(column) for column in zip(*rows, strict=True))
    who = {"race": race, "sex": sex}
    for method in (*METHODS, "auto"):
        model = GroupFairnessCalibrator(method, fallback=fallback, cv=2, random_state=0)
        q = model.fit(s, y, who).transform(s, who)
        assert np.isfinite(q).all()
        assert ((q >= 0) & (q <= 1)).all()
        assert len(model.group_report_) == len(set(zip(race, sex, strict=True)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "sigmoid"}, "method must be one of 'platt', .*, got 'sigmoid'"),
        (
            {"fallback": "parent"},
            "fallback must be 'global' or 'parent_test' or None, got 'parent'",
        ),
        ({"alpha": 0}, r"alpha must lie in \(0, 1\), got 0"),
        ({"min_group_size": 0}, "min_group_size must be a whole number >= 1, got 0"),
        ({"cv": 1}, "cv must be a whole number >= 2, got 1"),
        ({"scale": "odds"}, "scale must be 'probability' or 'logit', got 'odds'"),
    ],
)
def test_settings_are_checked_in_fit(data: Any, options: Any, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        fit(data, **options)


def test_rows_are_checked() -> None:
    s, y, g = [0.2, 0.8, 0.5], [0, 1, 1], ["a", "b", "b"]
    model = GroupFairnessCalibrator()
    with pytest.raises(InvalidDataError, match=r"in \[0, 1\], got 0.2 to 8"):
        model.fit([0.2, 8, 0.5], y, g)
    with pytest.raises(InvalidDataError, match="sensitive_features has 2 rows, expected 3"):
        model.fit(s, y, g[:2])
    with pytest.raises(InvalidDataError, match="y must hold two classes, found 1 class"):
        model.fit(s, [1, 1, 1], g)
    with pytest.raises(InvalidDataError, match="has 1 missing values"):
        model.fit(s, y, ["a", None, "b"])
    GroupFairnessCalibrator(missing="group").fit(s, y, ["a", None, "b"])


@pytest.mark.parametrize("method", ["temperature", "vector", "hierarchical", "isotonic", "platt"])
def test_three_classes(method: str) -> None:
    rng = np.random.default_rng(0)
    n = 9000
    group = rng.integers(0, 3, n)
    z = rng.normal(size=(n, 3)) * 1.5
    temperature = np.array([0.5, 1.0, 2.5])[group]
    p = np.exp(z / temperature[:, None])
    p /= p.sum(1, keepdims=True)
    y = (rng.uniform(size=n)[:, None] > np.cumsum(p, axis=1)).sum(1)
    scores = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = GroupFairnessCalibrator(method).fit(scores, np.array(["x", "y", "z"])[y], group)
    q = model.transform(scores, group)
    np.testing.assert_allclose(q.sum(1), 1)
    assert model.classes_.tolist() == ["x", "y", "z"]
    error = np.abs(q - p).mean()
    assert error < 0.35 * np.abs(scores - p).mean()
    if method == "temperature":
        np.testing.assert_allclose(model._maps.slope[:3, 0], [2, 1, 0.4], rtol=0.08)
    unseen = model.transform(scores[:5], [9] * 5)
    np.testing.assert_allclose(unseen.sum(1), 1)
    with pytest.raises(InvalidDataError, match="sum to 1"):
        model.fit(2 * scores, y, group)
    with pytest.raises(InvalidDataError, match="scores have 3 columns but y has 2 classes"):
        model.fit(scores, y % 2, group)
    with pytest.raises(InvalidParameterError, match="are for two classes"):
        GroupFairnessCalibrator(fallback="global").fit(scores, y, group)
