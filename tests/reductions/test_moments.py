"""The bincount moments against fairlearn's own."""

from __future__ import annotations

from typing import Any

import fairlearn.reductions as fl
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from tests.reductions.data import make_rows
from xgboost import XGBClassifier

from fairtrain import DemographicParity, EqualizedOdds, ReductionsWrapper
from fairtrain.constraints import as_constraints
from fairtrain.data.groups import Groups
from fairtrain.reductions.moments import BincountMoment
from fairtrain.reductions.oracle import Oracle

# fairlearn relies on behaviour that newer releases of pandas deprecate.
FAIRLEARN = pytest.mark.filterwarnings("ignore::DeprecationWarning")
NOTIONS = [
    fl.DemographicParity,
    fl.TruePositiveRateParity,
    fl.FalsePositiveRateParity,
    fl.EqualizedOdds,
    fl.ErrorRateParity,
]
BASES = {
    "lr": LogisticRegression(),
    "xgb": XGBClassifier(n_estimators=8, max_depth=3, n_jobs=1),
}


@FAIRLEARN
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("groups", [2, 8])
@pytest.mark.parametrize("bound", [{"difference_bound": 0.02}, {"ratio_bound": 0.9}])
@pytest.mark.parametrize("notion", NOTIONS)
def test_same_multipliers_weights_and_predictions_as_fairlearn(
    notion: Any, bound: dict[str, float], groups: int, base: str
) -> None:
    X, y, group = make_rows(800, groups)
    theirs = fl.ExponentiatedGradient(BASES[base], notion(**bound), max_iter=8)
    theirs.fit(X, y, sensitive_features=group)
    oracle = Oracle(BASES[base])
    ours = fl.ExponentiatedGradient(
        oracle, BincountMoment(as_constraints(notion(**bound))), max_iter=8
    )
    ours.fit(X, y, groups=Groups.from_sensitive(group))

    np.testing.assert_allclose(ours.lambda_vecs_EG_, theirs.lambda_vecs_EG_, atol=1e-9)
    np.testing.assert_allclose(ours.weights_.sort_index(), theirs.weights_.sort_index(), atol=1e-9)
    np.testing.assert_allclose(ours._pmf_predict(X), theirs._pmf_predict(X), atol=1e-9)


@FAIRLEARN
@pytest.mark.parametrize("base", BASES)
def test_the_wrapper_is_fairlearn_where_it_is_given_a_fairlearn_constraint(base: str) -> None:
    X, y, group = make_rows(1500, 3)
    theirs = fl.ExponentiatedGradient(BASES[base], fl.EqualizedOdds(difference_bound=0.05))
    theirs.fit(X, y, sensitive_features=group)
    ours = ReductionsWrapper(
        BASES[base], fl.EqualizedOdds(difference_bound=0.05), random_state=None
    ).fit(X, y, sensitive_features=group)
    np.testing.assert_allclose(ours.predict_proba(X), theirs._pmf_predict(X), atol=1e-9)
    assert ours.best_gap_ == pytest.approx(theirs.best_gap_, abs=1e-9)
    assert ours.n_oracle_calls_ == theirs.n_oracle_calls_
    assert ours.n_fits_ <= theirs.n_oracle_calls_ + 1


def test_gamma_and_weights_are_each_others_derivative() -> None:
    X, y, group = make_rows(400, 3)
    moment = BincountMoment([EqualizedOdds(difference_bound=0.1), DemographicParity()])
    moment.load_data(X, y, groups=Groups.from_sensitive(group))
    rng = np.random.default_rng(1)
    multipliers = rng.random(len(moment.index))
    decisions = rng.random(len(y))
    series = moment.bound() * 0 + multipliers
    slope = moment.signed_weights(series).to_numpy()
    direction = rng.normal(size=len(y))

    def lagrangian(step: float) -> float:
        return float(multipliers @ moment.gamma(lambda _: decisions + step * direction))

    numeric = (lagrangian(1e-3) - lagrangian(-1e-3)) / 2e-3
    assert numeric == pytest.approx(-slope @ direction / len(y), rel=1e-8)


@pytest.mark.parametrize(
    "constraint",
    [
        DemographicParity(difference_bound=0.1),
        DemographicParity(difference_bound=0.1, reference="overall"),
        DemographicParity(ratio_bound=0.8),
    ],
)
def test_projection_never_lowers_the_lagrangian(constraint: DemographicParity) -> None:
    X, y, group = make_rows(300, 4)
    moment = BincountMoment([constraint])
    moment.load_data(X, y, groups=Groups.from_sensitive(group))
    rng = np.random.default_rng(0)
    for _ in range(50):
        multipliers = moment.bound() * 0 + rng.exponential(size=len(moment.index))
        projected = moment.project_lambda(multipliers)
        decisions = (rng.random(len(y)) < rng.random()).astype(float)
        excess = moment.gamma(lambda _, d=decisions: d) - moment.bound()
        assert (projected >= -1e-12).all()
        assert projected @ excess >= multipliers @ excess - 1e-9


def test_sample_weights_equal_repeated_rows() -> None:
    X, y, group = make_rows(200, 3)
    times = np.random.default_rng(0).integers(1, 4, len(y))
    weighted, repeated = BincountMoment([EqualizedOdds()]), BincountMoment([EqualizedOdds()])
    groups = Groups.from_sensitive(group)
    weighted.load_data(X, y, groups=groups, sample_weight=times.astype(float))
    again = np.repeat(np.arange(len(y)), times)
    repeated.load_data(X[again], y[again], groups=groups.take(again))
    decisions = (X[:, 0] > 0).astype(float)
    np.testing.assert_allclose(
        weighted.gamma(lambda _: decisions), repeated.gamma(lambda _: decisions[again])
    )
