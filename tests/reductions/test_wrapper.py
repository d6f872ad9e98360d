"""ReductionsWrapper as its users meet it."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import fairlearn.reductions as fl
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_validate
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from tests.reductions.data import make_rows

from fairtrain import (
    DemographicParity,
    EqualizedOdds,
    EqualOpportunity,
    RateParity,
    ReductionsWrapper,
    Verdict,
    gap,
)
from fairtrain.data.splits import stratified_folds
from fairtrain.exceptions import (
    ConstraintNotMetWarning,
    InvalidDataError,
    InvalidParameterError,
    MemorisationWarning,
    NearConstantWarning,
    StoredRowsWarning,
    UnseenGroupError,
)
from fairtrain.reductions.oracle import Oracle

QUIET = pytest.mark.filterwarnings("ignore::fairtrain.exceptions.ConstraintNotMetWarning")


@pytest.fixture
def routing() -> Iterator[None]:
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def fitted(**settings: Any) -> ReductionsWrapper:
    X, y, group = make_rows(1500, 2)
    settings = {"difference_bound": 0.1, "random_state": 0} | settings
    return ReductionsWrapper(LogisticRegression(), **settings).fit(X, y, sensitive_features=group)


# --- what is achieved -------------------------------------------------------------------------


@QUIET
def test_the_gap_shrinks_and_the_report_says_what_metrics_say() -> None:
    X, y, group = make_rows(3000, 3)
    model = ReductionsWrapper(LogisticRegression(), difference_bound=0.02, random_state=0)
    model.fit(X, y, sensitive_features=group)
    plain = LogisticRegression().fit(X, y).predict(X)
    share = model.predict_proba(X)[:, 1]
    achieved = gap(y, share, group).value
    assert achieved < 0.03 < gap(y, plain, group).value
    assert model.fairness_report_.results[0].achieved == pytest.approx(achieved)
    assert model.fairness_report_.rows == "training"
    assert model.status_ is model.fairness_report_.verdict


def test_steering_rows_keep_the_pairwise_bound_exactly() -> None:
    X, y, group = make_rows(4000, 4)
    model = ReductionsWrapper(
        LogisticRegression(), difference_bound=0.03, validation_fraction=0.3, random_state=0
    ).fit(X, y, sensitive_features=group)
    result = model.reports_["steering"].results[0]
    assert result.achieved <= 0.03 + 1e-8
    assert result.verdict is Verdict.NOT_CERTIFIED
    assert model.fairness_report_ is model.reports_["steering"]


@QUIET
def test_only_certification_rows_can_say_met() -> None:
    X, y, group = make_rows(20_000, 2)
    model = ReductionsWrapper(
        LogisticRegression(),
        difference_bound=0.1,
        validation_fraction=0.2,
        certification_fraction=0.4,
        random_state=0,
    ).fit(X, y, sensitive_features=group)
    verdicts = {role: report.verdict for role, report in model.reports_.items()}
    assert verdicts["training"] is not Verdict.MET
    assert verdicts["steering"] is Verdict.NOT_CERTIFIED
    assert model.fairness_report_.rows == "certification"
    fresh_X, fresh_y, fresh_group = make_rows(20_000, 2, seed=9)
    fresh = model.evaluate(fresh_X, fresh_y, sensitive_features=fresh_group)
    assert fresh.results[0].achieved < 0.15


def test_a_bound_that_fails_is_said_with_its_numbers() -> None:
    X, y, group = make_rows(600, 4)
    with pytest.warns(ConstraintNotMetWarning, match=r"differs by 0\.\d+.*at most 0\.001"):
        ReductionsWrapper(
            LogisticRegression(), difference_bound=0.001, max_iter=2, random_state=0
        ).fit(X, y, sensitive_features=group)


def test_leaning_on_constants_is_said() -> None:
    X, y, group = make_rows(600, 4)
    X = np.column_stack([group, X[:, 0]])  # every split that helps tells the groups apart
    stump = DecisionTreeClassifier(max_depth=1, random_state=0)
    y = np.where(np.arange(600) % 10 == 0, 1 - group % 2, group % 2)
    with pytest.warns(NearConstantWarning, match="constant classifier"):
        model = ReductionsWrapper(
            stump, difference_bound=0.001, validation_fraction=0.4, max_iter=1, random_state=0
        ).fit(X, y, sensitive_features=group)
    assert model.constant_weight_ > 0.5


@QUIET
def test_deterministic_is_another_classifier_with_its_own_report() -> None:
    X, y, group = make_rows(2000, 3)
    drawn, decided = (
        ReductionsWrapper(
            LogisticRegression(), difference_bound=0.02, deterministic=d, random_state=0
        ).fit(X, y, sensitive_features=group)
        for d in (False, True)
    )
    np.testing.assert_array_equal(drawn.predict_proba(X), decided.predict_proba(X))
    share = decided.predict_proba(X)[:, 1]
    np.testing.assert_array_equal(decided.predict(X), (share > 0.5).astype(int))
    hard = gap(y, decided.predict(X), group).value
    assert decided.fairness_report_.results[0].achieved == pytest.approx(hard)
    assert 0 < (drawn.predict(X) != decided.predict(X)).mean() < 0.5


# --- randomised decisions ---------------------------------------------------------------------


@QUIET
def test_a_decision_depends_neither_on_the_batch_nor_on_the_call() -> None:
    X, _, _ = make_rows(1500, 2)
    model = fitted(difference_bound=0.01)
    whole = model.predict(X)
    np.testing.assert_array_equal(whole, model.predict(X))
    np.testing.assert_array_equal(whole[7:8], model.predict(X[7:8]))
    np.testing.assert_array_equal(whole[::-1], model.predict(X[::-1]))
    share = model.predict_proba(X)[:, 1]
    assert whole.mean() == pytest.approx(share.mean(), abs=0.03)


@QUIET
def test_same_seed_same_model_and_another_seed_other_draws() -> None:
    X, _, _ = make_rows(1500, 2)
    first, again, other = (fitted(difference_bound=0.01, random_state=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.predict(X), again.predict(X))
    assert (first.predict(X) != other.predict(X)).any()


# --- labels, groups, input --------------------------------------------------------------------


@QUIET
def test_labels_may_be_words_and_the_favourable_one_is_named() -> None:
    X, y, group = make_rows(1000, 2)
    words = np.where(y == 1, "approve", "deny")
    named = ReductionsWrapper(
        LogisticRegression(),
        EqualOpportunity(difference_bound=0.05),
        positive_label="approve",
        random_state=0,
    ).fit(X, words, sensitive_features=group)
    numbers = clone(named).set_params(positive_label=None).fit(X, y, sensitive_features=group)
    assert named.classes_.tolist() == ["approve", "deny"]
    np.testing.assert_allclose(named.predict_proba(X)[:, 0], numbers.predict_proba(X)[:, 1])
    assert set(named.predict(X)) <= {"approve", "deny"}
    assert "'approve'" in named.explain()


def test_a_notion_that_depends_on_the_favourable_label_asks_for_it() -> None:
    X, y, group = make_rows(300, 2)
    words = np.where(y == 1, "approve", "deny")
    with pytest.raises(InvalidParameterError, match="positive_label is missing"):
        ReductionsWrapper(LogisticRegression(), "equal_opportunity").fit(
            X, words, sensitive_features=group
        )


@QUIET
@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_sensitive_columns_inside_the_frame_are_read_and_dropped(frame: Any) -> None:
    X, y, group = make_rows(800, 2)
    table = {f"x{i}": X[:, i] for i in range(5)} | {"race": np.where(group == 1, "b", "w")}
    inside = ReductionsWrapper(LogisticRegression(), sensitive_features="race", random_state=0).fit(
        frame(table), y
    )
    outside = ReductionsWrapper(LogisticRegression(), random_state=0).fit(
        frame(table)[[f"x{i}" for i in range(5)]],
        y,
        sensitive_features=table["race"],
    )
    assert inside.feature_names_in_.tolist() == [f"x{i}" for i in range(5)]
    features = frame(table)[[f"x{i}" for i in range(5)]]
    np.testing.assert_array_equal(inside.predict(frame(table)), outside.predict(features))
    assert not inside.needs_sensitive_at_predict


@QUIET
def test_a_permuted_index_is_refused() -> None:
    X, y, group = make_rows(800, 2)
    frame, who = pd.DataFrame(X, columns=list("abcde")), pd.Series(group, name="g")
    shuffled = who.sample(frac=1, random_state=3)
    model = ReductionsWrapper(LogisticRegression(), random_state=0)
    for other in (shuffled, who.set_axis(who.index + 5)):
        with pytest.raises(InvalidDataError, match="sensitive_features carries another index"):
            model.fit(frame, y, sensitive_features=other)
    # A shuffled frame with a fresh index beside labels that kept theirs: who is who?
    mixed = frame.sample(frac=1, random_state=0).reset_index(drop=True)
    with pytest.raises(InvalidDataError, match="y carries another index than X"):
        model.fit(mixed, pd.Series(y).sample(frac=1, random_state=0), sensitive_features=who)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"y": np.zeros(200)}, InvalidDataError, "two classes, found 1 class"),
        ({"y": np.arange(200) % 3}, InvalidDataError, "Only binary classification"),
        ({"sensitive_features": None}, InvalidDataError, "sensitive_features is missing"),
        ({"sensitive_features": np.zeros(200)}, InvalidDataError, "at least two groups"),
        ({"sensitive_features": [None] * 200}, InvalidDataError, "missing='group'"),
        ({"sensitive_features": np.zeros(7)}, InvalidDataError, "7 rows, expected 200"),
        ({"sample_weight": -np.ones(200)}, InvalidDataError, "not negative"),
    ],
)
def test_bad_rows_get_one_clear_line(
    change: dict[str, Any], error: type[Exception], says: str
) -> None:
    X, y, group = make_rows(200, 2)
    rows = {"y": y, "sensitive_features": group, "sample_weight": None} | change
    with pytest.raises(error, match=says) as caught:
        ReductionsWrapper(LogisticRegression()).fit(X, **rows)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"difference_bound": 2.0}, r"difference_bound must lie in \[0, 1\]"),
        ({"difference_bound": 0.1, "ratio_bound": 0.8}, "not both"),
        ({"constraints": "demographic parrot"}, "unknown constraint"),
        ({"eps": 0}, "eps must be a number above 0"),
        ({"validation_fraction": 0.6, "certification_fraction": 0.5}, "leaves no row"),
        ({"estimator": KNeighborsClassifier()}, "takes no sample_weight"),
        ({"cv": 1}, "cv must be a whole number >= 2 or a splitter or None"),
        ({"cv": 3, "validation_fraction": 0.2}, "cv and validation_fraction both say"),
        ({"cv": [(np.arange(100), np.arange(100, 200))]}, "hold every row out exactly once"),
        ({"cv": [(np.arange(200), np.arange(200))]}, "on no row that it holds out"),
        ({"cv": []}, "hold every row out exactly once"),
    ],
)
def test_bad_settings_get_one_clear_line(settings: dict[str, Any], says: str) -> None:
    X, y, group = make_rows(200, 2)
    model = ReductionsWrapper(LogisticRegression()).set_params(**settings)
    with pytest.raises(InvalidParameterError, match=says):
        model.fit(X, y, sensitive_features=group)


@QUIET
def test_evaluate_rejects_groups_and_labels_that_fit_never_saw() -> None:
    X, y, group = make_rows(300, 2)
    model = fitted()
    with pytest.raises(UnseenGroupError, match="never saw"):
        model.evaluate(X, y, sensitive_features=group + 5)
    with pytest.raises(InvalidDataError, match="label"):
        model.evaluate(X, y + 7, sensitive_features=group)


def test_a_group_without_positives_is_left_out_of_true_positive_rates() -> None:
    X, y, group = make_rows(900, 3)
    y = np.where(group == 2, 0, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstraintNotMetWarning)
        model = ReductionsWrapper(LogisticRegression(), "equal_opportunity", random_state=0)
        model.fit(X, y, sensitive_features=group)
    assert set(model.fairness_report_.results[0].counts) == {"0", "1"}
    with pytest.raises(InvalidDataError, match="at least two groups"):
        model.fit(X, np.where(group > 0, 0, y), sensitive_features=group)


# --- constraints ------------------------------------------------------------------------------


def missed(y: Any, prediction: Any) -> Any:
    return y * (1 - prediction)


@QUIET
def test_lists_and_constraints_of_ones_own() -> None:
    X, y, group = make_rows(1500, 4)
    who = {"race": group // 2, "sex": group % 2}
    model = ReductionsWrapper(
        LogisticRegression(),
        [
            DemographicParity(difference_bound=0.03, over="race"),
            EqualizedOdds(difference_bound=0.2),
            RateParity(quantity=missed, label="missed", difference_bound=0.1, over="sex"),
        ],
        validation_fraction=0.3,
        random_state=0,
    ).fit(X, y, sensitive_features=who)
    results = model.reports_["steering"].results
    assert [r.constraint for r in results] == [
        "demographic_parity over race",
        "equalized_odds",
        "missed over sex",
    ]
    for result in results:
        assert result.achieved <= result.bound + 1e-8
    pickle.loads(pickle.dumps(model))


@QUIET
def test_a_bound_next_to_a_fairlearn_object_keeps_its_meaning() -> None:
    X, y, group = make_rows(800, 3)
    moved = ReductionsWrapper(
        LogisticRegression(), fl.DemographicParity(difference_bound=0.3), difference_bound=0.05
    ).fit(X, y, sensitive_features=group)
    given = ReductionsWrapper(
        LogisticRegression(), fl.DemographicParity(difference_bound=0.05)
    ).fit(X, y, sensitive_features=group)
    assert moved.constraints_ == given.constraints_
    assert moved.constraints_[0].reference == "overall"
    np.testing.assert_array_equal(moved.predict_proba(X), given.predict_proba(X))


def test_refitting_does_not_keep_a_stale_nu() -> None:
    model = fitted()
    assert model.nu is None
    assert clone(model).nu is None


# --- scikit-learn's machinery -----------------------------------------------------------------


@QUIET
@pytest.mark.usefixtures("routing")
def test_grid_search_over_the_bound_with_routing_on() -> None:
    X, y, group = make_rows(600, 2)
    model = ReductionsWrapper(LogisticRegression(), max_iter=5, random_state=0)
    search = GridSearchCV(
        model.set_fit_request(sensitive_features=True), {"difference_bound": [0.02, 0.3]}, cv=2
    ).fit(X, y, sensitive_features=group)
    assert search.best_params_["difference_bound"] == 0.3
    assert search.predict(X).shape == (600,)


@QUIET
def test_grid_search_with_routing_off_and_groups_inside_the_frame() -> None:
    X, y, group = make_rows(600, 2)
    frame = pd.DataFrame(X, columns=list("abcde")).assign(g=group)
    model = ReductionsWrapper(
        LogisticRegression(), sensitive_features="g", max_iter=5, random_state=0
    )
    search = GridSearchCV(model, {"difference_bound": [0.02, 0.3]}, cv=2).fit(frame, y)
    assert search.best_params_["difference_bound"] == 0.3
    scores = cross_validate(model, frame, y, cv=2, scoring=["accuracy", "roc_auc"])
    assert (scores["test_accuracy"] > 0.6).all()


@QUIET
@pytest.mark.parametrize("routed", [False, True])
def test_a_pipeline_gets_its_weights_without_being_told(routed: bool) -> None:
    X, y, group = make_rows(600, 2)
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": np.where(X[:, 2] > 0, "u", "v")})
    pipe = make_pipeline(
        make_column_transformer((StandardScaler(), ["a", "b"]), (OneHotEncoder(), ["c"])),
        StandardScaler(with_mean=False),
        LogisticRegression(),
    )
    with sklearn.config_context(enable_metadata_routing=routed):
        model = ReductionsWrapper(pipe, difference_bound=0.05, max_iter=6, random_state=0)
        share = model.fit(frame, y, sensitive_features=group).predict_proba(frame)[:, 1]
    assert gap(y, share, group).value < 0.1
    assert pipe[-1].get_metadata_routing().fit.requests.get("sample_weight") is None


@QUIET
@pytest.mark.usefixtures("routing")
def test_inside_a_pipeline_with_routing() -> None:
    X, y, group = make_rows(600, 2)
    model = ReductionsWrapper(LogisticRegression(), max_iter=5, random_state=0)
    pipe = make_pipeline(StandardScaler(), model.set_fit_request(sensitive_features=True))
    pipe.fit(X, y, sensitive_features=group)
    assert pipe.score(X, y) > 0.6


class CountingTree(ClassifierMixin, BaseEstimator):
    """A full tree that counts its fits."""

    fits = 0

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> CountingTree:
        type(self).fits += 1
        self.tree_ = DecisionTreeClassifier(random_state=0).fit(X, y, sample_weight)
        self.classes_ = self.tree_.classes_
        return self

    def predict(self, X: Any) -> Any:
        return self.tree_.predict(X)


def test_an_interpolating_base_is_told_after_one_fit() -> None:
    X, y, group = make_rows(400, 2)
    CountingTree.fits = 0
    with pytest.warns(MemorisationWarning, match="reproduces every training label"):
        ReductionsWrapper(CountingTree(), "equalized_odds").fit(X, y, sensitive_features=group)
    assert CountingTree.fits <= 2


def test_estimators_that_keep_rows_are_named() -> None:
    X, y, group = make_rows(400, 2)
    with pytest.warns(StoredRowsWarning, match="KNeighborsClassifier keeps training rows"):
        ReductionsWrapper(
            KNeighborsClassifier(25), difference_bound=0.3, resample=True, random_state=0
        ).fit(X, y, sensitive_features=group)


@QUIET
def test_no_training_row_is_in_the_pickle() -> None:
    X, y, group = make_rows(1000, 2)
    canary = 1234.5678901234
    X[:, 0] = np.where(np.arange(1000) == 500, canary, X[:, 0])
    frame = pd.DataFrame(X, columns=list("abcde"))
    model = ReductionsWrapper(
        LogisticRegression(max_iter=500), validation_fraction=0.2, random_state=0
    ).fit(frame, y, sensitive_features=pd.Series(group, name="g"))
    saved = pickle.dumps(model)
    assert np.float64(canary).tobytes() not in saved
    assert len(saved) < 40_000
    assert len(saved) == pytest.approx(len(pickle.dumps(fitted())), abs=20_000)
    np.testing.assert_array_equal(pickle.loads(saved).predict(frame), model.predict(frame))
    longest = max(
        (np.size(v) for v in vars(model).values() if isinstance(v, np.ndarray)), default=0
    )
    assert longest < 100


@QUIET
def test_history_tells_how_it_went() -> None:
    X, y, group = make_rows(1500, 3)
    model = ReductionsWrapper(
        LogisticRegression(), fl.DemographicParity(difference_bound=0.02), random_state=0
    ).fit(X, y, sensitive_features=group)
    history = model.history_
    assert len(history) == model.n_iter_ <= model.n_oracle_calls_
    assert history["best_gap"].is_monotonic_decreasing
    assert history["gap"].iloc[-1] < history["gap"].iloc[0]
    assert history.filter(like="multiplier").shape[1] == 6
    assert (history.filter(like="multiplier") >= 0).all(axis=None)
    assert model.best_gap_ <= history["best_gap"].iloc[-1] + 1e-9


@QUIET
def test_sample_weight_counts_in_error_and_rates() -> None:
    X, y, group = make_rows(600, 2)
    times = np.random.default_rng(0).integers(0, 3, len(y))
    again = np.repeat(np.arange(len(y)), times)
    weighted = ReductionsWrapper(LogisticRegression(), difference_bound=0.05, random_state=0).fit(
        X, y, sensitive_features=group, sample_weight=times
    )
    repeated = ReductionsWrapper(LogisticRegression(), difference_bound=0.05, random_state=0).fit(
        X[again], y[again], sensitive_features=group[again]
    )
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-6)
    assert weighted.fairness_report_.results[0].achieved == pytest.approx(
        repeated.fairness_report_.results[0].achieved
    )


# --- out-of-fold decisions ----------------------------------------------------------------------


@QUIET
def test_with_cv_out_of_fold_decisions_keep_the_bound_and_every_row_trains() -> None:
    X, y, group = make_rows(1500, 3)
    settings = {"difference_bound": 0.03, "max_iter": 10, "random_state": 0}
    tree = DecisionTreeClassifier(random_state=0)  # memorises, so that training rows say nothing
    model = ReductionsWrapper(tree, cv=3, **settings).fit(X, y, sensitive_features=group)
    assert list(model.reports_) == ["steering"]
    assert model.fairness_report_.n_rows == 1500
    assert model.fairness_report_.results[0].achieved <= 0.03 + 1e-8
    assert model.fairness_report_.verdict is not Verdict.MET
    assert "certify nothing" in model.explain()
    assert sum(p.tree_.n_node_samples[0] for p in model.predictors_) == 1500 * len(
        model.predictors_
    )
    fresh_X, fresh_y, fresh_group = make_rows(20_000, 3, seed=5)
    unseen = model.evaluate(fresh_X, fresh_y, sensitive_features=fresh_group)
    with pytest.warns(MemorisationWarning):
        plain = ReductionsWrapper(tree, **settings).fit(X, y, sensitive_features=group)
    before = plain.evaluate(fresh_X, fresh_y, sensitive_features=fresh_group)
    assert unseen.results[0].achieved < 0.7 * before.results[0].achieved


@QUIET
def test_held_out_decisions_are_those_of_twins_on_the_same_problem() -> None:
    X, y, _ = make_rows(300, 2)
    weights = np.random.default_rng(0).uniform(0.5, 2, 300)
    folds = stratified_folds([y], 3, np.random.RandomState(0))
    oracle = Oracle(LogisticRegression(), folds=folds).fit(X, y, weights)
    for training, held in folds:
        twin = LogisticRegression().fit(X[training], y[training], weights[training])
        np.testing.assert_array_equal(oracle.predict(X)[held], twin.predict(X[held]))
    whole = LogisticRegression().fit(X, y, weights)
    np.testing.assert_allclose(oracle.model.coef_, whole.coef_)
    assert oracle.n_fits == 4


@QUIET
def test_cv_leaves_certification_rows_alone_and_takes_a_splitter() -> None:
    X, y, group = make_rows(1200, 2)
    model = ReductionsWrapper(
        LogisticRegression(),
        difference_bound=0.1,
        cv=StratifiedKFold(2),
        certification_fraction=0.25,
        max_iter=5,
        random_state=0,
    ).fit(X, y, sensitive_features=group)
    assert list(model.reports_) == ["steering", "certification"]
    assert [model.reports_[r].n_rows for r in model.reports_] == [900, 300]
    majority = clone(model).set_params(deterministic=True).fit(X, y, sensitive_features=group)
    assert set(np.unique(majority.decision_proba(X))) == {0.0, 1.0}


class Returning(BaseEstimator, ClassifierMixin):
    """A learner whose ``fit`` returns nothing and takes weights among any options."""

    def fit(self, X: Any, y: Any, **options: Any) -> None:
        self.classes_ = np.unique(y)
        self.inner_ = LogisticRegression().fit(X, y, **options)

    def predict(self, X: Any) -> Any:
        return self.inner_.predict(X)


@QUIET
@pytest.mark.parametrize("cv", [None, 2])
def test_fit_may_return_nothing_and_take_weights_among_options(cv: Any) -> None:
    X, y, group = make_rows(600, 2)
    settings = {"difference_bound": 0.05, "cv": cv, "max_iter": 5, "random_state": 0}
    model = ReductionsWrapper(Returning(), **settings).fit(X, y, sensitive_features=group)
    same = ReductionsWrapper(LogisticRegression(), **settings).fit(X, y, sensitive_features=group)
    np.testing.assert_allclose(model.predict_proba(X), same.predict_proba(X), atol=1e-9)


@QUIET
def test_fairlearn_s_bookkeeping_is_one_object_that_is_not_saved() -> None:
    X, y, group = make_rows(800, 2)
    constraint = fl.DemographicParity(difference_bound=0.02)
    model = ReductionsWrapper(LogisticRegression(), constraint, max_iter=8, random_state=0)
    model.fit(X, y, sensitive_features=group)
    theirs = fl.ExponentiatedGradient(LogisticRegression(), constraint, max_iter=8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        theirs.fit(X, y, sensitive_features=group)
    run = model.exponentiated_gradient_
    for name in ("best_iter_", "last_iter_", "n_oracle_calls_", "n_oracle_calls_dummy_returned_"):
        assert getattr(run, name) == getattr(theirs, name)
    assert run.nu == pytest.approx(theirs.nu)
    assert run.best_gap_ == pytest.approx(theirs.best_gap_, abs=1e-9)
    assert len(run.predictors_) == len(theirs.predictors_) == len(run.weights_)
    np.testing.assert_allclose(run.weights_, theirs.weights_.sort_index(), atol=1e-9)
    for name in ("lambda_vecs_", "lambda_vecs_EG_", "lambda_vecs_LP_"):
        np.testing.assert_allclose(getattr(run, name), getattr(theirs, name), atol=1e-9)
    loaded = pickle.loads(pickle.dumps(model))
    assert not hasattr(loaded, "exponentiated_gradient_")
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
