"""Base estimators by name."""

from __future__ import annotations

from typing import Any, Literal

from fairtrain._imports import require

__all__ = ["EstimatorName", "make_estimator"]

EstimatorName = Literal[
    "logistic", "xgboost", "lightgbm", "random-forest", "hist-gradient-boosting", "tree"
]


def make_estimator(name: EstimatorName, seed: int) -> Any:
    """Make an unfitted classifier, regularised enough not to memorise a few thousand rows.

    Parameters
    ----------
    name : str
        One of :data:`EstimatorName`.
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
