"""Whatever fairlearn's reductions take, ours take: any moment, its objective, its losses."""

from __future__ import annotations

import pickle
from typing import Any

import fairlearn.reductions as fl
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from tests.reductions.data import make_rows
from tests.reductions.test_regressor import make_values

from fairtrain import (
    DemographicParity,
    ErrorCosts,
    FairPlugInClassifier,
    ReductionsRegressor,
    ReductionsWrapper,
    Verdict,
    fairness_report,
)
from fairtrain.constraints import MomentConstraint, as_constraints, from_fairlearn
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

# fairlearn relies on behaviour that newer releases of pandas deprecate.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::fairtrain.exceptions.ConstraintNotMetWarning"),
]


class CostParity(fl.UtilityParity):  # type: ignore[misc]
    """Utilities and events of one's own: a missed favourable label costs 2, only of even rows."""

    def load_data(self, X: Any, y: Any, *, sensitive_features: Any, **more: Any) -> None:
        y = pd.Series(np.asarray(y))
        event = pd.Series(np.where(np.arange(len(y)) % 2, None, "even"))
        utilities = np.column_stack([2.0 * y, np.zeros(len(y))])
        groups = pd.Series(np.asarray(sensitive_features))
        super().load_data(X, y, sensitive_features=groups, event=event, utilities=utilities)


class OwnLoss(fl.BoundedGroupLoss):  # type: ignore[misc]
    """A subclass, which fairlearn runs as it is."""


OWN = [CostParity(difference_bound=0.05), CostParity(ratio_bound=0.9, ratio_bound_slack=0.02)]


@pytest.mark.parametrize("moment", OWN)
def test_any_moment_runs_as_in_fairlearn(moment: Any) -> None:
    X, y, group = make_rows(600, 3)
    theirs = fl.ExponentiatedGradient(LogisticRegression(), moment, max_iter=8, nu=1e-3)
    theirs.fit(X, y, sensitive_features=group)
    model = ReductionsWrapper(LogisticRegression(), moment, max_iter=8, nu=1e-3, random_state=0)
    model.fit(X, y, sensitive_features=group)
    np.testing.assert_allclose(model.predict_proba(X), theirs._pmf_predict(X), atol=1e-9)
    run = model.exponentiated_gradient_
    pd.testing.assert_frame_equal(run.lambda_vecs_, theirs.lambda_vecs_)
    assert run.best_gap_ == pytest.approx(theirs.best_gap_)
    assert len(model.history_) == model.n_iter_


def test_a_moment_is_judged_by_its_gamma_and_certifies_nothing() -> None:
    X, y, group = make_rows(1500, 3)
    model = ReductionsWrapper(
        LogisticRegression(),
        CostParity(difference_bound=0.05),
        validation_fraction=0.3,
        certification_fraction=0.3,
        max_iter=8,
        random_state=0,
    ).fit(X, y, sensitive_features=group)
    steering = model.reports_["steering"].results[0]
    assert steering.achieved <= 0.05 + 1e-8
    assert steering.verdict is Verdict.NOT_CERTIFIED
    fresh = make_rows(1500, 3, seed=4)
    judged = model.evaluate(*fresh[:2], sensitive_features=fresh[2]).results[0]
    loaded = CostParity(difference_bound=0.05)
    loaded.load_data(fresh[0], fresh[1], sensitive_features=fresh[2])
    share = model.decision_proba(fresh[0])[:, 1]
    assert judged.achieved == pytest.approx(loaded.gamma(lambda _: share).max())
    assert judged.verdict is not Verdict.MET
    assert "no limits, so nothing can be certified" in model.explain()
    by_hand = fairness_report(
        fresh[1], share, fresh[2], CostParity(difference_bound=0.05), positive_label=1
    )
    assert by_hand.results[0].achieved == pytest.approx(judged.achieved)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def test_a_loss_moment_of_ones_own_runs_as_in_fairlearn() -> None:
    X, y, group = make_values(300)
    asked = OwnLoss(fl.SquareLoss(0, 1), upper_bound=0.05)
    theirs = fl.ExponentiatedGradient(LinearRegression(), asked, max_iter=6, nu=1e-3)
    theirs.fit(X, y, sensitive_features=group)
    model = ReductionsRegressor(LinearRegression(), asked, max_iter=6, nu=1e-3)
    run = model.fit(X, y, sensitive_features=group).exponentiated_gradient_
    np.testing.assert_allclose(run.weights_, theirs.weights_.sort_index(), atol=1e-9)
    np.testing.assert_allclose(run.lambda_vecs_, theirs.lambda_vecs_, atol=1e-9)
    assert model.fairness_report_.group_rates["rate"].notna().all()


COSTS = {"fp": 1.0, "fn": 3.0}


