"""The simulated population is what it says, and its frontier is the best there is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from fairtrain import FairPlugInClassifier
from fairtrain.data.groups import Groups
from fairtrain.datasets import BiasedData, make_biased
from fairtrain.exceptions import InvalidParameterError

FOUR = {"sex": {"f": 0.5, "m": 0.5}, "age": {"old": 0.3, "young": 0.7}}


@pytest.fixture(scope="module")
def data() -> BiasedData:
    return make_biased(60_000, levels=FOUR, label_bias=0.3, random_state=1)


def test_shares_and_rates_are_those_of_the_population(data: BiasedData) -> None:
    groups = data.population.groups
    names = data.sensitive_features["sex"] + "/" + data.sensitive_features["age"]
    for name, row in groups.iterrows():
        inside = (names == name).to_numpy()
        assert inside.mean() == pytest.approx(row["share"], abs=0.01)
        assert data.true_y[inside].mean() == pytest.approx(row["base_rate"], abs=0.02)
        kept = row["base_rate"] * (1 - row["label_bias"])
        assert data.y[inside].mean() == pytest.approx(kept, abs=0.02)
    assert (data.y <= data.true_y).all()


def test_probabilities_are_those_of_labels_and_groups(data: BiasedData) -> None:
    population = data.population
    joint = population.joint_proba(data.X)
    np.testing.assert_allclose(joint.sum(axis=(1, 2)), 1.0)
    names = (data.sensitive_features["sex"] + "/" + data.sensitive_features["age"]).to_numpy()
    for g, name in enumerate(population.groups.index):
        for y in (0, 1):
            score, happened = joint[:, g, y], (names == name) & (data.y == y)
            for lower, upper in ((0.0, 0.2), (0.2, 0.5), (0.5, 1.0)):
                inside = (score >= lower) & (score < upper)
                if inside.sum() > 2000:
                    off = happened[inside].mean() - score[inside].mean()
                    assert abs(off) < 4 * np.sqrt(0.25 / inside.sum())
    np.testing.assert_allclose(population.group_proba(data.X), joint.sum(axis=2))
    assert population.outcome_proba(data.X, label="true").mean() > data.y.mean() + 0.03


def test_accuracy_and_gap_are_those_of_a_large_sample(data: BiasedData) -> None:
    population = data.population

    def decide(X: Any) -> Any:
        return X["merit"] > 0.2

    judged = population.judge(decide)
    decisions = decide(data.X).to_numpy()
    assert judged["accuracy"] == pytest.approx((decisions == data.y).mean(), abs=0.008)
    rates = [
        decisions[rows].mean()
        for rows in data.X.groupby(
            [data.sensitive_features["sex"], data.sensitive_features["age"]]
        ).indices.values()
    ]
    assert judged["gap"] == pytest.approx(max(rates) - min(rates), abs=0.02)
    known = population.rates(decide)
    assert known.index.get_level_values("group").tolist() == sorted(population.groups.index)
    np.testing.assert_allclose(known, rates, atol=0.015)
    assert known.max() - known.min() == pytest.approx(judged["gap"])
    assert judged["selection_rate"] == pytest.approx(decisions.mean(), abs=0.008)
    true = population.judge(decide, label="true")["accuracy"]
    assert true == pytest.approx((decisions == data.true_y).mean(), abs=0.008)


@pytest.mark.parametrize("notion", ["demographic_parity", "equalized_odds"])
def test_the_frontier_keeps_its_bounds_and_nothing_beats_it(notion: str) -> None:
    population = make_biased(10, base_rates=(0.7, 0.3)).population
    bounds = [0.0, 0.02, 0.05, 0.1, 1.0]
    blind = population.frontier(notion, bounds)
    aware = population.frontier(notion, bounds, uses_sensitive=True)
    for frontier in (blind, aware):
        assert (frontier["gap"] <= frontier["bound"] + 1e-6).all()
        assert (np.diff(frontier["accuracy"]) >= -1e-9).all()
    assert (aware["accuracy"] >= blind["accuracy"] - 1e-9).all()
    best = population.judge(lambda X: population.outcome_proba(X) > 0.5, notion)
    assert blind["accuracy"].iloc[-1] == pytest.approx(best["accuracy"], abs=1e-9)
    for threshold in (0.2, 0.4, 0.6):
        rule = population.judge(lambda X, t=threshold: population.outcome_proba(X) > t, notion)
        allowed = population.frontier(notion, [rule["gap"]])
        assert rule["accuracy"] <= allowed["accuracy"].iloc[0] + 1e-9


def test_where_features_do_not_know_the_group_and_rates_agree_nothing_is_lost() -> None:
    population = make_biased(10, base_rates=(0.5, 0.5), proxy=0.0).population
    frontier = population.frontier(bounds=[0.0, 1.0])
    assert frontier["accuracy"].iloc[0] == pytest.approx(frontier["accuracy"].iloc[1], abs=0.003)


@pytest.mark.filterwarnings("ignore::fairtrain.exceptions.ConstraintNotMetWarning")
def test_the_plug_in_comes_near_the_frontier() -> None:
    data = make_biased(10_000, base_rates=(0.7, 0.4), random_state=3)
    model = FairPlugInClassifier(
        LogisticRegression(), difference_bound=0.05, cv=2, random_state=0
    ).fit(data.X, data.y, sensitive_features=data.sensitive_features)
    judged = data.population.judge(lambda X: model.decision_proba(X)[:, 1])
    best = data.population.frontier(bounds=[judged["gap"]])["accuracy"].iloc[0]
    assert best - 0.015 <= judged["accuracy"] <= best + 0.002
    assert judged["gap"] < 0.09


def test_rows_of_a_cluster_agree_more_than_others() -> None:
    clustered = make_biased(20_000, cluster_size=10, cluster_correlation=0.6, random_state=0)
    assert clustered.clusters is not None
    assert np.bincount(clustered.clusters).tolist() == [10] * 2000
    codes = Groups.from_sensitive(clustered.sensitive_features).codes.reshape(-1, 10)
    assert (codes == codes[:, :1]).all()
    spread = clustered.true_y.reshape(-1, 10).mean(axis=1).var()
    apart = make_biased(20_000, cluster_size=10, random_state=0)
    assert spread > 3 * apart.true_y.reshape(-1, 10).mean(axis=1).var()
    assert make_biased(50, random_state=0).clusters is None
    assert clustered.true_y.mean() == pytest.approx(0.54, abs=0.03)  # .7 * .6 + .3 * .4


def test_base_rates_drift_from_the_first_row_to_the_last() -> None:
    data = make_biased(20_000, drift=-1.5, random_state=0)
    early, late = data.true_y[:4000].mean(), data.true_y[-4000:].mean()
    assert early > late + 0.15
    rates = [data.population.at(t).groups["base_rate"].iloc[0] for t in (0.0, 1.0)]
    assert rates[0] == pytest.approx(0.6)
    assert rates[1] == pytest.approx(1 / (1 + np.exp(1.5 - np.log(1.5))))
    assert data.time[0] == 0
    assert data.time[-1] == 1


def test_the_same_seed_gives_the_same_people() -> None:
    one, two = (make_biased(100, random_state=5) for _ in range(2))
    assert one.X.equals(two.X)
    assert (one.y == two.y).all()
    assert len(one) == 100
    assert not one.X.equals(make_biased(100, random_state=6).X)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n": 0}, "n must be a whole number >= 1, got 0"),
        ({"cluster_correlation": 1.0}, "cluster_correlation must lie in"),
        ({"signal": float("nan")}, "signal must be a number"),
        ({"levels": {"race": {"a": 1.0}}}, "at least two levels"),
        ({"levels": {"race": {"a": 0.7, "b": 0.7}}}, "sum to 1"),
        ({"base_rates": {"a": 0.5}}, "'b' is missing"),
        ({"base_rates": {"a": 0.5, "b": 0.5, "c": 0.5}}, "'c' is none of them"),
        ({"base_rates": (0.0, 0.5)}, "between 0 and 1"),
        ({"label_bias": {"a": 1.5}}, "between 0 and 1"),
    ],
)
def test_bad_settings_are_one_clear_line(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidParameterError, match=words):
        make_biased(**{"n": 20, **settings})
