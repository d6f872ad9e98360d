"""Groups for scikit-learn's checks, which call ``fit(X, y)``."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from fairtrain.data.draws import keyed_uniform
from fairtrain.data.inputs import as_features
from fairtrain.exceptions import FairtrainWarning


class Supplied:
    """Put before an estimator: draws one of two groups from a row's values where none are passed.

    Equal rows get equal groups, so that a repeated row is the same as a doubled weight.
    """

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sensitive_features: Any = None,
        sample_weight: Any = None,
    ) -> Any:
        if sensitive_features is None:
            rows = as_features(X)
            table = rows if getattr(rows, "ndim", 2) == 2 else np.asarray(rows).reshape(-1, 1)
            if getattr(getattr(table, "dtype", None), "kind", "") == "O":
                table = table.astype(str)
            sensitive_features = (keyed_uniform(table, key=7) < 0.5).astype(int)
        with warnings.catch_warnings():
            # Blobs of 20 rows are memorised and tell nothing of bounds; the checks are of the face.
            warnings.simplefilter("ignore", FairtrainWarning)
            return super().fit(  # type: ignore[misc]
                X, y, sensitive_features=sensitive_features, sample_weight=sample_weight
            )
