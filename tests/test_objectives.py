"""What is optimised by boosting and networks: trained to it, and chosen by it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit, log_expit
from sklearn.metrics import matthews_corrcoef, roc_auc_score

from fairtrain import (
    LagrangianBoostingClassifier,
    LagrangianFairnessTrainer,
    RegularizedFairnessTrainer,
)
from fairtrain.boosting.objective import Lagrangian
from fairtrain.constraints import ErrorCosts, as_objective
from fairtrain.constraints.objectives import binned
from fairtrain.exceptions import InvalidParameterError
from fairtrain.losses.base_loss import CostSensitiveLoss, mean_base_loss
from fairtrain.metrics.verdicts import Usefulness

pytestmark = pytest.mark.filterwarnings("ignore::fairtrain.exceptions.FairtrainWarning")


def people(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 2, n)
    X = rng.normal(size=(n, 2))
    X[:, 0] += 0.6 * group
    return X, (X.sum(axis=1) + rng.logistic(size=n) > 2).astype(int), group


def boosting(**settings: Any) -> Any:
    return LagrangianBoostingClassifier(
        max_depth=2, n_estimators=60, learning_rate=0.3, n_jobs=1, random_state=0, **settings
    )


def network(**settings: Any) -> Any:
    return LagrangianFairnessTrainer(max_epochs=8, random_state=0, **settings)


def penalised(**settings: Any) -> Any:
    settings["eta"] = 10 * (1 - settings.pop("difference_bound"))
    return RegularizedFairnessTrainer(max_epochs=8, random_state=0, **settings)


@pytest.mark.parametrize("make", [boosting, network, penalised])
def test_costs_move_decisions_and_leave_rates_alone(make: Any) -> None:
    X, y, group = people(4000, seed=0)
    new, truth, who = people(20_000, seed=1)
    cost = as_objective({"false_negative": 4})
    values = {}
    for objective in ("accuracy", {"false_negative": 4}):
        model = make(difference_bound=0.05, objective=objective)
        decided = model.fit(X, y, sensitive_features=group).predict(new)
        values[str(objective)] = cost(truth, decided)
        rates = [decided[who == g].mean() for g in (0, 1)]
        assert abs(rates[0] - rates[1]) < 0.12
    accurate, cheap = values.values()
    assert cheap > accurate + 0.02
    report = model.fairness_report_
    assert report.objective == "cost"
    assert f"; cost {-report.performance:.3f}" in report.explain()  # as it is paid
    said = model._said_of(Usefulness.NO_BETTER_THAN_CONSTANT)
    assert f"cost {-report.constant_worth:.3f}, this model {-report.worth:.3f}" in said
    assert report.performance > report.constant_performance
    assert report.to_dict()["objective"] == "cost"


@pytest.mark.parametrize("objective", ["auc", "balanced_accuracy", "f1", matthews_corrcoef])
@pytest.mark.parametrize("make", [boosting, network])
def test_the_best_that_keeps_the_bound_is_kept(make: Any, objective: Any) -> None:
    X, y, group = people(1500, seed=2)
    model = make(difference_bound=0.4, objective=objective).fit(X, y, sensitive_features=group)
    seen = model.history_
    kept = seen[seen["feasible"]].loc[6:]  # after the warm-up
    best = model.best_epoch_ if hasattr(model, "best_epoch_") else model.best_iteration_
    assert seen["held_objective"][best] >= kept["held_objective"].max() - 1e-9


@pytest.mark.parametrize("make", [boosting, network])
def test_reports_know_an_objective_of_scores(make: Any) -> None:
    X, y, group = people(600, seed=4)
    model = make(difference_bound=0.4, objective="auc").fit(X, y, sensitive_features=group)
    report = model.evaluate(X, y, sensitive_features=group)
    column = list(model.classes_).index(1)
    assert report.performance == pytest.approx(roc_auc_score(y, model.predict_proba(X)[:, column]))
    assert report.constant_performance == 0.5
    assert np.isfinite(model.fairness_report_.performance)


def test_regularised_training_refuses_what_would_do_nothing() -> None:
    X, y, group = people(300, seed=3)
    with pytest.raises(InvalidParameterError, match="use LagrangianFairnessTrainer"):
        penalised(difference_bound=0.1, objective="auc").fit(X, y, sensitive_features=group)
    three = np.arange(300) % 3
    with pytest.raises(InvalidParameterError, match="'f1' is about two classes"):
        network(objective="f1").fit(X, three, sensitive_features=group)
    words = np.where(y == 1, "yes", "no")
    for make in (boosting, network):
        with pytest.raises(InvalidParameterError, match="positive_label is missing"):
            make(constraints="error_rate_parity", objective="f1").fit(
                X, words, sensitive_features=group
            )


def test_losses_charge_what_errors_cost() -> None:
    rng = np.random.default_rng(0)
    margin, y = rng.normal(size=50), rng.integers(0, 2, 50).astype(float)
    costs, share = ErrorCosts(1, 4), float(y.mean())
    own = np.where(y == 1, costs.relative(share)[1], costs.relative(share)[0])
    assert own.mean() == pytest.approx(1)
    rows = Lagrangian([], y, np.full(50, -1))
    rows.charge(costs)
    gradient, hessian = rows.derivatives(margin, np.empty(0))
    p = expit(margin)
    np.testing.assert_allclose(gradient, own * (p - y))
    np.testing.assert_allclose(hessian, own * p * (1 - p))
    loss = CostSensitiveLoss(costs, share)
    z, t = torch.from_numpy(margin), torch.from_numpy(y)
    expected = own * -log_expit(np.where(y == 1, margin, -margin))
    assert float(mean_base_loss(loss, z, t)) == pytest.approx(expected.mean())
    weight = torch.from_numpy(rng.random(50))
    assert float(mean_base_loss(loss, z, t, weight)) == pytest.approx(
        np.average(expected, weights=weight.numpy())
    )


def test_sums_by_label_and_score_stand_for_rows() -> None:
    rng = np.random.default_rng(1)
    score, y, weight = rng.random(4000), rng.integers(0, 2, 4000).astype(float), rng.random(4000)
    bins = binned(y, score, score > 0.5, weight)
    auc = as_objective("auc").of_bins(bins)
    assert auc == pytest.approx(roc_auc_score(y, score, sample_weight=weight), abs=1e-3)
    for name in ("accuracy", "f1", "balanced_accuracy"):
        exact = as_objective(name)(y, score > 0.5, score, weight)
        assert as_objective(name).of_bins(bins) == pytest.approx(exact)
    assert np.isnan(as_objective("f1").of_bins(np.zeros_like(bins)))
