"""``ReductionsRegressor``: predicted numbers whose loss is bounded in every group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin, is_classifier
from sklearn.utils import Tags

from fairtrain._parameters import Table
from fairtrain.constraints import Constraint, ConstraintSpec, MomentConstraint, as_constraints
from fairtrain.constraints.reading import require_group_losses
from fairtrain.data.draws import keyed_uniform
from fairtrain.data.rows import Rows
from fairtrain.data.splits import value_strata
from fairtrain.estimator import FairEstimator
from fairtrain.exceptions import InvalidParameterError
from fairtrain.reductions.base import Reduction
from fairtrain.reductions.moments import Recorded, alone, as_moment
from fairtrain.reductions.oracle import numbers

__all__ = ["ReductionsRegressor"]

Floats = NDArray[np.float64]


class ReductionsRegressor(RegressorMixin, Reduction):
    r"""Train any regressor so that no group's mean loss exceeds a limit (Agarwal et al., 2019).

    .. math:: \min_Q E[\ell(Y, Q(X))] \quad\text{s.t.}\quad
       E[\ell(Y, Q(X)) \mid A = g] \le \zeta \quad\text{for every group } g

    ``fairlearn.reductions.ExponentiatedGradient`` weighs the rows of groups that lose too much
    ever more, fits the estimator to them, and mixes what was fitted. The limit is absolute and may
    be out of reach: what was achieved is measured and said.

    Parameters
    ----------
    estimator : estimator
        Any regressor whose ``fit`` takes ``sample_weight``, or a pipeline that ends in one; others
        work with ``resample=True``.
    constraints : BoundedGroupLoss, fairlearn moment, or a list of these
        With ``loss="squared"``, ``"absolute"`` or a function of ``(y, prediction)``; the loss of
        the first is what is least on all rows. fairlearn's losses cut values to their range. Any
        other ``LossMoment`` runs on fairlearn's own path, alone.
    eps, max_iter, nu
        As in :class:`ReductionsWrapper`.
    validation_fraction, cv, certification_fraction
        As there.
    deterministic : bool, default=True
        Predict the weighted mean of the members: where the loss is convex, no group loses more by
        it than by the lottery (Jensen). Otherwise a member is drawn for each row, as fairlearn
        does, by a keyed hash of its values.
    resample, sensitive_features, missing, min_count, random_state
        As there.

    Attributes
    ----------
    predictors_, weights_
        Members of the mixture, and the probability of each.
    constraints_, scheme_, fairness_report_, reports_, status_
        As there. The report's ``group_rates`` hold the mean loss of every group with its limits,
        its results the upper limit of the group that loses most.
    history_, n_iter_, n_oracle_calls_, n_fits_, best_gap_, exponentiated_gradient_
        As there; losses of the history are shares of the largest there was or is allowed.
    n_features_in_, feature_names_in_
        As in scikit-learn, without the sensitive columns.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from fairtrain import BoundedGroupLoss
    >>> rng = np.random.default_rng(0)
    >>> group = rng.choice(["many", "few"], 2000, p=[0.9, 0.1])
    >>> X = rng.normal(size=(2000, 2))
    >>> y = np.where(group == "few", -X[:, 0], X[:, 0]) + rng.normal(scale=0.3, size=2000)
    >>> limit = BoundedGroupLoss(upper_bound=1.5, loss="squared")
    >>> model = ReductionsRegressor(LinearRegression(), limit, random_state=0)
    >>> model = model.fit(X, y, sensitive_features=group)
    >>> round(model.fairness_report_.results[0].achieved, 1)
    1.5
    """

    _allowed: ClassVar[Table] = {}

    def __init__(
        self,
        estimator: Any,
        constraints: ConstraintSpec,
        *,
        eps: float = 0.01,
        max_iter: int = 50,
        nu: float | None = None,
        validation_fraction: float | None = None,
        cv: Any = None,
        certification_fraction: float | None = None,
        deterministic: bool = True,
        resample: bool = False,
        sensitive_features: str | Sequence[str] | None = None,
        missing: str = "error",
        min_count: int = 30,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.constraints = constraints
        self.eps = eps
        self.max_iter = max_iter
        self.nu = nu
        self.validation_fraction = validation_fraction
        self.cv = cv
        self.certification_fraction = certification_fraction
        self.deterministic = deterministic
        self.resample = resample
        self.sensitive_features = sensitive_features
        self.missing = missing
        self.min_count = min_count
        self.random_state = random_state

    def predict(self, X: Any) -> Floats:
        """Predict numbers, shape (n,): the members' weighted mean, or one that is drawn."""
        return self._decision(self._features(X))

    score = FairEstimator.score

    def _check_settings(self) -> None:
        if hasattr(self.estimator, "__sklearn_tags__") and is_classifier(self.estimator):
            raise InvalidParameterError(
                f"estimator must be a regressor, got the classifier "
                f"{type(self.estimator).__name__}; ReductionsWrapper takes classifiers."
            )
        super()._check_settings()

    def _read_constraints(self) -> tuple[Constraint, ...]:
        constraints = alone(as_constraints(self.constraints, values=True, moments=True))
        if not isinstance(constraints[0], MomentConstraint):
            require_group_losses(constraints, type(self).__name__)
        return constraints

    def _strata(self, rows: Rows) -> NDArray[Any]:
        return value_strata(rows.outcomes)

    @property
    def _is_regression(self) -> bool:
        return True

    def _moment(self) -> Recorded:
        return as_moment(self.constraints_, values=True)

    def _keep_constants(self, weights: Floats) -> None:
        """There are none."""

    def _decision(self, X: Any) -> Floats:
        answered = np.array([numbers(predictor, X) for predictor in self.predictors_])
        return self._mixed(self.weights_, answered, X)

    def _mixed(self, weights: Floats, answered: NDArray[Any], X: Any) -> Floats:
        if self.deterministic:
            return np.asarray(weights @ answered, dtype=np.float64)
        ends = np.cumsum(weights)
        drawn = np.searchsorted(ends, keyed_uniform(X, self.draw_key_) * ends[-1], side="right")
        drawn = np.minimum(drawn, len(weights) - 1)
        return np.asarray(answered[drawn, np.arange(answered.shape[1])])

    def __sklearn_tags__(self) -> Tags:
        """Tags of a regressor of one number that accepts what its estimator accepts."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = False
        return tags
