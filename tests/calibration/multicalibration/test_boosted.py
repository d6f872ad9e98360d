"""Trees on top of the starting map: many or continuous attributes."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.base import clone

from fairtrain import GroupFairnessCalibrator, Multicalibrator
from fairtrain.calibration.multicalibration.boosted import at_knots, rearranged, scale_of
from fairtrain.calibration.multicalibration.columns import ColumnScheme, binned, is_continuous
from fairtrain.datasets import make_miscalibrated
from fairtrain.exceptions import (
    InvalidDataError,
    InvalidParameterError,
    MissingDependencyError,
    UnseenGroupWarning,
)

pytest.importorskip("lightgbm")


def boosted(**options: Any) -> Multicalibrator:
    return Multicalibrator(backend="lightgbm", random_state=0, **options)


def aged(n: int = 20_000, seed: int = 0, wave: float = 1.2, bump: float = 1.5) -> Any:
    """Scores of an intersection are too low: high ones, or, beside a wave along age, the old's."""
    rng = np.random.default_rng(seed)
    who = pd.DataFrame(rng.integers(0, 2, (n, 3)), columns=list("abc"))
    who["age"] = rng.uniform(18, 80, n)
    x = rng.normal(size=n) * 1.2
    inside = ((who["a"] == 1) & (who["c"] == 0)).to_numpy()
    inside = inside & ((who["age"] > 50).to_numpy() if wave else x > 0.3)
    truth = expit(x + wave * np.sin(who["age"].to_numpy() / 10) + bump * inside)
    return expit(x), (rng.uniform(size=n) < truth).astype(int), who, truth, inside


@pytest.fixture(scope="module")
def fitted() -> Multicalibrator:
    s, y, who, *_ = aged()
    return boosted().fit(s, y, who)


def test_the_planted_miscalibration_is_gone_on_new_rows(fitted: Multicalibrator) -> None:
    s, _, who, truth, inside = aged(seed=1)
    start = fitted.calibrator_.transform(s, who[["a", "b", "c"]])
    q = fitted.transform(s, who)
    assert fitted.n_iter_ == len(fitted.patches_) > 0
    assert np.abs(q - truth).mean() < 0.3 * np.abs(start - truth).mean()
    decade = (who["age"] // 10).to_numpy()
    for part in [inside, *(decade == d for d in np.unique(decade))]:
        assert abs((q - truth)[part].mean()) < max(0.02, 0.35 * abs((start - truth)[part].mean()))


def test_a_step_in_an_intersection_of_categories_is_removed() -> None:
    who_columns = ["a", "b", "c"]
    s, y, who, *_ = aged(wave=0)
    weak = GroupFairnessCalibrator("platt")
    model = boosted(calibrator=weak).fit(s, y, who[who_columns])
    s, _, who, truth, inside = aged(seed=1, wave=0)
    start = model.calibrator_.transform(s, who[who_columns])
    q = model.transform(s, who[who_columns])
    assert abs((q - truth)[inside].mean()) < 0.3 * abs((start - truth)[inside].mean())


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_where_the_start_is_right(seed: int) -> None:
    data = make_miscalibrated(20_000, distortion="one", random_state=seed)
    fresh = data.fresh(1000, random_state=seed + 50)
    model = boosted().fit(data.scores, data.y, data.sensitive_features)
    start = model.calibrator_.transform(fresh.scores, fresh.sensitive_features)
    q = model.transform(fresh.scores, fresh.sensitive_features)
    assert fresh.group_errors(q).max() < fresh.group_errors(start).max() + 0.01
    s, y, who, *_ = aged(8000, seed, wave=0, bump=0)
    fresh_s, _, fresh_who, *_ = aged(8000, seed + 50, wave=0, bump=0)
    model = boosted().fit(s, y, who)
    start = model.calibrator_.transform(fresh_s, fresh_who[["a", "b", "c"]])
    assert np.abs(model.transform(fresh_s, fresh_who) - start).mean() < 0.005


def test_a_higher_score_never_ends_up_lower_among_equals(fitted: Multicalibrator) -> None:
    grid = np.linspace(0.001, 0.999, 300)
    for levels in np.ndindex(2, 2, 2):
        for age in (18.0, 33.3, 47.1, 80.0, 99.0):
            who = pd.DataFrame([[*levels, age]] * 300, columns=["a", "b", "c", "age"])
            assert (np.diff(fitted.transform(grid, who)) > 0).all()


def test_no_row_is_held_and_fits_repeat() -> None:
    s, y, who, *_ = aged(6000)
    s[77] = canary = 0.123456789012345
    who.loc[77, "age"] = age = 44.123456789012
    model = boosted(continuous=["age"])
    once = clone(model).fit(s, y, who)
    assert once.n_iter_ > 0
    saved = pickle.dumps(once)
    for value in (canary, logit(canary), age):
        assert np.float64(value).tobytes() not in saved
        assert str(value)[:10].encode() not in saved
    longest = max(len(v) for v in vars(once._shift).values() if isinstance(v, np.ndarray))
    assert longest < 100
    again = clone(model).fit(s, y, who).transform(s, who)
    np.testing.assert_array_equal(again, pickle.loads(saved).transform(s, who))
    order = np.random.default_rng(0).permutation(len(s))
    np.testing.assert_array_equal(again[order], once.transform(s[order], who.iloc[order]))
    np.testing.assert_allclose(again[:5], once.transform(s[:5], who[:5]), rtol=1e-12)


def test_unseen_categories_keep_the_start(fitted: Multicalibrator) -> None:
    s, _, who, *_ = aged(500, 3)
    who.loc[:9, "a"] = 7
    with pytest.warns(UnseenGroupWarning, match="'a' has values"):
        q = fitted.transform(s, who)
    with pytest.warns(UnseenGroupWarning):
        start = fitted.calibrator_.transform(s, who[["a", "b", "c"]])
    np.testing.assert_allclose(q[:10], start[:10], rtol=1e-12)
    assert np.abs(q - start)[10:].mean() > 0.05


def test_all_attributes_may_be_continuous_and_lack_values() -> None:
    s, y, who, truth, _ = aged(8000, bump=0)
    age = who[["age"]].copy()
    age.loc[age["age"] > 70, "age"] = np.nan
    with pytest.raises(InvalidDataError, match=r"'age' has .* missing values"):
        boosted().fit(s, y, age)
    model = boosted(missing="group").fit(s, y, age)
    assert model.scheme_.names == ("everyone",)
    start = model.calibrator_.transform(s, np.full(len(s), "everyone"))
    q = model.transform(s, age)
    assert np.abs(q - truth).mean() < 0.5 * np.abs(start - truth).mean()


def test_further_features_are_split_on_and_asked_for() -> None:
    s, y, who, truth, _ = aged(8000, bump=0)
    more, named = who[["age"]], who[["a", "b"]]
    model = boosted().fit(s, y, named, features=more)
    q = model.transform(s, named, features=more)
    start = model.calibrator_.transform(s, named)
    assert np.abs(q - truth).mean() < 0.5 * np.abs(start - truth).mean()
    with pytest.raises(InvalidDataError, match="features lacks the column 'age'"):
        model.transform(s, named)
    with pytest.raises(InvalidDataError, match="features holds the sensitive column 'a'"):
        boosted().fit(s, y, named, features=who[["a"]])


def test_bad_input_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    s, y, who, *_ = aged(400)
    for options, message in [
        ({"backend": "trees"}, "backend must be 'cells' or 'lightgbm', got 'trees'"),
        ({"continuous": ["age"]}, "features and continuous are for backend='lightgbm'"),
        ({"backend": "lightgbm", "continuous": ["x"]}, "continuous='x' is not a sensitive column"),
        ({"backend": "lightgbm", "num_leaves": 1}, "num_leaves must be a whole number >= 2, got 1"),
    ]:
        with pytest.raises(InvalidParameterError, match=message):
            Multicalibrator(**options).fit(s, y, who)
    with pytest.raises(InvalidDataError, match="'age' is continuous"):
        Multicalibrator().fit(s, y, who)
    with pytest.raises(InvalidDataError, match="b must hold numbers"):
        boosted(continuous=["b"]).fit(s, y, who.assign(b="x"))
    assert boosted(max_iter=0).fit(s, y, who).n_iter_ == 0
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(MissingDependencyError, match=r"fairtrain\[boosting\]"):
        boosted().fit(s, y, who)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(0, 1000))
