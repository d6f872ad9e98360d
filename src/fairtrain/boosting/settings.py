"""Settings of the estimators, sorted by who needs them."""

from __future__ import annotations

from typing import Any

from fairtrain.boosting.backend import TreeSettings
from fairtrain.boosting.objective import Task
from fairtrain.boosting.rounds import RoundSettings

__all__ = ["round_settings", "tree_settings"]


def tree_settings(estimator: Any, task: Task, seed: int) -> TreeSettings:
    """Read what the booster needs to know; ``check_parameters`` has seen the settings."""
    return TreeSettings(
        n_estimators=int(estimator.n_estimators),
        max_depth=None if estimator.max_depth is None else int(estimator.max_depth),
        learning_rate=float(estimator.learning_rate),
        seed=seed,
        n_jobs=estimator.n_jobs,
        params=dict(estimator.booster_params or {}),
        task=task,
    )


def round_settings(estimator: Any) -> RoundSettings:
    """Read what the rounds need to know; ``check_parameters`` has seen the settings."""
    return RoundSettings(
        n_estimators=int(estimator.n_estimators),
        dual_lr=float(estimator.dual_lr),
        cap=float(estimator.multiplier_cap),
        confidence=None if estimator.confidence is None else float(estimator.confidence),
        min_count=int(estimator.min_count),
        patience=estimator.early_stopping_rounds,
    )
