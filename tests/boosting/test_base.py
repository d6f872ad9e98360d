"""What the classifier and the regressor share: rows in, decisions out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from tests.boosting.data import make_rows

from fairtrain import (
    BoundedGroupLoss,
    LagrangianBoostingClassifier,
    LagrangianBoostingRegressor,
    Verdict,
)
from fairtrain.exceptions import InvalidDataError

BOTH = pytest.mark.parametrize("booster", ["xgboost", "lightgbm"])
SMALL = {"n_estimators": 15, "max_depth": 3, "random_state": 0, "n_jobs": 1}

pytestmark = pytest.mark.filterwarnings("ignore::fairtrain.exceptions.FairtrainWarning")


def classifier(**settings: Any) -> LagrangianBoostingClassifier:
    return LagrangianBoostingClassifier(**({"difference_bound": 0.05} | SMALL | settings))


def regressor(**settings: Any) -> LagrangianBoostingRegressor:
    limit = BoundedGroupLoss(upper_bound=1.0, loss="squared")
    return LagrangianBoostingRegressor(limit, **(SMALL | settings))


@BOTH
@pytest.mark.parametrize("make", [classifier, regressor])
def test_the_unit_of_weights_does_not_matter(booster: str, make: Any) -> None:
    X, y, group = make_rows(1000)
    weight = np.random.default_rng(1).uniform(0.2, 3.0, 1000)

    def values(unit: float) -> Any:
        model = make(booster=booster)
        model.fit(X, y, sensitive_features=group, sample_weight=unit * weight)
        assert model.n_estimators_ > 1
        return model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)

    expected = values(1 / weight.mean())
    for unit in (1 / weight.sum(), 1e-9, 1e9):  # the first: weights that sum to 1
        np.testing.assert_allclose(values(unit), expected, rtol=1e-5)


@BOTH
@pytest.mark.parametrize("labels", [(0, 1), ("deny", "approve"), (True, False)])
def test_predict_predict_proba_and_decision_proba_agree(booster: str, labels: Any) -> None:
    X, y, group = make_rows(1000)
    model = classifier(booster=booster, positive_label=labels[1])
    model.fit(X, np.array(labels)[y], sensitive_features=group)
    column = model.classes_.tolist().index(labels[1])
    decided, proba = model.predict(X), model.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert 0 < (decided == labels[1]).mean() < 1
    np.testing.assert_array_equal(decided == labels[1], proba[:, column] > 0.5)
    np.testing.assert_array_equal(model.decision_proba(X)[:, column], decided == labels[1])
    report = model.evaluate(X, np.array(labels)[y], sensitive_features=group)
    assert report.selection_rate == pytest.approx((decided == labels[1]).mean())


def test_reports_of_fit_judge_what_the_model_predicts() -> None:
    X, y, group = make_rows(1000)
    model = classifier(validation_fraction=0.0).fit(X, y, sensitive_features=group)
    assert model.reports_["training"].accuracy[0] == pytest.approx(model.score(X, y))
    values = regressor(validation_fraction=0.0).fit(X, y, sensitive_features=group)
    worst = max(((y - values.predict(X)) ** 2)[group == g].mean() for g in (0, 1))
    assert values.reports_["training"].results[0].achieved == pytest.approx(worst, rel=1e-5)


@BOTH
def test_one_group_a_row_is_too_few_rows(booster: str) -> None:
    X, y, _ = make_rows(200)
    model = classifier(booster=booster).fit(X, y, sensitive_features=np.arange(200))
    assert model.status_ is Verdict.TOO_FEW_ROWS
    assert "more groups are short" in model.explain()


@BOTH
def test_a_handful_of_rows_trains_or_says_in_a_line_what_is_lacking(booster: str) -> None:
    X, _, _ = make_rows(12)
    y, group = np.arange(12) % 2, np.arange(12) // 2 % 2
    model = classifier(booster=booster, validation_fraction=0.0)
    assert model.fit(X, y, sensitive_features=group).status_ is Verdict.TOO_FEW_ROWS
    for n, words in ((1, "two classes"), (2, "at least two groups"), (4, "is empty; pass more")):
        model = classifier(booster=booster, validation_fraction=0.2 if n == 4 else 0.0)
        with pytest.raises(InvalidDataError, match=words) as error:
            model.fit(X[:n], y[:n], sensitive_features=group[:n])
        assert "\n" not in str(error.value)


def test_a_model_that_predicts_nan_is_no_model() -> None:
    X, y, group = make_rows(300)
    model = regressor(learning_rate=1e38)
    with pytest.raises(InvalidDataError, match=r"predicts NaN or infinity in \d+ of \d+ rows"):
        model.fit(X, 1e3 * y, sensitive_features=group)
    with pytest.raises(NotFittedError):
        model.predict(X)


def test_complex_values_are_refused() -> None:
    X, y, group = make_rows(100)
    with pytest.raises(InvalidDataError, match="y must be real, got complex"):
        regressor().fit(X, y + 1j, sensitive_features=group)
