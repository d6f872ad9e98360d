"""LagrangianBoostingClassifier as its users meet it."""

from __future__ import annotations

import pickle
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import xgboost as xgb
from scipy import sparse
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tests.boosting.data import make_rows

from fairtrain import (
    BoundedGroupLoss,
    DemographicParity,
    EqualizedOdds,
    LagrangianBoostingClassifier,
    Verdict,
    gap,
)
from fairtrain.exceptions import (
    ConstraintNotMetWarning,
    FairtrainWarning,
    InvalidDataError,
    InvalidParameterError,
    MissingDependencyError,
    NearConstantWarning,
    UnseenGroupError,
)

BOTH = pytest.mark.parametrize("booster", ["xgboost", "lightgbm"])
QUIET = pytest.mark.filterwarnings("ignore::fairtrain.exceptions.FairtrainWarning")


@pytest.fixture
def routing() -> Iterator[None]:
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def model(**settings: Any) -> LagrangianBoostingClassifier:
    given = {"difference_bound": 0.05, "max_depth": 3, "random_state": 0, "n_jobs": 1} | settings
    return LagrangianBoostingClassifier(**given)


def fitted(n: int = 3000, groups: int = 2, **settings: Any) -> LagrangianBoostingClassifier:
    X, y, group = make_rows(n, groups)
    return model(**settings).fit(X, y, sensitive_features=group)


# --- what is achieved -------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("constraint", "metrics"),
    [
        ("demographic_parity", ["selection_rate"]),
        ("equalized_odds", ["true_positive_rate", "false_positive_rate"]),
    ],
)
def test_the_gap_shrinks_on_rows_never_seen(
    booster: str, constraint: str, metrics: list[str]
) -> None:
    X, y, group = make_rows(8000, 4)
    fresh_X, fresh_y, fresh_group = make_rows(8000, 4, seed=1)
    found = model(constraints=constraint, booster=booster).fit(X, y, sensitive_features=group)
    plain = model(constraints=constraint, booster=booster, difference_bound=1.0)
    plain.fit(X, y, sensitive_features=group)

    def widest(m: LagrangianBoostingClassifier) -> float:
        decided = m.predict(fresh_X)
        return max(gap(fresh_y, decided, fresh_group, name).value for name in metrics)

    assert widest(found) < 0.6 * widest(plain)
    assert widest(plain) > 0.2
    assert found.status_ is Verdict.NOT_CERTIFIED
    assert found.score(fresh_X, fresh_y) > 0.65
    assert found.evaluate(fresh_X, fresh_y, sensitive_features=fresh_group).results[
        0
    ].achieved == pytest.approx(widest(found))


@BOTH
def test_while_bounds_are_slack_the_trees_are_the_booster_s_own(booster: str) -> None:
    X, y, group = make_rows(1500)
    found = model(booster=booster, difference_bound=1.0, validation_fraction=0.0)
    found.fit(X, y, sensitive_features=group)
    rounds = found.n_estimators_
    if booster == "xgboost":
        stock = xgb.XGBClassifier(n_estimators=rounds, max_depth=3, learning_rate=0.1, n_jobs=1)
        stock.fit(X, y)
        expected = stock.get_booster().get_dump(with_stats=True)
        assert found.booster_.get_dump(with_stats=True) == expected
        expected_probability = stock.predict_proba(X)
    else:
        stock = lgb.LGBMClassifier(
            n_estimators=rounds, max_depth=3, num_leaves=8, learning_rate=0.1, verbosity=-1,
            deterministic=True, force_row_wise=True, n_jobs=1,
        ).fit(X, y)  # fmt: skip
        expected_probability = stock.predict_proba(X)
    np.testing.assert_array_equal(
        found.predict_proba(X)[:, 1].astype(expected_probability.dtype), expected_probability[:, 1]
    )


@QUIET
def test_a_ratio_and_an_upper_bound() -> None:
    X, y, group = make_rows(6000)
    ratio = LagrangianBoostingClassifier(
        "demographic_parity", ratio_bound=0.9, max_depth=3, random_state=0, n_jobs=1
    ).fit(X, y, sensitive_features=group)
    steered = ratio.reports_["steering"].results[0]
    assert steered.kind == "ratio"
    assert steered.achieved >= 0.9
    plain = fitted(6000, difference_bound=1.0)
    limit = BoundedGroupLoss(upper_bound=0.21, loss="squared")
    bounded = LagrangianBoostingClassifier(limit, max_depth=3, random_state=0, n_jobs=1)
    bounded.fit(X, y, sensitive_features=group)
    found = bounded.reports_["steering"].results[0]
    probability = plain.predict_proba(X)[:, 1]
    assert 0.1 < found.achieved < 0.25  # of probabilities: decisions would give about .3
    assert found.achieved != pytest.approx(((probability > 0.5) - y).mean())


