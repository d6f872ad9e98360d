"""Scorers in scikit-learn's own tools: gaps pooled over folds, and the best that keeps bounds."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
from joblib import parallel_config
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fairtrain import AtLeast, DemographicParity, FairPlugInClassifier, fairness_report, gap
from fairtrain.exceptions import (
    ConstraintNotMetWarning,
    InvalidDataError,
    InvalidParameterError,
    UselessModelWarning,
)
from fairtrain.metrics import best_feasible, fair_scorer, gap_score

pytestmark = pytest.mark.filterwarnings("ignore:.*on steering rows")


class Cut(ClassifierMixin, BaseEstimator):
    """Decides by one column against a cut, whatever it is fitted on: folds differ by rows alone."""

    def __init__(self, cut: float = 0.0) -> None:
        self.cut = cut

    def fit(self, X: Any, y: Any) -> Cut:
        self.classes_ = np.unique(y)
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        return self.classes_[(X["a"] > self.cut).astype(int)]

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        p = 1 / (1 + np.exp(self.cut - X["a"].to_numpy()))
        return np.column_stack([1 - p, p])


def people(n: int = 1200, seed: int = 0) -> tuple[pd.DataFrame, pd.Series]:
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({"a": rng.normal(size=n), "b": rng.normal(size=n)})
    X["group"] = rng.choice(["u", "v", "w"], n)
    X["a"] += X["group"] == "v"
    return X, (X["a"] + X["b"] + rng.normal(size=n) > 0.5).astype(int)


def plug_in(**settings: Any) -> FairPlugInClassifier:
    line = LogisticRegression()
    return FairPlugInClassifier(line, group_estimator=line, cv=2, random_state=0, **settings)


FOLDS = StratifiedKFold(3, shuffle=True, random_state=0)
GRID = {"difference_bound": [0.02, 0.06, 0.5]}


@pytest.mark.parametrize("performance", ["accuracy", "f1", {"false_negative": 3}])
def test_pooled_folds_are_judged_like_their_rows(performance: Any) -> None:
    X, y = people()
    asked = ["demographic_parity", AtLeast("recall", 0.5)]
    scorer = fair_scorer(asked, performance, difference_bound=0.1, sensitive_features="group")
    scores = cross_validate(Cut(0.3), X, y, cv=FOLDS, scoring=scorer)
    pooled = scorer.report(scores)
    decided = cross_val_predict(Cut(0.3), X, y, cv=FOLDS)
    whole = fairness_report(y, decided, X["group"], list(scorer.constraints), rows="steering")
    assert pooled.n_rows == whole.n_rows == len(X)
    for ours, theirs in zip(pooled.results, whole.results, strict=True):
        assert (ours.achieved, ours.lower, ours.upper) == pytest.approx(
            (theirs.achieved, theirs.lower, theirs.upper)
        )
        assert ours.highest == theirs.highest
    assert pooled.accuracy == pytest.approx(whole.accuracy)
    # A fold's gap is wider than that of all rows, which is why they are pooled.
    assert scores["test_gap"].shape == (3,)


def test_the_best_that_keeps_the_bound_is_chosen_and_not_the_most_accurate() -> None:
    X, y = people()
    scorer = fair_scorer(difference_bound=0.1)
    search = GridSearchCV(
        plug_in(sensitive_features="group"), GRID, scoring=scorer, cv=3,
        refit=best_feasible(scorer),
    ).fit(X, y)  # fmt: skip
    table = scorer.table(search.cv_results_)
    kept = table[table["excess"] <= 0]
    assert search.best_index_ == kept["performance"].idxmax()
    assert table["performance"].idxmax() == 2
    assert search.best_index_ != 2
    strict = GridSearchCV(
        plug_in(sensitive_features="group"), {"difference_bound": [0.3, 0.5]}, scoring=scorer, cv=3,
        refit=best_feasible(scorer),
    )  # fmt: skip
    with pytest.warns(ConstraintNotMetWarning, match="no candidate keeps the bounds"):
        strict.fit(X, y)
    assert strict.best_index_ == scorer.table(strict.cv_results_)["excess"].idxmin()


def test_candidates_that_decide_alike_for_everybody_come_last() -> None:
    X, y = people()
    scorer = fair_scorer(difference_bound=0.5, sensitive_features="group")
    grid = {"cut": [-9.0, 0.5, 9.0]}
    search = GridSearchCV(Cut(), grid, scoring=scorer, refit=best_feasible(scorer), cv=2)
    assert search.fit(X, y).best_params_ == {"cut": 0.5}
    table = scorer.table(search.cv_results_)
    assert table["near_constant"].tolist() == [True, False, True]
    search.param_grid = {"cut": [-9.0, 9.0]}
    with pytest.warns(UselessModelWarning, match="no better than deciding alike"):
        search.fit(X, y)


def test_scores_choose_by_their_mean_over_the_folds() -> None:
    X, y = people()
    scorer = fair_scorer("demographic_parity", "auc", sensitive_features="group")
    scores = cross_validate(Cut(), X, y, cv=FOLDS, scoring=scorer)
    plain = cross_validate(Cut(), X, y, cv=FOLDS, scoring="roc_auc")
    assert scores["test_score"] == pytest.approx(plain["test_score"])
    assert scorer.report(scores).performance == pytest.approx(plain["test_score"].mean())


def test_a_group_that_the_first_fold_lacks_is_not_lost_in_silence() -> None:
    X, y = people(300)
    X = X.sort_values("group", ignore_index=True)
    y = y.sample(frac=1, random_state=0, ignore_index=True)
    assert "w" not in set(X["group"][:150])
    first = [(np.arange(150, 300), np.arange(150)), (np.arange(150), np.arange(150, 300))]
    scorer = fair_scorer(sensitive_features="group")
    with pytest.raises(InvalidDataError, match="the first fold lacks a group"):
        scorer.report(cross_validate(Cut(), X, y, cv=first, scoring=scorer))
    known = fair_scorer(sensitive_features="group", groups=X["group"].rename("group").to_frame())
    pooled = known.report(cross_validate(Cut(), X, y, cv=first, scoring=known))
    assert pooled.results[0].achieved == pytest.approx(
        gap(y, (X["a"] > 0).astype(int), X["group"]).value
    )


def test_weights_are_pooled_too() -> None:
    X, y = people(600)
    weight = np.random.default_rng(0).random(600) + 0.5
    scorer = fair_scorer(sensitive_features="group")
    parts = [scorer(Cut().fit(X, y), X[i::2], y[i::2], sample_weight=weight[i::2]) for i in (0, 1)]
    results = {f"test_{name}": [part[name] for part in parts] for name in parts[0]}
    decided = (X["a"] > 0).astype(int)
    expected = gap(y, decided, X["group"], sample_weight=weight).value
    (result,) = scorer.report(results).results
    assert result.achieved == pytest.approx(expected, abs=0.005)  # folds count by effective rows
    # Whatever unit weights have, limits are as wide.
    parts = [
        scorer(Cut().fit(X, y), X[i::2], y[i::2], sample_weight=1e4 * weight[i::2]) for i in (0, 1)
    ]
    scaled = {f"test_{name}": [part[name] for part in parts] for name in parts[0]}
    (same,) = scorer.report(scaled).results
    assert (same.lower, same.upper) == pytest.approx((result.lower, result.upper))
    assert sum(part["n_rows"] for part in parts) < 600


def test_scorers_and_their_scores_reach_other_processes() -> None:
    X, y = people(300)
    scorer = fair_scorer("demographic_parity", {"false_negative": 3}, sensitive_features="group")
    scores = scorer(Cut().fit(X, y), X, y)
    assert pickle.loads(pickle.dumps(scorer))(Cut().fit(X, y), X, y) == scores
    sent = pickle.loads(pickle.dumps(scores))
    assert sent == scores
    assert sent["rows of nobody"] == 0


def test_one_number_for_tools_that_take_one() -> None:
    X, y = people()
    scorer = fair_scorer(difference_bound=0.1, sensitive_features="group", penalty=10.0)
    value = scorer(Cut(0.5).fit(X, y), X, y)
    decided = (X["a"] > 0.5).astype(int)
    excess = gap(y, decided, X["group"]).value - 0.1
    assert value == pytest.approx((decided == y).mean() - 10 * excess)
    search = HalvingGridSearchCV(Cut(), {"cut": [0.5, 3.0]}, scoring=scorer, cv=2)
    assert search.fit(X, y).best_params_ == {"cut": 3.0}
    with pytest.raises(InvalidParameterError, match="hold no counts"):
        scorer.table(search.cv_results_)


def test_optuna_searches_by_one_number() -> None:
    optuna = pytest.importorskip("optuna", reason="optuna is not installed")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    X, y = people(600)
    scorer = fair_scorer(difference_bound=0.1, sensitive_features="group", penalty=10)

    def objective(trial: Any) -> float:
        model = Cut(trial.suggest_categorical("cut", [0.5, 3.0]))
        return float(cross_val_score(model, X, y, scoring=scorer, cv=2).mean())

    sampler = optuna.samplers.GridSampler({"cut": [0.5, 3.0]}, seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(objective, n_trials=2)
    assert study.best_params == {"cut": 3.0}


def test_strata_and_jobs_in_a_grid_search() -> None:
    X, y = people(600)
    X["band"] = (X["b"] > 0).astype(int)
    asked = DemographicParity(given="band", difference_bound=0.1)
    scorer = fair_scorer(asked, sensitive_features="group")
    model = plug_in(constraints=asked, sensitive_features="group")
    grid = {"difference_bound": [0.02, 0.9]}
    with parallel_config("threading"):  # processes get what is pickled, which is tried below
        search = GridSearchCV(
            model, grid, scoring=scorer, refit=best_feasible(scorer), cv=FOLDS, n_jobs=2
        ).fit(X, y)
    table = scorer.table(search.cv_results_)
    decided = cross_val_predict(model.set_params(difference_bound=0.9), X, y, cv=FOLDS)
    rates = pd.Series(decided).groupby([X["band"], X["group"]]).mean().groupby("band")
    assert table["gap"].iloc[1] == pytest.approx((rates.max() - rates.min()).max())
    assert table["gap"].iloc[0] < table["gap"].iloc[1]
    assert search.best_params_ == {"difference_bound": 0.02}
    best = search.best_estimator_
    assert pickle.loads(pickle.dumps(scorer))(best, X, y) == scorer(best, X, y)


def test_routing_hands_groups_to_models_and_scorers() -> None:
    X, y = people()
    group, X = X["group"], X[["a", "b"]]
    scorer = fair_scorer(difference_bound=0.1)
    with sklearn.config_context(enable_metadata_routing=True):
        model = plug_in().set_fit_request(sensitive_features=True)
        pipe = make_pipeline(StandardScaler(), model)
        grid = {"fairpluginclassifier__difference_bound": [0.02, 0.5]}
        search = GridSearchCV(pipe, grid, scoring=scorer, refit=best_feasible(scorer), cv=2)
        search.fit(X, y, sensitive_features=group)
        assert search.best_index_ == 0
        theirs = make_scorer(gap_score).set_score_request(sensitive_features=True)
        found = cross_validate(
            pipe, X, y, scoring=theirs, cv=2, params={"sensitive_features": group}
        )
        again = cross_validate(
            pipe, X, y, scoring=scorer, cv=2, params={"sensitive_features": group}
        )
        assert found["test_score"] == pytest.approx(again["test_gap"])
        assert CalibratedClassifierCV(model, cv=2).fit(X, y, sensitive_features=group)


def test_columns_named_in_constructors_need_no_routing() -> None:
    X, y = people()
    model = plug_in(sensitive_features="group")
    stacked = StackingClassifier([("fair", model)], LogisticRegression(), cv=2)
    calibrated = CalibratedClassifierCV(model, cv=2)
    scorer = fair_scorer(sensitive_features="group")
    for estimator in (make_pipeline(model), stacked, calibrated):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert 0 <= scorer(estimator.fit(X, y), X, y)["gap"] <= 1


def test_what_a_scorer_cannot_do_is_said_in_one_line() -> None:
    X, y = people(100)
    with pytest.raises(InvalidParameterError, match="fair_scorer got no groups: name columns"):
        fair_scorer()(Cut().fit(X, y), X, y)
    with pytest.raises(InvalidParameterError, match="objective must be"):
        fair_scorer(performance="money")
    with pytest.raises(InvalidParameterError, match="penalty must be"):
        fair_scorer(penalty=-1)
    with pytest.raises(InvalidDataError, match="groups= lack"):
        fair_scorer(groups=["u", "v"], sensitive_features="group")(Cut().fit(X, y), X, y)


def test_strata_may_be_features() -> None:
    X, y = people()
    X["band"] = (X["b"] > 0).astype(int)
    asked = DemographicParity(given="band", difference_bound=0.1)
    scorer = fair_scorer(asked, sensitive_features="group")
    decided = pd.Series((X["a"] > 0).astype(int))
    rates = decided.groupby([X["band"], X["group"]]).mean().groupby("band")
    widest = (rates.max() - rates.min()).max()
    assert scorer(Cut().fit(X, y), X, y)["gap"] == pytest.approx(widest)
