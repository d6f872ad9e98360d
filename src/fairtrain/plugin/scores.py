"""Scores that no row's own label helped to make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from fairtrain.data import inputs
from fairtrain.data.draws import seeded
from fairtrain.data.fitting import fit_weighted, weight_keyword
from fairtrain.data.groups import group_sums
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

__all__ = ["CrossFit", "FoldModel", "GroupMaps", "cross_fit", "default_estimators"]

Floats = NDArray[np.float64]
Folds = Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]

_FLOOR = 1e-6  # no class is impossible
_NEWTON_STEPS = 20
_MOST_LEVELS = 254  # of a category that histogram trees take


@dataclass(frozen=True, eq=False)
class FoldModel:
    """A fitted classifier of numbered classes, of which its rows may have had only some.

    Attributes
    ----------
    model : estimator
        Fitted on labels 0, 1, ... without gaps, which some estimators insist on.
    seen : ndarray of int64
        Class number of each of these.
    """

    model: Any
    seen: NDArray[np.int64]

    def __call__(self, X: Any, n_classes: int) -> Floats:
        """Probabilities by class number, whatever classes the model saw, shape (n, C)."""
        proba = np.asarray(self.model.predict_proba(X), dtype=np.float64)
        if not np.isfinite(proba).all():
            raise InvalidDataError(
                f"{type(self.model).__name__}.predict_proba gave NaN or infinity; check its "
                "features."
            )
        full = np.full((len(proba), n_classes), _FLOOR)
        full[:, self.seen[np.asarray(self.model.classes_, dtype=np.int64)]] = np.maximum(
            proba, _FLOOR
        )
        return np.asarray(full / full.sum(axis=1, keepdims=True))


@dataclass(frozen=True, eq=False)
class CrossFit:
    """Models of one quantity, one a fold, and their scores of the rows they never saw.

    Attributes
    ----------
    models : list of FoldModel
        One a fold.
    n_classes : int
        Classes C, numbered.
    held : ndarray of shape (n, C)
        Out-of-fold probabilities.
    loss : float
        Their mean log loss, in nats.
    """

    models: list[FoldModel]
    n_classes: int
    held: Floats
    loss: float

    def __call__(self, X: Any) -> Floats:
        """Average probabilities of the folds' models for new rows, shape (n, C)."""
        total = np.zeros((inputs.number_of_rows(X), self.n_classes))
        for model in self.models:
            total += model(X, self.n_classes)
        return total / len(self.models)


@dataclass(frozen=True, eq=False)
class GroupMaps:
    r"""P(y | x, g) from P(y | x) and a known group: a line a group on the logit (Platt, 1999).

    .. math:: P(y = 1 \mid x, g) = \sigma(a_g + b_g\, \sigma^{-1}(P(y = 1 \mid x)))

    Attributes
    ----------
    lines : ndarray of shape (G, 2)
        Intercept and slope of every group.
    """

    lines: Floats

    @classmethod
    def fit(
        cls,
        outcome: Floats,
        y: NDArray[np.int64],
        codes: NDArray[np.int64],
        size: int,
        weight: Floats | None = None,
    ) -> GroupMaps:
        """Fit by Newton's method; one row's worth of prior holds each line to the identity.

        Parameters
        ----------
        outcome, y, codes : ndarray of shape (n,)
            Out-of-fold P(y = 1 | x), labels and groups.
        size : int
            Groups.
        weight : ndarray of shape (n,), optional
            Weights of the rows.
        """
        z = logit(np.clip(outcome, _FLOOR, 1 - _FLOOR))
        design = np.stack([np.ones_like(z), z])
        identity = np.array([0.0, 1.0])
        lines = np.tile(identity, (size, 1))
        mass = np.ones_like(z) if weight is None else weight

        def sums(values: Floats) -> Floats:
            return group_sums(mass * values, codes, size)

        for _ in range(_NEWTON_STEPS):
            p = expit((lines[codes].T * design).sum(axis=0))
            slope = np.stack([sums((y - p) * d) for d in design], axis=1) - (lines - identity)
            bend = np.stack(
                [[sums(p * (1 - p) * d * e) for e in design] for d in design]
            ).transpose(2, 0, 1) + np.eye(2)
            lines = lines + np.linalg.solve(bend, slope[:, :, None])[:, :, 0]
        return cls(lines)

    def __call__(self, outcome: Floats, codes: NDArray[np.int64]) -> Floats:
        """P(y = 1 | x, g) of people of known groups, shape (n,)."""
        own = self.lines[codes]
        z = logit(np.clip(outcome, _FLOOR, 1 - _FLOOR))
        return np.asarray(expit(own[:, 0] + own[:, 1] * z))