def test_only_certification_rows_can_say_met() -> None:
    found = fitted(20_000, difference_bound=0.1, certification_fraction=0.4, confidence=0.95)
    verdicts = {role: report.verdict for role, report in found.reports_.items()}
    assert verdicts["training"] is not Verdict.MET
    assert verdicts["steering"] is Verdict.NOT_CERTIFIED
    assert found.status_ is verdicts["certification"] is Verdict.MET


@QUIET
def test_confidence_tightens_the_working_bound() -> None:
    plain, careful = fitted(6000), fitted(6000, confidence=0.95)
    column = "bound: demographic_parity"
    assert (plain.history_[column] == 0.05).all()
    assert (careful.history_[column] < 0.05).all()
    assert careful.fairness_report_.confidence == 0.95
    achieved = [m.reports_["steering"].results[0] for m in (plain, careful)]
    assert achieved[1].upper < achieved[0].upper
    assert achieved[1].excess < 0 < achieved[1].upper - 0.05
    result = careful.reports_["steering"].results[0]
    fewest, rows = min(result.counts.items(), key=lambda item: item[1])
    assert f"too few to show it ({fewest!r} has {rows:,}; about " in careful.explain()
    assert "confidence=0.95 asks that the limit" in careful.explain()
    assert "confidence=" not in plain.explain()


@QUIET
def test_lower_priorities_give_way() -> None:
    X, y, group = make_rows(4000, shift=3.0)
    strict = DemographicParity(difference_bound=0.01, priority=1)
    loose = EqualizedOdds(difference_bound=0.01, priority=0)
    found = LagrangianBoostingClassifier(
        [strict, loose], max_depth=3, random_state=0, n_jobs=1, n_estimators=60
    ).fit(X, y, sensitive_features=group)
    bounds = found.history_[["bound: demographic_parity"]].to_numpy()
    assert (bounds == 0.01).all()
    assert "demographic parity and equalized odds can then both hold only" in found.explain()


@QUIET
def test_a_bound_out_of_reach_is_said_with_its_numbers() -> None:
    X, y, group = make_rows(1500, 5)
    with pytest.warns(ConstraintNotMetWarning, match=r"differs by 0\.\d+.*at most 0\.001 is"):
        model(difference_bound=0.001, n_estimators=20).fit(X, y, sensitive_features=group)


def test_deciding_the_same_for_everybody_is_said() -> None:
    X, _, group = make_rows(1500)
    y = (np.arange(1500) % 50 == 0).astype(int)
    with pytest.warns(NearConstantWarning, match="worth nothing"):
        found = model(n_estimators=3).fit(X, y, sensitive_features=group)
    assert "near_constant" in found.explain()


# --- what a booster user expects --------------------------------------------------------------


def frame(n: int = 2000, seed: int = 0) -> tuple[pd.DataFrame, Any, pd.Series]:
    rng = np.random.default_rng(seed)
    X, y, group = make_rows(n, seed=seed)
    data = pd.DataFrame(X, columns=list("abcde"))
    data["colour"] = pd.Categorical(rng.choice(["red", "green", "blue"], n))
    y = np.where(data["colour"] == "red", 1 - y, y)
    data.loc[rng.random(n) < 0.2, "a"] = np.nan
    return data, y, pd.Series(group, name="group")


@BOTH
def test_categories_and_missing_values_as_the_booster_has_them(booster: str) -> None:
    X, y, group = frame()
    found = model(booster=booster).fit(X, y, sensitive_features=group)
    without = model(booster=booster).fit(X.drop(columns="colour"), y, sensitive_features=group)
    fresh, truth, _ = frame(seed=1)
    assert found.score(fresh, truth) > without.score(fresh.drop(columns="colour"), truth) + 0.03
    assert found.feature_names_in_.tolist() == list(X.columns)
    reds = fresh[fresh["colour"] == "red"].astype({"colour": "str"})  # one level, as text
    np.testing.assert_array_equal(
        found.predict_proba(reds), found.predict_proba(fresh)[fresh["colour"] == "red"]
    )
    strange = fresh.astype({"colour": "str"}).assign(colour="violet")
    assert np.isfinite(found.predict_proba(strange)).all()  # never seen: counts as missing


