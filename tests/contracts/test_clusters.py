"""Every estimator keeps clusters together and lets its report allow for them."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from fairtrain import (
    FairPlugInClassifier,
    LagrangianBoostingClassifier,
    LagrangianFairnessTrainer,
    ReductionsWrapper,
)
from fairtrain.datasets import make_biased
from fairtrain.persistence import load, save

LINE = LogisticRegression()
ESTIMATORS: dict[str, Any] = {
    "plug-in": FairPlugInClassifier(
        LINE, group_estimator=LINE, cv=2, certification_fraction=0.3, random_state=0
    ),
    "cross": FairPlugInClassifier(
        LINE, group_estimator=LINE, cv=2, certification="cross", random_state=0
    ),
    "reductions": ReductionsWrapper(
        LogisticRegression(),
        validation_fraction=0.3,
        certification_fraction=0.3,
        max_iter=5,
        random_state=0,
    ),
    "boosting": LagrangianBoostingClassifier(
        validation_fraction=0.3, certification_fraction=0.3, n_estimators=5, random_state=0
    ),
    "trainer": LagrangianFairnessTrainer(
        validation_fraction=0.3, certification_fraction=0.3, max_epochs=1, random_state=0
    ),
}


def people(n: int = 1200) -> dict[str, Any]:
    data = make_biased(n, cluster_size=6, cluster_correlation=0.6, random_state=1)
    return {
        "X": data.X,
        "y": data.y,
        "sensitive_features": data.sensitive_features["group"],
        "clusters": data.clusters,
    }


@pytest.mark.filterwarnings("ignore::fairtrain.exceptions.FairtrainWarning")
@pytest.mark.parametrize("name", ESTIMATORS)
def test_clusters_stay_together_and_widen_limits(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    given = people()
    model = ESTIMATORS[name].set_params(difference_bound=0.3)
    judged: list[Any] = []
    report = type(model)._report
    monkeypatch.setattr(
        type(model), "_report", lambda self, rows, *a: judged.append(rows) or report(self, rows, *a)
    )
    model.fit(**given)
    parts = {frozenset(rows.clusters.tolist()) for rows in judged}  # some rows are judged twice
    assert len(frozenset().union(*parts)) == sum(map(len, parts)) == 200
    result = model.fairness_report_.results[0]
    assert sum(result.clusters.values()) in map(len, parts)
    by_name = type(model)(**model.get_params(deep=False))
    X = given["X"].assign(branch=[f"b{c:04d}" for c in given["clusters"]])
    by_name.fit(X, given["y"], sensitive_features=given["sensitive_features"], clusters="branch")
    again = by_name.fairness_report_.results[0]
    assert (again.lower, again.upper, again.clusters) == (
        result.lower,
        result.upper,
        result.clusters,
    )
    assert by_name.predict(X).tolist() == by_name.predict(given["X"]).tolist()
    fresh = people()
    alone = model.evaluate(**{**fresh, "clusters": None}).results[0]
    found = model.evaluate(**fresh).results[0]
    assert found.upper - found.lower > alone.upper - alone.lower
    save(by_name, tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.predict(X).tolist() == by_name.predict(X).tolist()
    assert loaded.fairness_report_.results[0].clusters == again.clusters


@pytest.mark.filterwarnings("ignore::fairtrain.exceptions.FairtrainWarning")
def test_prices_aim_lower_where_rows_are_alike() -> None:
    given = people(3000)
    model = FairPlugInClassifier(
        LogisticRegression(), difference_bound=0.15, cv=2, confidence=0.9, random_state=0
    )
    bound = [
        model.fit(**{**given, "clusters": clusters}).fairness_report_.results[0].achieved
        for clusters in (given["clusters"], None)
    ]
    assert bound[0] < bound[1] - 0.005


def test_a_frame_of_clusters_must_be_in_order() -> None:
    given = people(300)
    frame = pd.Series(given["clusters"]).iloc[::-1]
    with pytest.raises(ValueError, match="clusters carries another index"):
        FairPlugInClassifier(random_state=0).fit(**{**given, "clusters": frame})


@pytest.mark.filterwarnings("ignore::fairtrain.exceptions.FairtrainWarning")
def test_the_column_that_fit_took_is_clusters_later_too() -> None:
    given = people(600)
    X = given["X"].assign(customer=given["clusters"])
    model = ReductionsWrapper(LogisticRegression(), max_iter=3, random_state=0)
    who = {"sensitive_features": given["sensitive_features"]}
    model.fit(X, given["y"], clusters="customer", **who)
    named = model.evaluate(X, given["y"], **who)
    told = model.evaluate(X, given["y"], clusters="customer", **who)
    assert named.results[0].clusters == told.results[0].clusters != {}
