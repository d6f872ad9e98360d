"""The oracle: when two fits are one, and who is given the weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lightgbm import LGBMClassifier
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tests.reductions.data import make_rows
from xgboost import XGBClassifier

from fairtrain.exceptions import InvalidParameterError, StoredRowsWarning
from fairtrain.reductions.oracle import (
    Oracle,
    is_deterministic,
    numbers,
    warn_if_rows_stored,
    weight_keyword,
)


class Plain:
    """Nothing but ``fit`` and ``predict``."""

    def fit(self, X: Any, y: Any) -> Plain:
        return self

    def predict(self, X: Any) -> Any:
        return np.zeros(len(X))


class Draws(BaseEstimator):  # type: ignore[misc]
    """Somebody's, with a seed that says nothing."""

    def __init__(self, random_state: Any = None) -> None:
        self.random_state = random_state


@pytest.mark.parametrize(
    ("estimator", "same"),
    [
        (LogisticRegression(), True),
        (LogisticRegression(solver="saga"), False),
        (LogisticRegression(solver="saga", random_state=3), True),
        (LogisticRegression(solver="saga", random_state=np.random.RandomState(0)), False),
        (LogisticRegression(random_state=np.random.RandomState(0)), False),
        (XGBClassifier(), True),
        (LGBMClassifier(), True),
        (GaussianNB(), True),
        (RandomForestClassifier(), False),
        (RandomForestClassifier(random_state=np.int64(0)), True),
        (make_pipeline(StandardScaler(), LogisticRegression()), True),
        (make_pipeline(StandardScaler(), RandomForestClassifier()), False),
        (Draws(), False),
        (Draws(1), True),
        (Plain(), False),
    ],
)
def test_fits_are_kept_where_they_are_known_to_repeat(estimator: Any, same: bool) -> None:
    assert is_deterministic(estimator) is same


@pytest.mark.parametrize(
    ("estimator", "keyword"),
    [
        (LogisticRegression(), "sample_weight"),
        (make_pipeline(StandardScaler(), Ridge()), "ridge__sample_weight"),
        (make_pipeline(make_pipeline(Ridge())), "pipeline__ridge__sample_weight"),
        (GridSearchCV(Ridge(), {}), "sample_weight"),
        (make_pipeline(KNeighborsClassifier()), None),
        (GridSearchCV(KNeighborsClassifier(), {}), None),
        (KNeighborsClassifier(), None),
        (Plain(), None),
    ],
)
def test_weights_have_the_name_of_the_last_step(estimator: Any, keyword: str | None) -> None:
    assert weight_keyword(estimator) == keyword


def test_the_same_problem_is_fitted_once_and_twins_are_counted() -> None:
    X, y, _ = make_rows(120, 2)
    weight = np.random.default_rng(0).random(len(y))
    halves = np.arange(60), np.arange(60, 120)
    oracle = Oracle(LogisticRegression(), folds=[halves, halves[::-1]])
    first = oracle.fit(X, y, weight).predict(X)
    again = oracle.fit(X, y, weight * (1 + 1e-15)).predict(X)  # the same but for rounding
    np.testing.assert_array_equal(first, again)
    assert oracle.n_fits == 3
    for training, held in (halves, halves[::-1]):
        twin = LogisticRegression().fit(X[training], y[training], weight[training])
        np.testing.assert_array_equal(first[held], twin.predict(X[held]))
    oracle.fit(X, 1 - y, weight)
    oracle.fit(X, y, weight[::-1])
    assert oracle.n_fits == 9
    drawn = Oracle(RandomForestClassifier(2))
    drawn.deterministic = False
    assert drawn.fit(X, y, weight).fit(X, y, weight).n_fits == 2


def test_a_fold_with_one_label_is_answered_by_it() -> None:
    X, _, _ = make_rows(40, 2)
    y = np.repeat([1, 0], [25, 15])
    folds = [(np.arange(20), np.arange(20, 40)), (np.arange(20, 40), np.arange(20))]
    answered = Oracle(LogisticRegression(), folds=folds).fit(X, y, np.ones(40)).predict(X)
    assert (answered[20:] == 1).all()


def test_rows_are_drawn_by_their_weights() -> None:
    X, y, _ = make_rows(300, 2)
    weight = np.where(y == 1, 1.0, 0.0)
    weight[np.flatnonzero(y == 0)[:1]] = 1e-12  # both labels are there, one is never drawn
    with pytest.raises(InvalidParameterError, match="resample=True"):
        Oracle(KNeighborsClassifier(1))
    oracle = Oracle(KNeighborsClassifier(1), resample=True)
    assert oracle.fit(X, y, weight).predict(X).all()
    seeds = {
        Oracle(KNeighborsClassifier(1), resample=True, rng=np.random.RandomState(s)).resample_seed
        for s in range(3)
    }
    assert len(seeds) == 3


def test_numbers_are_not_cut_to_decisions() -> None:
    X, _, _ = make_rows(50, 2)
    oracle = Oracle(Ridge(), values=True).fit(X, X[:, 0] / 3, np.ones(50))
    np.testing.assert_allclose(oracle.predict(X), numbers(oracle.model, X))
    assert len(np.unique(oracle.predict(X))) == 50
    assert Oracle(Ridge()).fit(X, X[:, 0] > 0, np.ones(50)).predict(X).tolist() != [1.0] * 50


def test_whoever_keeps_rows_is_named_wherever_it_sits() -> None:
    X, y, _ = make_rows(30, 2)
    search = GridSearchCV(make_pipeline(StandardScaler(), KNeighborsClassifier(2)), {}, cv=2)
    with pytest.warns(StoredRowsWarning, match="^KNeighborsClassifier keeps"):
        warn_if_rows_stored([search.fit(X, y)])
    warn_if_rows_stored([LogisticRegression().fit(X, y)])  # no warning, or pytest would raise
