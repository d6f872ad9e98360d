"""One table of cases against every trainer: scikit-learn's rules and ours."""

from __future__ import annotations

import pickle
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator
from tests.supplied import Supplied
from tests.training.data import linear, make_rows

from fairtrain import (
    AdversarialDebiasingTrainer,
    BoundedGroupLoss,
    LagrangianFairnessTrainer,
    RegularizedFairnessTrainer,
)
from fairtrain.exceptions import (
    FairtrainError,
    InvalidDataError,
    InvalidParameterError,
)

QUICK = {"lr": 0.05, "batch_size": 128, "max_epochs": 4, "random_state": 0}
TRAINERS: dict[str, Any] = {
    "lagrangian": lambda **more: LagrangianFairnessTrainer(**{"module": linear, **QUICK, **more}),
    "regularized": lambda **more: RegularizedFairnessTrainer(**{"module": linear, **QUICK, **more}),
    "adversarial": lambda **more: AdversarialDebiasingTrainer(
        **{"module": linear, "leakage": "none", **QUICK, **more}
    ),
}
PROBED = {"leakage": "debiased"}  # takes longer than training; where it could show
X, Y, A = make_rows(600)
pytestmark = pytest.mark.filterwarnings("ignore::fairtrain.exceptions.FairtrainWarning")


@pytest.fixture(params=TRAINERS, scope="module")
def make(request):
    return TRAINERS[request.param]


@pytest.fixture(scope="module")
def fitted(make):
    """A trainer fitted to the rows, which no test may change."""
    return make().fit(X, Y, sensitive_features=A)


@pytest.fixture
def probed(make):
    return partial(make, **PROBED) if make is TRAINERS["adversarial"] else make


def test_fit_returns_self_and_reports(probed):
    trainer = probed()
    assert trainer.fit(X, Y, sensitive_features=A) is trainer
    assert trainer.classes_.tolist() == [0, 1]
    assert trainer.n_features_in_ == 4
    assert set(trainer.reports_) == {"training", "steering"}
    assert trainer.fairness_report_ is trainer.reports_["steering"]
    assert str(trainer.status_) in trainer.explain()
    assert is_classifier(trainer)
    assert not trainer.needs_sensitive_at_predict


def test_the_same_seed_gives_the_same_model_and_leaves_the_global_one_alone(probed):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = probed().fit(X, Y, sensitive_features=A)
    assert (torch.get_rng_state() == state).all()
    torch.manual_seed(6)
    second = probed().fit(X, Y, sensitive_features=A)
    assert (first.decision_function(X) == second.decision_function(X)).all()
    other = probed(random_state=1).fit(X, Y, sensitive_features=A)
    assert (first.decision_function(X) != other.decision_function(X)).any()


def test_a_module_is_copied_and_cloning_keeps_its_weights(make):
    module = linear(4, 1)
    before = module.weight.detach().clone()
    trainer = clone(make(module=module)).fit(X, Y, sensitive_features=A)
    assert (module.weight == before).all()
    assert (trainer.module.weight == before).all()
    assert trainer.module_ is not trainer.module
    assert not (trainer.module_.weight == before).all()
    assert not trainer.module_.training


def test_a_model_keeps_no_row(probed):
    canary = X.copy()
    canary[:, 0] = 123456.78125 + np.arange(len(X))
    trainer = probed(module=None).fit(canary, Y, sensitive_features=A)
    blob = pickle.dumps(trainer)
    marked = canary[:, 0]
    for kind in (np.float32, np.float64):
        assert not any(value.tobytes() in blob for value in marked.astype(kind))
    assert len(blob) < 120_000
    again = pickle.loads(blob)
    assert (again.predict(X) == trainer.predict(X)).all()


@pytest.mark.parametrize("kind", ["pandas", "polars", "tensor", "list"])
def test_rows_of_every_kind(make, fitted, kind):
    frame = pd.DataFrame(X, columns=list("abcd"))
    rows = {
        "pandas": frame, "polars": pl.DataFrame(X, schema=list("abcd")),
        "tensor": torch.from_numpy(X), "list": X.tolist(),
    }[kind]  # fmt: skip
    trainer = make().fit(rows, Y, sensitive_features=A)
    np.testing.assert_allclose(trainer.decision_function(rows), fitted.decision_function(X),
                               atol=1e-6)  # fmt: skip
    if kind in ("pandas", "polars"):
        assert trainer.feature_names_in_.tolist() == list("abcd")


def test_sensitive_columns_of_x_are_read_and_dropped(make):
    frame = pd.DataFrame(X, columns=list("abcd")).assign(race=A)
    inside = make(sensitive_features="race").fit(frame, Y)
    outside = make().fit(frame.drop(columns="race"), Y, sensitive_features=A)
    assert (inside.predict(frame) == outside.predict(frame.drop(columns="race"))).all()
    assert inside.n_features_in_ == 4
    assert cross_validate(make(sensitive_features="race"), frame, Y, cv=2)["test_score"].min() > 0.5
    with pytest.raises(InvalidParameterError, match="given twice"):
        make(sensitive_features="race").fit(frame, Y, sensitive_features=A)


def test_any_two_labels_and_the_favourable_one(make, fitted):
    labels = np.array(["deny", "approve"])[Y]
    trainer = make(positive_label="approve").fit(X, labels, sensitive_features=A)
    assert (trainer.predict(X) == np.array(["deny", "approve"])[fitted.predict(X)]).all()
    np.testing.assert_allclose(trainer.predict_proba(X)[:, 0], fitted.predict_proba(X)[:, 1])


