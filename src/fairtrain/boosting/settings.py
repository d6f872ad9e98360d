"""Settings of the estimators, checked once and sorted by who needs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fairtrain.boosting.backend import TreeSettings
from fairtrain.boosting.objective import Task
from fairtrain.boosting.rounds import RoundSettings
from fairtrain.exceptions import InvalidParameterError

__all__ = ["round_settings", "tree_settings"]


def tree_settings(estimator: Any, task: Task, seed: int) -> TreeSettings:
    """Read what the booster needs to know.

    Raises
    ------
    InvalidParameterError
        If a setting is out of range.
    """
    _whole("n_estimators", estimator.n_estimators)
    if estimator.max_depth is not None:
        _whole("max_depth", estimator.max_depth)
    _above_zero("learning_rate", estimator.learning_rate)
    _above_zero("timeout", estimator.timeout)
    params = estimator.booster_params
    if params is not None and not isinstance(params, Mapping):
        raise InvalidParameterError(
            f"booster_params must map the booster's own parameters to values, got {params!r}."
        )
    return TreeSettings(
        n_estimators=int(estimator.n_estimators),
        max_depth=None if estimator.max_depth is None else int(estimator.max_depth),
        learning_rate=float(estimator.learning_rate),
        seed=seed,
        n_jobs=estimator.n_jobs,
        params=dict(params or {}),
        task=task,
    )


def round_settings(estimator: Any) -> RoundSettings:
    """Read what the rounds need to know.

    Raises
    ------
    InvalidParameterError
        If a setting is out of range.
    """
    _above_zero("dual_lr", estimator.dual_lr)
    _above_zero("multiplier_cap", estimator.multiplier_cap)
    confidence = estimator.confidence
    if confidence is not None and not (_is_number(confidence) and 0 < confidence < 1):
        raise InvalidParameterError(f"confidence must lie in (0, 1), got {confidence!r}.")
    if estimator.early_stopping_rounds is not None:
        _whole("early_stopping_rounds", estimator.early_stopping_rounds)
    return RoundSettings(
        n_estimators=int(estimator.n_estimators),
        dual_lr=float(estimator.dual_lr),
        cap=float(estimator.multiplier_cap),
        confidence=None if confidence is None else float(confidence),
        min_count=int(estimator.min_count),
        patience=estimator.early_stopping_rounds,
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _whole(name: str, value: Any) -> None:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise InvalidParameterError(f"{name} must be a whole number of at least 1, got {value!r}.")


def _above_zero(name: str, value: Any) -> None:
    if not _is_number(value) or not 0 < value < np.inf:
        raise InvalidParameterError(f"{name} must be a number above 0, got {value!r}.")
