"""A floor of precision and its parity, said to every method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_score

from fairtrain import (
    AtLeast,
    DemographicParity,
    FairPlugInClassifier,
    LagrangianBoostingClassifier,
    LagrangianFairnessTrainer,
    NoLevellingDown,
    PredictiveParity,
    ReductionsWrapper,
    RegularizedFairnessTrainer,
    load,
    save,
)
from fairtrain.exceptions import InvalidParameterError
from fairtrain.metrics import gap
from fairtrain.metrics.verdicts import Usefulness

pytestmark = pytest.mark.filterwarnings("ignore::fairtrain.exceptions.FairtrainWarning")

RNG = np.random.default_rng(0)
N = 4000
GROUP = RNG.choice(["a", "b"], N, p=[0.6, 0.4])
X = RNG.normal(size=(N, 2))
X[:, 0] += np.where(GROUP == "a", 0.7, -0.7)
Y = (RNG.random(N) < 1 / (1 + np.exp(-1.3 * X[:, 0] - 0.6 * X[:, 1]))).astype(int)
X = np.column_stack([X, GROUP == "a"])
FLOOR = AtLeast("precision", 0.8)
PARITY = PredictiveParity(difference_bound=0.03)
LINE = LogisticRegression()


def plug_in(constraint: Any) -> Any:
    model = FairPlugInClassifier(LINE, constraint, group_estimator=LINE, cv=2, random_state=0)
    return model.fit(X, Y, sensitive_features=GROUP)


def boosting(constraint: Any) -> Any:
    model = LagrangianBoostingClassifier(
        constraint, n_estimators=120, max_depth=2, n_jobs=1, random_state=0, validation_fraction=0.5
    )
    return model.fit(X, Y, sensitive_features=GROUP)


def reductions(constraint: Any) -> Any:
    model = ReductionsWrapper(LINE, constraint, max_iter=20, random_state=0)
    return model.fit(X, Y, sensitive_features=GROUP)


def network(constraint: Any, **more: Any) -> Any:
    model = LagrangianFairnessTrainer(
        None, constraint, max_epochs=6, random_state=0, validation_fraction=0.5, **more
    )
    return model.fit(X, Y, sensitive_features=GROUP)


@pytest.fixture(scope="module")
def level() -> Any:
    return plug_in(PARITY)


FREE = gap(Y, (X @ [1.3, 0.6, 0] > 0).astype(int), GROUP, metric="precision").value


@pytest.mark.parametrize("method", [plug_in, reductions, boosting])
def test_a_floor_is_kept_on_the_rows_that_steer(method: Any) -> None:
    result = method(FLOOR).fairness_report_.results[0]
    assert result.achieved >= 0.798
    assert result.rate == "positive_predictive_value"


@pytest.mark.parametrize("method", [boosting, network])
def test_a_parity_narrows_the_gap(method: Any) -> None:
    (result,) = method(PARITY).fairness_report_.results
    assert result.achieved < (0.85 if method is network else 0.6) * FREE  # after six epochs
    assert result.kind == "difference"


def test_the_plug_in_searches_the_level(level: Any, tmp_path: Path) -> None:
    (result,) = level.fairness_report_.results
    assert result.excess <= 1e-6
    low, high = level.levels_
    assert 0 < high - low <= 0.03 + 1e-9
    assert "which costs least" in level.explain()
    wider = level.with_bounds(difference_bound=0.2)  # which is more than the gap is
    free = plug_in(DemographicParity(difference_bound=1.0))
    assert wider.fairness_report_.accuracy[0] == pytest.approx(
        free.fairness_report_.accuracy[0], abs=2e-3
    )
    save(level, tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.levels_ == level.levels_
    np.testing.assert_array_equal(again.decision_function(X[:50]), level.decision_function(X[:50]))
    decided = level.predict(X)
    precisions = [precision_score(Y[g == GROUP], decided[g == GROUP]) for g in "ab"]
    assert np.ptp(precisions) < 0.05


def test_nobody_loses_precision(level: Any) -> None:
    """Of decisions that are made to select alike."""
    asked = [DemographicParity(difference_bound=0.3), NoLevellingDown("precision", margin=0.01)]
    report = level.with_constraints(asked).fairness_report_
    assert report.results[1].excess <= 2e-3


def test_a_floor_that_selects_nobody_is_of_no_use() -> None:
    noise = RNG.normal(size=(1000, 1))
    y = np.arange(1000) % 2
    model = FairPlugInClassifier(
        LINE, AtLeast("precision", 0.9), group_estimator=LINE, cv=2, random_state=0
    ).fit(noise, y, sensitive_features=np.arange(1000) // 2 % 2)
    assert model.usefulness_ is not Usefulness.USEFUL
    assert str(model.status_) in ("too_few_rows", "not_met")


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: reductions(PARITY), "FairPlugInClassifier searches it"),
        (lambda: network(FLOOR, mixture=True), "mixture=True mixes rates"),
        (lambda: plug_in([PARITY, PredictiveParity(over="x")]), "every parity and stratum"),
        (
            lambda: FairPlugInClassifier(LINE, FLOOR, cv=2, confidence=0.9, group_estimator=LINE)
            .fit(X, Y, sensitive_features=GROUP),
            "state a stricter number",
        ),
        (lambda: RegularizedFairnessTrainer(penalty=FLOOR).fit(X, Y, sensitive_features=GROUP),
         "is no penalty"),
    ],
    ids=["reductions", "mixture", "two levels", "confidence", "penalty"],
)  # fmt: skip
def test_who_cannot_says_who_can(ask: Any, says: str) -> None:
    with pytest.raises(InvalidParameterError, match=says):
        ask()


def test_a_penalty_is_named_by_either_word() -> None:
    found = [
        RegularizedFairnessTrainer(None, name, eta=1.0, max_epochs=1, random_state=0).fit(
            X[:600], Y[:600], sensitive_features=GROUP[:600]
        )
        for name in ("predictive_parity", "precision_parity")
    ]
    assert all(m.constraints_ == (PredictiveParity(),) for m in found)
    np.testing.assert_array_equal(*(m.predict_proba(X[:20]) for m in found))
