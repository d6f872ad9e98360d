"""LagrangianBoostingRegressor: bounded group loss."""

from __future__ import annotations

from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
import xgboost as xgb

from fairtrain import (
    BoundedGroupLoss,
    DemographicParity,
    LagrangianBoostingRegressor,
    Verdict,
)
from fairtrain.exceptions import ConstraintNotMetWarning, InvalidParameterError

BOTH = pytest.mark.parametrize("booster", ["xgboost", "lightgbm"])


def make_values(n: int = 6000, seed: int = 0) -> tuple[Any, Any, Any]:
    """The slope of a small group has the other sign, which costs everybody something."""
    rng = np.random.default_rng(seed)
    group = np.where(rng.random(n) < 0.15, "few", "many")
    X = rng.normal(size=(n, 3)) + 0.8 * (group == "few")[:, None]
    y = np.where(group == "few", -X[:, 0], X[:, 0]) + rng.normal(scale=0.3, size=n)
    return X, 10 * y, group


def model(bound: float, loss: Any = "squared", **settings: Any) -> LagrangianBoostingRegressor:
    limit = BoundedGroupLoss(upper_bound=bound, loss=loss)
    given = {"max_depth": 3, "random_state": 0, "n_jobs": 1} | settings
    return LagrangianBoostingRegressor(limit, **given)


def group_losses(found: Any, X: Any, y: Any, group: Any) -> dict[str, float]:
    losses = (y - found.predict(X)) ** 2
    return {name: float(losses[group == name].mean()) for name in ("few", "many")}


@BOTH
def test_the_loss_of_the_small_group_comes_under_the_limit(booster: str) -> None:
    X, y, group = make_values()
    fresh = make_values(seed=1)
    plain = model(1e9, booster=booster).fit(X, y, sensitive_features=group)
    before = group_losses(plain, *fresh)
    bound = 0.75 * before["few"]
    found = model(bound, booster=booster).fit(X, y, sensitive_features=group)
    after = group_losses(found, *fresh)
    assert before["few"] > bound > before["many"]
    assert after["few"] < 1.1 * bound  # on rows never seen
    assert after["many"] > before["many"]  # who pays
    steered = found.reports_["steering"].results[0]
    assert steered.achieved <= bound
    assert found.status_ is Verdict.NOT_CERTIFIED
    assert "few" in found.explain()
    assert found.score(*fresh[:2]) < plain.score(*fresh[:2])


@BOTH
def test_while_no_limit_binds_the_trees_are_the_booster_s_own(booster: str) -> None:
    X, y, group = make_values(1500)
    found = model(1e9, booster=booster, validation_fraction=0.0, n_estimators=20)
    found.fit(X, y, sensitive_features=group)
    if booster == "xgboost":
        stock: Any = xgb.XGBRegressor(n_estimators=20, max_depth=3, learning_rate=0.1, n_jobs=1)
    else:
        stock = lgb.LGBMRegressor(
            n_estimators=20, max_depth=3, num_leaves=8, learning_rate=0.1, verbosity=-1,
            deterministic=True, force_row_wise=True, n_jobs=1,
        )  # fmt: skip
    np.testing.assert_array_equal(found.predict(X), stock.fit(X, y).predict(X))


def absolute(y: Any, prediction: Any) -> Any:
    return abs(y - prediction)


def test_a_loss_of_one_s_own_and_one_out_of_reach() -> None:
    X, y, group = make_values()
    plain = model(1e9, absolute).fit(X, y, sensitive_features=group)
    bound = 0.85 * plain.reports_["steering"].results[0].achieved
    found = model(bound, absolute).fit(X, y, sensitive_features=group)
    assert found.reports_["steering"].results[0].achieved <= bound
    assert found.history_["price: bounded_group_loss[few]"].iloc[-1] > 0
    with pytest.warns(ConstraintNotMetWarning, match="at most 1 is asked"):
        model(1.0, absolute, n_estimators=30).fit(X, y, sensitive_features=group)


def test_frames_weights_and_eval_sets() -> None:
    X, y, group = make_values(2000)
    data = pd.DataFrame(X, columns=list("abc")).assign(group=group)
    found = model(1e9, sensitive_features="group", early_stopping_rounds=5, n_estimators=400)
    found.fit(data, y, sample_weight=np.ones(2000), eval_set=[(data, y)])
    assert found.n_estimators_ <= len(found.history_)
    at = found.history_.loc[found.best_iteration_]
    assert at["eval_0_squared_error"] == pytest.approx(np.mean((y - found.predict(data)) ** 2))
    assert found.evaluate(data, y).rows == "training"  # most of them


@pytest.mark.parametrize(
    "constraint",
    [
        DemographicParity(),
        BoundedGroupLoss(upper_bound=1.0),
        BoundedGroupLoss(upper_bound=1.0, loss="log_loss"),
    ],
)
def test_only_losses_of_numbers_are_bounded(constraint: Any) -> None:
    X, y, group = make_values(100)
    with pytest.raises(InvalidParameterError, match="takes BoundedGroupLoss with loss='squared'"):
        LagrangianBoostingRegressor(constraint).fit(X, y, sensitive_features=group)
