"""scikit-learn's own checks, through subclasses that supply groups."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks
from tests.supplied import Supplied

from fairtrain import (
    BoundedGroupLoss,
    LagrangianBoostingClassifier,
    LagrangianBoostingRegressor,
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
