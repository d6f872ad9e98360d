"""``CalibratedFairClassifier``: a scikit-learn classifier, calibrated on held-out folds."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    cross_val_predict,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from fairtrain import CalibratedFairClassifier, GroupFairnessCalibrator
from fairtrain.data.draws import keyed_uniform
from fairtrain.data.inputs import as_features
from fairtrain.exceptions import FairtrainWarning, InvalidDataError, InvalidParameterError


def rows(n: int = 3000, seed: int = 0) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 3, n)
    X = rng.normal(size=(n, 4))
    y = (X[:, 0] + 0.9 * group + rng.logistic(size=n) * (1 + group) / 2 > 1).astype(int)
    return X, y, group


def test_calibrator_is_fitted_on_out_of_fold_scores() -> None:
    X, y, group = rows()
    model = CalibratedFairClassifier(LogisticRegression(), cv=StratifiedKFold(4))
    model.fit(X, y, sensitive_features=group)
    base = LogisticRegression()
    held_out = cross_val_predict(base, X, y, cv=StratifiedKFold(4), method="predict_proba")[:, 1]
    by_hand = GroupFairnessCalibrator().fit(held_out, y, group)
    expected = by_hand.transform(base.fit(X, y).predict_proba(X)[:, 1], group)
    np.testing.assert_allclose(
        model.predict_proba(X, sensitive_features=group)[:, 1], expected, atol=1e-9
    )


def test_a_notebook_shows_what_calibration_did_to_every_group() -> None:
    X, y, group = rows(400)
    model = CalibratedFairClassifier(LogisticRegression(), cv=2)
    assert 'fairtrain"><style>' not in model._repr_html_()
    shown = model.fit(X, y, sensitive_features=group)._repr_html_()
    table = model.calibrator_.group_report_
    for column in ("gap_before", "gap_after"):
        assert all(f"{gap:+.3f}" in shown for gap in table[column])
    three = np.where(X[:, 0] > 1, 2, y)
    shown = model.fit(X, three, sensitive_features=group)._repr_html_()
    assert "Log loss, on 400 rows" in shown


def test_a_memorising_estimator_is_calibrated_on_new_rows() -> None:
    X, y, group = rows(4000)
    forest = RandomForestClassifier(30, random_state=0)
    model = CalibratedFairClassifier(forest, random_state=0).fit(X, y, sensitive_features=group)
    X, y, group = rows(6000, seed=1)
    q = model.predict_proba(X, sensitive_features=group)[:, 1]
    raw = model.estimator_.predict_proba(X)[:, 1]
    for g in range(3):
        mine = group == g
        assert abs(q[mine].mean() - y[mine].mean()) < 0.035
        assert np.mean((q - y)[mine] ** 2) < np.mean((raw - y)[mine] ** 2)


def test_a_frozen_estimator_is_used_as_it_is() -> None:
    X, y, group = rows()
    base = LogisticRegression().fit(X[:1000], y[:1000])
    model = CalibratedFairClassifier(FrozenEstimator(base))
    model.fit(X[1000:], y[1000:], sensitive_features=group[1000:])
    by_hand = GroupFairnessCalibrator().fit(
        base.predict_proba(X[1000:])[:, 1], y[1000:], group[1000:]
    )
    np.testing.assert_allclose(
        model.predict_proba(X[:9], sensitive_features=group[:9])[:, 1],
        by_hand.transform(base.predict_proba(X[:9])[:, 1], group[:9]),
    )


def test_columns_of_x_are_groups_and_never_features() -> None:
    X, y, group = rows()
    frame = pd.DataFrame(X, columns=list("abcd")).assign(race=group)
    named = CalibratedFairClassifier(LogisticRegression(), sensitive_features="race", cv=3)
    named.fit(frame, y)
    assert named.feature_names_in_.tolist() == list("abcd")
    found = named.predict_proba(frame)
    apart = CalibratedFairClassifier(LogisticRegression(), cv=3).fit(
        frame[list("abcd")], y, sensitive_features=group
    )
    q = apart.predict_proba(frame[list("abcd")], sensitive_features=group)
    assert np.abs(found - q).max() < 0.05  # folds are shuffled
    with pytest.raises(InvalidParameterError, match="given twice"):
        named.fit(frame, y, sensitive_features=group)
    with pytest.raises(InvalidDataError, match="X has no column 'race'"):
        named.predict(frame[list("abcd")])
    with pytest.raises(InvalidDataError, match="predict needs sensitive_features"):
        apart.predict(frame[list("abcd")])
    assert named.needs_sensitive_at_predict


def test_search_pipelines_and_cross_validation() -> None:
    X, y, group = rows(1500)
    frame = pd.DataFrame(X, columns=list("abcd")).assign(race=group)
    model = CalibratedFairClassifier(
        make_pipeline(StandardScaler(), LogisticRegression()),
        GroupFairnessCalibrator(),
        sensitive_features="race",
        cv=2,
        random_state=0,
    )
    result = cross_validate(model, frame, y, scoring=["neg_log_loss", "accuracy"], cv=2)
    assert result["test_accuracy"].min() > 0.6
    search = GridSearchCV(
        model, {"calibrator__method": ["platt", "hierarchical"]}, scoring="neg_log_loss", cv=2
    ).fit(frame, y)
    assert search.best_params_["calibrator__method"] in ("platt", "hierarchical")


def test_metadata_routing() -> None:
    X, y, group = rows(1500)
    with sklearn.config_context(enable_metadata_routing=True):
        model = CalibratedFairClassifier(LogisticRegression(), cv=2, random_state=0)
        model.set_fit_request(sensitive_features=True, sample_weight=True)
        model.set_predict_request(sensitive_features=True)
        model.set_predict_proba_request(sensitive_features=True)
        model.set_score_request(sensitive_features=True, sample_weight=False)
        result = cross_validate(
            model, X, y, params={"sensitive_features": group, "sample_weight": np.ones(1500)}, cv=2
        )
    assert result["test_score"].min() > 0.6


def test_any_labels_several_classes_and_weights() -> None:
    X, y, group = rows(1500)
    words = np.array(["approve", "deny"])[y]
    model = CalibratedFairClassifier(LogisticRegression(), random_state=0)
    plain = clone(model).fit(X, y, sensitive_features=group)
    named = clone(model).fit(X, words, sensitive_features=group)
    np.testing.assert_allclose(
        named.predict_proba(X, sensitive_features=group),
        plain.predict_proba(X, sensitive_features=group),
    )
    assert set(named.predict(X, sensitive_features=group)) == {"approve", "deny"}
    assert named.score(X, words, sensitive_features=group) > 0.6
    three = clone(model).fit(X, y + (X[:, 1] > 1), sensitive_features=group)
    q = three.predict_proba(X, sensitive_features=group)
    assert q.shape == (1500, 3)
    np.testing.assert_allclose(q.sum(1), 1)
    weighted = clone(model).fit(
        X, y, sensitive_features=group, sample_weight=np.where(y == 1, 3.0, 1.0)
    )
    assert (
        weighted.predict_proba(X, sensitive_features=group)[:, 1].mean()
        > plain.predict_proba(X, sensitive_features=group)[:, 1].mean() + 0.1
    )


def test_the_fitted_object_holds_no_row_and_repeats() -> None:
    X, y, group = rows(1500)
    X[700, 0] = canary = 3.123456789012345
    model = CalibratedFairClassifier(LogisticRegression(), random_state=0)
    saved = pickle.dumps(clone(model).fit(X, y, sensitive_features=group))
    assert np.float64(canary).tobytes() not in saved
    assert len(saved) < 20_000
    again = pickle.loads(saved).predict_proba(X, sensitive_features=group)
    other = clone(model).fit(X, y, sensitive_features=group)
    np.testing.assert_array_equal(other.predict_proba(X, sensitive_features=group), again)


def test_errors_say_what_to_do() -> None:
    X, y, group = rows(60)
    model = CalibratedFairClassifier(LogisticRegression())
    with pytest.raises(InvalidDataError, match="sensitive_features is missing"):
        model.fit(X, y)
    with pytest.raises(InvalidDataError, match="at least two classes, found 1 class"):
        model.fit(X, np.zeros(60), sensitive_features=group)
    with pytest.raises(InvalidParameterError, match="cv must be a whole number >= 2"):
        clone(model).set_params(cv=1).fit(X, y, sensitive_features=group)
    with pytest.raises(InvalidDataError, match="a class of y has 1 row"):
        model.fit(X, np.arange(60) == 0, sensitive_features=group)
    frozen = FrozenEstimator(LogisticRegression().fit(X, y))
    with pytest.raises(InvalidDataError, match=r"the fitted estimator knows \[0, 1\]"):
        CalibratedFairClassifier(frozen).fit(X, y + 1, sensitive_features=group)


class Supplied(CalibratedFairClassifier):
    """Draws one of two groups from a row's values, because the checks hand over none."""

    def fit(self, X: Any, y: Any, *, sensitive_features: Any = None, sample_weight: Any = None):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FairtrainWarning)
            return super().fit(X, y, sensitive_features=drawn(X), sample_weight=sample_weight)

    def predict_proba(self, X: Any, *, sensitive_features: Any = None):
        return super().predict_proba(X, sensitive_features=drawn(X))


