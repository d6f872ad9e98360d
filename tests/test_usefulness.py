"""A model that a constant, or no constraint at all, would beat is never returned in silence."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import fairtrain
from fairtrain.data.groups import Groups
from fairtrain.data.labels import LabelCoding
from fairtrain.data.rows import Rows
from fairtrain.exceptions import NearConstantWarning, UselessModelWarning
from fairtrain.metrics.outcomes import report_on_classes

METHODS = {
    "reductions": lambda: fairtrain.ReductionsWrapper(LogisticRegression(), random_state=0),
    "boosting": lambda: fairtrain.LagrangianBoostingClassifier(n_estimators=3, random_state=0),
    "plug-in": lambda: fairtrain.FairPlugInClassifier(LogisticRegression(), cv=2, random_state=0),
    "network": lambda: fairtrain.LagrangianFairnessTrainer(max_epochs=2, random_state=0),
    "penalty": lambda: fairtrain.RegularizedFairnessTrainer(max_epochs=2, random_state=0),
    "adversary": lambda: fairtrain.AdversarialDebiasingTrainer(max_epochs=2, random_state=0),
}


def noise(n: int = 900, seed: int = 0) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 3)), (rng.uniform(size=n) < 0.2).astype(int), rng.integers(0, 2, n)


def signal(n: int = 900, seed: int = 0) -> tuple[Any, Any, Any]:
    X, _, group = noise(n, seed)
    return X, (X[:, 0] > 0).astype(int), group


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore::fairtrain.exceptions.ConstraintNotMetWarning")
def test_a_model_no_better_than_a_constant_is_said_to_be_one(method: str) -> None:
    X, y, group = noise()
    with pytest.warns((NearConstantWarning, UselessModelWarning)):
        model = METHODS[method]().fit(X, y, sensitive_features=group)
    assert model.usefulness_ == "no_better_than_constant"
    assert model.explain().startswith("no_better_than_constant: deciding alike for everybody")


@pytest.mark.filterwarnings("ignore::fairtrain.exceptions.ConstraintNotMetWarning")
@pytest.mark.parametrize("method", ["reductions", "boosting", "plug-in"])
def test_a_useful_model_is_not_warned_of(method: str) -> None:
    X, y, group = signal()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UselessModelWarning)
        model = METHODS[method]().fit(X, y, sensitive_features=group)
    assert model.usefulness_ == "useful"
    assert "no_better" not in model.explain()


def test_the_constant_is_the_better_one_by_weight() -> None:
    y, group = np.array([1, 1, 1, 0]), list("abab")
    plain = fairtrain.fairness_report(y, y, group)
    assert plain.constant_accuracy == 0.75
    weighted = fairtrain.fairness_report(y, y, group, sample_weight=[1, 1, 1, 9])
    assert weighted.constant_accuracy == 0.75
    assert not plain.no_better_than_constant
    assert fairtrain.fairness_report(y, np.ones(4, int), group).no_better_than_constant
    assert plain.to_dict()["constant_accuracy"] == 0.75


def test_a_model_beaten_in_accuracy_and_gap_is_beaten() -> None:
    y = np.array([1, 0] * 50)
    group = np.repeat(["a", "b"], 50)
    worse = np.where(np.arange(100) < 10, 1 - y, y)
    worse[:50] = 1
    best, bad = (fairtrain.fairness_report(y, d, group) for d in (y, worse))
    assert bad.is_beaten_by(best)
    assert not best.is_beaten_by(bad)
    fairer = replace(bad, results=(replace(bad.results[0], achieved=0.0),))
    assert not fairer.is_beaten_by(replace(best, results=(replace(best.results[0], achieved=0.1),)))
    ratio = replace(bad.results[0], kind="ratio", achieved=0.5)
    higher = replace(ratio, achieved=0.9)
    assert replace(bad, results=(ratio,)).is_beaten_by(replace(best, results=(higher,)))
    assert not replace(bad, results=(higher,)).is_beaten_by(replace(best, results=(ratio,)))


@pytest.mark.filterwarnings("ignore::fairtrain.exceptions.ConstraintNotMetWarning")
def test_the_plug_in_knows_what_its_scores_do_without_prices() -> None:
    X, y, group = signal(3000)
    X[:, 0] += group
    model = fairtrain.FairPlugInClassifier(LogisticRegression(), cv=2, random_state=0).fit(
        X, y, sensitive_features=group
    )
    free = model.baseline_report_
    assert free is not None
    assert free.accuracy[0] > model.reports_["steering"].accuracy[0]
    assert free.results[0].achieved > model.reports_["steering"].results[0].achieved
    model.baseline_report_ = replace(
        free, results=tuple(replace(r, achieved=0.0) for r in free.results)
    )
    assert model.usefulness_ == "beaten_by_baseline"
    assert model.explain().startswith(
        "beaten_by_baseline: the unconstrained model is more accurate"
    )
    costly = fairtrain.FairPlugInClassifier(
        LogisticRegression(), objective={"false_positive": 1, "false_negative": 3}, cv=2
    ).fit(X, y, sensitive_features=group)
    dear = costly.baseline_report_  # at the same costs: it decides for many more
    assert dear is not None
    assert dear.selection_rate > free.selection_rate + 0.1
    assert dear.objective == costly.fairness_report_.objective == "cost"
    assert dear.worth > costly.fairness_report_.worth


def test_the_reduction_knows_its_estimator_without_constraints() -> None:
    X, y, group = signal(2000)
    X[:, 0] += group
    for settings, role in (({}, "training"), ({"cv": 2}, "steering")):
        model = fairtrain.ReductionsWrapper(
            LogisticRegression(), difference_bound=0.1, random_state=0, **settings
        ).fit(X, y, sensitive_features=group)
        free = model.baseline_report_
        assert free is not None
        assert free.rows == role
        assert free.n_rows == model.reports_[role].n_rows
        assert free.accuracy[0] > model.reports_[role].accuracy[0]
        assert free.results[0].achieved > 0.2


def test_thresholds_that_are_no_better_than_a_constant_say_so() -> None:
    X, y, group = signal(2000)
    rule = fairtrain.GroupThresholds(tolerance=0.1).fit(0.5 + 0.4 * np.sign(X[:, 0]), y, group)
    assert rule.usefulness_ == "useful"
    scores = np.random.default_rng(1).uniform(size=len(y))
    y = (np.arange(len(y)) % 5 == 0).astype(int)
    with pytest.warns((NearConstantWarning, UselessModelWarning)):
        rule = fairtrain.GroupThresholds(tolerance=0.0).fit(scores, y, group)
    assert rule.accuracy_ >= 0.8 or rule.usefulness_ == "no_better_than_constant"


def test_a_calibrated_classifier_without_signal_says_so() -> None:
    X, y, group = noise()
    with pytest.warns(UselessModelWarning, match="no_better_than_constant: deciding alike"):
        model = fairtrain.CalibratedFairClassifier(LogisticRegression(), cv=2).fit(
            X, y, sensitive_features=group
        )
    assert model.usefulness_ == "no_better_than_constant"
    X, y, group = signal()
    model = fairtrain.CalibratedFairClassifier(LogisticRegression(), cv=2).fit(
        X, y, sensitive_features=group
    )
    assert model.usefulness_ == "useful"


def rare(n: int = 3000) -> tuple[Any, Any, Any]:
    """A favourable label of one in twenty, so that never giving it is hard to beat."""
    rng = np.random.default_rng(0)
    X, group = rng.normal(size=(n, 2)), rng.integers(0, 2, n)
    return X, (X[:, 0] + rng.normal(size=n) > 2.4).astype(int), group


def test_a_constant_that_breaks_a_floor_is_no_better() -> None:
    X, y, group = rare()
    floor = fairtrain.AtLeast("recall", 0.8)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UselessModelWarning)
        model = fairtrain.FairPlugInClassifier(LogisticRegression(), floor, cv=2, random_state=0)
        model.fit(X, y, sensitive_features=group)
    report = model.fairness_report_
    assert report.constant_accuracy == pytest.approx(y.mean())  # yes to everybody keeps it
    assert y.mean() < report.accuracy[0] < 1 - y.mean()
    assert model.usefulness_ == "useful"
    decided = model.predict(X)
    for limits, constant in (
        (fairtrain.AtMost("selection_rate", 0.3, overall=True), 1 - y.mean()),
        ([floor, fairtrain.AtMost("selection_rate", 0.5)], np.nan),
        (fairtrain.BoundedGroupLoss(upper_bound=0.5), 1 - y.mean()),
        (fairtrain.AtLeast("accuracy", {"0": 0.01, "1": 0.999}), np.nan),
    ):
        found = fairtrain.fairness_report(y, decided, group, limits)
        assert found.constant_accuracy == pytest.approx(constant, nan_ok=True)


def test_accuracy_says_nothing_where_errors_cost_differently() -> None:
    X, y, group = rare()
    costs = {"false_negative": 12}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UselessModelWarning)
        model = fairtrain.FairPlugInClassifier(
            LogisticRegression(), difference_bound=0.5, objective=costs, cv=2, random_state=0
        ).fit(X, y, sensitive_features=group)
    assert model.fairness_report_.accuracy[0] < 1 - y.mean()
    assert model.usefulness_ == "useful"
    assert "alike" not in model.explain()


def test_the_best_constant_of_several_classes_keeps_the_limits_too() -> None:
    y = np.repeat([0, 1, 2], [60, 30, 10])
    groups = Groups.from_sensitive(np.tile(["a", "b"], 50))
    labels = LabelCoding.read(y, None, several=True)[1]
    rows = Rows(None, y.astype(float), groups, None, labels, decision=np.eye(3)[y])

    def best(*limits: Any) -> float:
        return report_on_classes(rows, limits, rows="certification").constant_accuracy

    assert best(fairtrain.DemographicParity()) == 0.6
    assert best(fairtrain.BoundedGroupLoss(upper_bound=0.45)) == 0.6
    assert np.isnan(best(fairtrain.BoundedGroupLoss(upper_bound=0.3)))
    wide = report_on_classes(
        replace(rows, design_effect=4.0), [fairtrain.DemographicParity()], rows="certification"
    )
    narrow = report_on_classes(rows, [fairtrain.DemographicParity()], rows="certification")
    assert wide.accuracy[1] < narrow.accuracy[1]
    assert wide.results[0].upper > narrow.results[0].upper
