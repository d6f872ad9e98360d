"""Prices of groups within strata: against a linear program on a finite table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linprog
from scipy.special import expit
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from fairtrain import FairPlugInClassifier, fairness_report
from fairtrain.constraints import DemographicParity, EqualizedOdds, ParityConstraint, strata_of
from fairtrain.constraints.families import families_of
from fairtrain.data.groups import Groups
from fairtrain.exceptions import InvalidDataError
from fairtrain.persistence import load, save
from fairtrain.plugin.linear import JointScores, linear_rates
from fairtrain.plugin.rule import RuleSettings, ScoredRows, find_rule

N_X = 12


def table() -> np.ndarray:
    """P(x, g, s, y), shape (N_X, 2, 2, 2): what x tells of all the others."""
    t = np.linspace(-1, 1, N_X)
    male, high, yes = expit(2 * t), 0.3 + 0.4 * (np.arange(N_X) % 2), expit(2.5 * t)
    parts = [np.stack([1 - share, share], axis=1) for share in (male, high, yes)]
    joint = np.einsum("xg,xs,xy->xgsy", *parts) / N_X
    joint = joint * np.array([[1.2, 0.8], [0.8, 1.2]])[:, :, None]  # sex and band depend
    return np.asarray(joint / joint.sum())


def optimum(bound: float, *, odds: bool = False, pooled: bool = False) -> float:
    """Accuracy of the best lottery over x that keeps the bound in every stratum, or on average."""
    p = table()
    gain = p[..., 1].sum((1, 2)) - p[..., 0].sum((1, 2))
    rows = []
    for y in ([0], [1]) if odds else ([0, 1],):
        mass = p[..., y].sum(-1)
        rates = mass / mass.sum(0)
        gaps = rates[:, 0] - rates[:, 1]  # (N_X, strata)
        if pooled:
            n = mass.sum(0)
            weight = n[0] * n[1] / (n[0] + n[1])
            gaps = gaps @ weight[:, None] / weight.sum()
        rows += [sign * gaps[:, s] for s in range(gaps.shape[1]) for sign in (1, -1)]
    best = linprog(-gain, A_ub=np.array(rows), b_ub=np.full(len(rows), bound), bounds=(0, 1))
    return float(p[..., 0].sum() - best.fun)


@pytest.mark.parametrize(
    ("constraint", "how"),
    [
        (DemographicParity(given="band", difference_bound=0.1), {}),
        (DemographicParity(given="band", difference_bound=0.1, pooled=True), {"pooled": True}),
        (EqualizedOdds(given="band", difference_bound=0.1), {"odds": True}),
    ],
)
def test_prices_reach_the_linear_programs_optimum(
    constraint: ParityConstraint, how: dict[str, bool]
) -> None:
    p = table()
    mass = p.sum((1, 2, 3))
    scores = JointScores.of(p.reshape(N_X, 4, 2) / mass[:, None, None])
    who = {"sex": [0, 0, 1, 1], "band": [0, 1, 0, 1]}
    groups = Groups.from_sensitive(who, given=strata_of([constraint]))
    families = families_of([constraint], groups.scheme)
    rates, gain = linear_rates(families, scores, mass), 2 * scores.outcome - 1
    rows = ScoredRows(gain, rates, rates, np.full(len(rates.base), 1e9))
    rule = find_rule(families, rows, RuleSettings(aim=False))
    # Right is who is not favourable and not chosen, and what every choice gains.
    right = 1 - mass @ scores.outcome + rule.gain
    best = optimum(constraint.bound, **how)
    assert right == pytest.approx(best, abs=2e-3)
    assert rule.excess.max() < 1e-3
    assert optimum(1.0) - best > 0.005


def frame(n: int, seed: int) -> tuple[pd.DataFrame, np.ndarray, pd.Series]:
    """A band that is a feature, and a proxy of sex that the model may use within it."""
    rng = np.random.default_rng(seed)
    sex = rng.choice(["f", "m"], n)
    band = np.where(rng.random(n) < np.where(sex == "m", 0.75, 0.25), "high", "low")
    X = pd.DataFrame({"band": band, "proxy": (sex == "m") + rng.normal(0, 0.7, n)})
    z = 2.2 * (band == "high") - 1.6 + 1.0 * (sex == "m")
    y = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(int)
    return X, y, pd.Series(sex, name="sex")


def test_a_stratum_may_be_a_feature_and_is_not_asked_for_again(tmp_path) -> None:  # type: ignore[no-untyped-def]
    X, y, sex = frame(4_000, 0)
    asked = DemographicParity(given="band", difference_bound=0.05)
    linear = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["band"]), remainder="passthrough"),
        LogisticRegression(),
    )
    model = FairPlugInClassifier(linear, asked, group_estimator=linear, cv=2, random_state=0)
    model.fit(X, y, sensitive_features=sex)
    assert model.scheme_.columns == ("sex", "band")
    possible = model._possible(X)
    assert possible.sum(axis=1).tolist() == [2] * len(X)
    scores = model._scores(model._features(X), None)
    assert (scores.groups[:, ~possible] == 0).all()
    later, target, who = frame(4_000, 1)
    decided = model.predict(later)
    report = model.evaluate(later, target, sensitive_features=who)
    by_hand = fairness_report(target, decided, later[["band"]].assign(sex=who), asked)
    assert report.results[0].achieved == pytest.approx(by_hand.results[0].achieved)
    assert report.results[0].achieved < 0.12  # a sample's; unconstrained it is .3
    save(model, tmp_path / "model")
    kept = load(tmp_path / "model")
    assert (kept.predict(later) == decided).all()
    again = kept.evaluate(later, target, sensitive_features=who)
    assert again.results[0].achieved == pytest.approx(report.results[0].achieved)
    looser = model.with_constraints(DemographicParity(given="band", difference_bound=0.3))
    assert looser.score(later, target) >= model.score(later, target)
    marginal = model.with_constraints(DemographicParity(difference_bound=0.05))  # over sex alone
    assert marginal.prices_["group"].tolist() == ["f", "m"]
    with pytest.raises(InvalidDataError, match="given='age' is no column"):
        model.with_constraints(DemographicParity(given="age"))


def test_averages_over_strata_are_kept_after_loading(tmp_path) -> None:  # type: ignore[no-untyped-def]
    X, y, sex = frame(2_000, 0)
    asked = EqualizedOdds(given="band", difference_bound=0.05, pooled=True)
    linear = LogisticRegression()
    numbers = X.assign(band=(X["band"] == "high").astype(int))
    model = FairPlugInClassifier(linear, asked, group_estimator=linear, cv=2, random_state=0)
    model.fit(numbers, y, sensitive_features=sex)
    save(model, tmp_path / "model")
    assert (load(tmp_path / "model").predict(numbers) == model.predict(numbers)).all()


@pytest.mark.filterwarnings("ignore::fairtrain.exceptions.FairtrainWarning")
def test_strata_that_are_features_serve_where_the_group_is_known(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    band, sex = rng.integers(0, 2, 1200), rng.choice(["f", "m"], 1200)
    X = pd.DataFrame({"a": rng.normal(size=1200) + (sex == "m"), "band": band, "sex": sex})
    y = (X["a"] + band + rng.logistic(size=1200) > 1).astype(int)
    model = FairPlugInClassifier(
        LogisticRegression(),
        DemographicParity(given="band", difference_bound=0.1),
        cv=2,
        sensitive_at_predict=True,
        sensitive_features="sex",
        random_state=0,
    ).fit(X, y)
    report = model.evaluate(X, y)
    decided = model.predict(X)
    rates = pd.Series(decided).groupby([band, sex]).mean()
    widest = max(abs(rates[b, "f"] - rates[b, "m"]) for b in (0, 1))
    assert report.results[0].achieved == pytest.approx(widest)
    save(model, tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict(X), decided)
