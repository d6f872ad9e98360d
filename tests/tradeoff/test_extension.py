"""Strengths beyond the usual ones, bounds priced anew, and points that a constant beats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from tests.tradeoff.data import make_rows

from fairtrain import (
    AtLeast,
    AtMost,
    DemographicParity,
    FairPlugInClassifier,
    NoLevellingDown,
    ParetoFrontier,
    pareto_frontier,
)
from fairtrain.exceptions import InvalidParameterError, UselessModelWarning
from fairtrain.tradeoff.scoring import read_metric

DEFAULT = [0.0, 0.1, 0.5, 1.0, 5.0, 10.0]


class Moving(ClassifierMixin, BaseEstimator):
    """Gives group q the favourable decision the more often, the less ``eta`` is."""

    def __init__(self, eta: float = 0.0, half: float = 20.0) -> None:
        self.eta = eta
        self.half = half

    def fit(self, X: Any, y: Any) -> Moving:
        self.classes_ = np.unique(y)
        return self

    def decision_proba(self, X: pd.DataFrame) -> np.ndarray:
        share = np.where(X["who"] == "q", 0.5 + 0.4 * self.half / (self.half + self.eta), 0.5)
        return np.column_stack([1 - share, share])


def extended(half: float, **options: Any) -> ParetoFrontier:
    rows = make_rows(600)
    X = rows.X.assign(who=rows.who)
    return pareto_frontier(
        Moving(half=half), X, rows.y, sensitive_features=rows.who, random_state=0, **options
    )


def test_strengths_go_on_until_the_gap_crosses_the_bound() -> None:
    found = extended(20.0, bound=0.15)
    # .4 * 20 / (20 + eta) <= .15 from eta = 33.3 on.
    assert found.points["eta"].tolist() == [*DEFAULT, 20.0, 40.0]
    assert found.points["gap"].iloc[-2] > 0.15 >= found.points["gap"].iloc[-1]
    assert found.points["gap"].iloc[-1] == pytest.approx(0.4 / 3)
    assert found.select().value == 40.0
    assert not found.notes


def test_the_constraint_s_bound_counts_where_none_is_given() -> None:
    assert extended(5.0).points["eta"].max() == 40.0  # the library's .05
    from fairtrain import DemographicParity

    loose = extended(5.0, metric=DemographicParity(difference_bound=0.1))
    assert loose.points["eta"].max() == 20.0
    assert loose.bound is None


def test_strengths_end_and_say_so() -> None:
    found = extended(1e6, bound=0.1)
    assert found.points["eta"].tolist() == [*DEFAULT, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0]
    assert "no eta up to 640" in found.notes[-1]


def wide(y_true: Any, y_pred: Any, sensitive_features: Any) -> float:
    return 0.9


@pytest.mark.parametrize(
    "given",
    [
        {"etas": DEFAULT, "bound": 0.01},
        {"param": "eta", "values": DEFAULT, "bound": 0.01},
        {"bound": 0.5},
        {"metric": wide},
    ],
)
def test_a_range_that_was_given_or_reaches_stays(given: dict[str, Any]) -> None:
    assert extended(20.0, **given).points["eta"].tolist() == DEFAULT


def test_networks_are_extended_by_means_over_seeds() -> None:
    rows, bound = make_rows(500), 0.01
    found = pareto_frontier(
        None, *rows[:2], sensitive_features=rows.who, bound=bound, n_seeds=2, max_epochs=2,
        random_state=0,
    )  # fmt: skip
    means = found.by_value().set_index("eta")["gap"]
    further = means.index[len(DEFAULT) :].tolist()
    assert further
    assert further == [20.0 * 2**i for i in range(len(further))]
    assert (means.iloc[:-1] > bound).all()
    assert means.iloc[-1] <= bound or further[-1] == 640


PLUG_IN: dict[str, Any] = {"param": "difference_bound", "values": [0.02, 0.1, 0.3], "n_seeds": 2}


@pytest.mark.parametrize(
    ("constraints", "param"),
    [("demographic_parity", "difference_bound"), ("equalized_odds", "difference_bound"),
     ("demographic_parity", "ratio_bound")],
)  # fmt: skip
def test_a_plug_in_is_trained_once_a_seed(
    constraints: str, param: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, held = make_rows(1200), make_rows(800, seed=1)
    fits = []
    fit = FairPlugInClassifier._fit
    monkeypatch.setattr(
        FairPlugInClassifier, "_fit", lambda self, *a: fits.append(1) or fit(self, *a)
    )
    line = LogisticRegression()
    model = FairPlugInClassifier(line, constraints, group_estimator=line, cv=2)

    def sweep(**options: Any) -> ParetoFrontier:
        return pareto_frontier(
            model, *rows[:2], sensitive_features=rows.who, validation_data=held, random_state=5,
            **{**PLUG_IN, "param": param}, **options,
        )  # fmt: skip

    priced = sweep()
    assert len(fits) == 2
    fitted = sweep(vectorize=False)
    assert len(fits) == 8
    drop = {"columns": "seconds"}
    pd.testing.assert_frame_equal(priced.points.drop(**drop), fitted.points.drop(**drop))
    assert priced.notes == fitted.notes
    for one, other in zip(priced.models, fitted.models, strict=True):
        np.testing.assert_allclose(
            one.decision_function(held.X), other.decision_function(held.X), atol=1e-9
        )
        mine, its = one.get_params(), other.get_params()
        assert mine[param] == its[param]
        assert mine["constraints"] == its["constraints"]
        assert one.fairness_report_.results == other.fairness_report_.results


def test_plug_ins_that_certify_are_fitted_each() -> None:
    rows = make_rows(1200)
    model = FairPlugInClassifier(LogisticRegression(), cv=2, certification_fraction=0.2)
    found = pareto_frontier(model, *rows[:2], sensitive_features=rows.who, random_state=0,
                            **{**PLUG_IN, "n_seeds": 1})  # fmt: skip
    assert all("certification" in model.reports_ for model in found.models)


def test_a_sweep_of_plug_ins_goes_on_and_gives_the_same(tmp_path: Path) -> None:
    rows = make_rows(900)
    model = FairPlugInClassifier(LogisticRegression(), cv=2)

    def sweep(values: list[float], cache: Path | None) -> pd.DataFrame:
        found = pareto_frontier(
            model, *rows[:2], sensitive_features=rows.who, param="difference_bound",
            values=values, cache=cache, random_state=0,
        )  # fmt: skip
        return found.points.drop(columns="seconds")

    sweep([0.1], tmp_path)
    resumed = sweep([0.02, 0.1, 0.3], tmp_path)
    pd.testing.assert_frame_equal(resumed, sweep([0.02, 0.1, 0.3], None))
    assert len(list(tmp_path.glob("*.point"))) == 3


class Level(ClassifierMixin, BaseEstimator):
    """Favours everybody whose feature exceeds a level."""

    def __init__(self, level: float = 0.0) -> None:
        self.level = level

    def fit(self, X: Any, y: Any) -> Level:
        self.classes_ = np.unique(y)
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        return (X["a"] > self.level).to_numpy().astype(int)


@pytest.mark.parametrize("performance", ["accuracy", "balanced_accuracy", "roc_auc", "own"])
def test_points_know_whether_a_constant_is_as_good(performance: str) -> None:
    X, y, who = make_rows(800)
    worse = X.assign(a=-X["a"])  # decides against what is true
    own = lambda y_true, y_pred: np.mean(y_true == y_pred)  # noqa: E731

    def flags(table: pd.DataFrame) -> list[bool]:
        found = pareto_frontier(
            Level(), table, y, sensitive_features=who, param="level", values=[0.3],
            performance=own if performance == "own" else performance,
            validation_data=(table, y, who), random_state=0,
        )  # fmt: skip
        assert found.points.columns[-1] == "no_better_than_constant"
        assert found.by_value()["no_better_than_constant"].tolist() == flags_of(found)
        return flags_of(found)

    def flags_of(found: ParetoFrontier) -> list[bool]:
        return found.points["no_better_than_constant"].tolist()

    assert flags(X) == [False]
    assert flags(worse) == [True]


def test_what_a_constant_or_the_baseline_beats_is_never_chosen_silently() -> None:
    X, y, who = make_rows(800)
    given: dict[str, Any] = {
        "sensitive_features": who, "param": "level", "values": [0.3], "random_state": 0,
    }  # fmt: skip
    worse = pareto_frontier(Level(), X.assign(a=-X["a"]), y, **given)
    with pytest.warns(UselessModelWarning, match="no better than one decision for everybody"):
        worse.select(1.0)
    good = pareto_frontier(Level(), X, y, **given, baseline=Level(0.3))
    assert good.beaten_by_baseline.tolist() == [False]
    assert good.select(1.0).value == 0.3
    from dataclasses import replace

    assert good.baseline is not None
    fairer = replace(good.baseline, gap=0.0)
    beaten = replace(good, baseline=fairer)
    assert beaten.beaten_by_baseline.tolist() == [True]
    with pytest.warns(UselessModelWarning, match="the baseline performs better"):
        beaten.select(1.0)
    with pytest.warns(UselessModelWarning, match="at the knee, is beaten"):
        beaten.knee()
    assert replace(good, baseline=None).beaten_by_baseline.tolist() == [False]


def test_floors_make_no_gap() -> None:
    floor, parity = AtLeast("recall", 0.5), DemographicParity(difference_bound=0.1)
    cap = AtMost("selection_rate", 0.3)
    assert read_metric([parity, floor, cap]) == (parity,)
    assert read_metric(cap) == (cap,)
    for metric in (floor, NoLevellingDown(), [cap, floor]):
        with pytest.raises(InvalidParameterError, match="a frontier's gap is to be small"):
            read_metric(metric)
    X, y, group = make_rows(300)
    model = FairPlugInClassifier(LogisticRegression(), floor, cv=2, random_state=0)
    found = pareto_frontier(model, X, y, sensitive_features=group, param="mixing", values=[100.0])
    assert found.gap_name == "demographic parity gap"
