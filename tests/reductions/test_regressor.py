"""ReductionsRegressor against fairlearn's numbers, and as its users meet it."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import fairlearn.reductions as fl
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.optimize import linprog
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from fairtrain import BoundedGroupLoss, ReductionsRegressor, ReductionsWrapper, Verdict, load, save
from fairtrain.exceptions import (
    ConstraintNotMetWarning,
    InvalidDataError,
    InvalidParameterError,
)

# fairlearn relies on behaviour that newer releases of pandas deprecate.
FAIRLEARN = pytest.mark.filterwarnings("ignore::DeprecationWarning")
QUIET = pytest.mark.filterwarnings("ignore::fairtrain.exceptions.ConstraintNotMetWarning")
LIMIT = BoundedGroupLoss(upper_bound=0.03, loss="squared")


def make_values(n: int = 600, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Features, values in [0, 1] that go the other way in a small group, and the group."""
    rng = np.random.default_rng(seed)
    group = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    X = rng.normal(size=(n, 3))
    turned = np.where(group == 2, -X[:, 0], X[:, 0])
    y = np.clip(0.5 + 0.15 * turned + 0.1 * rng.normal(size=n), 0, 1)
    return X, y, group


@FAIRLEARN
@QUIET
@pytest.mark.parametrize(
    ("loss", "bound"),
    [
        (fl.SquareLoss(0, 1), 0.04),
        (fl.SquareLoss(0.2, 0.7), 0.03),
        (fl.AbsoluteLoss(0, 1), 0.16),
        (fl.ZeroOneLoss(), 0.16),
    ],
)
def test_the_run_is_fairlearn_s(loss: Any, bound: float) -> None:
    X, y, group = make_values()
    asked = fl.BoundedGroupLoss(loss, upper_bound=bound)
    theirs = fl.ExponentiatedGradient(LinearRegression(), asked, max_iter=8, nu=1e-3)
    theirs.fit(X, y, sensitive_features=group)
    model = ReductionsRegressor(LinearRegression(), asked, max_iter=8, nu=1e-3)
    run = model.fit(X, y, sensitive_features=group).exponentiated_gradient_
    for name in ("best_iter_", "last_iter_", "n_oracle_calls_", "n_oracle_calls_dummy_returned_"):
        assert getattr(run, name) == getattr(theirs, name)
    assert run.best_gap_ == pytest.approx(theirs.best_gap_, abs=1e-9)
    np.testing.assert_allclose(run.weights_, theirs.weights_.sort_index(), atol=1e-9)
    np.testing.assert_allclose(run.lambda_vecs_, theirs.lambda_vecs_, atol=1e-9)
    for ours, member in zip(run.predictors_, theirs.predictors_, strict=True):
        np.testing.assert_allclose(ours.predict(X), member.predict(X), atol=1e-9)


@QUIET
def test_the_mixture_is_that_of_the_linear_program() -> None:
    X, y, group = make_values()
    limit = BoundedGroupLoss(upper_bound=0.045, loss="squared")
    model = ReductionsRegressor(LinearRegression(), limit, nu=1e-6)
    run = model.fit(X, y, sensitive_features=group).exponentiated_gradient_
    losses = np.array([(y - p.predict(X)) ** 2 for p in run.predictors_])
    by_group = np.array([[row[group == g].mean() for g in range(3)] for row in losses])
    all_of_it = np.ones((1, len(losses)))
    best = linprog(losses.mean(axis=1), by_group.T, np.full(3, 0.045), all_of_it, [1])
    assert run.weights_ @ losses.mean(axis=1) == pytest.approx(best.fun, abs=1e-5)
    assert (run.weights_ @ by_group).max() <= 0.045 + 1e-5