@BOTH
def test_polars_and_sparse_and_arrow_rows(booster: str) -> None:
    X, y, group = frame()
    expected = model(booster=booster).fit(X, y, sensitive_features=group).predict_proba(X)
    rows = pl.from_pandas(X.assign(colour=X["colour"].astype(str))).with_columns(
        pl.col("colour").cast(pl.Enum(["blue", "green", "red"]))
    )
    for data in (rows, rows.to_arrow()):
        found = model(booster=booster).fit(data, y, sensitive_features=group.to_numpy())
        np.testing.assert_allclose(found.predict_proba(data), expected, atol=1e-6)
    dense, labels, codes = make_rows(2000)
    dense[dense < 0] = 0
    matrix = sparse.csr_matrix(dense)
    found = model(booster=booster).fit(matrix, labels, sensitive_features=codes)
    assert found.score(matrix, labels) > 0.6


@BOTH
def test_weights_count_in_loss_and_rates(booster: str) -> None:
    X, y, group = make_rows(2000)
    weight = np.where(np.arange(2000) < 1500, 1.0, 0.0)
    weighted = model(booster=booster).fit(X, y, sensitive_features=group, sample_weight=weight)
    fewer = model(booster=booster).fit(X[:1500], y[:1500], sensitive_features=group[:1500])
    np.testing.assert_array_equal(weighted.predict_proba(X), fewer.predict_proba(X))
    heavy = np.where(group == 0, 5.0, 1.0)
    report = model(booster=booster).fit(X, y, sensitive_features=group, sample_weight=heavy)
    rows = report.fairness_report_
    assert rows.accuracy[0] != pytest.approx(fewer.fairness_report_.accuracy[0])


@BOTH
def test_eval_sets_are_followed_and_early_stopping_stops(booster: str) -> None:
    X, y, group = make_rows(2000)
    fresh = make_rows(1000, seed=1)[:2]
    found = model(booster=booster, n_estimators=300, early_stopping_rounds=15).fit(
        X, y, sensitive_features=group, eval_set=[(X, y), fresh]
    )
    history = found.history_
    assert len(history) == found.best_iteration_ + 16 < 300
    assert found.n_estimators_ == found.best_iteration_ + 1
    at = history.loc[found.best_iteration_]
    assert at["eval_0_accuracy"] == pytest.approx(found.score(X, y))
    assert at["eval_1_accuracy"] == pytest.approx(found.score(*fresh))
    eligible = history[history["feasible"] & (history["round"] >= 10)]
    assert at["eval_1_accuracy"] == eligible["eval_1_accuracy"].max()


@BOTH
def test_importances_shap_and_monotone_constraints(booster: str) -> None:
    X, y, group = make_rows(2000)
    params = {"monotone_constraints": [1, 0, 0, 0, 0]}
    found = model(booster=booster, booster_params=params).fit(X, y, sensitive_features=group)
    assert found.feature_importances_.sum() == pytest.approx(1)
    assert found.feature_importances_.argmax() == 0
    rows = np.repeat(X[:5], 50, axis=0)
    rows[:, 0] = np.tile(np.linspace(-3, 3, 50), 5)
    rising = np.diff(found.predict_proba(rows)[:, 1].reshape(5, 50), axis=1)
    assert (rising >= -1e-6).all()
    margin = np.log(found.predict_proba(X)[:, 1] / found.predict_proba(X)[:, 0])
    if booster == "xgboost":
        parts = found.booster_.predict(xgb.DMatrix(X), pred_contribs=True)
    else:
        parts = found.booster_.predict(X, pred_contrib=True)
    np.testing.assert_allclose(parts.sum(axis=1), margin, atol=1e-4)


@BOTH
def test_the_stock_model_is_saved_and_loaded_without_fairtrain(
    booster: str, tmp_path: Path
) -> None:
    X, _, _ = make_rows(500, seed=1)
    found = fitted(booster=booster)
    path = tmp_path / "model.json"
    found.booster_.save_model(path)
    if booster == "xgboost":
        own = xgb.Booster(model_file=path).predict(xgb.DMatrix(X))
    else:
        own = lgb.Booster(model_file=path).predict(X)
    np.testing.assert_allclose(own, found.predict_proba(X)[:, 1], atol=1e-7)


# --- a scikit-learn classifier ----------------------------------------------------------------


@QUIET
def test_any_two_labels_and_the_favourable_one_is_named() -> None:
    X, y, group = make_rows(2000)
    labels = np.where(y == 1, "deny", "approve")
    asked = EqualizedOdds(ratio_bound=0.5)
    with pytest.raises(InvalidParameterError, match="positive_label is missing"):
        LagrangianBoostingClassifier(asked).fit(X, labels, sensitive_features=group)
    found = LagrangianBoostingClassifier(
        asked, positive_label="approve", n_estimators=20, random_state=0, n_jobs=1
    ).fit(X, labels, sensitive_features=group)
    assert found.classes_.tolist() == ["approve", "deny"]
    assert set(found.predict(X)) == {"approve", "deny"}
    np.testing.assert_allclose(
        found.predict_proba(X)[:, 0], found.booster_.predict(xgb.DMatrix(X)), atol=1e-7
    )
    assert found.fairness_report_.favourable == "approve"


@QUIET
def test_columns_of_x_name_the_groups_without_routing() -> None:
    X, y, group = frame()
    data = X.assign(group=group)
    found = model(sensitive_features="group", n_estimators=20)
    scores = cross_validate(found, data, y, cv=2)["test_score"]
    assert (scores > 0.6).all()
    found.fit(data, y)
    assert "group" not in found.feature_names_in_
    np.testing.assert_array_equal(found.predict(data), found.predict(X))
    assert found.evaluate(data, y).rows == "training"  # most of them


@QUIET
def test_pipeline_and_grid_search_with_routing(routing: None) -> None:
    X, y, group = make_rows(1500)
    asked = model(n_estimators=15).set_fit_request(sensitive_features=True, sample_weight=True)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), asked),
        {"lagrangianboostingclassifier__difference_bound": [0.02, 0.5]},
        cv=2,
    ).fit(X, y, sensitive_features=group)
    assert search.best_params_["lagrangianboostingclassifier__difference_bound"] == 0.5


@QUIET
@BOTH
def test_the_same_seed_gives_the_same_model(booster: str) -> None:
    X, _, _ = make_rows(500, seed=3)
    params = {"subsample": 0.7, **({"subsample_freq": 1} if booster == "lightgbm" else {})}
    one, two, other = (
        fitted(booster=booster, booster_params=params, n_estimators=20, random_state=seed)
        for seed in (4, 4, 5)
    )
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))
    assert not np.array_equal(one.predict_proba(X), other.predict_proba(X))
    assert clone(one).get_params() == one.get_params()


@BOTH
def test_the_model_keeps_no_row(booster: str) -> None:
    X, y, group = make_rows(3000)
    X[:, 4] = 0.0
    X[7, 4] = canary = 0.123456789012345
    weight = np.ones(3000)
    weight[8] = heavy = 1.234567890123456
    found = model(booster=booster).fit(X, y, sensitive_features=group, sample_weight=weight)
    kept = pickle.dumps(found)
    for value in (canary, heavy, X[11, 0]):
        assert np.float64(value).tobytes() not in kept
        assert repr(float(value)).encode() not in kept
    longest = max(np.size(v) for v in vars(found).values() if isinstance(v, np.ndarray))
    assert longest <= 5
    assert len(kept) < 150_000  # the trees; the rows alone are 120,000 bytes
    np.testing.assert_array_equal(pickle.loads(kept).predict(X), found.predict(X))


# --- bad input --------------------------------------------------------------------------------


def test_rows_that_do_not_fit_are_named() -> None:
    X, y, group = frame()
    text = X.assign(colour=X["colour"].astype(str))
    with pytest.raises(InvalidDataError, match=r"'colour'.*astype\('category'\)"):
        model().fit(text, y, sensitive_features=group)
    with pytest.raises(InvalidDataError, match="sensitive_features is missing"):
        model().fit(X, y)
    with pytest.raises(InvalidDataError, match="X has no column 'sex'"):
        model(sensitive_features="sex").fit(X, y)
    with pytest.raises(InvalidDataError, match="sensitive_features has 5 rows"):
        model().fit(X, y, sensitive_features=group.to_numpy()[:5])
    with pytest.raises(InvalidDataError, match=r"xgboost cannot use these rows: .*feature_names"):
        model().fit(X.rename(columns={"a": "a[0]"}), y, sensitive_features=group)
    with pytest.raises(InvalidDataError, match=r"y holds the label 3; fit saw \[0, 1\]"):
        model().fit(X, y, sensitive_features=group, eval_set=[(X, np.full(len(y), 3))])
    found = model(n_estimators=3, difference_bound=1.0).fit(X, y, sensitive_features=group)
    with pytest.raises(UnseenGroupError, match="value 7"):
        found.evaluate(X, y, sensitive_features=np.full(len(y), 7))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"booster": "catboost"}, "booster must be 'xgboost' or 'lightgbm'"),
        ({"n_estimators": 0}, "n_estimators must be a whole number"),
        ({"max_depth": 1.5}, "max_depth must be a whole number"),
        ({"learning_rate": 0}, "learning_rate must be a number above 0"),
        ({"dual_lr": -1}, "dual_lr must be a number above 0"),
        ({"multiplier_cap": 0}, "multiplier_cap must be a number above 0"),
        ({"confidence": 1}, "confidence must lie in"),
        ({"early_stopping_rounds": 0}, "early_stopping_rounds must be"),
        ({"validation_fraction": 1.0}, "validation_fraction must lie in"),
        ({"booster_params": ["eta"]}, "booster_params must be a mapping"),
        ({"booster_params": {"eta": 1}}, "use learning_rate"),
        ({"constraints": "fair"}, "unknown constraint 'fair'"),
        ({"difference_bound": 5}, "write 5 % as 0.05"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], words: str) -> None:
    X, y, group = make_rows(100)
    with pytest.raises(InvalidParameterError, match=words):
        model(**settings).fit(X, y, sensitive_features=group)


