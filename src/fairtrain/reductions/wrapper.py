"""``ReductionsWrapper``: a fair scikit-learn classifier around any estimator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, is_regressor
from sklearn.utils import Tags

from fairtrain._parameters import ANYTHING, Table
from fairtrain._warnings import warn
from fairtrain.constraints import (
    Constraint,
    ConstraintSpec,
    as_constraints,
    as_costs,
)
from fairtrain.data import inputs
from fairtrain.data.draws import keyed_uniform
from fairtrain.data.rows import Rows
from fairtrain.estimator import FairEstimator
from fairtrain.exceptions import InvalidParameterError, NearConstantWarning
from fairtrain.reductions.base import Reduction
from fairtrain.reductions.moments import Recorded, alone, as_moment

__all__ = ["ReductionsWrapper"]

Floats = NDArray[np.float64]

_LEANS_ON_CONSTANTS = 0.05


class ReductionsWrapper(ClassifierMixin, Reduction):
    """Train any classifier under fairness constraints (Agarwal et al., 2018).

    ``fairlearn.reductions.ExponentiatedGradient`` turns the constraints into a sequence of
    weighted classification problems for the estimator; the result is a mixture of the classifiers
    so trained. What the mixture achieved is measured, reported and never assumed.

    Parameters
    ----------
    estimator : estimator
        Any binary classifier whose ``fit`` takes ``sample_weight``, or a pipeline that ends in
        one; others work with ``resample=True``.
    constraints : Constraint, str, fairlearn moment, or a list of these
        What is asked. **The bound of fairtrain's constraints limits the difference between any
        two groups; that of fairlearn's limits each group's difference from the overall rate**, so
        that two groups may be twice as far apart. Any other subclass of fairlearn's ``Moment``
        runs on fairlearn's own path, alone, and is judged by its ``gamma``, which has no limits.
    difference_bound, ratio_bound : float, optional
        Replace the bounds of ``constraints``, so that they can be searched. Next to a fairlearn
        object they keep fairlearn's meaning.
    objective : "accuracy", dict, ErrorCosts or fairlearn's ``ErrorRate``, default="accuracy"
        What decisions are best at: accuracy, or the least cost of errors, as in
        ``{"false_positive": 1, "false_negative": 5}``. Weights of rows are no substitute: they
        count in the rates, too.
    eps : float, default=0.01
        Inverse of the largest sum of multipliers (fairlearn's ``eps``).
    max_iter : int, default=50
        Iterations of the exponentiated gradient.
    nu : float, optional
        Duality gap at which it stops; by default half the standard error of the training error.
    validation_fraction : float, optional
        Share of the rows that steer: the mixture is re-weighted so that the bounds hold on them.
        Without it bounds hold on training rows, which flexible estimators memorise.
    cv : int, splitter or iterable of (training, held-out) positions, optional
        Every row trains and steers: the reduction is run, and its mixture weighed, on what is
        decided about each row by estimators that were fitted without its fold. Fits take
        ``cv + 1`` times as long.
    certification_fraction : float, optional
        Share of the rows that are set aside and read once, after everything is decided.
    deterministic : bool, default=False
        Decide by the mixture's majority instead of drawing: one decision for equal rows, but a
        different classifier, with its own report.
    resample : bool, default=False
        Draw rows with the wanted weights for estimators that take no ``sample_weight``.
    sensitive_features : str or list of str, optional
        Columns of ``X`` that hold the sensitive features. They are read at ``fit`` and dropped
        before the estimator sees ``X``. Alternatively pass the values to ``fit``.
    positive_label : label, optional
        The favourable outcome. May be left out for {0, 1}, {-1, 1}, booleans, and where the
        constraints treat both labels alike.
    missing : {"error", "group"}, default="error"
        Missing sensitive values raise, or form a group of their own.
    min_count : int, default=30
        Groups with fewer rows are never judged fair on steering rows.
    random_state : int, RandomState or None
        Splits the rows, seeds an unseeded estimator, and makes the key of randomised decisions.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        Labels, sorted.
    predictors_ : list of estimators
        Members of the mixture; see ``weights_``.
    weights_ : ndarray of shape (T,)
        Probability of each member, all above 0.
    constraints_ : tuple of Constraint
        What was asked, bounds resolved.
    costs_ : ErrorCosts
        What the objective says of the two errors.
    scheme_ : GroupScheme
        The groups seen in ``fit``: names and counts, no row.
    fairness_report_ : FairnessReport
        What was achieved, on certification rows if there are any, else on steering rows, else on
        training rows.
    baseline_report_ : FairnessReport
        The estimator without constraints, on the rows that steered, else trained.
    reports_ : dict of str to FairnessReport
        The same for each of "training", "steering" and "certification" that exists. With ``cv`` the
        steering rows are all but the certifying ones, and the decisions out of fold.
    status_ : Verdict
        Verdict of ``fairness_report_``.
    constant_weight_ : float
        Share of decisions that a constant classifier makes.
    history_ : DataFrame
        A row an iteration: error, gap, violation, duality gap, best gap, multipliers.
    n_iter_ : int
        Iterations.
    n_oracle_calls_, n_fits_ : int
        Best responses asked for, and fits they took (repeated problems are not fitted again).
    best_gap_ : float
        Smallest duality gap reached.
    exponentiated_gradient_ : ReductionRun
        fairlearn's bookkeeping under its own names: ``predictors_`` and ``weights_`` before rows
        that steer weighed them anew, ``best_iter_``, ``best_gap_``, ``last_iter_``,
        ``lambda_vecs_``, ``lambda_vecs_EG_``, ``lambda_vecs_LP_``, ``n_oracle_calls_``, ``nu``.
        In memory only: pickles and saved folders leave it out.
    n_features_in_, feature_names_in_
        As in scikit-learn, without the sensitive columns.

    Notes
    -----
    Randomised decisions are a keyed hash of the row's values: a person's decision depends neither
    on their place in a batch nor on how many are asked at once. The key is ``draw_key_``.

    With ``cv`` the deployed members are fitted to all rows, while twins of theirs, fitted fold by
    fold to the same weighted problem, answered for the rows they had not seen. What the twins
    decide chooses; only certification rows certify.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> rng = np.random.default_rng(0)
    >>> group = rng.integers(0, 2, 2000)
    >>> X = rng.normal(size=(2000, 2)) + group[:, None]
    >>> y = (X.sum(axis=1) + rng.normal(size=2000) > 1).astype(int)
    >>> model = ReductionsWrapper(LogisticRegression(), "demographic_parity",
    ...                           difference_bound=0.1, random_state=0)
    >>> model = model.fit(X, y, sensitive_features=group)
    >>> model.fairness_report_.results[0].achieved < 0.12
    True
    """

    _allowed: ClassVar[Table] = {"objective": ANYTHING}

    def __init__(
        self,
        estimator: Any,
        constraints: ConstraintSpec = "demographic_parity",
        *,
        difference_bound: float | None = None,
        ratio_bound: float | None = None,
        objective: Any = "accuracy",
        eps: float = 0.01,
        max_iter: int = 50,
        nu: float | None = None,
        validation_fraction: float | None = None,
        cv: Any = None,
        certification_fraction: float | None = None,
        deterministic: bool = False,
        resample: bool = False,
        sensitive_features: str | Sequence[str] | None = None,
        positive_label: Any = None,
        missing: str = "error",
        min_count: int = 30,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.constraints = constraints
        self.difference_bound = difference_bound
        self.ratio_bound = ratio_bound
        self.objective = objective
        self.eps = eps
        self.max_iter = max_iter
        self.nu = nu
        self.validation_fraction = validation_fraction
        self.cv = cv
        self.certification_fraction = certification_fraction
        self.deterministic = deterministic
        self.resample = resample
        self.sensitive_features = sensitive_features
        self.positive_label = positive_label
        self.missing = missing
        self.min_count = min_count
        self.random_state = random_state

    def _check_settings(self) -> None:
        if hasattr(self.estimator, "__sklearn_tags__") and is_regressor(self.estimator):
            raise InvalidParameterError(
                f"estimator must be a classifier, got the regressor "
                f"{type(self.estimator).__name__}, whose numbers would be cut at 0; use its "
                "classifying counterpart, such as LogisticRegression, or ReductionsRegressor to "
                "predict numbers."
            )
        super()._check_settings()

    def _read(
        self, X: Any, y: Any, sensitive_features: Any, sample_weight: Any, clusters: Any = None
    ) -> Rows:
        rows = super()._read(X, y, sensitive_features, sample_weight, clusters)
        self.costs_ = as_costs(self._objective(rows.labels))
        return rows

    def _read_constraints(self) -> tuple[Constraint, ...]:
        return alone(
            as_constraints(
                self.constraints,
                difference_bound=self.difference_bound,
                ratio_bound=self.ratio_bound,
                moments=True,
            )
        )

    def _moment(self) -> Recorded:
        return as_moment(self.constraints_, costs=self.costs_)

    def _mixed(self, weights: Floats, answered: NDArray[Any], X: Any) -> Floats:
        return self._settled(np.clip(weights @ answered + self._always, 0.0, 1.0))

    def _keep_constants(self, weights: Floats) -> None:
        """Keep how often decisions are alike for everybody."""
        self._always = float(weights[-1]) if len(weights) else 0.0  # favourable outright
        self.constant_weight_ = float(weights.sum()) + sum(
            float(w)
            for w, p in zip(self.weights_, self.predictors_, strict=True)
            if type(p).__name__ == "DummyClassifier"
        )

    def _warn_of_outcome(self) -> None:
        self._warn_of_broken_bounds()
        if self.constant_weight_ <= _LEANS_ON_CONSTANTS:
            self._warn_of_uselessness()
        else:
            warn(
                f"{self.constant_weight_:.0%} of decisions are made by a constant classifier, "
                "whoever applies: the bound is kept at the price of deciding by lot. Loosen the "
                "bound or choose a less flexible estimator.",
                NearConstantWarning,
            )

    def predict(self, X: Any) -> NDArray[Any]:
        """Decide, by a draw that belongs to the row (or by majority, if ``deterministic``).

        Returns
        -------
        ndarray of shape (n,)
            Labels.
        """
        X = self._features(X)
        share = self._decision(X)
        assert self._coding is not None
        return self._coding.decode(keyed_uniform(X, self.draw_key_) < share)

    score = FairEstimator.score

    def predict_proba(self, X: Any) -> Floats:
        """Probability of each decision under the mixture.

        Returns
        -------
        ndarray of shape (n, 2)
            In the order of ``classes_``. With ``deterministic=True`` the larger one decides.
        """
        share = self._mixture_share(self._features(X))
        assert self._coding is not None
        return self._coding.columns(share)

    def _mixture_share(self, X: Any) -> Floats:
        """Probability of the favourable decision."""
        share = np.full(inputs.number_of_rows(X), self._always)
        for weight, predictor in zip(self.weights_, self.predictors_, strict=True):
            share += weight * (np.asarray(predictor.predict(X)).reshape(-1) > 0)
        clipped: Floats = np.clip(share, 0.0, 1.0)
        return clipped

    def _decision(self, X: Any) -> Floats:
        return self._settled(self._mixture_share(X))

    def _settled(self, share: Floats) -> Floats:
        """Chance of the favourable decision; 0 or 1 where the majority decides."""
        return (share > 0.5).astype(np.float64) if self.deterministic else share

    def __sklearn_tags__(self) -> Tags:
        """Tags of a binary classifier that accepts what its estimator accepts."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags
