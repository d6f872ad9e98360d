"""LightGBM as a back end."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

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

lgb: Any = require("lightgbm", extra="boosting")

__all__ = ["BACKEND", "LightGBMRun"]

Floats = NDArray[np.float64]

_LEAST = 1e-15  # a probability of exactly 0 or 1 has no margin

_TAKEN = {
    **dict.fromkeys(
        ("objective", "objective_type", "app", "application", "loss"),
        "the objective is the loss and the constraints",
    ),
    **dict.fromkeys(("metric", "metrics", "metric_types"), "history_ has the measures"),
    **dict.fromkeys(("learning_rate", "shrinkage_rate", "eta"), "use learning_rate"),
    **dict.fromkeys(("seed", "random_seed", "random_state"), "use random_state"),
    **dict.fromkeys(
        ("num_threads", "num_thread", "nthread", "nthreads", "n_jobs"),
        "use n_jobs of the estimator",
    ),
    **dict.fromkeys(
        ("num_iterations", "num_iteration", "n_iter", "num_boost_round", "n_estimators"),
        "use n_estimators of the estimator",
    ),
    **dict.fromkeys(
        ("is_unbalance", "unbalance", "scale_pos_weight", "unbalanced_sets"),
        "pass sample_weight to fit",
    ),
    "max_depth": "use max_depth of the estimator",
    "sigmoid": "probabilities are the logistic function of margins",
    "linear_tree": "leaves are constants here",
}
_KINDS = {"gbdt", "gbrt", "goss"}


class LightGBMRun:
    """A ``lightgbm.Booster`` in training; see :class:`fairtrain.boosting.backend.TreeRun`.

    LightGBM keeps the scores of its training and validation sets as it grows, and hands them to
    functions that look like metrics. Until a price is on, trees grow by its own objective, which
    shows probabilities instead of margins.
    """

    def __init__(self, data: TreeData, settings: Settings) -> None:
        check_params(
            settings.params, _TAKEN, {"boosting": _KINDS, "boosting_type": _KINDS, "boost": _KINDS}
        )
        self._objective = "binary" if settings.task == "classification" else "regression"
        depth = {} if settings.max_depth is None else {"max_depth": settings.max_depth}
        if settings.max_depth is not None and settings.max_depth > 0:
            depth["num_leaves"] = min(2**settings.max_depth, 131_072)
        params = {
            "objective": self._objective,
            "metric": "None",
            "learning_rate": settings.learning_rate,
            "seed": settings.seed,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
            **depth,
            **({} if settings.n_jobs is None else {"num_threads": settings.n_jobs}),
            **settings.params,
        }
        kept = {"free_raw_data": True, "params": params}
        with in_one_line("lightgbm", "rows", lgb.basic.LightGBMError):
            self._train = lgb.Dataset(data.X, data.y, weight=data.weight, **kept)
            self._booster = lgb.Booster(params, self._train)
            self._sets = [
                self._train.create_valid(X, np.zeros(X.shape[0]), params=params)
                for X in ([] if data.steering is None else [data.steering]) + list(data.watched)
            ]
            for i, rows in enumerate(self._sets):
                self._booster.add_valid(rows, str(i))
        self._steers_itself = data.steering is None
        self._own = True
        self._steps = 0

    @property
    def n_rounds(self) -> int:
        """Rounds so far."""
        return int(self._booster.current_iteration())

    @property
    def can_go_plain(self) -> bool:
        """Until the first round by other derivatives: LightGBM finds no way back in training."""
        return self._own

    def plain_round(self) -> None:
        """Add a tree by LightGBM's own objective."""
        self._booster.update()

    def round(self, derivatives: Derivatives) -> None:
        """Add a tree by derivatives."""
        self._own = False

        def objective(scores: Any, _: Any) -> tuple[Any, Any]:
            gradient, hessian = derivatives(np.asarray(scores, dtype=np.float32))
            return gradient, hessian

        self._booster.update(fobj=objective)

    def training_margin(self) -> Floats:
        """Margins of the training rows."""
        return self._margin(self._train, "training")

    def steering_margin(self) -> Floats:
        """Margins of the steering rows."""
        return self.training_margin() if self._steers_itself else self._margin(self._sets[0], "0")

    def watched_margin(self, i: int) -> Floats:
        """Margins of the watched rows number i."""
        place = i if self._steers_itself else i + 1
        return self._margin(self._sets[place], str(place))

    def model(self, n_rounds: int) -> Any:
        """Cut the booster and give it back its objective, so that it predicts probabilities."""
        if not self._own:
            self._booster.reset_parameter({"objective": self._objective})
        text = self._booster.model_to_string(num_iteration=n_rounds)
        if not self._own:
            self._booster.reset_parameter({"objective": "none"})
        return lgb.Booster(model_str=text)

    def _margin(self, rows: Any, name: str) -> Floats:
        seen: list[Floats] = []

        def look(scores: Any, _: Any) -> tuple[str, float, bool]:
            seen.append(np.array(scores, dtype=np.float64))
            return "margin", 0.0, True

        self._booster.eval(rows, name, look)
        if self._own and self._objective == "binary":
            seen = [logit(np.clip(seen[0], _LEAST, 1 - _LEAST))]
        return finite_margins(seen[0])


def predict(model: Any, X: Any) -> Floats:
    """Probabilities of the favourable label, or values, shape (n,)."""
    with in_one_line("lightgbm", "rows", lgb.basic.LightGBMError):
        return np.asarray(model.predict(X), dtype=np.float64)


def gains(model: Any, n_features: int) -> Floats:
    """Gain of every feature over all its splits, shape (d,)."""
    return np.asarray(model.feature_importance("gain"), dtype=np.float64)


BACKEND = Backend(LightGBMRun, predict, gains)
