"""The plug-in classifier: bounds kept out of fold and on new rows, repricing, what it keeps."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import KFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fairtrain import (
    BoundedGroupLoss,
    DemographicParity,
    FairnessReport,
    FairPlugInClassifier,
    fairness_report,
    load,
    save,
)
from fairtrain.exceptions import (
    FairtrainWarning,
    InvalidDataError,
    InvalidParameterError,
    NearConstantWarning,
)
from fairtrain.plugin.scores import default_estimators

pytestmark = pytest.mark.filterwarnings("ignore::fairtrain.exceptions.ConstraintNotMetWarning")


def people(n: int, seed: int, groups: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features that reveal the group in part, labels whose base rates differ."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, groups, n)
    X = rng.normal(size=(n, 3))
    X[:, 0] += 1.2 * group / (groups - 1)
    X[:, 2] += 1.5 * (group == 0)
    y = (X[:, 0] + 0.5 * X[:, 1] + rng.logistic(size=n) > 0.8).astype(int)
    return X, y, group


def made(constraint: Any = "demographic_parity", **options: Any) -> FairPlugInClassifier:
    linear = LogisticRegression()
    return FairPlugInClassifier(
        linear, constraint, **{"group_estimator": linear, "random_state": 0, **options}
    )


@pytest.fixture(scope="module")
def fitted() -> FairPlugInClassifier:
    X, y, group = people(6000, seed=0)
    return made(difference_bound=0.05).fit(X, y, sensitive_features=group)


def judged(model: FairPlugInClassifier, constraint: Any, **bound: float) -> FairnessReport:
    X, y, group = people(20_000, seed=99)
    return fairness_report(y, model.predict(X), group, constraint, **bound)


@pytest.mark.parametrize(
    ("constraint", "bound"),
    [
        ("demographic_parity", {"difference_bound": 0.05}),
        ("equal_opportunity", {"difference_bound": 0.05}),
        ("predictive_equality", {"difference_bound": 0.05}),
        ("equalized_odds", {"difference_bound": 0.05}),
        ("error_rate_parity", {"difference_bound": 0.01}),
        ("demographic_parity", {"ratio_bound": 0.85}),
    ],
)
def test_every_notion_is_kept_on_people_never_seen(
    constraint: str, bound: dict[str, float]
) -> None:
    X, y, group = people(6000, seed=0)
    model = made(constraint, **bound).fit(X, y, sensitive_features=group)
    report = judged(model, constraint, **bound)
    plain = LogisticRegression().fit(X, y)
    tests = people(20_000, seed=99)
    before = fairness_report(tests[1], plain.predict(tests[0]), tests[2], constraint, **bound)
    broken, kept = before.results[0], report.results[0]
    if "ratio_bound" in bound:
        assert broken.achieved < 0.75
        assert kept.achieved > bound["ratio_bound"] - 0.05
    else:
        assert broken.achieved > bound["difference_bound"] + 0.01
        assert kept.achieved < bound["difference_bound"] + 0.02
    assert report.accuracy[0] > 0.6


def test_a_notebook_shows_scikit_learn_s_diagram_and_what_was_found(
    fitted: FairPlugInClassifier,
) -> None:
    before, after = clone(fitted)._repr_html_(), fitted._repr_html_()
    assert "sk-container-id" in before
    assert 'fairtrain"><style>' not in before
    assert "sk-container-id" in after
    result = fitted.fairness_report_.results[0]
    assert f"{result.achieved:.3f} ({result.lower:.3f} to {result.upper:.3f})" in after
    assert fitted._repr_mimebundle_()["text/plain"] == repr(fitted)
    with config_context(display="text"):
        assert not hasattr(fitted, "_repr_html_")


def test_repricing_is_a_fit_under_the_other_bound(fitted: FairPlugInClassifier) -> None:
    X, y, group = people(6000, seed=0)
    new = people(2000, seed=1)[0]
    again = made(difference_bound=0.2).fit(X, y, sensitive_features=group)
    looser = fitted.with_bounds(difference_bound=0.2)
    assert np.mean(looser.predict(new) == again.predict(new)) > 0.995
    other = fitted.with_constraints("equalized_odds", difference_bound=0.1)
    assert other.constraints_[0].notion == "equalized_odds"
    assert list(other.reports_) == ["steering"]
    assert other.fairness_report_.results[0].achieved < 0.13
    # The one they came from is as it was.
    assert fitted.constraints_[0].bound == 0.05
    assert len(fitted.prices_) == 2


def test_a_looser_bound_costs_less(fitted: FairPlugInClassifier) -> None:
    curve = fitted.frontier([0.01, 0.05, 0.1, 0.2, 0.5])
    assert curve["accuracy"].is_monotonic_increasing
    assert (curve["achieved"] <= curve["bound"] + 0.01).all()
    free = fitted.with_bounds(difference_bound=1.0)
    X, y, _ = people(4000, seed=5)
    np.testing.assert_array_equal(
        free.predict(X), free.classes_[(free.outcome_proba(X)[:, 1] > 0.5).astype(int)]
    )
    np.testing.assert_allclose(free.predict_proba(X), free.outcome_proba(X))
    assert accuracy_score(y, free.predict(X)) == free.score(X, y)


def test_what_each_number_means(fitted: FairPlugInClassifier) -> None:
    X, _, _ = people(500, seed=3)
    margin, proba = fitted.decision_function(X), fitted.predict_proba(X)
    decided = fitted.predict(X)
    np.testing.assert_array_equal(decided == 1, margin > 0)
    np.testing.assert_array_equal(decided == 1, proba[:, 1] > 0.5)
    np.testing.assert_array_equal(fitted.decision_proba(X)[:, 1], decided)
    order = np.argsort(margin)
    assert (np.diff(proba[order, 1]) >= 0).all()
    assert not np.allclose(proba, fitted.outcome_proba(X))


def test_labels_by_name() -> None:
    X, y, group = people(3000, seed=2)
    words = np.where(y == 1, "approve", "deny")
    numbers = made().fit(X, y, sensitive_features=group)
    named = made(positive_label="approve").fit(X, words, sensitive_features=group)
    assert named.classes_.tolist() == ["approve", "deny"]
    np.testing.assert_array_equal(named.predict(X) == "approve", numbers.predict(X) == 1)
    np.testing.assert_allclose(named.decision_function(X), -numbers.decision_function(X))
    np.testing.assert_allclose(named.predict_proba(X)[:, 0], numbers.predict_proba(X)[:, 1])
    with pytest.raises(InvalidParameterError, match="positive_label is missing"):
        made("equal_opportunity").fit(X, words, sensitive_features=group)


def test_people_whose_scores_tie_are_decided_by_a_lot_of_their_own() -> None:
    rng = np.random.default_rng(0)
    group = rng.integers(0, 2, 8000)
    x = (rng.random(8000) < np.where(group == 1, 0.7, 0.3)).astype(float)
    y = (rng.random(8000) < 0.2 + 0.6 * x).astype(int)
    X = np.column_stack([x, rng.integers(0, 2, 8000)])
    model = made(difference_bound=0.1, aim=False).fit(X, y, sensitive_features=group)
    # Thresholds on two values of x give a gap of 0 (a constant) or .4: only a lot gives .1.
    assert model.lottery_
    assert not model.fairness_report_.near_constant
    assert model.fairness_report_.results[0].achieved < 0.12
    shares = model.decision_proba(X)[:, 1]
    assert ((shares > 0.05) & (shares < 0.95)).any()
    everyone = model.predict(X)
    np.testing.assert_array_equal(everyone[5:25], model.predict(X[5:25]))
    assert "decided by lot" in model.explain()


def test_certification_rows_are_apart_and_read_once() -> None:
    X, y, group = people(5000, seed=4)
    model = made(certification_fraction=0.3, difference_bound=0.05)
    model.fit(X, y, sensitive_features=group)
    assert list(model.reports_) == ["steering", "certification"]
    assert model.reports_["steering"].n_rows + model.reports_["certification"].n_rows == 5000
    assert model.fairness_report_ is model.reports_["certification"]
    assert "on the same rows): an improvement." in model.explain()
    assert "improvement" not in model.with_bounds(difference_bound=0.2).explain()  # of other rows
    assert model.evaluate(X, y, sensitive_features=group).n_rows == 5000


def test_pickles_and_folders_hold_no_row_and_reprice_on_rows_passed(tmp_path: Path) -> None:
    X, y, group = people(2000, seed=6)
    X[7, 1] = planted = 0.123456789012345
    model = made().fit(X, y, sensitive_features=group)
    blob = pickle.dumps(model)
    assert np.float64(planted).tobytes() not in blob
    assert len(blob) < 60_000
    save(model, tmp_path / "model")
    for again in (pickle.loads(blob), load(tmp_path / "model")):
        np.testing.assert_array_equal(again.predict(X), model.predict(X))
        assert again.explain() == model.explain()
        with pytest.raises(InvalidDataError, match="scores of training rows are not saved"):
            again.with_bounds(difference_bound=0.1)
        fresh = people(3000, seed=7)
        repriced = again.with_rows(fresh[0], fresh[1], sensitive_features=fresh[2])
        assert repriced.with_bounds(difference_bound=0.3).fairness_report_.n_rows == 3000


def test_defaults_take_the_better_base_and_frames_as_they_come() -> None:
    X, y, group = people(800, seed=8)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    frame["text"] = np.where(X[:, 1] > 0, "high", "low")
    frame["sex"] = np.where(group == 1, "f", "m")
    model = FairPlugInClassifier(cv=2, sensitive_features="sex", random_state=0)
    model.fit(frame, y)
    assert model.estimator_name_ == "LogisticRegression"  # the labels are logistic
    assert model.feature_names_in_.tolist() == ["a", "b", "c", "text"]
    assert model.needs_sensitive_at_predict is False
    np.testing.assert_array_equal(model.predict(frame), model.predict(frame.drop(columns="sex")))
    scores = cross_validate(model, frame, y, cv=2)
    assert scores["test_score"].min() > 0.55


def test_default_trees_split_the_categories_of_a_frame() -> None:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"word": rng.choice(list("abcdef"), 900), "x": rng.normal(size=900)})
    frame.loc[:20, "word"] = None
    y = np.isin(frame["word"], ["a", "c", "e"]).astype(int)
    trees, linear = default_estimators(frame)
    one = trees.fit(frame, y)
    assert one.score(frame, y) == linear.fit(frame, y).score(frame, y) == 1
    assert one[-1].is_categorical_.tolist() == [False, True]  # numbers first
    new = pd.DataFrame({"x": [0.0, 0.0], "word": ["a", "never seen"]})  # by name, not by place
    np.testing.assert_array_equal(one.predict(new)[:1], [1])
    numbers = default_estimators(frame[["x"]])[0].fit(frame[["x"]], y)
    assert numbers[-1].is_categorical_ is None


def test_weights_count_in_scores_gain_and_rates() -> None:
    X, y, group = people(3000, seed=9)
    weight = np.where(X[:, 1] > 0, 5.0, 0.2)
    options: dict[str, Any] = {"difference_bound": 0.05, "aim": False}
    weighted = made(**options).fit(X, y, sensitive_features=group, sample_weight=weight)
    report = fairness_report(
        y, weighted.predict(X), group, difference_bound=0.05, sample_weight=weight
    )
    assert report.results[0].achieved < 0.07
    # Rows of weight 0 are as good as absent.
    half = np.where(np.arange(3000) < 1500, 1.0, 0.0)
    one = made().fit(X, y, sensitive_features=group, sample_weight=half)
    two = made().fit(X[:1500], y[:1500], sensitive_features=group[:1500], sample_weight=half[:1500])
    np.testing.assert_array_equal(one.predict(X), two.predict(X))
    assert one.log_loss_["group"] == pytest.approx(two.log_loss_["group"])


def test_several_constraints_and_folds_of_ones_own() -> None:
    X, y, _ = people(4000, seed=10)
    rng = np.random.default_rng(1)
    who = pd.DataFrame({"sex": rng.choice(["f", "m"], 4000), "age": rng.choice(["o", "y"], 4000)})
    X[:, 1] += (who["sex"] == "f") - (who["age"] == "o") * 0.8
    y = (X[:, 0] + X[:, 1] + rng.logistic(size=4000) > 0.5).astype(int)
    asked = [
        DemographicParity(over="sex", difference_bound=0.03),
        DemographicParity(over="age", difference_bound=0.1),
    ]
    model = made(asked, cv=KFold(3, shuffle=True, random_state=0))
    model.fit(X, y, sensitive_features=who)
    sex, age = (result.achieved for result in model.fairness_report_.results)
    assert sex < 0.04
    assert age < 0.11
    assert model.prices_["constraint"].nunique() == 2
    own_rows = [(np.arange(len(y)), held) for held in np.array_split(np.arange(len(y)), 3)]
    for cv in (own_rows, [(np.arange(0), np.arange(len(y)))]):
        with pytest.raises(InvalidParameterError, match="train on rows outside of each fold"):
            made(asked, cv=cv).fit(X, y, sensitive_features=who)
    with pytest.raises(InvalidParameterError, match="hold every row out exactly once"):
        made(asked, cv=[(np.arange(10), np.arange(10, 20))]).fit(X, y, sensitive_features=who)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"cv": 1}, "cv must be a whole number >= 2"),
        ({"cv": 2.5}, "cv must be a whole number >= 2"),
        ({"mixing": -1}, "mixing must be a number >= 0"),
        ({"mixing": float("nan")}, "mixing must be a number >= 0"),
        ({"confidence": 1.5}, r"confidence must lie in \(0, 1\)"),
        ({"difference_bound": 2}, r"difference_bound must lie in \[0, 1\]"),
        ({"certification_fraction": 1.0}, r"certification_fraction must lie in \[0, 1\)"),
    ],
)
def test_settings_that_cannot_be_used(options: dict[str, Any], says: str) -> None:
    X, y, group = people(200, seed=0)
    with pytest.raises(InvalidParameterError, match=says):
        made(**options).fit(X, y, sensitive_features=group)


def test_what_no_price_can_keep_is_refused() -> None:
    X, y, group = people(200, seed=0)
    with pytest.raises(InvalidParameterError, match="bounds a loss of probabilities"):
        made(BoundedGroupLoss(upper_bound=0.5, loss="log_loss")).fit(X, y, sensitive_features=group)


def test_a_pipeline_is_an_estimator_and_a_tiny_group_is_no_crash() -> None:
    X, y, group = people(600, seed=11)
    group[:3] = 2
    pipe = make_pipeline(StandardScaler(), LogisticRegression())
    model = FairPlugInClassifier(pipe, group_estimator=pipe, random_state=0)
    model.fit(X, y, sensitive_features=group)
    assert str(model.status_) == "too_few_rows"
    assert "2" in model.scheme_.names


def test_a_bound_that_only_a_constant_keeps_is_said_to_be_worthless() -> None:
    rng = np.random.default_rng(0)
    group = rng.integers(0, 2, 3000)
    X = np.column_stack([group + rng.normal(scale=0.05, size=3000)])
    y = (rng.random(3000) < np.where(group == 1, 0.8, 0.3)).astype(int)
    with pytest.warns(FairtrainWarning) as said:
        made(difference_bound=0.01).fit(X, y, sensitive_features=group)
    assert any(issubclass(w.category, NearConstantWarning) for w in said)


@pytest.mark.filterwarnings("ignore::fairtrain.exceptions.FairtrainWarning")
def test_a_group_missing_in_a_fold_is_no_fault_of_the_estimator() -> None:
    xgboost = pytest.importorskip("xgboost", reason="the extra [boosting] brings it")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3))
    y = (X[:, 0] + 0.5 * rng.normal(size=300) > 0).astype(int)
    group = np.repeat(["a", "b", "c", "d"], [147, 3, 147, 3])
    booster = xgboost.XGBClassifier(n_estimators=5, max_depth=2)  # wants classes 0, 1, 2, ...
    model = FairPlugInClassifier(booster, group_estimator=booster, cv=5, random_state=0)
    model.fit(X, y, sensitive_features=group)
    assert model.score(X, y) > 0.7