def cross_fit(
    candidates: Sequence[Any],
    X: Any,
    target: NDArray[np.int64],
    n_classes: int,
    weight: Floats | None,
    folds: Folds,
    *,
    rng: np.random.RandomState | None = None,
    n_jobs: int | None = None,
) -> CrossFit:
    """Fit candidates fold by fold and keep the one of smaller out-of-fold log loss.

    Parameters
    ----------
    candidates : sequence of estimators
        Classifiers with ``predict_proba``.
    X : array, sparse matrix or frame of shape (n, d)
        Features.
    target : ndarray of int64, shape (n,)
        Class numbers; -1 leaves a row out of training.
    n_classes : int
        Classes.
    weight : ndarray of shape (n,), optional
        Weights of the rows.
    folds : sequence of (training, held-out) row numbers
        Together the held-out rows are all rows.
    rng : RandomState, optional
        Gives a seed to every estimator that has a ``random_state`` and none set.
    n_jobs : int, optional
        Folds at a time.
    """
    fits: list[CrossFit] = []
    for estimator in candidates:
        jobs = [
            delayed(_fit_fold)(seeded(clone(estimator), rng), X, target, n_classes, weight, fold)
            for fold in folds
        ]
        done = Parallel(n_jobs=n_jobs)(jobs)
        held = np.full((len(target), n_classes), 1.0 / n_classes)
        for (_, rows), (_, proba) in zip(folds, done, strict=True):
            held[rows] = proba
        fits.append(
            CrossFit([model for model, _ in done], n_classes, held, _loss(held, target, weight))
        )
    return min(fits, key=lambda fit: fit.loss)


def _fit_fold(
    estimator: Any,
    X: Any,
    target: NDArray[np.int64],
    n_classes: int,
    weight: Floats | None,
    fold: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> tuple[FoldModel, Floats]:
    training, held = fold
    training = training[target[training] >= 0]
    seen, y = np.unique(target[training], return_inverse=True)
    if len(seen) < 2:
        # A cell with one class in it is no fault of the estimator's: all it can say is that class.
        estimator = DummyClassifier(strategy="prior")
        if not len(training):
            training, seen, y = held[:1], np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    if weight is not None and weight_keyword(estimator) is None:
        raise InvalidParameterError(
            f"{type(estimator).__name__} takes no sample_weight, but weights were passed; "
            "leave them out or choose another estimator."
        )
    own = None if weight is None else weight[training]
    model = FoldModel(fit_weighted(estimator, inputs.take_rows(X, training), y, own), seen)
    return model, model(inputs.take_rows(X, held), n_classes)


def _loss(held: Floats, target: NDArray[np.int64], weight: Floats | None) -> float:
    known = np.flatnonzero(target >= 0)
    losses = -np.log(held[known, target[known]])
    return float(np.average(losses, weights=None if weight is None else weight[known]))


def default_estimators(X: Any) -> list[Any]:
    """Histogram boosting and logistic regression, with what a frame's columns need.

    Defaults never depend on what else is installed.
    """
    boosted = HistGradientBoostingClassifier(max_iter=100, early_stopping=False)
    linear = LogisticRegression(max_iter=1000)
    scaled = make_pipeline(SimpleImputer(), StandardScaler())
    if not hasattr(X, "columns"):
        if hasattr(X, "tocsr"):
            return [make_pipeline(StandardScaler(with_mean=False), linear)]
        return [boosted, make_pipeline(scaled, linear)]

    number = make_column_selector(dtype_include="number")
    word = make_column_selector(dtype_exclude="number")

    def columns(numbers: Any, words: Any) -> Any:
        return make_column_transformer((numbers, number), (words, word))

    # Trees that split a category themselves read one column where one-hot codes make one a level:
    # three times faster on 18,000 rows of adult, with log losses (nats, 4 splits) that differ by
    # -.001 for the label and .002 for the group (1,000 rows: .001 and .012; 3,000: .003 and .008).
    coded = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
        encoded_missing_value=np.nan,
        min_frequency=10,
        max_categories=_MOST_LEVELS,
    )
    words = range(len(number(X)), X.shape[1])  # behind the numbers
    boosted.set_params(categorical_features=list(words) or None)
    one_hot = OneHotEncoder(
        handle_unknown="infrequent_if_exist", min_frequency=10, sparse_output=False
    )
    return [
        make_pipeline(columns("passthrough", coded), boosted),
        make_pipeline(columns(scaled, one_hot), linear),
    ]