@QUIET
def test_the_unit_of_the_values_changes_nothing() -> None:
    X, y, group = make_values()
    runs = []
    for unit in (1.0, 1e5):
        limit = BoundedGroupLoss(upper_bound=0.04 * unit**2, loss="squared")
        model = ReductionsRegressor(
            LinearRegression(), limit, validation_fraction=0.3, max_iter=10, random_state=0
        )
        runs.append(model.fit(X, unit * y, sensitive_features=group).predict(X) / unit)
    np.testing.assert_allclose(runs[0], runs[1], atol=1e-5)


@QUIET
@pytest.mark.parametrize("loss", ["squared", "absolute", "own"])
def test_the_group_that_lost_most_loses_less(loss: str) -> None:
    X, y, group = make_values(1500)
    lost = {
        "squared": lambda y, p: (y - p) ** 2,
        "absolute": lambda y, p: abs(y - p),
        "own": lambda y, p: (y > p) * (y - p),
    }[loss]
    plain = LinearRegression().fit(X, y).predict(X)
    worst = max(lost(y, plain)[group == g].mean() for g in range(3))
    limit = BoundedGroupLoss(upper_bound=0.8 * worst, loss=lost if loss == "own" else loss)
    model = ReductionsRegressor(LinearRegression(), limit, random_state=0)
    model.fit(X, y, sensitive_features=group)
    result = model.fairness_report_.results[0]
    assert result.achieved < 0.85 * worst
    by_group = [lost(y, model.predict(X))[group == g].mean() for g in range(3)]
    assert result.achieved == pytest.approx(max(by_group))
    rates = model.fairness_report_.group_rates
    assert rates["rate"].tolist() == pytest.approx(by_group)
    assert (rates["upper"] > rates["rate"]).all()


@QUIET
def test_only_certification_rows_can_say_met_and_drawing_has_its_own_report() -> None:
    X, y, group = make_values(6000)
    limit = BoundedGroupLoss(upper_bound=0.08, loss="squared")
    settings = {"certification_fraction": 0.4, "validation_fraction": 0.3, "random_state": 0}
    model = ReductionsRegressor(LinearRegression(), limit, **settings)
    model.fit(X, y, sensitive_features=group)
    assert {r: str(report.verdict) for r, report in model.reports_.items()} == {
        "training": "not_certified",
        "steering": "not_certified",
        "certification": "met",
    }
    drawn = ReductionsRegressor(LinearRegression(), limit, deterministic=False, **settings)
    drawn.fit(X, y, sensitive_features=group)
    values = np.array([p.predict(X) for p in drawn.predictors_])
    assert (np.abs(values - drawn.predict(X)).min(axis=0) < 1e-12).all()
    np.testing.assert_allclose(drawn.predict(X)[::-1], drawn.predict(X[::-1]))
    fresh = model.evaluate(*make_values(4000, 7)[:2], sensitive_features=make_values(4000, 7)[2])
    assert fresh.verdict is Verdict.MET


@QUIET
def test_with_cv_held_out_numbers_weigh_the_mixture() -> None:
    X, y, group = make_values()
    tree = DecisionTreeRegressor(max_depth=6, random_state=0)
    model = ReductionsRegressor(tree, LIMIT, cv=3, max_iter=5, random_state=0)
    model.fit(X, y, sensitive_features=group)
    assert list(model.reports_) == ["steering"]
    inside = np.mean((y - model.predict(X))[group == 2] ** 2)
    assert model.fairness_report_.results[0].achieved > inside  # a tree knows its training rows


@QUIET
def test_weights_count_as_repeated_rows() -> None:
    X, y, group = make_values(300)
    times = np.random.default_rng(0).integers(0, 3, len(y))
    again = np.repeat(np.arange(len(y)), times)
    settings = {"max_iter": 8, "nu": 1e-3, "random_state": 0}
    weighted = ReductionsRegressor(LinearRegression(), LIMIT, **settings)
    weighted.fit(X, y, sensitive_features=group, sample_weight=times)
    repeated = ReductionsRegressor(LinearRegression(), LIMIT, **settings)
    repeated.fit(X[again], y[again], sensitive_features=group[again])
    np.testing.assert_allclose(weighted.predict(X), repeated.predict(X), atol=1e-6)


