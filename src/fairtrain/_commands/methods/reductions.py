"""Reductions: any classifier, under constraints by reweighting."""

from __future__ import annotations

from typing import Any

from fairtrain._commands.data import split_seed
from fairtrain._commands.methods.base import Method, Settings
from fairtrain._commands.options import Estimator
from fairtrain._imports import require

__all__ = ["METHOD"]


def _make_estimator(name: Estimator, seed: int) -> Any:
    """Make an unfitted classifier, regularised enough not to memorise a few thousand rows.

    Parameters
    ----------
    name : str
        One of the names that ``--estimator`` takes.
    seed : int
        Its ``random_state``.
    """
    if name == "logistic":
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(max_iter=2000)
    if name == "tree":
        from sklearn.tree import DecisionTreeClassifier

        return DecisionTreeClassifier(max_depth=6, min_samples_leaf=20, random_state=seed)
    if name == "random-forest":
        from sklearn.ensemble import RandomForestClassifier

        return RandomForestClassifier(min_samples_leaf=10, random_state=seed)
    if name == "hist-gradient-boosting":
        from sklearn.ensemble import HistGradientBoostingClassifier

        return HistGradientBoostingClassifier(max_leaf_nodes=15, random_state=seed)
    if name == "xgboost":
        return require("xgboost", extra="boosting").XGBClassifier(
            n_estimators=100, max_depth=4, learning_rate=0.1, n_jobs=1, random_state=seed
        )
    return require("lightgbm", extra="boosting").LGBMClassifier(
        n_estimators=100, num_leaves=15, learning_rate=0.1, n_jobs=1, verbose=-1, random_state=seed
    )


def _plain(settings: Settings) -> Any:
    return _make_estimator(settings.options["estimator"], settings.seed)


def _fair(settings: Settings) -> Any:
    from fairtrain.reductions import ReductionsWrapper

    return ReductionsWrapper(
        _plain(settings),
        settings.constraint,
        validation_fraction=settings.validation,
        certification_fraction=settings.certification,
        positive_label=settings.positive,
        missing=settings.missing,
        random_state=settings.seed,
    )


METHOD = Method(
    name="reductions",
    options={"estimator": "logistic"},
    fair=_fair,
    plain=_plain,
    moves="difference_bound",
    check=_plain,  # a booster that is not installed says so before any work
    random_state=split_seed,
)
