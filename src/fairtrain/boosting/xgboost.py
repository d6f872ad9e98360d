"""XGBoost as a back end."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairtrain._imports import require
from fairtrain.boosting.backend import (
    Backend,
    Derivatives,
    Settings,
    TreeData,
    check_params,
    finite_margins,
    in_one_line,
)

xgb: Any = require("xgboost", extra="boosting")

__all__ = ["BACKEND", "XGBoostRun"]

Floats = NDArray[np.float64]

_TAKEN = {
    "objective": "the objective is the loss and the constraints",
    "eval_metric": "history_ has the measures",
    "eta": "use learning_rate",
    "learning_rate": "use learning_rate of the estimator",
    "max_depth": "use max_depth of the estimator",
    "seed": "use random_state",
    "random_state": "use random_state of the estimator",
    "nthread": "use n_jobs",
    "n_jobs": "use n_jobs of the estimator",
    "scale_pos_weight": "pass sample_weight to fit",
    "num_class": "labels are two",
    "n_estimators": "use n_estimators of the estimator",
}


class XGBoostRun:
    """An ``xgboost.Booster`` in training; see :class:`fairtrain.boosting.backend.TreeRun`.

    XGBoost keeps the predictions of every matrix a booster was made with, and adds only new trees
    to them: margins cost one tree a round.
    """

    def __init__(self, data: TreeData, settings: Settings) -> None:
        check_params(settings.params, _TAKEN, {"booster": {"gbtree"}})
        self._params = {
            "objective": "binary:logistic"
            if settings.task == "classification"
            else "reg:squarederror",
            "learning_rate": settings.learning_rate,
            "seed": settings.seed,
            **({} if settings.max_depth is None else {"max_depth": settings.max_depth}),
            **({} if settings.n_jobs is None else {"nthread": settings.n_jobs}),
            **settings.params,
        }
        monotone = self._params.get("monotone_constraints")
        if isinstance(monotone, list | tuple):  # as XGBClassifier takes it
            self._params["monotone_constraints"] = str(tuple(monotone))
        threads = {} if settings.n_jobs is None else {"nthread": settings.n_jobs}
        self._train = self._matrix(data, threads)
        self._steering = (
            self._train if data.steering is None else as_matrix(data.steering, **threads)
        )
        self._watched = [as_matrix(X, **threads) for X in data.watched]
        known = list(dict.fromkeys([self._train, self._steering, *self._watched]))
        with in_one_line("xgboost", "parameters", xgb.core.XGBoostError):
            self._booster = xgb.Booster(self._params, known)
            self._booster.save_config()  # parameters are read late, and here at the latest

    @property
    def n_rounds(self) -> int:
        """Rounds so far."""
        return int(self._booster.num_boosted_rounds())

    @property
    def can_go_plain(self) -> bool:
        """Always."""
        return True

    def plain_round(self) -> None:
        """Add a tree by XGBoost's own objective."""
        self._booster.update(self._train, self.n_rounds)

    def round(self, derivatives: Derivatives) -> None:
        """Add a tree by derivatives."""
        gradient, hessian = derivatives(self.training_margin())
        self._booster.boost(
            self._train,
            iteration=self.n_rounds,
            grad=gradient.astype(np.float32, copy=False),
            hess=hessian.astype(np.float32, copy=False),
        )

    def training_margin(self) -> Floats:
        """Margins of the training rows."""
        return self._margin(self._train, training=True)

    def steering_margin(self) -> Floats:
        """Margins of the steering rows."""
        return self._margin(self._steering)

    def watched_margin(self, i: int) -> Floats:
        """Margins of the watched rows number i."""
        return self._margin(self._watched[i])

    def model(self, n_rounds: int) -> Any:
        """Slice the booster; matrices stay behind."""
        return self._booster[:n_rounds]

    def _margin(self, matrix: Any, *, training: bool = False) -> Floats:
        margins = self._booster.predict(matrix, output_margin=True, training=training)
        return finite_margins(np.asarray(margins))

    def _matrix(self, data: TreeData, threads: dict[str, Any]) -> Any:
        rows = {"label": data.y, "weight": data.weight, **threads}
        if self._params.get("tree_method", "hist") not in ("hist", "auto"):
            return as_matrix(data.X, **rows)
        bins = {"max_bin": self._params["max_bin"]} if "max_bin" in self._params else {}
        with in_one_line("xgboost", "rows", xgb.core.XGBoostError):
            return xgb.QuantileDMatrix(data.X, **rows, **bins, enable_categorical=True)


def as_matrix(X: Any, **rows: Any) -> Any:
    """Rows as XGBoost takes them, with categories where a frame has them."""
    with in_one_line("xgboost", "rows", xgb.core.XGBoostError):
        return xgb.DMatrix(X, enable_categorical=True, **rows)


def predict(model: Any, X: Any) -> Floats:
    """Probabilities of the favourable label, or values, shape (n,)."""
    named = {}
    if not hasattr(X, "columns"):
        named = {"feature_names": model.feature_names, "feature_types": model.feature_types}
    return np.asarray(model.predict(as_matrix(X, **named)), dtype=np.float64)


def gains(model: Any, n_features: int) -> Floats:
    """Gain of every feature over all its splits, shape (d,)."""
    names = model.feature_names or [f"f{j}" for j in range(n_features)]
    found = model.get_score(importance_type="total_gain")
    return np.array([found.get(name, 0.0) for name in names], dtype=np.float64)


BACKEND = Backend(XGBoostRun, predict, gains)
