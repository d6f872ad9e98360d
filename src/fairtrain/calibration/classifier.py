"""``CalibratedFairClassifier``: an estimator whose probabilities are calibrated by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import check_cv
from sklearn.utils import Tags, check_random_state, get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping
from sklearn.utils.validation import check_is_fitted

from fairtrain._parameters import ANYTHING, COLUMNS, SEED, SPLITTER, Table, Whole, check_parameters
from fairtrain._warnings import warn
from fairtrain.calibration.calibrator import GroupFairnessCalibrator
from fairtrain.calibration.cells import Floats
from fairtrain.calibration.shown import as_html
from fairtrain.data import inputs
from fairtrain.data.fitting import fit_weighted, weight_keyword
from fairtrain.data.labels import LabelCoding, scored
from fairtrain.data.rows import Rows, take_sensitive
from fairtrain.data.splits import stratified_folds
from fairtrain.exceptions import InvalidDataError, InvalidParameterError, UselessModelWarning
from fairtrain.metrics.verdicts import Usefulness, usefulness

__all__ = ["CalibratedFairClassifier"]


class CalibratedFairClassifier(MetaEstimatorMixin, ClassifierMixin, BaseEstimator):
    """Fit a classifier, and calibrate its probabilities by group on rows it was not fitted on.

    Parameters
    ----------
    estimator : estimator
        Any classifier with ``predict_proba``. A fitted one comes in scikit-learn's
        ``FrozenEstimator``: then all rows given to ``fit`` calibrate, and must be new to it.
    calibrator : GroupFairnessCalibrator, optional
        Template; cloned. By default ``GroupFairnessCalibrator()``.
    cv : int, splitter or iterable, default=5
        Folds: each row's score comes from a fit without its fold. The estimator is then fitted
        once more, to all rows.
    sensitive_features : str or list of str, optional
        Columns of ``X`` that hold the sensitive features: read at ``fit`` and at ``predict``, and
        dropped before the estimator sees ``X``. Alternatively pass the values to each call.
    random_state : int, RandomState or None
        Draws the folds, over groups and labels, if ``cv`` is a number.

    Attributes
    ----------
    classes_ : ndarray of shape (K,)
        Labels, sorted.
    estimator_ : estimator
        Fitted to all rows.
    calibrator_ : GroupFairnessCalibrator
        Fitted to out-of-fold scores; ``calibrator_.group_report_`` says what was done.
    usefulness_ : Usefulness
        Whether deciding alike for everybody would be as accurate as ``predict`` on those scores.
    n_features_in_, feature_names_in_
        As in scikit-learn, without the sensitive columns.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.naive_bayes import GaussianNB
    >>> rng = np.random.default_rng(0)
    >>> group = rng.integers(0, 3, 3000)
    >>> X = rng.normal(size=(3000, 2))
    >>> y = (X[:, 0] + 0.8 * group + rng.logistic(size=3000) > 1).astype(int)
    >>> model = CalibratedFairClassifier(GaussianNB()).fit(X, y, sensitive_features=group)
    >>> model.predict_proba(X, sensitive_features=group).shape
    (3000, 2)
    >>> model.calibrator_.group_report_["gap_after"].abs().max() < 0.01
    np.True_
    """

    _allowed: ClassVar[Table] = {
        "estimator": ANYTHING,
        "calibrator": ANYTHING,
        "cv": Whole(2) | SPLITTER,
        "sensitive_features": COLUMNS,
        "random_state": SEED,
    }

    def __init__(
        self,
        estimator: Any,
        calibrator: GroupFairnessCalibrator | None = None,
        *,
        cv: Any = 5,
        sensitive_features: str | Sequence[str] | None = None,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.calibrator = calibrator
        self.cv = cv
        self.sensitive_features = sensitive_features
        self.random_state = random_state

    @property
    def needs_sensitive_at_predict(self) -> bool:
        """True: the map depends on the group."""
        return True

    def _html_repr(self) -> str:
        """scikit-learn's diagram, and after ``fit`` what calibration did to every group."""
        diagram: str = super()._html_repr()
        if not hasattr(self, "usefulness_"):
            return diagram
        table = self.calibrator_.group_report_
        number, said = ("gap", "mean probability less event rate")
        if "gap_after" not in table:
            number, said = ("log_loss", "log loss")
        return diagram + as_html(
            f"{said[0].upper()}{said[1:]}, on {table['rows'].sum():,} rows that the calibrator was "
            "fitted to, so they certify nothing: calibration_audit of fresh rows does.",
            table,
            [(f"{number}_before", f"{said}, before"), (f"{number}_after", "after")],
            worth=self.usefulness_,
            percent=False,
        )

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sensitive_features: Any = None,
        sample_weight: Any = None,
        clusters: Any = None,
    ) -> Self:
        """Fit estimator and calibrator.

        Parameters
        ----------
        X : array, sparse matrix or frame of shape (n, d)
            Features, handed to the estimator as they come.
        y : array-like of shape (n,)
            Labels: two or more.
        sensitive_features : frame, series, mapping, array or list of n rows, optional
            Who; left out where the constructor names columns of ``X``.
        sample_weight : array-like of shape (n,), optional
            Row weights, for the calibrator, and for the estimator if it takes any.
        clusters : array-like of shape (n,), optional
            Which rows belong together, such as those of one customer: folds keep them whole.

        Returns
        -------
        self

        Warns
        -----
        UselessModelWarning
            If ``predict`` is no more accurate than one decision for everybody. Probabilities of a
            rare outcome can be worth having all the same: decide by thresholds on them.
        """
        check_parameters(self)
        if isinstance(clusters, str):
            raise InvalidParameterError(
                f"clusters={clusters!r} names a column; pass its values, as predict would miss it."
            )
        template = GroupFairnessCalibrator() if self.calibrator is None else self.calibrator
        rows = Rows.read(
            X,
            y,
            sensitive_features,
            sample_weight,
            clusters=clusters,
            columns=self.sensitive_features,
            several_classes=True,
            missing=template.missing,
            min_count=template.min_group_size,
        )
        inputs.check_features(self, rows.X, reset=True)
        target, coding = LabelCoding.read(rows.targets, several=True)  # of rows that count
        rows = replace(rows, y=target.astype(np.float64), labels=coding)
        self.classes_ = coding.classes
        weight = inputs.as_sample_weight(sample_weight, inputs.number_of_rows(X))
        scores = self._held_out_scores(rows, weight)
        self.calibrator_ = clone(template)
        if len(self.classes_) == 2:
            # Scores are those of the label that sorts last, whatever counts as favourable.
            self.calibrator_.set_params(positive_label=self.classes_[1], scale="probability")
            scores = scores[:, 1]
        known = {"sample_weight": rows.weight, "clusters": rows.clusters}
        self.calibrator_.fit(scores, rows.targets, rows.groups, **known)
        self._judge_use(rows, self.calibrator_._of_known(scores, rows.groups.codes))
        return self

    def _judge_use(self, rows: Rows, proba: Floats) -> None:
        """Keep whether decisions are worth having, and warn where they are not."""
        decided = np.argmax(proba, axis=1) if proba.ndim > 1 else proba > 0.5
        accuracy = float(np.average(decided == rows.outcomes, weights=rows.weight))
        shares = np.bincount(rows.outcomes.astype(np.int64), rows.weight)
        constant = float(shares.max() / shares.sum())
        self.usefulness_ = usefulness(accuracy, constant)
        if self.usefulness_ is not Usefulness.USEFUL:
            warn(
                f"{self.usefulness_}: deciding alike for everybody has accuracy {constant:.3f}, "
                f"predict {accuracy:.3f}. Decide by GroupThresholds on the probabilities, or "
                "improve the estimator.",
                UselessModelWarning,
            )

    def _held_out_scores(self, rows: Rows, weight: Floats | None) -> Floats:
        """Scores of rows by fits without them; sets ``estimator_``. Weights are of all rows."""
        if isinstance(self.estimator, FrozenEstimator):
            self.estimator_ = self.estimator
            known = np.asarray(self.estimator.classes_)
            if known.tolist() != self.classes_.tolist():
                raise InvalidDataError(
                    f"the fitted estimator knows {known.tolist()}, y holds "
                    f"{self.classes_.tolist()}; pass rows of all its classes."
                )
            return np.asarray(self.estimator_.predict_proba(rows.X), dtype=np.float64)
        scores = np.full((len(rows), len(self.classes_)), 1 / len(self.classes_))
        for train, test in self._folds(rows, weight):
            model = self._fitted(rows.take(train))
            scores[test] = 0.0
            at = np.searchsorted(self.classes_, model.classes_)
            scores[np.ix_(test, at)] = model.predict_proba(inputs.take_rows(rows.X, test))
        self.estimator_ = self._fitted(rows)
        return scores

    def _folds(self, rows: Rows, weight: Floats | None) -> Any:
        """Positions of training and test rows."""
        if not isinstance(self.cv, int | np.integer):
            groups = () if rows.clusters is None else (rows.clusters,)
            splitter = check_cv(self.cv, rows.y, classifier=True)
            folds = splitter.split(rows.X, rows.targets, *groups)
            if weight is None or hasattr(self.cv, "split"):
                return folds
            # Folds that are listed count all rows: translate, and leave those of weight 0 out.
            at = np.where(weight > 0, np.cumsum(weight > 0) - 1, -1)
            return ([at[part][at[part] >= 0] for part in fold] for fold in folds)
        smallest = int(np.bincount(rows.outcomes.astype(np.int64)).min())
        if smallest < 2:
            raise InvalidDataError(
                "a class of y has 1 row; held-out scores need at least two of each."
            )
        return stratified_folds(
            (rows.outcomes, rows.groups.codes),
            min(int(self.cv), smallest),
            check_random_state(self.random_state),
            rows.clusters,
        )

    def _fitted(self, rows: Rows) -> Any:
        model = clone(self.estimator)
        if self.random_state is not None and model.get_params().get("random_state", 0) is None:
            model.set_params(random_state=self.random_state)
        weight = None if weight_keyword(model) is None else rows.weight
        return fit_weighted(model, rows.X, rows.targets, weight)

    def outcome_proba(self, X: Any, *, sensitive_features: Any = None) -> Floats:
        """Calibrated P(y | x, group).

        Parameters
        ----------
        X : array, sparse matrix or frame of shape (n, d)
            Features.
        sensitive_features : frame, series, mapping, array or list of n rows, optional
            Who; left out where the constructor names columns of ``X``.

        Returns
        -------
        ndarray of shape (n, K)
            In the order of ``classes_``.

        Raises
        ------
        InvalidDataError
            If sensitive features are missing, or carry another index than ``X``.
        """
        check_is_fitted(self)
        X, sensitive = take_sensitive(
            inputs.as_features(X), self.sensitive_features, sensitive_features
        )
        inputs.check_features(self, X, reset=False)
        if sensitive is None:
            raise InvalidDataError(
                "predict needs sensitive_features: the map depends on the group. Pass them, or "
                "name columns of X in the constructor."
            )
        inputs.require_same_index(X=X, sensitive_features=sensitive)
        scores = np.asarray(self.estimator_.predict_proba(X), dtype=np.float64)
        if len(self.classes_) > 2:
            return np.asarray(self.calibrator_.transform(scores, sensitive))
        positive = self.calibrator_.transform(scores[:, 1], sensitive)
        return np.stack([1 - positive, positive], axis=1)

    def predict_proba(self, X: Any, *, sensitive_features: Any = None) -> Floats:
        """:meth:`outcome_proba`: the most probable label is the one that ``predict`` gives."""
        return self.outcome_proba(X, sensitive_features=sensitive_features)

    def decision_proba(self, X: Any, *, sensitive_features: Any = None) -> Floats:
        """Chance of each decision, shape (n, K): 0 or 1, as nothing is drawn by lot."""
        proba = self.predict_proba(X, sensitive_features=sensitive_features)
        return np.asarray(np.eye(len(self.classes_))[np.argmax(proba, axis=1)])

    def predict(self, X: Any, *, sensitive_features: Any = None) -> NDArray[Any]:
        """Most probable label of each row, shape (n,)."""
        proba = self.predict_proba(X, sensitive_features=sensitive_features)
        return np.asarray(self.classes_[np.argmax(proba, axis=1)])

    def score(
        self, X: Any, y: Any, *, sensitive_features: Any = None, sample_weight: Any = None
    ) -> float:
        """Accuracy."""
        decided = self.predict(X, sensitive_features=sensitive_features)
        return scored(X, y, decided, sample_weight)

    def get_metadata_routing(self) -> MetadataRouter:
        """Route: groups and weights come here, the estimator is fitted by this class."""
        router = MetadataRouter(owner=self).add_self_request(self)
        if hasattr(self.estimator, "get_metadata_routing"):
            router.add(
                estimator=self.estimator,
                method_mapping=MethodMapping().add(caller="fit", callee="fit"),
            )
        return router

    def __sklearn_tags__(self) -> Tags:
        """Tags of a classifier that accepts what its estimator accepts."""
        tags = super().__sklearn_tags__()
        if hasattr(self.estimator, "__sklearn_tags__"):
            base = get_tags(self.estimator).input_tags
            tags.input_tags.sparse, tags.input_tags.allow_nan = base.sparse, base.allow_nan
        return tags
