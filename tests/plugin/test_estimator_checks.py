"""scikit-learn's own checks, through a subclass that supplies groups."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from fairtrain import FairPlugInClassifier
from fairtrain.data.draws import keyed_uniform
from fairtrain.data.inputs import as_features
from fairtrain.exceptions import FairtrainWarning


class Supplied(FairPlugInClassifier):
    """Draws one of two groups from a row's values, because the checks call ``fit(X, y)``."""

    def fit(self, X: Any, y: Any, *, sensitive_features: Any = None, sample_weight: Any = None):
        if sensitive_features is None:
            rows = as_features(X)
            table = rows if getattr(rows, "ndim", 2) == 2 else np.asarray(rows).reshape(-1, 1)
            if getattr(getattr(table, "dtype", None), "kind", "") == "O":
                table = table.astype(str)
            sensitive_features = (keyed_uniform(table, key=7) < 0.5).astype(int)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FairtrainWarning)
            return super().fit(
                X, y, sensitive_features=sensitive_features, sample_weight=sample_weight
            )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
@parametrize_with_checks(
    [
        Supplied(
            LogisticRegression(),
            group_estimator=LogisticRegression(),
            difference_bound=0.5,
            cv=2,
            random_state=0,
        )
    ]
)
def test_check_estimator(estimator: Supplied, check: Any) -> None:
    check(estimator)