@QUIET
def test_saved_loaded_pickled_searched_and_in_a_pipeline(tmp_path: Path) -> None:
    X, y, group = make_values(300)
    frame = np.column_stack([X, group])
    pipe = make_pipeline(StandardScaler(), LinearRegression())
    model = ReductionsRegressor(pipe, LIMIT, sensitive_features="3", max_iter=5, random_state=0)
    table = pd.DataFrame(frame, columns=["0", "1", "2", "3"])
    model.fit(table, y)
    save(model, tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict(table), model.predict(table))
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(table), model.predict(table))
    grid = {"constraints": [LIMIT, BoundedGroupLoss(upper_bound=1, loss="squared")]}
    assert (
        GridSearchCV(model, grid, cv=2).fit(table, y).best_params_["constraints"]
        == (grid["constraints"][1])
    )


def test_what_cannot_be_reached_is_said() -> None:
    X, y, group = make_values(300)
    limit = BoundedGroupLoss(upper_bound=1e-4, loss="squared")
    with pytest.warns(ConstraintNotMetWarning, match="at most 0.0001 is asked"):
        model = ReductionsRegressor(DummyRegressor(), limit, max_iter=5).fit(
            X, y, sensitive_features=group
        )
    assert model.status_ is Verdict.NOT_MET


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"estimator": LogisticRegression()}, "ReductionsWrapper takes classifiers"),
        ({"constraints": "demographic_parity"}, "ReductionsRegressor takes BoundedGroupLoss"),
        (
            {"constraints": BoundedGroupLoss(upper_bound=0.1)},
            "takes BoundedGroupLoss with loss='squared', 'absolute'",
        ),
        ({"constraints": fl.BoundedGroupLoss(fl.ZeroOneLoss())}, "needs an upper_bound"),
        ({"cv": 3, "validation_fraction": 0.2}, "cv and validation_fraction both say"),
    ],
)
def test_bad_settings_get_one_clear_line(settings: dict[str, Any], says: str) -> None:
    X, y, group = make_values(60)
    model = ReductionsRegressor(LinearRegression(), LIMIT).set_params(**settings)
    with pytest.raises(InvalidParameterError, match=says):
        model.fit(X, y, sensitive_features=group)


def test_several_outputs_are_refused_and_the_classifier_names_the_regressor() -> None:
    X, y, group = make_values(60)
    with pytest.raises(InvalidDataError, match="fit a model for each column"):
        ReductionsRegressor(LinearRegression(), LIMIT).fit(
            X, np.column_stack([y, y]), sensitive_features=group
        )
    with pytest.raises(InvalidParameterError, match="ReductionsRegressor"):
        ReductionsWrapper(LinearRegression()).fit(X, y > 0.5, sensitive_features=group)


@QUIET
def test_the_history_knows_no_unit() -> None:
    X, y, group = make_values()
    found = []
    for unit in (1.0, 1e4):
        limit = BoundedGroupLoss(upper_bound=0.03 * unit**2, loss="squared")
        model = ReductionsRegressor(LinearRegression(), limit, max_iter=5, random_state=0)
        found.append(model.fit(X, y * unit, sensitive_features=group).history_)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6, atol=1e-9)


def test_an_excess_is_rounding_in_units_of_its_bound(recwarn: pytest.WarningsRecorder) -> None:
    X, y, group = make_values()
    model = ReductionsRegressor(LinearRegression(), LIMIT, max_iter=2, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = model.fit(X, y, sensitive_features=group).fairness_report_
    for over, said in ((1.0, 0), (10.0, 1)):
        result = replace(report.results[0], bound=4e6, achieved=4e6 + over)
        model.reports_ = {"training": replace(report, results=(result,))}
        model._warn_of_broken_bounds()
        assert len(recwarn) == said
