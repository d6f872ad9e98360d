"""scikit-learn's own checks, through subclasses that supply groups."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from fairtrain import (
    BoundedGroupLoss,
    LagrangianBoostingClassifier,
    LagrangianBoostingRegressor,
)
from fairtrain.data.draws import keyed_uniform
from fairtrain.data.inputs import as_features
from fairtrain.exceptions import FairtrainWarning


def _groups(X: Any) -> Any:
    """One of two groups, drawn from a row's values: equal rows get equal groups."""
    rows = as_features(X)
    table = rows if getattr(rows, "ndim", 2) == 2 else np.asarray(rows).reshape(-1, 1)
    if getattr(getattr(table, "dtype", None), "kind", "") == "O":
        table = table.astype(str)
    return (keyed_uniform(table, key=7) < 0.5).astype(int)


class Supplied:
    def fit(self, X: Any, y: Any, *, sensitive_features: Any = None, sample_weight: Any = None):
        if sensitive_features is None:
            sensitive_features = _groups(X)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FairtrainWarning)  # about bounds on 20 rows
            return super().fit(
                X, y, sensitive_features=sensitive_features, sample_weight=sample_weight
            )


class Classifier(Supplied, LagrangianBoostingClassifier):
    pass


class Regressor(Supplied, LagrangianBoostingRegressor):
    pass


# Small rows train and steer at once: the checks are about the interface, and compare fits on
# repeated rows with weighted ones, which a random split would tell apart.
SMALL = {"validation_fraction": 0.0, "n_estimators": 20, "random_state": 0, "n_jobs": 1}
LEAVES = {"min_child_samples": 1, "min_data_in_bin": 1}
LIMIT = BoundedGroupLoss(upper_bound=1e6, loss="squared")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
@parametrize_with_checks(
    [
        Classifier(difference_bound=0.5, learning_rate=0.3, **SMALL),
        Classifier(
            difference_bound=0.5,
            learning_rate=0.3,
            booster="lightgbm",
            booster_params=LEAVES,
            **SMALL,
        ),
        Regressor(LIMIT, learning_rate=0.3, **SMALL),
        Regressor(LIMIT, learning_rate=0.3, booster="lightgbm", booster_params=LEAVES, **SMALL),
    ]
)
def test_check_estimator(estimator: Any, check: Any) -> None:
    check(estimator)
