"""The base estimator as the reduction's oracle: weights in, cached fits out."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from fairtrain._warnings import warn
from fairtrain.data.draws import seeded
from fairtrain.data.fitting import fit_weighted, weight_keyword
from fairtrain.data.inputs import take_rows
from fairtrain.exceptions import InvalidParameterError, StoredRowsWarning

__all__ = [
    "Folds",
    "Oracle",
    "decisions",
    "is_deterministic",
    "numbers",
    "warn_if_rows_stored",
]

Folds = Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Positions of the rows outside and inside each fold."""


def is_deterministic(estimator: Any) -> bool:
    """Whether two fits on the same rows and weights are known to give the same model.

    True when every ``random_state`` inside is a number, or is None in an estimator that draws
    nothing without being asked to (boosters and linear models with their default solvers).
    """
    if not hasattr(estimator, "get_params"):
        return False
    params = estimator.get_params(deep=True)
    for name, value in params.items():
        if name.rpartition("__")[2] != "random_state" or isinstance(value, int | np.integer):
            continue
        owner_name = name.rpartition("__")[0]
        owner = params.get(owner_name, None) if owner_name else estimator
        if value is not None or not _draws_nothing(owner):
            return False
    return True


def _draws_nothing(estimator: Any) -> bool:
    kind = type(estimator).__name__
    if kind in ("XGBClassifier", "LGBMClassifier"):
        return True  # both fall back to a fixed seed
    if kind == "LogisticRegression":
        return estimator.solver not in ("liblinear", "sag", "saga")
    return kind in ("RidgeClassifier", "LinearDiscriminantAnalysis", "GaussianNB")


class Oracle:
    """Base estimator with the ``fit(X, y, sample_weight)`` that a reduction calls.

    Parameters
    ----------
    estimator : estimator
        Unfitted; each fit trains a clone.
    resample : bool, default=False
        Draw weighted rows instead of handing weights over.
    rng : RandomState, optional
        Seeds what has no seed of its own.
    folds : sequence of (training, held-out) positions, optional
        Each fit trains a twin a fold besides, on the rows outside it; :meth:`predict` then says
        what the twins decide.
    values : bool, default=False
        Predictors answer with the :func:`numbers` of a regression, not with :func:`decisions`.

    Raises
    ------
    InvalidParameterError
        If the estimator takes no ``sample_weight`` and ``resample`` is off.
    """

    def __init__(
        self,
        estimator: Any,
        *,
        resample: bool = False,
        rng: np.random.RandomState | None = None,
        folds: Folds = (),
        values: bool = False,
    ) -> None:
        self.values = values
        self.estimator = seeded(clone(estimator, safe=False), rng)
        if not resample and weight_keyword(self.estimator) is None:
            raise InvalidParameterError(
                f"{type(estimator).__name__}.fit takes no sample_weight, which the reduction "
                "needs; choose another estimator, or set resample=True to draw weighted rows "
                "instead."
            )
        self.deterministic = is_deterministic(self.estimator)
        self.resample_seed: int | None = None
        if resample:
            self.resample_seed = 0 if rng is None else int(rng.randint(2**31 - 1))
        self.folds = folds
        self._fits: dict[bytes, tuple[Any, NDArray[Any]]] = {}

    def __sklearn_clone__(self) -> Oracle:
        return copy.copy(self)  # fits stay shared: that is the point

    @property
    def n_fits(self) -> int:
        """Fits so far of this oracle and its clones, those of twins included."""
        return len(self._fits) * (1 + len(self.folds))

    def answers(self, predictor: Any, X: Any) -> NDArray[Any]:
        """What a predictor says of rows, shape (n,)."""
        return numbers(predictor, X) if self.values else decisions(predictor, X)

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Oracle:
        """Fit a clone on weighted labels, or take the fit that the same weights gave before."""
        labels = np.asarray(y)
        if not self.values:
            labels = labels.astype(np.int64)
        weights = np.asarray(sample_weight, dtype=np.float64)
        key = str(len(self._fits)).encode()
        if self.deterministic:
            digest = hashlib.blake2b(np.packbits(labels > 0).tobytes(), digest_size=16)
            # Weights that differ by rounding only are the same problem.
            digest.update(np.rint(weights * 2.0**36).astype(np.int64).tobytes())
            key = digest.digest()
        if key not in self._fits:
            model = self._fit_clone(X, labels, weights)
            answered = self._held_out if self.folds else lambda X, *_: self.answers(model, X)
            self._fits[key] = model, answered(X, labels, weights)
        self.model, self._answered = self._fits[key]
        return self

    def _held_out(self, X: Any, labels: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[Any]:
        """Answer for every fold by a fit on the rows of the others."""
        decided = np.empty(len(labels))
        for training, held in self.folds:
            y = labels[training]
            if y.min() == y.max():  # as in the reduction, one label is no problem to fit
                decided[held] = y[0]
                continue
            twin = self._fit_clone(take_rows(X, training), y, weights[training])
            decided[held] = self.answers(twin, take_rows(X, held))
        return decided

    def _fit_clone(self, X: Any, labels: NDArray[Any], weights: NDArray[np.float64]) -> Any:
        model = clone(self.estimator, safe=False)
        if self.resample_seed is None:
            return fit_weighted(model, X, labels, weights)
        rng = np.random.default_rng(self.resample_seed)
        rows = rng.choice(len(labels), size=len(labels), p=weights / weights.sum())
        return fit_weighted(model, take_rows(X, rows), labels[rows])

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Answers for the rows of ``fit``, the only ones a reduction asks about."""
        return self._answered.astype(np.float64)


def decisions(predictor: Any, X: Any) -> NDArray[np.bool_]:
    """What a base estimator decides about rows, shape (n,)."""
    return np.asarray(np.asarray(predictor.predict(X)).reshape(-1) > 0)


def numbers(predictor: Any, X: Any) -> NDArray[np.float64]:
    """What a regressor says of rows, shape (n,)."""
    return np.asarray(predictor.predict(X), dtype=np.float64).reshape(-1)


_KEEPERS = ("_fit_X", "support_vectors_", "X_train_", "X_fit_", "X_")


def warn_if_rows_stored(predictors: list[Any]) -> None:
    """Name base estimators that keep training rows (nearest neighbours, kernel machines)."""
    keepers = sorted(
        {type(part).__name__ for p in predictors for part in _parts(p) if _keeps(part)}
    )
    if keepers:
        warn(
            f"{', '.join(keepers)} keeps training rows inside the fitted model: whoever gets the "
            "model gets them too. Choose an estimator that stores no rows before sharing it.",
            StoredRowsWarning,
        )


def _keeps(estimator: Any) -> bool:
    return any(getattr(estimator, name, None) is not None for name in _KEEPERS)


def _parts(estimator: Any) -> Iterator[Any]:
    """The estimator and those inside it: pipeline steps, best estimator, members."""
    yield estimator
    inner = [step for _, step in getattr(estimator, "steps", [])]
    inner += [
        part
        for name in ("best_estimator_", "estimator_", "calibrator")
        if (part := getattr(estimator, name, None)) is not None
    ]
    members = getattr(estimator, "estimators_", None)
    inner += list(np.ravel(np.array(members, dtype=object))) if members is not None else []
    for part in inner:
        if hasattr(part, "fit"):
            yield from _parts(part)
