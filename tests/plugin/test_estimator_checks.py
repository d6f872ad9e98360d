"""scikit-learn's own checks, through a subclass that supplies groups."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks
from tests.supplied import Supplied

from fairtrain import FairPlugInClassifier


class Checked(Supplied, FairPlugInClassifier):
    pass


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
@parametrize_with_checks(
    [
        Checked(
            LogisticRegression(),
            group_estimator=LogisticRegression(),
            difference_bound=0.5,
            cv=2,
            random_state=0,
        )
    ]
)
def test_check_estimator(estimator: Checked, check: Any) -> None:
    check(estimator)