def drawn(X: Any) -> Any:
    table = as_features(X)
    table = table if getattr(table, "ndim", 2) == 2 else np.asarray(table).reshape(-1, 1)
    if getattr(getattr(table, "dtype", None), "kind", "") == "O":
        table = table.astype(str)
    return (keyed_uniform(table, key=7) < 0.5).astype(int)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
@parametrize_with_checks([Supplied(LogisticRegression(), cv=2, random_state=0)])
def test_check_estimator(estimator: Supplied, check: Any) -> None:
    check(estimator)


def test_decisions_and_outcomes_are_two_things() -> None:
    X, y, group = rows(900)
    model = CalibratedFairClassifier(LogisticRegression(), cv=2, random_state=0)
    model.fit(X, y, sensitive_features=group)
    outcome = model.outcome_proba(X, sensitive_features=group)
    np.testing.assert_array_equal(model.predict_proba(X, sensitive_features=group), outcome)
    decided = model.predict(X, sensitive_features=group)
    np.testing.assert_array_equal(decided == 1, outcome[:, 1] > 0.5)
    np.testing.assert_array_equal(
        model.decision_proba(X, sensitive_features=group), np.eye(2)[decided]
    )


def test_weights_reach_the_end_of_a_pipeline() -> None:
    rng = np.random.default_rng(0)
    X, group = rng.normal(size=(300, 2)), rng.integers(0, 2, 300)
    y = (X[:, 0] + rng.normal(size=300) > 0).astype(int)
    weight = np.where(y == 1, 5.0, 1.0)
    line = LogisticRegression()
    found = [
        CalibratedFairClassifier(estimator, cv=2, random_state=0)
        .fit(X, y, sensitive_features=group, sample_weight=weight)
        .predict_proba(X, sensitive_features=group)
        for estimator in (line, make_pipeline(FunctionTransformer(), line))
    ]
    np.testing.assert_allclose(found[0], found[1])
