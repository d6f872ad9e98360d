"""``pareto_frontier``: the models it trains, the rows it scores them on, what it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from fairlearn.metrics import demographic_parity_difference
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tests.tradeoff.data import make_rows
from torch import nn

from fairtrain import (
    LagrangianBoostingClassifier,
    LagrangianFairnessTrainer,
    ReductionsWrapper,
    RegularizedFairnessTrainer,
    gap,
    pareto_frontier,
)
from fairtrain.exceptions import (
    FairtrainWarning,
    InvalidDataError,
    InvalidParameterError,
    UnseenGroupError,
)

QUICK: dict[str, Any] = {"max_epochs": 2, "batch_size": 128, "random_state": 3}


def small(n_features: int, n_outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(n_features, 4), nn.ReLU(), nn.Linear(4, n_outputs))


def split() -> tuple[Any, Any]:
    rows = make_rows()
    return tuple(
        (rows.X.iloc[part], rows.y[part], rows.who[part])
        for part in (slice(0, 1000), slice(1000, None))
    )  # type: ignore[return-value]


@pytest.mark.parametrize("vectorize", [True, False])
def test_points_are_the_models_that_one_training_each_gives(vectorize: bool) -> None:
    (X, y, who), held = split()
    found = pareto_frontier(
        small, X, y, sensitive_features=who, etas=(0, 2), n_seeds=2, validation_data=held,
        vectorize=vectorize, **QUICK,
    )  # fmt: skip
    assert found.points[["eta", "seed"]].to_numpy().tolist() == [[0, 3], [0, 4], [2, 3], [2, 4]]
    for (_, row), model in zip(found.points.iterrows(), found.models, strict=True):
        alone = RegularizedFairnessTrainer(
            small, eta=row["eta"], max_epochs=2, batch_size=128, random_state=int(row["seed"]),
            validation_fraction=0.0,
        ).fit(X, y, sensitive_features=who)  # fmt: skip
        Xv, yv, whov = held
        np.testing.assert_allclose(
            model.decision_function(Xv), alone.decision_function(Xv), atol=1e-5
        )
        decided = model.predict(Xv)
        assert row["performance"] == pytest.approx(np.mean(decided == yv))
        expected = demographic_parity_difference(yv, decided, sensitive_features=whov)
        assert row["gap"] == pytest.approx(expected)
        interval = gap(yv, decided, whov)
        assert (row["gap_lower"], row["gap_upper"]) == (interval.lower, interval.upper)
        assert row["performance_lower"] < row["performance"] < row["performance_upper"]


class Recording(ClassifierMixin, BaseEstimator):
    """Remembers which rows it was fitted on and which it was asked about."""

    def __init__(self, level: float = 0.0) -> None:
        self.level = level

    def fit(self, X: Any, y: Any) -> Recording:
        self.fitted_, self.asked_ = set(X["id"]), set()
        self.classes_ = np.unique(y)
        return self

    def predict(self, X: Any) -> np.ndarray:
        self.asked_ |= set(X["id"])
        return (X["a"] > self.level).to_numpy().astype(int)


def test_rows_that_train_and_rows_that_score_are_apart() -> None:
    rows = make_rows(600)
    X = rows.X.assign(id=np.arange(600))
    found = pareto_frontier(
        Recording(), X, rows.y, sensitive_features=rows.who, param="level", values=[0.0, 1.0],
        validation_fraction=0.3, random_state=0,
    )  # fmt: skip
    first, second = found.models
    assert first.fitted_ == second.fitted_
    assert first.asked_ == second.asked_
    assert first.fitted_.isdisjoint(first.asked_)
    assert first.fitted_ | first.asked_ == set(range(600))
    assert found.n_validation == len(first.asked_) == pytest.approx(180, abs=2)


@pytest.mark.parametrize("model", ["reductions", "boosting", "lagrangian", "pipeline"])
def test_any_estimator_and_parameter(model: str) -> None:
    rows = make_rows()
    made, param = {
        "reductions": (ReductionsWrapper(LogisticRegression()), "difference_bound"),
        "boosting": (LagrangianBoostingClassifier(n_estimators=20), "difference_bound"),
        "lagrangian": (
            LagrangianFairnessTrainer(None, batch_size=64, max_epochs=20),
            "difference_bound",
        ),
        "pipeline": (
            make_pipeline(StandardScaler(), LogisticRegression()),
            "logisticregression__C",
        ),
    }[model]
    values = [0.02, 0.3]
    found = pareto_frontier(
        made, *rows[:2], sensitive_features=rows.who, param=param, values=values, random_state=0,
    )  # fmt: skip
    assert found.param == param
    assert found.points[param].tolist() == values
    assert found.models[1].get_params()[param] == 0.3
    if model != "pipeline":
        assert found.points["gap"][0] < found.points["gap"][1] - 0.05


def test_a_randomised_mixture_is_scored_by_its_probabilities() -> None:
    rows = make_rows()
    held = make_rows(seed=1)
    found = pareto_frontier(
        ReductionsWrapper(LogisticRegression()), *rows[:2], sensitive_features=rows.who,
        param="difference_bound", values=[0.03], validation_data=held, random_state=0,
    )  # fmt: skip
    share = found.models[0].predict_proba(held.X)[:, 1]
    right = np.where(held.y == 1, share, 1 - share)
    assert found.points["performance"][0] == pytest.approx(right.mean())
    assert found.points["gap"][0] == pytest.approx(
        abs(share[held.who == "p"].mean() - share[held.who == "q"].mean())
    )


def test_performance_by_name_and_function() -> None:
    (X, y, who), (Xv, yv, whov) = split()
    expected = {
        "roc_auc": lambda m: roc_auc_score(yv, m.predict_proba(Xv)[:, 1]),
        "balanced_accuracy": lambda m: balanced_accuracy_score(yv, m.predict(Xv)),
    }
    for name, oracle in expected.items():
        found = pareto_frontier(
            small, X, y, sensitive_features=who, etas=[1], performance=name,
            validation_data=(Xv, yv, whov), **QUICK,
        )  # fmt: skip
        assert found.points["performance"][0] == pytest.approx(oracle(found.models[0]))
        low, high = found.points[["performance_lower", "performance_upper"]].iloc[0]
        assert low < found.points["performance"][0] < high
    found = pareto_frontier(
        small, X, y, sensitive_features=who, etas=[1], validation_data=(Xv, yv, whov),
        performance=lambda y_true, y_pred: -np.mean(y_true != y_pred),
        metric=lambda y_true, y_pred, who: 0.25, **QUICK,
    )  # fmt: skip
    assert found.points["performance"][0] == -np.mean(yv != found.models[0].predict(Xv))
    assert found.points["gap"][0] == 0.25
    assert np.isnan(found.points["gap_upper"][0])


def test_seeds_of_a_module_start_from_new_weights() -> None:
    rows = make_rows(400)
    net = small(3, 1)
    before = [p.detach().clone() for p in net.parameters()]
    options: dict[str, Any] = {**QUICK, "trainer_options": {"lr": 1e-12}}
    one = pareto_frontier(net, *rows[:2], sensitive_features=rows.who, etas=[1], **options)
    two = pareto_frontier(
        net, *rows[:2], sensitive_features=rows.who, etas=[1, 2], n_seeds=2, **options
    )

    def first(model: Any) -> np.ndarray:
        return next(model.module_.parameters()).detach().numpy()

    np.testing.assert_allclose(first(one.models[0]), before[0].numpy(), atol=1e-6)
    assert not np.allclose(first(two.models[0]), first(two.models[1]))
    np.testing.assert_allclose(first(two.models[0]), first(two.models[2]), atol=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_processes_change_nothing() -> None:
    rows = make_rows(400)
    given: dict[str, Any] = {
        "sensitive_features": rows.who, "param": "difference_bound", "values": [0.05, 0.2],
        "random_state": 0,
    }  # fmt: skip
    model = ReductionsWrapper(LogisticRegression())
    one = pareto_frontier(model, *rows[:2], **given)
    two = pareto_frontier(model, *rows[:2], n_jobs=2, **given)
    pd.testing.assert_frame_equal(
        one.points.drop(columns="seconds"), two.points.drop(columns="seconds")
    )


def test_what_cannot_be_stacked_goes_one_by_one_and_says_why() -> None:
    rows = make_rows(400)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
    given: dict[str, Any] = {"sensitive_features": rows.who, "etas": [0, 1], **QUICK}
    found = pareto_frontier(net, *rows[:2], **given)
    assert any("one by one" in note and "running statistics" in note for note in found.notes)
    with pytest.warns(FairtrainWarning, match="one by one"):
        pareto_frontier(net, *rows[:2], vectorize=True, **given)


@pytest.mark.parametrize("vectorize", [True, False])
def test_what_trainings_warn_of_becomes_notes(vectorize: bool) -> None:
    rows = make_rows(400)
    etas = (0, 1000)
    found = pareto_frontier(
        small, *rows[:2], sensitive_features=rows.who, etas=etas, vectorize=vectorize,
        trainer_options={"lr": 1e-9}, **QUICK,
    )  # fmt: skip
    assert found.notes
    assert len(set(found.notes)) == len(found.notes)


def test_columns_of_x_as_groups() -> None:
    rows = make_rows(600)
    X = rows.X.assign(who=rows.who)
    model = ReductionsWrapper(LogisticRegression(), sensitive_features="who")
    named = pareto_frontier(
        model, X, rows.y, param="difference_bound", values=[0.1], random_state=0
    )
    apart = pareto_frontier(
        ReductionsWrapper(LogisticRegression()), *rows[:2], sensitive_features=rows.who,
        param="difference_bound", values=[0.1], random_state=0,
    )  # fmt: skip
    assert named.points["gap"][0] == apart.points["gap"][0]


def test_labels_and_favourable_outcome() -> None:
    rows = make_rows(600)
    words = np.where(rows.y == 1, "deny", "approve")
    given: dict[str, Any] = {
        "sensitive_features": rows.who, "param": "difference_bound", "values": [0.1],
        "metric": "equal_opportunity", "random_state": 0,
    }  # fmt: skip
    model = ReductionsWrapper(LogisticRegression(), "equal_opportunity")
    found = pareto_frontier(model, rows.X, words, positive_label="approve", **given)
    as_numbers = pareto_frontier(model, rows.X, 1 - rows.y, **given)
    assert found.points["gap"][0] == pytest.approx(as_numbers.points["gap"][0], abs=1e-3)


def test_several_classes() -> None:
    rows = make_rows(900)
    y = np.digitize(rows.X["a"], [0, 0.7])
    found = pareto_frontier(small, rows.X, y, sensitive_features=rows.who, etas=[0, 5], **QUICK)
    decided = found.models[0].predict(rows.X)
    assert set(decided) <= {0, 1, 2}
    assert found.points["gap"].between(0, 1).all()


class Storing(ClassifierMixin, BaseEstimator):
    """Fails when it is fitted."""

    def __init__(self, level: float = 0.0) -> None:
        self.level = level

    def fit(self, X: Any, y: Any) -> Storing:
        raise InvalidDataError("this model never fits.")


BAD: list[tuple[dict[str, Any], str]] = [
    ({"etas": []}, "nothing to train"),
    ({"etas": [-1]}, "etas must be finite numbers >= 0"),
    ({"etas": [1, 1.0]}, "same value twice"),
    ({"param": "eta"}, "given without values"),
    ({"values": [1]}, "given without param"),
    ({"param": "bound", "values": [1]}, "no parameter 'bound'"),
    ({"performance": "charm"}, "accuracy, balanced_accuracy, roc_auc"),
    ({"n_seeds": 0}, "n_seeds must be"),
    ({"vectorize": "yes"}, "vectorize must be"),
    ({"validation_fraction": 1.0}, "validation_fraction must lie in"),
    ({"sensitive_features": None}, "sensitive_features is missing"),
    ({"validation_data": (1, 2)}, "validation_data must be"),
    ({"trainer_options": {"depth": 3}}, "no setting 'depth'"),
    ({"metric": "kindness"}, "kindness"),
]


@pytest.mark.parametrize(("wrong", "says"), BAD, ids=[says for _, says in BAD])
def test_bad_settings_are_one_line(wrong: dict[str, Any], says: str) -> None:
    rows = make_rows(200)
    given = {"sensitive_features": rows.who, "etas": [0, 1], **QUICK, **wrong}
    with pytest.raises(InvalidParameterError, match=says) as caught:
        pareto_frontier(small, *rows[:2], **given)
    assert "\n" not in str(caught.value)


def test_bad_models_and_rows() -> None:
    rows = make_rows(200)
    given: dict[str, Any] = {"sensitive_features": rows.who}
    with pytest.raises(InvalidParameterError, match="pass an instance"):
        pareto_frontier(LogisticRegression, *rows[:2], **given)
    with pytest.raises(InvalidParameterError, match="no parameter 'eta'"):
        pareto_frontier(LogisticRegression(), *rows[:2], **given)
    with pytest.raises(InvalidParameterError, match="model must be"):
        pareto_frontier(3, *rows[:2], **given)
    with pytest.raises(InvalidParameterError, match="set these in ReductionsWrapper"):
        pareto_frontier(
            ReductionsWrapper(LogisticRegression()), *rows[:2], param="eps", values=[0.1],
            max_epochs=3, **given,
        )  # fmt: skip
    with pytest.raises(UnseenGroupError):
        pareto_frontier(
            small, *rows[:2], validation_data=(rows.X, rows.y, ["zz"] * 200), **given, **QUICK
        )
    with pytest.raises(InvalidDataError, match="never fits"):
        pareto_frontier(Storing(), *rows[:2], param="level", values=[1], **given)


@pytest.mark.parametrize("name", ["y", "sensitive_features", "sample_weight", "validation_data"])
def test_whatever_carries_another_index_is_refused(name: str) -> None:
    X, y, who = make_rows(200)
    given: dict[str, Any] = {
        "y": pd.Series(y),
        "sensitive_features": pd.Series(who),
        "sample_weight": pd.Series(np.ones(200)),
        "validation_data": None,
    }
    if name == "validation_data":
        given[name] = (X, pd.Series(y).sample(frac=1, random_state=0), who)
    else:
        given[name] = given[name].sample(frac=1, random_state=0)
    with pytest.raises(InvalidDataError, match="carries another index than"):
        pareto_frontier(LogisticRegression(), X, param="C", values=[1.0], **given)


def test_rows_of_weight_0_neither_train_nor_score() -> None:
    X, y, who = make_rows(400)
    weight = np.where(np.arange(400) % 4 == 0, 0.0, 1.0)
    kept = weight > 0
    options: dict[str, Any] = {"param": "C", "values": [0.1, 1.0], "random_state": 0}
    model = LogisticRegression()
    whole = pareto_frontier(model, X, y, sensitive_features=who, sample_weight=weight, **options)
    alone = pareto_frontier(
        model, X[kept], y[kept], sensitive_features=who[kept], sample_weight=weight[kept], **options
    )
    assert whole.n_validation == alone.n_validation
    pd.testing.assert_frame_equal(
        whole.points.drop(columns="seconds"), alone.points.drop(columns="seconds")
    )
