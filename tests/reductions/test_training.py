"""Settings that a reduction chooses by itself."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.tree import DecisionTreeClassifier
from tests.reductions.data import make_rows

from fairtrain import ReductionsWrapper
from fairtrain.reductions.objectives import automatic_nu


def test_nu_is_that_of_fairlearn_where_weights_are_equal() -> None:
    wrong = np.random.default_rng(0).integers(0, 2, 50).astype(float)
    expected = 0.5 * pd.Series(wrong).std() / math.sqrt(len(wrong))
    assert automatic_nu(wrong, np.full(50, 7.0)) == pytest.approx(expected)


def test_the_unit_of_weights_changes_nothing() -> None:
    X, y, group = make_rows(600, 3)
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y))
    found = []
    for unit in (1.0, 1e3):
        model = ReductionsWrapper(
            DecisionTreeClassifier(max_depth=3, random_state=0),
            "demographic_parity",
            difference_bound=0.02,
            random_state=0,
        ).fit(X, y, sensitive_features=group, sample_weight=unit * weight)
        found.append((model.n_oracle_calls_, model.best_gap_, model.predict_proba(X)))
    assert found[0][0] == found[1][0]
    assert found[0][1] == pytest.approx(found[1][1])
    np.testing.assert_allclose(found[0][2], found[1][2], atol=1e-9)


def test_equal_weights_stop_where_none_do_whatever_their_unit() -> None:
    X, y, group = make_rows(600, 3)
    runs = []
    for weight in (None, np.full(600, 1e-3), np.full(600, 250.0)):
        model = ReductionsWrapper(DecisionTreeClassifier(max_depth=3, random_state=0))
        model.fit(X, y, sensitive_features=group, sample_weight=weight)
        runs.append(model.exponentiated_gradient_)
    wrong = np.abs(runs[0].predictors_[0].predict(X) - y)
    assert runs[0].nu == pytest.approx(0.5 * pd.Series(wrong).std() / math.sqrt(600))
    for run in runs[1:]:
        assert run.nu == pytest.approx(runs[0].nu)
        assert run.n_oracle_calls_ == runs[0].n_oracle_calls_
