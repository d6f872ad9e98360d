"""Boosted trees whose objective carries the constraints."""

from __future__ import annotations

from typing import Any

import numpy as np

from fairtrain._commands.data import split_seed
from fairtrain._commands.methods.base import Method, Settings
from fairtrain._imports import require
from fairtrain.exceptions import InvalidParameterError

__all__ = ["METHOD"]

_TREES: dict[str, Any] = {"n_estimators": 100, "max_depth": 4, "learning_rate": 0.1, "n_jobs": 1}


def _check(settings: Settings) -> None:
    booster = settings.options["estimator"]
    if booster not in ("xgboost", "lightgbm"):
        raise InvalidParameterError(
            f"--method boosting trains xgboost or lightgbm, not --estimator {booster}; any other "
            "estimator is for --method reductions."
        )
    require(booster, extra="boosting")


def _plain(settings: Settings) -> Any:
    booster = settings.options["estimator"]
    module: Any = require(booster, extra="boosting")
    if booster == "xgboost":
        return module.XGBClassifier(**_TREES, random_state=settings.seed)
    return module.LGBMClassifier(
        **_TREES, num_leaves=2 ** _TREES["max_depth"], verbose=-1, random_state=settings.seed
    )


def _fair(settings: Settings) -> Any:
    from fairtrain.boosting import LagrangianBoostingClassifier

    return LagrangianBoostingClassifier(
        settings.constraint,
        booster=settings.options["estimator"],
        **_TREES,
        validation_fraction=settings.validation,
        certification_fraction=settings.certification,
        positive_label=settings.positive,
        missing=settings.missing,
        random_state=settings.seed,
    )


class _AfterOneNumber(np.random.RandomState):
    """Starts anew after its first number.

    The estimator draws the seed of its trees first, and splits the rows with what comes next.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._then: int | None = split_seed(seed)

    def randint(self, *args: Any, **options: Any) -> Any:
        """Draw whole numbers."""
        found = super().randint(*args, **options)
        if self._then is not None:
            self.seed(self._then)
            self._then = None
        return found


METHOD = Method(
    name="boosting",
    options={"estimator": "xgboost"},
    fair=_fair,
    plain=_plain,
    moves="difference_bound",
    check=_check,
    random_state=_AfterOneNumber,
)
