"""Rates within strata under a bound, whoever trains; what cannot know strata says so in a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fairtrain import (
    AdversarialDebiasingTrainer,
    DemographicParity,
    EqualizedOdds,
    EqualOpportunity,
    FairnessMonitor,
    FairPlugInClassifier,
    LagrangianBoostingClassifier,
    LagrangianFairnessTrainer,
    ReductionsWrapper,
    RegularizedFairnessTrainer,
    certification_plan,
    fairness_report,
    pareto_frontier,
)
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.losses import RateParityLoss
from fairtrain.persistence import load, save

LOGISTIC = make_pipeline(StandardScaler(), LogisticRegression())
GIVEN = DemographicParity(given="band", difference_bound=0.03)
MARGINAL = DemographicParity(over="sex", difference_bound=0.03)


def people(n: int, seed: int) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    """Sex goes with the band, which earns its due, and counts besides, which it must not."""
    rng = np.random.default_rng(seed)
    sex = rng.choice(["f", "m"], n)
    band = np.where(rng.random(n) < np.where(sex == "m", 0.75, 0.25), "high", "low")
    X = pd.DataFrame(
        {
            "high": (band == "high").astype(float),
            "proxy": (sex == "m") + rng.normal(0, 0.7, n),
            "merit": rng.normal(size=n),
        }
    )
    z = 2.2 * X["high"] - 1.6 + 1.0 * (sex == "m") + 0.8 * X["merit"]
    y = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(int)
    return X, y.to_numpy(), pd.DataFrame({"sex": sex, "band": band})


def method(name: str, constraint: Any) -> Any:
    if name == "plug-in":
        return FairPlugInClassifier(
            LOGISTIC, constraint, group_estimator=LOGISTIC, cv=2, random_state=0
        )
    if name == "reductions":
        return ReductionsWrapper(LOGISTIC, constraint, random_state=0)
    if name == "boosting":
        return LagrangianBoostingClassifier(constraints=constraint, n_estimators=80, random_state=0)
    return LagrangianFairnessTrainer(
        constraints=constraint, lr=0.02, max_epochs=8, batch_size=256, random_state=0
    )


@pytest.mark.filterwarnings("ignore::fairtrain.exceptions.ConstraintNotMetWarning")
@pytest.mark.parametrize("name", ["plug-in", "reductions", "boosting", "trainer"])
def test_the_gap_within_bands_goes_and_little_accuracy_with_it(name: str, tmp_path: Path) -> None:
    X, y, who = people(4_000, 0)
    later, target, others = people(8_000, 100)
    model = method(name, GIVEN).fit(X, y, sensitive_features=who)
    decided = model.predict(later)  # nobody's sex and nobody's band
    report = model.evaluate(later, target, sensitive_features=others)
    judged = fairness_report(target, model.decision_proba(later)[:, 1], others, [GIVEN, MARGINAL])
    within, overall = (result.achieved for result in judged.results)
    assert report.results[0].achieved == pytest.approx(within)
    assert within < 0.09  # .16 and more without a constraint
    assert (decided == target).mean() > 0.75  # .65 where the gap over everybody has to go
    assert overall > 0.4
    save(model, tmp_path / "model")
    kept = load(tmp_path / "model")
    assert (kept.predict(later) == decided).all()
    assert kept.constraints_ == model.constraints_


def test_a_numeric_stratum_among_the_features_is_cut_when_it_is_read() -> None:
    X, y, who = people(2_000, 0)
    age = np.random.default_rng(1).integers(20, 70, len(y))
    asked = EqualizedOdds(given={"age": [40]}, over="sex", difference_bound=0.1)
    model = method("boosting", asked).set_params(n_estimators=20)
    model.fit(X.assign(age=age), y, sensitive_features=who["sex"])
    assert model.scheme_.names == ("f/below 40", "f/40 and above", "m/below 40", "m/40 and above")
    report = model.evaluate(X.assign(age=age), y, sensitive_features=who["sex"])
    assert set(report.results[0].counts) == set(model.scheme_.names)


@pytest.mark.filterwarnings("ignore::fairtrain.exceptions.FairtrainWarning")
def test_a_frontier_is_over_the_widest_stratum() -> None:
    X, y, who = people(1_200, 0)
    age = np.random.default_rng(1).integers(20, 70, len(y))
    asked = DemographicParity(given={"age": [40]})
    model = ReductionsWrapper(LOGISTIC, asked, max_iter=5, random_state=0)
    frontier = pareto_frontier(
        model, X.assign(age=age), y, sensitive_features=who["sex"],
        param="difference_bound", values=[0.02, 0.3],
    )  # fmt: skip
    gaps = frontier.points.set_index("difference_bound")["gap"]
    assert gaps[0.02] < gaps[0.3]
    assert frontier.scorer.scheme.columns == ("sex", "age")


@pytest.mark.parametrize("weighted", [False, True])
def test_a_penalty_within_strata_is_the_mean_over_them(weighted: bool) -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=300)).requires_grad_()
    y = torch.from_numpy(rng.integers(0, 2, 300))
    who = torch.from_numpy(rng.integers(0, [3, 2], (300, 2)))
    weight = torch.from_numpy(rng.uniform(0.5, 2, 300)) if weighted else None
    loss = RateParityLoss(EqualOpportunity(given="band"), num_groups=(3, 2))
    found = loss(logits, y, who, sample_weight=weight)
    plain = RateParityLoss("equal_opportunity", num_groups=3)
    parts = []
    for band in (0, 1):
        rows = who[:, 1] == band
        own = None if weight is None else weight[rows]
        parts.append(plain(logits[rows], y[rows], who[rows, 0], sample_weight=own))
    torch.testing.assert_close(found, torch.stack(parts).mean())
    found.backward()
    assert logits.grad is not None
    with pytest.raises(InvalidDataError, match="and 1 of strata last"):
        RateParityLoss(EqualOpportunity(given="band"), num_groups=3)(logits, y, who[:, 0])
    with pytest.raises(InvalidParameterError, match="group_weights by group"):
        RateParityLoss(EqualOpportunity(given="band"), group_weights={0: 2.0})
    with pytest.raises(InvalidParameterError, match="knows no averages over strata"):
        RateParityLoss(EqualOpportunity(given="band", pooled=True))


@pytest.mark.filterwarnings("ignore::fairtrain.exceptions.FairtrainWarning")
def test_a_network_is_penalised_within_bands() -> None:
    X, y, who = people(2_000, 0)
    how: dict[str, Any] = {"max_epochs": 4, "lr": 0.02, "random_state": 0}
    gaps = []
    for eta in (0.0, 30.0):
        model = RegularizedFairnessTrainer(penalty=GIVEN, eta=eta, **how)
        model.fit(X, y, sensitive_features=who)
        gaps.append(model.fairness_report_.results[0].achieved)
    assert gaps[1] < gaps[0] - 0.03
    wrong = RegularizedFairnessTrainer(penalty="demographic_parity", constraints=GIVEN, **how)
    with pytest.raises(InvalidParameterError, match="this penalty knows no strata"):
        wrong.fit(X, y, sensitive_features=who)
    several = RegularizedFairnessTrainer(penalty=[GIVEN, "hsic"], constraints=GIVEN, **how)
    with pytest.raises(InvalidParameterError, match="is one parity"):
        several.fit(X, y, sensitive_features=who)


def test_who_knows_no_strata_names_who_does() -> None:
    X, y, who = people(200, 0)
    with pytest.raises(InvalidParameterError, match="use one monitor for each stratum"):
        FairnessMonitor(GIVEN)
    with pytest.raises(InvalidParameterError, match="use LagrangianFairnessTrainer"):
        AdversarialDebiasingTrainer(constraints=GIVEN).fit(X, y, sensitive_features=who)
    with pytest.raises(InvalidParameterError, match="a plan is for groups"):
        certification_plan({"f": 100, "m": 100}, GIVEN)
