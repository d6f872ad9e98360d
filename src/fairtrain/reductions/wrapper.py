"""``ReductionsWrapper``: a fair scikit-learn classifier around any estimator."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, MetaEstimatorMixin, clone, is_regressor
from sklearn.utils import Tags, get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping

from fairtrain._parameters import ANYTHING, FLAG, NONE, Real, Table, Whole
from fairtrain.constraints import ConstraintSpec
from fairtrain.constraints.mixture import most_accurate_mixture
from fairtrain.constraints.table import RateTable
from fairtrain.data import inputs
from fairtrain.data.draws import keyed_uniform, new_key
from fairtrain.data.rows import Rows
from fairtrain.estimator import FairEstimator
from fairtrain.exceptions import InvalidParameterError, NearConstantWarning
from fairtrain.reductions.oracle import make_oracle, request_weights, warn_if_rows_stored
from fairtrain.reductions.training import ReductionRun, Settings, run_reduction

__all__ = ["ReductionsWrapper"]

Floats = NDArray[np.float64]

_LEANS_ON_CONSTANTS = 0.05


class ReductionsWrapper(MetaEstimatorMixin, ClassifierMixin, FairEstimator):
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
        that two groups may be twice as far apart.
    difference_bound, ratio_bound : float, optional
        Replace the bounds of ``constraints``, so that they can be searched. Next to a fairlearn
        object they keep fairlearn's meaning.
    eps : float, default=0.01
        Inverse of the largest sum of multipliers (fairlearn's ``eps``).
    max_iter : int, default=50
        Iterations of the exponentiated gradient.
    nu : float, optional
        Duality gap at which it stops; by default half the standard error of the training error.
    validation_fraction : float, optional
        Share of the rows that steer: the mixture is re-weighted so that the bounds hold on them.
        Without it bounds hold on training rows, which flexible estimators memorise.
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
    scheme_ : GroupScheme
        The groups seen in ``fit``: names and counts, no row.
    fairness_report_ : FairnessReport
        What was achieved, on certification rows if there are any, else on steering rows, else on
        training rows.
    reports_ : dict of str to FairnessReport
        The same for each of "training", "steering" and "certification" that exists.
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
    n_features_in_, feature_names_in_
        As in scikit-learn, without the sensitive columns.

    Notes
    -----
    Randomised decisions are a keyed hash of the row's values: a person's decision depends neither
    on their place in a batch nor on how many are asked at once. The key is ``draw_key_``.

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

    _allowed: ClassVar[Table] = {
        "estimator": ANYTHING,
        "eps": Real(0, ends="()"),
        "max_iter": Whole(1),
        "nu": Real(0) | NONE,
        "deterministic": FLAG,
        "resample": FLAG,
    }

    def __init__(
        self,
        estimator: Any,
        constraints: ConstraintSpec = "demographic_parity",
        *,
        difference_bound: float | None = None,
        ratio_bound: float | None = None,
        eps: float = 0.01,
        max_iter: int = 50,
        nu: float | None = None,
        validation_fraction: float | None = None,
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
        self.eps = eps
        self.max_iter = max_iter
        self.nu = nu
        self.validation_fraction = validation_fraction
        self.certification_fraction = certification_fraction
        self.deterministic = deterministic
        self.resample = resample
        self.sensitive_features = sensitive_features
        self.positive_label = positive_label
        self.missing = missing
        self.min_count = min_count
        self.random_state = random_state

    def fit(
        self, X: Any, y: Any, *, sensitive_features: Any = None, sample_weight: Any = None
    ) -> Self:
        """Train the mixture.

        Parameters
        ----------
        X : array, sparse matrix or frame of shape (n, d)
            Features, handed to the estimator as they come.
        y : array-like of shape (n,)
            Two labels.
        sensitive_features : frame, series, mapping, array or list of n rows, optional
            Who; left out where the constructor names columns of ``X``.
        sample_weight : array-like of shape (n,), optional
            Row weights, honoured in the error and in the rates.

        Returns
        -------
        self

        Raises
        ------
        InvalidDataError, InvalidParameterError
            If rows or settings cannot be used.

        Warns
        -----
        ConstraintNotMetWarning, NearConstantWarning, MemorisationWarning, StoredRowsWarning
        """
        return self._fit(X, y, sensitive_features, sample_weight)

    def _check_settings(self) -> None:
        if is_regressor(self.estimator):
            raise InvalidParameterError(
                f"estimator must be a classifier, got the regressor "
                f"{type(self.estimator).__name__}, whose numbers would be cut at 0; use its "
                "classifying counterpart, such as LogisticRegression."
            )

    def _train(self, rows: Rows, rng: np.random.RandomState) -> Rows:
        """Run the reduction on the training rows, weigh its mixture on the steering rows."""
        seeds = None if self.random_state is None else rng
        oracle, log = make_oracle(self.estimator, resample=self.resample, rng=seeds)
        settings = Settings(eps=self.eps, max_iter=self.max_iter, nu=self.nu)
        run = run_reduction(oracle, self.constraints_, rows.part("training"), settings)
        self.draw_key_ = new_key(rng)
        self.history_: pd.DataFrame = run.history
        self.n_iter_ = max(len(run.history), 1)
        self.n_oracle_calls_, self.n_fits_ = run.n_oracle_calls, log.n_fits
        self.best_gap_ = run.best_gap
        self._keep_mixture(run, rows.part("steering") if "steering" in rows.roles else None)
        warn_if_rows_stored(self.predictors_)
        return rows

    def _keep_mixture(self, run: ReductionRun, steering: Rows | None) -> None:
        """Keep the members with weight; with steering rows, weigh them anew."""
        weights, constants = run.weights, np.zeros(2)
        if steering is not None:
            assert steering.y is not None
            table = RateTable.comparing(
                self.constraints_, steering.y, steering.groups, steering.weight
            )
            decided = _decisions(run.predictors, steering.X)
            constant = np.repeat([[False], [True]], len(steering), axis=1)
            decided = np.vstack([decided, constant])
            errors = np.array([table.error(d.astype(np.float64)) for d in decided])
            mixed = most_accurate_mixture(table, decided, errors).weights
            weights, constants = mixed[:-2], mixed[-2:]
        kept = np.flatnonzero(weights > 0)
        self.predictors_ = [run.predictors[t] for t in kept]
        self.weights_ = weights[kept]
        self._always = float(constants[1])  # share of decisions that are favourable outright
        self.constant_weight_ = float(constants.sum()) + sum(
            float(w)
            for w, p in zip(self.weights_, self.predictors_, strict=True)
            if type(p).__name__ == "DummyClassifier"
        )

    def _warn_of_outcome(self) -> None:
        self._warn_of_broken_bounds(stacklevel=5)
        if self.constant_weight_ <= _LEANS_ON_CONSTANTS:
            self._warn_of_uselessness(stacklevel=5)
        else:
            warnings.warn(
                f"{self.constant_weight_:.0%} of decisions are made by a constant classifier, "
                "whoever applies: the bound is kept at the price of deciding by lot. Loosen the "
                "bound or choose a less flexible estimator.",
                NearConstantWarning,
                stacklevel=4,
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
        favourable = share > 0.5 if self.deterministic else keyed_uniform(X, self.draw_key_) < share
        return self._coding.decode(favourable)

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
        share = self._mixture_share(X)
        return (share > 0.5).astype(np.float64) if self.deterministic else share

    def get_metadata_routing(self) -> MetadataRouter:
        """Route: groups and weights come here, the estimator gets the reduction's weights."""
        base = clone(self.estimator, safe=False)
        router = MetadataRouter(owner=self).add_self_request(self)
        if hasattr(base, "get_metadata_routing"):
            request_weights(base)
            router.add(
                estimator=base, method_mapping=MethodMapping().add(caller="fit", callee="fit")
            )
        return router

    def __sklearn_tags__(self) -> Tags:
        """Tags of a binary classifier that accepts what its estimator accepts."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        if hasattr(self.estimator, "__sklearn_tags__"):
            base = get_tags(self.estimator).input_tags
            tags.input_tags.sparse, tags.input_tags.allow_nan = base.sparse, base.allow_nan
        return tags


def _decisions(predictors: list[Any], X: Any) -> NDArray[np.bool_]:
    return np.array([np.asarray(p.predict(X)).reshape(-1) > 0 for p in predictors])