def test_tables_rise_and_interpolate(knots: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    at = np.sort(rng.normal(size=knots)) + np.arange(knots) * 1e-3
    table = rng.normal(size=(3, knots))
    rising = rearranged(table, at)
    assert (np.diff(at + rising, axis=1) >= 0).all()
    np.testing.assert_allclose(rearranged(rising, at), rising, atol=1e-12)
    x = np.append(rng.normal(size=20) * 2, at)
    for row in range(3):
        found = at_knots(table, np.full(len(x), row), x, at)
        np.testing.assert_allclose(found, np.interp(x, at, table[row]), atol=1e-9)


def test_scales_shrink_and_never_reverse() -> None:
    rng = np.random.default_rng(0)
    x, added = rng.normal(size=5000), rng.normal(size=5000)
    for true, expected in [(0.4, 0.4), (-0.5, 0.0), (3.0, 1.0)]:
        y = rng.uniform(size=5000) < expit(x + true * added)
        assert scale_of(x, added, y) == pytest.approx(expected, abs=0.08)


def test_columns_are_coded_by_kind() -> None:
    values = np.array([0.5, 1.5, 2.5, np.nan])
    assert is_continuous(values)
    assert is_continuous(np.arange(40))
    assert not is_continuous(np.array([0.5, 1.5]))
    assert not is_continuous(np.arange(30))
    assert not is_continuous(np.array(["a"] * 40))
    scheme = ColumnScheme.of({"v": values, "w": np.array(list("abab"))}, {"v"}, ["v"])
    codes, known = scheme.encode({"w": np.array(["b", "z"]), "v": np.array([1.0, 9.0])})
    assert scheme.categorical == (False, True)
    assert known.tolist() == [True, False]
    assert codes[0, 1] == 1
    edges, bins = binned(np.repeat([0.0, 1.0, 5.0], [50, 1, 49]), 10)
    assert len(np.unique(bins)) == len(edges) + 1
    assert len(binned(np.zeros(5), 10)[0]) == 0


def test_weights_count_and_their_unit_does_not() -> None:
    s, y, who, *_ = aged(6000)
    w = np.random.default_rng(3).integers(0, 3, len(y)).astype(float)
    there = np.flatnonzero(w)

    def fitted(rows: Any, weight: Any) -> Any:
        model = Multicalibrator(
            GroupFairnessCalibrator("isotonic"),
            backend="lightgbm",
            rounds=1,
            max_iter=30,
            random_state=0,
        )
        model.fit(s[rows], y[rows], who.iloc[rows], sample_weight=weight)
        return model.transform(s, who)

    everyone = np.arange(len(y))
    close: Any = {"atol": 1e-6}
    np.testing.assert_allclose(fitted(everyone, None), fitted(everyone, 4.0 * (w > -1)), **close)
    weighted = fitted(everyone, w)
    np.testing.assert_allclose(weighted, fitted(there, w[there]), **close)
    np.testing.assert_allclose(weighted, fitted(everyone, 0.5 * w), **close)
    assert not np.allclose(weighted, fitted(there, None))
