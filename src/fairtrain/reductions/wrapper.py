"""``ReductionsWrapper``: a fair scikit-learn classifier around any estimator."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.utils import Tags, check_random_state, get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping
from sklearn.utils.validation import check_is_fitted

from fairtrain import _validation as inputs
from fairtrain._draws import keyed_uniform
from fairtrain._facade import require_positive_label, take_sensitive, warn_of_broken_bounds
from fairtrain._splits import RowSplit, split_rows
from fairtrain.constraints import Constraint, ConstraintSpec, as_constraints
from fairtrain.exceptions import (
    InvalidParameterError,
    NearConstantWarning,
)
from fairtrain.groups import Groups, GroupScheme
from fairtrain.metrics.measures import Rows
from fairtrain.metrics.report import FairnessReport, report_on
from fairtrain.metrics.verdicts import RowsRole, Verdict
from fairtrain.reductions.cells import RateTable
from fairtrain.reductions.mixture import most_accurate_mixture
from fairtrain.reductions.oracle import make_oracle, request_weights, warn_if_rows_stored
from fairtrain.reductions.training import ReductionRun, Settings, run_reduction

__all__ = ["ReductionsWrapper"]

Floats = NDArray[np.float64]

_LEANS_ON_CONSTANTS = 0.05


class ReductionsWrapper(MetaEstimatorMixin, ClassifierMixin, BaseEstimator):
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

    @property
    def needs_sensitive_at_predict(self) -> bool:
        """False: decisions read the features only."""
        return False

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
        settings = self._settings()
        constraints = as_constraints(
            self.constraints,
            difference_bound=self.difference_bound,
            ratio_bound=self.ratio_bound,
        )
        rng = check_random_state(self.random_state)
        X, sensitive = take_sensitive(
            inputs.as_features(X), self.sensitive_features, sensitive_features
        )
        inputs.check_features(self, X, reset=True)
        target, labels = inputs.binary_target(y, self.positive_label)
        require_positive_label(constraints, labels, self.positive_label)
        groups = Groups.from_sensitive(
            sensitive,
            missing=self.missing,  # type: ignore[arg-type]
            min_count=self.min_count,
            like=X if inputs.has_index(X) else y,
        )
        n = inputs.number_of_rows(X)
        inputs.check_lengths(n, y=target, sensitive_features=groups.codes)
        weight = inputs.as_sample_weight(sample_weight, n)
        if weight is not None and (weight == 0).any():
            kept = np.flatnonzero(weight > 0)
            X, target, groups = inputs.take_rows(X, kept), target[kept], groups.take(kept)
            weight = weight[kept]
        self._fit_rows(X, target, groups, weight, labels, constraints, settings, rng)
        return self

    def _fit_rows(
        self,
        X: Any,
        y: NDArray[np.int8],
        groups: Groups,
        weight: Floats | None,
        labels: NDArray[Any],
        constraints: tuple[Constraint, ...],
        settings: Settings,
        rng: np.random.RandomState,
    ) -> None:
        inputs.require_two_classes(y)
        split = split_rows(
            groups.codes,
            y,
            validation_fraction=self.validation_fraction,
            certification_fraction=self.certification_fraction,
            random_state=rng,
        )
        seeds = None if self.random_state is None else rng
        oracle, log = make_oracle(self.estimator, resample=self.resample, rng=seeds)
        rows = split.training
        run = run_reduction(
            oracle,
            constraints,
            inputs.take_rows(X, rows),
            y[rows],
            groups.take(rows),
            None if weight is None else weight[rows],
            settings,
        )
        self.classes_ = np.sort(labels)
        self._favourable = int(self.classes_[1] == labels[1])
        self.constraints_ = constraints
        self.scheme_: GroupScheme = groups.scheme
        self.draw_key_ = int(rng.randint(0, 2**32, dtype=np.uint64)) << 32 | int(
            rng.randint(0, 2**32, dtype=np.uint64)
        )
        self.history_: pd.DataFrame = run.history
        self.n_iter_ = max(len(run.history), 1)
        self.n_oracle_calls_, self.n_fits_ = run.n_oracle_calls, log.n_fits
        self.best_gap_ = run.best_gap
        self._keep_mixture(run, X, y, groups, weight, split)
        warn_if_rows_stored(self.predictors_)
        self._report(X, y, groups, weight, split)

    def _keep_mixture(
        self,
        run: ReductionRun,
        X: Any,
        y: NDArray[np.int8],
        groups: Groups,
        weight: Floats | None,
        split: RowSplit,
    ) -> None:
        """Keep the members with weight; with steering rows, weigh them anew."""
        weights, constants = run.weights, np.zeros(2)
        if len(rows := split.steering):
            steering_weight = None if weight is None else weight[rows]
            table = RateTable(self.constraints_, y[rows], groups.take(rows), steering_weight)
            decided = _decisions(run.predictors, inputs.take_rows(X, rows))
            decided = np.vstack([decided, np.zeros(len(rows), bool), np.ones(len(rows), bool)])
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

    def _report(
        self,
        X: Any,
        y: NDArray[np.int8],
        groups: Groups,
        weight: Floats | None,
        split: RowSplit,
    ) -> None:
        parts: dict[RowsRole, NDArray[np.int64]] = {
            "training": split.training,
            "steering": split.steering,
            "certification": split.certification,
        }
        self.reports_: dict[str, FairnessReport] = {}
        for role, rows in parts.items():
            if len(rows):
                self.reports_[role] = self._assess(
                    inputs.take_rows(X, rows),
                    y[rows],
                    groups.take(rows),
                    None if weight is None else weight[rows],
                    role,
                )
        self.fairness_report_ = self.reports_[list(self.reports_)[-1]]
        self.status_: Verdict = self.fairness_report_.verdict
        self._warn_of_outcome()

    def _assess(
        self,
        X: Any,
        y: NDArray[Any],
        groups: Groups,
        weight: Floats | None,
        role: RowsRole,
    ) -> FairnessReport:
        data = Rows(
            y=y.astype(np.float64),
            decision=self._favourable_share(X),
            score=None,
            groups=groups,
            weight=weight,
            favourable=self.classes_[self._favourable],
        )
        return report_on(data, self.constraints_, rows=role)

    def _warn_of_outcome(self) -> None:
        warn_of_broken_bounds(self.reports_, stacklevel=5)
        if self.constant_weight_ > _LEANS_ON_CONSTANTS:
            warnings.warn(
                f"{self.constant_weight_:.0%} of decisions are made by a constant classifier, "
                "whoever applies: the bound is kept at the price of deciding by lot. Loosen the "
                "bound or choose a less flexible estimator.",
                NearConstantWarning,
                stacklevel=5,
            )

    def predict(self, X: Any) -> NDArray[Any]:
        """Decide, by a draw that belongs to the row (or by majority, if ``deterministic``).

        Returns
        -------
        ndarray of shape (n,)
            Labels.
        """
        X = self._features(X)
        share = self._favourable_share(X)
        favourable = share > 0.5 if self.deterministic else keyed_uniform(X, self.draw_key_) < share
        return np.asarray(
            self.classes_[np.where(favourable, self._favourable, 1 - self._favourable)]
        )

    def predict_proba(self, X: Any) -> Floats:
        """Probability of each decision under the mixture.

        Returns
        -------
        ndarray of shape (n, 2)
            In the order of ``classes_``. With ``deterministic=True`` the larger one decides.
        """
        return self._columns(self._mixture_share(self._features(X)))

    def evaluate(
        self, X: Any, y: Any, *, sensitive_features: Any = None, sample_weight: Any = None
    ) -> FairnessReport:
        """Judge the constraints on rows that took no part in training or choosing.

        Parameters
        ----------
        X, y, sensitive_features, sample_weight
            As in ``fit``; groups keep their codes, a group that fit never saw raises.

        Returns
        -------
        FairnessReport
        """
        check_is_fitted(self)
        X, sensitive = take_sensitive(
            inputs.as_features(X), self.sensitive_features, sensitive_features
        )
        X = self._features(X)
        codes = self.scheme_.encode(sensitive, like=X if inputs.has_index(X) else y)
        labels = inputs.as_vector(y, "y")
        inputs.check_lengths(inputs.number_of_rows(X), y=labels, sensitive_features=codes)
        inputs.require_known_labels(labels, self.classes_)
        weight = inputs.as_sample_weight(sample_weight, len(labels))
        target = labels == self.classes_[self._favourable]
        return self._assess(X, target, Groups(self.scheme_, codes), weight, "certification")

    def explain(self) -> str:
        """Say in plain words what was achieved, on which rows."""
        check_is_fitted(self)
        return self.fairness_report_.explain()

    def _features(self, X: Any) -> Any:
        check_is_fitted(self)
        X = inputs.as_features(X)
        if self.sensitive_features is not None:
            X = inputs.drop_if_present(X, self.sensitive_features)
        inputs.check_features(self, X, reset=False)
        return X

    def _mixture_share(self, X: Any) -> Floats:
        """Probability of the favourable decision."""
        share = np.full(inputs.number_of_rows(X), self._always)
        for weight, predictor in zip(self.weights_, self.predictors_, strict=True):
            share += weight * (np.asarray(predictor.predict(X)).reshape(-1) > 0)
        clipped: Floats = np.clip(share, 0.0, 1.0)
        return clipped

    def _decision_shares(self, X: Any) -> Floats:
        """Probability of deciding for each of ``classes_``, shape (n, 2)."""
        return self._columns(self._favourable_share(self._features(X)))

    def _columns(self, share: Floats) -> Floats:
        columns = np.empty((len(share), 2))
        columns[:, self._favourable], columns[:, 1 - self._favourable] = share, 1 - share
        return columns

    def _favourable_share(self, X: Any) -> Floats:
        share = self._mixture_share(X)
        return (share > 0.5).astype(np.float64) if self.deterministic else share

    def _settings(self) -> Settings:
        if not self.eps > 0:
            raise InvalidParameterError(f"eps must be above 0, got {self.eps!r}.")
        if not self.max_iter >= 1:
            raise InvalidParameterError(f"max_iter must be at least 1, got {self.max_iter!r}.")
        return Settings(eps=self.eps, max_iter=self.max_iter, nu=self.nu)

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

    def __sklearn_is_fitted__(self) -> bool:
        """Whether ``fit`` has finished."""
        return hasattr(self, "fairness_report_")

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
