"""Limits, costs of errors and known groups in the fitted plug-in, and what it says of a person."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fairlearn.postprocessing import ThresholdOptimizer
from fairlearn.reductions import ErrorRate
from sklearn.linear_model import LogisticRegression
from tests.plugin.test_classifier import made, people

from fairtrain import FairPlugInClassifier, fairness_report, load, save
from fairtrain.constraints import AtLeast, AtMost, DemographicParity, ErrorCosts, NoLevellingDown
from fairtrain.exceptions import (
    ConstraintNotMetWarning,
    InvalidDataError,
    InvalidParameterError,
    UnseenGroupError,
)
from fairtrain.plugin.scores import GroupMaps

pytestmark = pytest.mark.filterwarnings("ignore::fairtrain.exceptions.ConstraintNotMetWarning")
CAPACITY = AtMost("selection_rate", 0.3, overall=True)


@pytest.fixture(scope="module")
def both() -> FairPlugInClassifier:
    X, y, group = people(6000, seed=0)
    asked = [DemographicParity(), CAPACITY]
    return made(asked, difference_bound=0.03).fit(X, y, sensitive_features=group)


def test_parity_and_capacity_hold_together_and_reprice(both: FairPlugInClassifier) -> None:
    X, y, group = people(20_000, seed=99)
    parity, capacity = fairness_report(y, both.predict(X), group, list(both.constraints_)).results
    assert parity.bound == 0.03
    assert parity.achieved < 0.05
    assert capacity.achieved == pytest.approx(0.3, abs=0.02)
    assert all(r.excess <= 0 for r in both.fairness_report_.results)
    # A bound of the parity leaves the capacity alone, and a curve is one of the parity.
    looser = both.with_bounds(difference_bound=0.2)
    assert looser.constraints_[1] is both.constraints_[1]
    assert looser.score(X, y) > both.score(X, y)
    curve = both.frontier([0.02, 0.2])
    assert curve["accuracy"].is_monotonic_increasing
    assert (curve["selection_rate"] <= 0.3 + 1e-9).all()
    only = both.with_constraints(CAPACITY)
    with pytest.raises(InvalidParameterError, match="moves the bound of a parity"):
        only.frontier([0.1])


def test_floors_and_caps_are_kept_on_the_rows_that_were_priced() -> None:
    X, y, group = people(6000, seed=0)
    model = made([AtLeast("recall", {"0": 0.8}), AtMost("false_positive_rate", 0.6)])
    model.fit(X, y, sensitive_features=group)
    for result in model.fairness_report_.results:
        assert result.excess < 3e-3
    assert model.fairness_report_.results[0].extreme == "0"
    assert "at least 0.8" in model.explain()
    assert model.prices_["constraint"].tolist() == [
        *["true_positive_rate at least its own number"] * 2,
        *["false_positive_rate at most 0.6"] * 2,
    ]


def test_nobody_is_levelled_down_when_gaps_close() -> None:
    X, y, group = people(6000, seed=0)
    parity = DemographicParity(difference_bound=0.05)
    free = made(parity, difference_bound=1.0).fit(X, y, sensitive_features=group)
    down = free.with_constraints(parity)
    up = free.with_constraints([parity, NoLevellingDown()])
    rates = [pd.Series(m.predict(X)).groupby(group).mean().to_numpy() for m in (free, down, up)]
    assert (rates[1] - rates[0]).min() < -0.1  # parity alone takes from one group
    assert (rates[2] - rates[0]).min() > -0.02
    assert np.ptp(rates[2]) < 0.07
    floors = dict(up.constraints_[1].value)
    assert floors == pytest.approx(
        {
            str(g): r.rate
            for g, r in enumerate(
                free.fairness_report_.group_rates.query("metric == 'selection_rate'").itertuples()
            )
        }
    )
    # On its own it asks for nothing.
    alone = free.with_constraints(NoLevellingDown("recall"))
    assert np.mean(alone.predict(X) == free.predict(X)) > 0.99
    assert up.with_bounds(difference_bound=0.2).constraints_[1] == up.constraints_[1]
    # Who fares worse than unconstrained is another question where other people are decided about.
    X, y, group = people(3000, seed=5)
    X = X + 0.5
    moved = up.with_rows(X, y, sensitive_features=group)
    unconstrained = pd.Series(free.predict(X)).groupby(group).mean()
    assert [*dict(moved.constraints_[1].value).values()] == pytest.approx([*unconstrained])


def test_limits_that_cannot_hold_together_are_named_and_the_lower_priority_gives_way() -> None:
    X, y, group = people(3000, seed=0)
    floor, cap = AtLeast("recall", 0.9), AtMost("false_positive_rate", 0.2)
    with pytest.warns(ConstraintNotMetWarning):
        torn = made([floor, cap]).fit(X, y, sensitive_features=group)
    said = f"{floor.name} cannot hold together with {cap.name}"
    assert torn.explain().count("cannot hold together") == 1
    assert said in torn.explain()
    assert min(r.excess for r in torn.fairness_report_.results) > 0.05
    first = torn.with_constraints([AtLeast("recall", 0.9, priority=1), cap])
    kept, gave_way = (r.excess for r in first.fairness_report_.results)
    assert kept < 5e-3
    assert gave_way > 0.2
    impossible = torn.with_constraints(AtLeast("accuracy", 0.95))
    assert "no decision that reads these features keeps it" in impossible.explain()


@pytest.mark.parametrize(
    "objective",
    [
        {"false_positive": 1, "false_negative": 4},
        ErrorCosts(false_negative=4),
        ErrorRate(costs={"fp": 1, "fn": 4}),
    ],
    ids=lambda o: type(o).__name__,
)
def test_errors_that_cost_differently_move_the_threshold(objective: Any) -> None:
    X, y, group = people(4000, seed=3)
    model = made(difference_bound=1.0, objective=objective).fit(X, y, sensitive_features=group)
    new, truth, who = people(20_000, seed=4)
    proba, decided = model.predict_proba(new)[:, 1], model.predict(new)
    np.testing.assert_array_equal(decided == 1, model.outcome_proba(new)[:, 1] > 0.2)
    np.testing.assert_array_equal(decided == 1, proba > 0.5)
    assert proba.min() >= 0
    assert len(np.unique(proba)) == len(proba)  # no end of the scale is cut off
    fair = model.with_bounds(difference_bound=0.05)
    assert fairness_report(truth, fair.predict(new), who).results[0].achieved < 0.08

    def cost(m: FairPlugInClassifier) -> float:
        d = m.predict(new)
        return float(np.mean((d > truth) + 4.0 * (d < truth)))

    plain = made(difference_bound=0.05).fit(X, y, sensitive_features=group)
    assert cost(model) < cost(fair) < cost(plain)
    words = np.where(y == 1, "yes", "no")
    with pytest.raises(InvalidParameterError, match="positive_label is missing"):
        made(objective=objective).fit(X, words, sensitive_features=group)


def society(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three groups in which the same features mean different chances."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 3, n)
    X = rng.normal(size=(n, 3))
    X[:, 0] += 0.6 * group
    chance = X[:, 0] * (1 + 0.5 * (group == 1)) + 0.5 * X[:, 1] + 0.8 * (group == 2) - 0.8
    return X, (chance + rng.logistic(size=n) > 0).astype(int), group


@pytest.mark.parametrize(
    ("notion", "fairlearns"),
    [
        ("demographic_parity", "demographic_parity"),
        ("equal_opportunity", "true_positive_rate_parity"),
        ("equalized_odds", "equalized_odds"),
    ],
)
def test_known_groups_do_at_least_as_well_as_thresholds_by_group(
    notion: str, fairlearns: str
) -> None:
    X, y, group = society(10_000, seed=0)
    new, truth, who = society(30_000, seed=9)
    model = made(notion, difference_bound=0.01, sensitive_at_predict=True, aim=False)
    model.fit(X, y, sensitive_features=group)
    base = LogisticRegression().fit(X, y)
    theirs = ThresholdOptimizer(
        estimator=base, constraints=fairlearns, prefit=True, predict_method="predict_proba"
    ).fit(X, y, sensitive_features=group)
    decided = theirs.predict(new, sensitive_features=who, random_state=0)
    reference = fairness_report(truth, decided, who, notion)
    # As unfair as they are on new rows, and more accurate.
    curve = [
        fairness_report(truth, m.predict(new, sensitive_features=who), who, notion)
        for m in (model.with_bounds(difference_bound=b) for b in (0.0, 0.01, 0.03, 0.06))
    ]
    no_wider = reference.results[0].achieved + 2e-3
    best = max(r.accuracy[0] for r in curve if r.results[0].achieved < no_wider)
    assert best > reference.accuracy[0] - 2e-3
    assert model.needs_sensitive_at_predict
    assert model.group_estimator_name_ is None
    assert "known at predict" in model.explain()


def test_a_known_group_is_asked_for_and_an_unknown_one_is_not(tmp_path: Path) -> None:
    X, y, group = society(3000, seed=1)
    frame = pd.DataFrame(X, columns=["a", "b", "c"]).assign(g=group)
    model = made(sensitive_at_predict=True, sensitive_features="g", certification_fraction=0.2)
    model.fit(frame, y)
    assert list(model.reports_) == ["steering", "certification"]
    assert model.score(frame, y) == np.mean(model.predict(frame) == y)
    assert model.evaluate(frame, y).n_rows == 3000
    with pytest.raises(InvalidDataError, match="'g'"):
        model.predict(frame.drop(columns="g"))
    save(model, tmp_path / "model")
    for again in (pickle.loads(pickle.dumps(model)), load(tmp_path / "model")):
        np.testing.assert_array_equal(again.predict_proba(frame), model.predict_proba(frame))
        assert again.with_rows(frame, y).fairness_report_.n_rows == 3000
    apart = made(sensitive_at_predict=True).fit(X, y, sensitive_features=group)
    with pytest.raises(InvalidDataError, match="predict needs sensitive_features"):
        apart.predict(X)
    with pytest.raises(UnseenGroupError):
        apart.predict(X, sensitive_features=group + 5)
    with pytest.raises(InvalidParameterError, match="decides by features only"):
        made().fit(X, y, sensitive_features=group).predict(X, sensitive_features=group)
    shares = apart.decision_proba(X, sensitive_features=group)[:, 1]
    margin = apart.decision_function(X, sensitive_features=group)
    np.testing.assert_array_equal(shares > 0.5, margin > 0)


def test_scores_are_recalibrated_where_the_group_is_known() -> None:
    X, y, group = society(20_000, seed=2)
    blind = LogisticRegression().fit(X, y).predict_proba(X)[:, 1]
    maps = GroupMaps.fit(blind, y, group, 4)
    np.testing.assert_array_equal(maps.lines[3], [0, 1])  # nobody there: as it was
    mapped = maps(blind, group)
    for g in range(3):
        assert abs(np.mean(blind[group == g] - y[group == g])) > 0.005
        assert abs(np.mean(mapped[group == g] - y[group == g])) < 1e-3
    weighted = GroupMaps.fit(blind, y, group, 3, np.where(group == 0, 2.0, 1.0))
    np.testing.assert_allclose(weighted.lines[1:], maps.lines[1:3])


def test_what_a_score_is_made_of(both: FairPlugInClassifier) -> None:
    X = pd.DataFrame(people(50, seed=1)[0], index=np.arange(50) + 7)
    table = both.contributions(X)
    assert table.columns.tolist() == ["outcome_proba", "gain", "moved", "margin"]
    assert table.index.tolist() == X.index.tolist()
    np.testing.assert_allclose(table["margin"], both.decision_function(X))
    np.testing.assert_allclose(table["gain"], 2 * table["outcome_proba"] - 1)
    by_group = both.contributions(X, by_group=True)
    assert by_group.columns.tolist()[4:] == [
        "demographic_parity: 0",
        "demographic_parity: 1",
        "selection_rate at most 0.3 overall: everybody",
    ]
    np.testing.assert_allclose(by_group.iloc[:, 4:].sum(axis=1), by_group["moved"])


@pytest.mark.parametrize(
    ("bound", "achieved"), [({"difference_bound": 0.1}, 0.1), ({"ratio_bound": 0.7}, 0.7)]
)
def test_all_people_together_are_not_the_mean_of_unequal_groups(
    bound: dict[str, float], achieved: float
) -> None:
    rng = np.random.default_rng(0)
    group = rng.choice(3, 8000, p=[0.85, 0.1, 0.05])
    X = rng.normal(size=(8000, 3)) + 0.7 * group[:, None]
    y = (X.sum(axis=1) + rng.normal(size=8000) > 1.5).astype(int)
    model = made(DemographicParity(reference="overall", **bound), aim=False)
    report = model.fit(X, y, sensitive_features=group).fairness_report_
    assert report.results[0].achieved == pytest.approx(achieved, abs=0.01)
    assert not model._rule.broken.any()


def test_prices_of_a_difference_are_a_start_for_a_ratio() -> None:
    X, y, group = people(1500, seed=0)
    model = made(difference_bound=0.05, aim=False).fit(X, y, sensitive_features=group)
    for bound in (0.7, 0.9):
        warm, cold = (
            model.with_constraints("demographic_parity", ratio_bound=bound, warm_start=warm)
            for warm in (True, False)
        )
        assert not warm._rule.broken.any()
        assert warm._rule.gain == pytest.approx(cold._rule.gain, abs=3e-3)
        model = warm  # the balance of multipliers depends on the ratio, too
