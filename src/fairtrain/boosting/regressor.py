"""``LagrangianBoostingRegressor``: boosted trees whose loss is bounded in every group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin

from fairtrain.boosting.base import LagrangianBoosting
from fairtrain.boosting.objective import Task
from fairtrain.constraints import Constraint, ConstraintSpec
from fairtrain.constraints.reading import require_group_losses
from fairtrain.data.rows import Rows
from fairtrain.data.splits import value_strata
from fairtrain.estimator import FairEstimator

__all__ = ["LagrangianBoostingRegressor"]

Floats = NDArray[np.float64]


class LagrangianBoostingRegressor(RegressorMixin, LagrangianBoosting):
    r"""Boosted trees whose mean loss stays under a limit in every group, in one run.

    Every round adds a tree along the gradient of half the squared error plus the priced losses of
    the groups, and moves the prices by the losses on the steering rows (bounded group loss;
    Agarwal, Dudik & Wu, 2019). The limit is absolute and may be out of reach: what was achieved is
    measured and said.

    Parameters
    ----------
    constraints : BoundedGroupLoss, or a list of these
        With ``loss="squared"`` or a function of ``(y, prediction)``, in units of that loss.
    booster, n_estimators, max_depth, learning_rate, dual_lr, multiplier_cap
        As in :class:`LagrangianBoostingClassifier`.
    validation_fraction, certification_fraction, early_stopping_rounds, booster_params
        As there.
    confidence, sensitive_features, missing, min_count, timeout, random_state, n_jobs
        As there; ``confidence`` is the level of the reports' intervals.

    Attributes
    ----------
    booster_ : xgboost.Booster or lightgbm.Booster
        The stock model, cut after the chosen round.
    constraints_, scheme_, fairness_report_, reports_, status_, history_, multipliers_
        As there.
    n_estimators_, best_iteration_, feature_importances_, n_features_in_, feature_names_in_
        As there.

    Examples
    --------
    >>> import numpy as np
    >>> from fairtrain import BoundedGroupLoss
    >>> rng = np.random.default_rng(0)
    >>> group = rng.choice(["many", "few"], 3000, p=[0.9, 0.1])
    >>> X = rng.normal(size=(3000, 3))
    >>> y = np.where(group == "few", -X[:, 0], X[:, 0]) + rng.normal(scale=0.3, size=3000)
    >>> limit = BoundedGroupLoss(upper_bound=2.0, loss="squared")
    >>> model = LagrangianBoostingRegressor(limit, random_state=0, n_jobs=1)
    >>> model = model.fit(X, y, sensitive_features=group)
    >>> round(model.reports_["steering"].results[0].achieved, 1) <= 2.0
    True
    """

    task: ClassVar[Task] = "regression"

    def __init__(
        self,
        constraints: ConstraintSpec,
        *,
        booster: Literal["xgboost", "lightgbm"] = "xgboost",
        n_estimators: int = 100,
        max_depth: int | None = 6,
        learning_rate: float = 0.1,
        dual_lr: float = 1.0,
        multiplier_cap: float = 50.0,
        validation_fraction: float | None = 0.2,
        certification_fraction: float | None = 0.0,
        confidence: float | None = None,
        early_stopping_rounds: int | None = None,
        booster_params: dict[str, Any] | None = None,
        sensitive_features: str | Sequence[str] | None = None,
        missing: str = "error",
        min_count: int = 30,
        timeout: float = 600.0,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.constraints = constraints
        self.booster = booster
        self.n_estimators = n_estimators
        self.max_depth = max_depth
        self.learning_rate = learning_rate
        self.dual_lr = dual_lr
        self.multiplier_cap = multiplier_cap
        self.validation_fraction = validation_fraction
        self.certification_fraction = certification_fraction
        self.confidence = confidence
        self.early_stopping_rounds = early_stopping_rounds
        self.booster_params = booster_params
        self.sensitive_features = sensitive_features
        self.missing = missing
        self.min_count = min_count
        self.timeout = timeout
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sensitive_features: Any = None,
        sample_weight: Any = None,
        clusters: Any = None,
        eval_set: Any = None,
    ) -> Self:
        """Train.

        Parameters
        ----------
        X : array, sparse matrix, frame or Dask collection of shape (n, d)
            Features.
        y : array-like of shape (n,)
            Values.
        sensitive_features, sample_weight, clusters, eval_set
            As in :meth:`LagrangianBoostingClassifier.fit`.

        Returns
        -------
        self

        Raises
        ------
        InvalidDataError, InvalidParameterError
            If rows or settings cannot be used.

        Warns
        -----
        ConstraintNotMetWarning
        """
        return self._fit(X, y, sensitive_features, sample_weight, clusters, eval_set=eval_set)

    def predict(self, X: Any) -> Any:
        """Predict values, shape (n,); lazily for a Dask collection."""
        return self._by_part(self._values, X, np.empty(0))

    score = FairEstimator.score

    def _read_constraints(self) -> tuple[Constraint, ...]:
        constraints = super()._read_constraints()
        require_group_losses(constraints, type(self).__name__)
        return constraints

    def _strata(self, rows: Rows) -> NDArray[Any]:
        return value_strata(rows.outcomes)
