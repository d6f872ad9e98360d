"""scikit-learn's own checks, through a subclass that supplies groups."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks
from tests.supplied import Supplied

from fairtrain import BoundedGroupLoss, ReductionsRegressor, ReductionsWrapper


class Checked(Supplied, ReductionsWrapper):
    pass


class CheckedRegressor(Supplied, ReductionsRegressor):
    pass


LIMIT = BoundedGroupLoss(upper_bound=1e6, loss="squared")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
@parametrize_with_checks(
    [
        Checked(LogisticRegression(), difference_bound=0.5, max_iter=10, random_state=0),
        Checked(LogisticRegression(), deterministic=True, max_iter=10, random_state=0),
        CheckedRegressor(LinearRegression(), LIMIT, max_iter=2, random_state=0),
    ]
)
def test_check_estimator(estimator: Checked | CheckedRegressor, check: Any) -> None:
    check(estimator)