@QUIET
@BOTH
def test_a_group_without_positives_is_said(booster: str) -> None:
    X, y, group = make_rows(2000, 3)
    y[group == 2] = 0
    asked = model(constraints="equal_opportunity", booster=booster, n_estimators=20)
    with pytest.warns(FairtrainWarning, match=r"no row with the favourable label .* \['2'\]"):
        found = asked.fit(X, y, sensitive_features=group)
    assert "not defined and its bound not watched" in found.explain()
    y[group == 1] = 0
    with pytest.warns(FairtrainWarning, match=r"no row with the favourable label .*'1', '2'\]"):
        found = asked.fit(X, y, sensitive_features=group)
    assert found.status_ is Verdict.TOO_FEW_ROWS  # nothing is known of two of three groups


@QUIET
def test_a_small_group_without_positives_is_not_named() -> None:
    X, y, group = make_rows(600, 2)
    group = np.where(np.arange(600) < 8, "few", np.where(group == 1, "many", "most"))
    y[:8] = 0
    asked = model(constraints="equal_opportunity", n_estimators=3)
    with pytest.warns(FairtrainWarning, match="no row .* in groups of fewer than 10 rows,"):
        found = asked.fit(X, y, sensitive_features=group)
    note = next(line for line in found.explain().splitlines() if "not watched" in line)
    assert "few'" not in note


def test_a_tiny_group_is_too_few_rows() -> None:
    X, y, group = make_rows(2000)
    group[:12] = 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FairtrainWarning)
        found = model(n_estimators=30).fit(X, y, sensitive_features=group)
    assert found.status_ is Verdict.TOO_FEW_ROWS
    assert "needs about" in found.explain()


@BOTH
def test_a_booster_that_is_not_installed_says_which_extra(
    booster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, booster, None)
    monkeypatch.delitem(sys.modules, f"fairtrain.boosting.{booster}", raising=False)
    X, y, group = make_rows(100)
    with pytest.raises(MissingDependencyError, match=r"fairtrain\[boosting\]"):
        model(booster=booster).fit(X, y, sensitive_features=group)


def test_an_interrupted_fit_leaves_no_half_model(monkeypatch: pytest.MonkeyPatch) -> None:
    from fairtrain.boosting.xgboost import XGBoostRun

    found = fitted(n_estimators=10, difference_bound=0.5)
    X, y, group = make_rows(400)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(XGBoostRun, "steering_margin", interrupt)
    with pytest.raises(KeyboardInterrupt):
        found.fit(X, y, sensitive_features=group)
    with pytest.raises(sklearn.exceptions.NotFittedError):
        found.predict(X)


def test_convergence_is_drawn() -> None:
    ax = fitted(n_estimators=30).plot_convergence()
    assert ax.get_xlabel() == "round"
    assert any("demographic" in str(line.get_label()) for line in ax.get_lines())


@QUIET
@BOTH
def test_with_cv_every_row_trains_and_steers(booster: str) -> None:
    X, y, group = make_rows(1500, seed=3)
    settings = {"booster": booster, "cv": 3, "certification_fraction": 0.2, "n_estimators": 30}
    found = model(difference_bound=0.05, **settings).fit(X, y, sensitive_features=group)
    assert list(found.reports_) == ["steering", "certification"]
    assert found.reports_["steering"].n_rows == 1200
    best = found.history_.iloc[found.best_iteration_]
    assert found.reports_["steering"].results[0].achieved == pytest.approx(
        best["gap_held: demographic_parity"]
    )
    assert "Out-of-fold decisions moved the prices" in found.explain()
    again = clone(found).fit(X, y, sensitive_features=group)
    np.testing.assert_array_equal(again.predict_proba(X), found.predict_proba(X))