def test_bounds_can_be_searched_with_routing(make):
    with config_context(enable_metadata_routing=True):
        trainer = make().set_fit_request(sensitive_features=True)
        pipeline = make_pipeline(StandardScaler(), trainer)
        name = f"{type(trainer).__name__.lower()}__difference_bound"
        search = GridSearchCV(pipeline, {name: [0.05, 0.5]}, cv=2)
        search.fit(X, Y, sensitive_features=A)
    assert search.best_score_ > 0.5


def test_weights_of_zero_leave_rows_out(make):
    weight = np.where(np.arange(600) < 400, 1.0, 0.0)
    weighted = make(validation_fraction=0.0).fit(X, Y, sensitive_features=A, sample_weight=weight)
    cut = make(validation_fraction=0.0).fit(X[:400], Y[:400], sensitive_features=A[:400])
    np.testing.assert_allclose(weighted.decision_function(X), cut.decision_function(X), atol=1e-4)


@pytest.mark.parametrize("epochs", [1, 20])
def test_a_network_that_gives_nan_is_never_fitted(make, epochs):
    class Broken(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x) * torch.nan

    trainer = make(module=Broken(4, 1), max_epochs=epochs)
    with pytest.raises(FairtrainError) as caught:
        trainer.fit(X, Y, sensitive_features=A)
    assert "\n" not in str(caught.value)
    with pytest.raises(NotFittedError):
        trainer.predict(X)


def test_weights_that_end_as_nan_are_named(make):
    class Hidden(torch.nn.Linear):  # what is NaN takes no part in decisions
        def __init__(self, n_features, n_outputs):
            super().__init__(n_features, n_outputs)
            self.unused = torch.nn.Parameter(torch.tensor(torch.nan))

    with pytest.raises(FairtrainError, match="NaN or infinity in 'unused'"):
        make(module=Hidden).fit(X, Y, sensitive_features=A)


def test_a_prediction_that_is_nan_is_no_decision(make):
    trainer = make(precision="32").fit(X, Y, sensitive_features=A)
    huge = np.full((3, 4), 3e38, dtype=np.float32) * [1, -1, 1, -1]
    trainer.module_.weight.data.fill_(3e38)
    with pytest.raises(FairtrainError, match="predictions are NaN or infinite"):
        trainer.predict(huge)
    with pytest.raises(FairtrainError, match="predictions are NaN or infinite"):
        trainer.evaluate(X, Y, sensitive_features=A)


def test_a_short_training_and_a_group_a_row_end_with_a_report(make):
    short = make(max_epochs=1, batch_size=None).fit(X[:240], Y[:240], sensitive_features=A[:240])
    assert set(short.reports_) == {"training", "steering"}
    alone = make(max_epochs=1).fit(X[:100], Y[:100], sensitive_features=np.arange(100))
    assert str(alone.status_) == "too_few_rows"
    assert "\n" in alone.explain()


def test_another_index_is_refused(make):
    frame = pd.DataFrame(X, columns=list("abcd"))
    order = np.random.default_rng(0).permutation(len(Y))
    shuffled = pd.Series(A)[order]
    for X_, y, who in ((frame, Y, shuffled), (X, pd.Series(Y), shuffled)):
        with pytest.raises(InvalidDataError, match="carries another index"):
            make().fit(X_, y, sensitive_features=who)
    trainer = make(max_epochs=1).fit(frame, Y, sensitive_features=A)
    with pytest.raises(InvalidDataError, match="carries another index"):
        trainer.evaluate(frame, Y, sensitive_features=shuffled)


def test_regression_is_a_regressor(make):
    target = X.sum(axis=1) + A
    bounded = BoundedGroupLoss(upper_bound=3.0, loss="squared")
    more = {"penalty": bounded} if make is TRAINERS["regularized"] else {}
    trainer = make(task="regression", constraints=bounded, **more)
    assert is_regressor(trainer)
    trainer.fit(X, target, sensitive_features=A)
    assert trainer.score(X, target) > 0.2
    assert not np.isfinite(trainer.fairness_report_.accuracy[0])
    with pytest.raises(AttributeError, match="belongs to classification"):
        trainer.predict_proba(X)


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_half_precision_trains(make, precision):
    trainer = make(precision=precision).fit(X, Y, sensitive_features=A)
    assert trainer.score(X, Y) > 0.6
    assert trainer.module_.weight.dtype == torch.float32


def linear64(features: int, outputs: int) -> torch.nn.Module:
    """In float32 a row's product may change in the last bit with the number of rows."""
    return torch.nn.Linear(features, outputs, dtype=torch.float64)


class SuppliedLagrangian(Supplied, LagrangianFairnessTrainer):
    pass


class SuppliedRegularized(Supplied, RegularizedFairnessTrainer):
    pass


class SuppliedAdversarial(Supplied, AdversarialDebiasingTrainer):
    pass


# One batch of all rows, so that a repeated row is the same as a doubled weight.
CHECKED = {
    "module": linear64,
    "batch_size": 1000,
    "max_epochs": 10,
    "lr": 0.3,
    "min_count": 1,
    "validation_fraction": 0.0,
    "random_state": 0,
}
CASES = [
    (estimator, check)
    for estimator in (
        SuppliedLagrangian(**CHECKED, difference_bound=0.5),
        SuppliedRegularized(**CHECKED, eta=0.1),
        SuppliedAdversarial(**CHECKED, strength=0.1, leakage="none"),
    )
    for estimator, check in estimator_checks_generator(estimator)
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.parametrize(
    ("estimator", "check"), CASES, ids=lambda v: getattr(v, "func", v).__class__.__name__
)
def test_check_estimator(estimator, check):
    check(estimator)
