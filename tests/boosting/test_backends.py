"""Both back ends: stock trees, margins that grow with the trees, models cut and given back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
import xgboost as xgb
from tests.boosting.data import make_rows

from fairtrain.boosting.backend import Settings, TreeData, TreeRun, backend_of, load_backend
from fairtrain.exceptions import InvalidParameterError

BOOSTERS = ("xgboost", "lightgbm")
BOTH = pytest.mark.parametrize("booster", BOOSTERS)
X, Y, _ = make_rows(600)
WEIGHT = np.random.default_rng(0).uniform(0.5, 2.0, 600)


def start(booster: str, **settings: Any) -> TreeRun:
    given = {"max_depth": 3, "learning_rate": 0.3, "seed": 1, "n_jobs": 1} | settings
    data = TreeData(X[:400], Y[:400].astype(float), WEIGHT[:400], X[400:], [X[:50]])
    return load_backend(booster).start(data, Settings(booster, "classification", 10, **given))


def pushed(margin: Any) -> tuple[Any, Any]:
    """Log loss plus a push downwards for a third of the rows."""
    p = 1 / (1 + np.exp(-margin))
    push = np.where(np.arange(len(margin)) % 3 == 0, 0.5, 0.0)
    return (WEIGHT[:400] * (p - Y[:400]) + push * p * (1 - p)), WEIGHT[:400] * p * (1 - p) + 1e-6


def stock_predict(model: Any, rows: Any) -> Any:
    return backend_of(model).predict(model, rows)


@BOTH
def test_margins_follow_the_model_round_by_round(booster: str) -> None:
    run = start(booster)
    for number in range(8):
        if number in (0, 1):
            run.plain_round()
        else:
            run.round(pushed)
        assert run.n_rounds == number + 1
        model = run.model(number + 1)
        for margin, rows in (
            (run.training_margin(), X[:400]),
            (run.steering_margin(), X[400:]),
            (run.watched_margin(0), X[:50]),
        ):
            probability = 1 / (1 + np.exp(-margin.astype(float)))
            np.testing.assert_allclose(probability, stock_predict(model, rows), atol=2e-6)


@BOTH
def test_a_model_cut_earlier_is_the_earlier_model(booster: str) -> None:
    run = start(booster)
    run.plain_round()
    run.round(pushed)
    run.round(pushed)
    early = stock_predict(run.model(3), X)
    run.round(pushed)
    run.round(pushed)
    np.testing.assert_array_equal(stock_predict(run.model(3), X), early)
    assert not np.allclose(stock_predict(run.model(5), X), early)


def test_plain_rounds_are_xgboost_s_own() -> None:
    run = start("xgboost")
    for _ in range(6):
        run.plain_round()
    params = {"objective": "binary:logistic", "max_depth": 3, "learning_rate": 0.3, "seed": 1}
    rows = xgb.QuantileDMatrix(X[:400], Y[:400], weight=WEIGHT[:400])
    stock = xgb.train(params | {"nthread": 1}, rows, 6)
    assert run.model(6).get_dump(with_stats=True) == stock.get_dump(with_stats=True)
    np.testing.assert_array_equal(stock_predict(run.model(6), X), stock.predict(xgb.DMatrix(X)))


def test_plain_rounds_are_lightgbm_s_own() -> None:
    run = start("lightgbm")
    for _ in range(6):
        run.plain_round()
    params = {"objective": "binary", "max_depth": 3, "num_leaves": 8, "learning_rate": 0.3}
    params |= {"seed": 1, "num_threads": 1, "verbosity": -1, "deterministic": True}
    rows = lgb.Dataset(X[:400], Y[:400], weight=WEIGHT[:400])
    stock = lgb.train(params | {"force_row_wise": True}, rows, 6)
    np.testing.assert_array_equal(stock_predict(run.model(6), X), stock.predict(X))
    trees, ours = stock.trees_to_dataframe(), run.model(6).trees_to_dataframe()
    assert trees.drop(columns="node_index").equals(ours.drop(columns="node_index"))


def test_xgboost_s_model_is_saved_and_loaded_by_xgboost(tmp_path: Path) -> None:
    run = start("xgboost")
    run.round(pushed)
    run.round(pushed)
    run.model(2).save_model(tmp_path / "model.json")
    loaded = xgb.Booster(model_file=tmp_path / "model.json")
    probability = loaded.predict(xgb.DMatrix(X))
    assert probability.min() >= 0
    assert probability.max() <= 1
    np.testing.assert_array_equal(probability, stock_predict(run.model(2), X))


def test_lightgbm_s_model_is_saved_and_loaded_by_lightgbm(tmp_path: Path) -> None:
    run = start("lightgbm")
    run.plain_round()
    run.round(pushed)
    run.model(2).save_model(tmp_path / "model.txt")
    loaded = lgb.Booster(model_file=tmp_path / "model.txt")
    np.testing.assert_array_equal(loaded.predict(X), stock_predict(run.model(2), X))
    assert (loaded.predict(X) >= 0).all()
    assert (loaded.predict(X) <= 1).all()


@BOTH
def test_gains_are_those_of_the_features(booster: str) -> None:
    run = start(booster)
    run.plain_round()
    model = run.model(1)
    gains = backend_of(model).gains(model, 5)
    assert gains.shape == (5,)
    assert gains.argmax() == 0  # the feature that the label depends on most


@BOTH
def test_parameters_that_would_change_what_is_trained_are_refused(booster: str) -> None:
    for params, words in (
        ({"objective": "reg:squarederror"}, "may not set 'objective': the objective is the loss"),
        ({"scale_pos_weight": 2}, "pass sample_weight"),
        ({"learning_rate": 1.0}, "use learning_rate"),
        ({"booster": "dart"} if booster == "xgboost" else {"boosting": "dart"}, "round by round"),
    ):
        with pytest.raises(InvalidParameterError, match=words):
            start(booster, params=params)


def test_what_the_booster_says_of_parameters_is_one_line() -> None:
    for params, words in (
        ({"subsample": 2}, "cannot use these parameters: .*subsample"),
        ({"tree_method": "own"}, "cannot use these parameters: .*'own'"),
        ({"min_child_weight": "x"}, "cannot use these parameters: .*min_child_weight"),
    ):
        with pytest.raises(InvalidParameterError, match=words) as error:
            start("xgboost", params=params)
        assert "\n" not in str(error.value)
    for rate in (1e300, 1e-300):  # single precision holds neither
        with pytest.raises(InvalidParameterError, match="Out of range value for learning_rate"):
            start("xgboost", learning_rate=rate)


def test_an_unknown_booster_is_named() -> None:
    with pytest.raises(InvalidParameterError, match="'xgboost' or 'lightgbm', got 'catboost'"):
        load_backend("catboost")


@BOTH
def test_a_round_costs_the_same_late_as_early(booster: str) -> None:
    """Predicting all trees anew in every round would make late rounds many times dearer."""
    from time import process_time

    rows, labels, _ = make_rows(20_000)
    data = TreeData(rows[:200], labels[:200].astype(float), None, rows)
    settings = Settings(booster, "classification", 400, 3, n_jobs=1)
    run = load_backend(booster).start(data, settings)
    spent = []
    for _ in range(400):
        before = process_time()
        run.plain_round()
        run.steering_margin()
        spent.append(process_time() - before)
    assert np.median(spent[-100:]) < 3 * np.median(spent[20:120])