@pytest.mark.parametrize("constraint", [fl.EqualizedOdds(difference_bound=0.05), OWN[0]])
@pytest.mark.parametrize(
    "objective",
    [fl.ErrorRate(costs=COSTS), {"false_negative": 3}, ErrorCosts(1, 3)],
)
def test_costs_are_those_of_fairlearn(constraint: Any, objective: Any) -> None:
    X, y, group = make_rows(500, 2)
    theirs = fl.ExponentiatedGradient(
        LogisticRegression(),
        constraint,
        objective=fl.ErrorRate(costs=COSTS),
        max_iter=6,
        nu=1e-3,
    ).fit(X, y, sensitive_features=group)
    model = ReductionsWrapper(
        LogisticRegression(), constraint, objective=objective, max_iter=6, nu=1e-3
    ).fit(X, y, sensitive_features=group)
    np.testing.assert_allclose(model.predict_proba(X), theirs._pmf_predict(X), atol=1e-9)
    assert model.best_gap_ == pytest.approx(theirs.best_gap_)


def test_costs_move_steering_and_ask_for_the_favourable_label() -> None:
    X, y, group = make_rows(1500, 2)
    settings = {"difference_bound": 0.1, "validation_fraction": 0.4, "random_state": 0}
    selected = []
    for costs in ("accuracy", {"false_positive": 5}, {"false_negative": 5}):
        model = ReductionsWrapper(LogisticRegression(), objective=costs, **settings)
        model.fit(X, y, sensitive_features=group)
        selected.append(model.fairness_report_.selection_rate)
    assert selected[1] < selected[0] < selected[2]
    assert np.isnan(model.fairness_report_.constant_accuracy)
    words = np.where(y, "yes", "no")
    with pytest.raises(InvalidParameterError, match="positive_label is missing"):
        ReductionsWrapper(
            LogisticRegression(), "error_rate_parity", objective={"false_negative": 2}
        ).fit(X, words, sensitive_features=group)
    with pytest.raises(InvalidParameterError, match="objective must be"):
        ReductionsWrapper(LogisticRegression(), objective="auc").fit(X, y, sensitive_features=group)


class Nothing(fl.ClassificationMoment):  # type: ignore[misc]
    """A moment that says nothing."""


def test_what_cannot_be_said_gets_one_line() -> None:
    X, y, group = make_rows(100, 2)
    for asked, says in [
        (fl.UtilityParity(), "override it in a subclass"),
        (fl.ErrorRate(), "ErrorRate asks for nothing"),
        (Nothing(), "Nothing asks for nothing"),
        ([OWN[0], "demographic_parity"], "stands alone"),
    ]:
        with pytest.raises(InvalidParameterError, match=says):
            ReductionsWrapper(LogisticRegression(), asked).fit(X, y, sensitive_features=group)
    with pytest.raises(InvalidParameterError, match="only ReductionsWrapper trains under it"):
        FairPlugInClassifier(LogisticRegression(), OWN[0]).fit(X, y, sensitive_features=group)
    with pytest.raises(InvalidDataError, match="counts every row once"):
        ReductionsWrapper(LogisticRegression(), OWN[0]).fit(
            X, y, sensitive_features=group, sample_weight=1 + y
        )
    for told in ({"over": "sex"}, {"given": "band"}, {"weights": {"a": 2}}):
        with pytest.raises(InvalidParameterError, match=f"{next(iter(told))} is not for a moment"):
            MomentConstraint(moment=CostParity(), **told)
    used = CostParity()
    used.load_data(X, y, sensitive_features=group)
    with pytest.raises(InvalidParameterError, match="has rows loaded already"):
        as_constraints(used, moments=True)


@pytest.mark.parametrize(
    ("loss", "read"),
    [
        (fl.ZeroOneLoss(), "zero_one"),
        (fl.AbsoluteLoss(0, 1), "absolute"),
        (fl.SquareLoss(0, 1), "squared"),
        (fl.SquareLoss(-1, 3), None),
    ],
)
def test_losses_of_fairlearn_there_and_back(loss: Any, read: str | None) -> None:
    asked = from_fairlearn(fl.BoundedGroupLoss(loss, upper_bound=0.3))
    if read is not None:
        assert asked.loss == read  # type: ignore[attr-defined]
    back = asked.to_fairlearn().reduction_loss
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 2, 50).astype(float), rng.random(50)
    np.testing.assert_allclose(back.eval(y, p), loss.eval(y, p))
    np.testing.assert_allclose(
        from_fairlearn(fl.BoundedGroupLoss(loss, upper_bound=1), values=True)
        .rates[0]
        .quantity(5 * p - 2, 4 * y - 1),
        loss.eval(5 * p - 2, 4 * y - 1),
    )


def test_ours_stay_ours() -> None:
    assert as_constraints(fl.DemographicParity(), moments=True)[0] == DemographicParity(
        difference_bound=0.01, reference="overall"
    )


@pytest.mark.filterwarnings("ignore::fairtrain.exceptions.FairtrainWarning")
def test_the_baseline_is_judged_by_the_same_objective() -> None:
    X, y, group = make_rows(600, 2)
    model = ReductionsWrapper(
        LogisticRegression(), difference_bound=0.05, objective={"false_negative": 3}, max_iter=5
    ).fit(X, y, sensitive_features=group)
    assert model.baseline_report_.objective == model.fairness_report_.objective == "cost"
    assert model.baseline_report_.worth <= 0
