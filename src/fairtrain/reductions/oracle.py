"""The base estimator as the reduction's oracle: weights in, cached fits out."""

from __future__ import annotations

import hashlib
import inspect
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import has_fit_parameter

from fairtrain.data.inputs import take_rows
from fairtrain.exceptions import InvalidParameterError, StoredRowsWarning

__all__ = [
    "Oracle",
    "OracleLog",
    "is_deterministic",
    "make_oracle",
    "request_weights",
    "warn_if_rows_stored",
    "weight_keyword",
]


def weight_keyword(estimator: Any) -> str | None:
    """Name under which ``fit`` takes the weights of the final estimator, or None.

    A ``Pipeline`` gets them as ``laststep__sample_weight``; a search or another wrapper hands
    ``sample_weight`` on to its ``estimator``. With metadata routing switched on every estimator
    takes ``sample_weight`` and :func:`request_weights` says who consumes it.
    """
    if steps := getattr(estimator, "steps", None):
        name, last = steps[-1]
        inner = weight_keyword(last)
        return None if inner is None else f"{name}__{inner}"
    if has_fit_parameter(estimator, "sample_weight"):
        return "sample_weight"
    base = getattr(estimator, "estimator", None)
    takes_any = any(
        p.kind is inspect.Parameter.VAR_KEYWORD
        for p in inspect.signature(estimator.fit).parameters.values()
    )
    return weight_keyword(base) if base is not None and takes_any else None


def request_weights(estimator: Any) -> None:
    """Set the metadata requests by which only the final estimator consumes the weights.

    Requests that the user has set stay as they are. Call it on a clone.
    """
    consumer = _final(estimator)
    inner = estimator.get_params(deep=True).values() if hasattr(estimator, "get_params") else ()
    for part in (estimator, *inner):
        if part is not consumer:
            _request(part, consume=False)
    _request(consumer, consume=True)


def _final(estimator: Any) -> Any:
    """The estimator that the weights are for: a pipeline's last step, a search's estimator."""
    if steps := getattr(estimator, "steps", None):
        return _final(steps[-1][1])
    base = getattr(estimator, "estimator", None)
    if base is not None and not has_fit_parameter(estimator, "sample_weight"):
        return _final(base)
    return estimator


def _request(step: Any, *, consume: bool) -> None:
    for method in ("fit", "transform", "predict", "score"):
        setter = getattr(step, f"set_{method}_request", None)
        if setter is None or not _has_parameter(step, method, "sample_weight"):
            continue
        own = getattr(step.get_metadata_routing(), method, None)  # None for one that only routes
        if own is not None and own.requests.get("sample_weight") is None:
            setter(sample_weight=consume and method == "fit")


def _has_parameter(estimator: Any, method: str, name: str) -> bool:
    """Whether a method of an estimator has a parameter of that name."""
    function = getattr(estimator, method, None)
    return function is not None and name in inspect.signature(function).parameters


def seeded(estimator: Any, rng: np.random.RandomState | None) -> Any:
    """Clone with every ``random_state=None`` replaced by a number, so that a seed repeats a fit."""
    copy = clone(estimator, safe=False)
    if rng is None or not hasattr(copy, "get_params"):
        return copy
    unset = {
        name: int(rng.randint(2**31 - 1))
        for name, value in sorted(copy.get_params(deep=True).items())
        if name.rpartition("__")[2] == "random_state" and value is None
    }
    return copy.set_params(**unset) if unset else copy


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


@dataclass
class OracleLog:
    """What the oracles of one reduction share: the cache and the last predictions."""

    keyword: str | None
    deterministic: bool
    resample_seed: int | None = None
    fitted: dict[bytes, Any] = field(default_factory=dict)
    n_fits: int = 0
    last: tuple[Any, Any, NDArray[Any]] | None = None


class Oracle(BaseEstimator):
    """Base estimator with the ``fit(X, y, sample_weight)`` that a reduction calls.

    Parameters
    ----------
    estimator : estimator
        Unfitted template; each fit trains a clone.
    log : OracleLog
        Shared by all clones of this oracle.
    """

    def __init__(self, estimator: Any, log: OracleLog) -> None:
        self.estimator = estimator
        self.log = log

    def __sklearn_clone__(self) -> Oracle:
        return Oracle(self.estimator, self.log)  # sharing the log is the point

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Oracle:
        """Fit a clone on weighted labels, or take the fit that the same weights gave before."""
        labels = np.asarray(y).astype(np.int64)
        weights = np.asarray(sample_weight, dtype=np.float64)
        key = b""
        if self.log.deterministic:
            digest = hashlib.blake2b(np.packbits(labels > 0).tobytes(), digest_size=16)
            # Weights that differ by rounding only are the same problem.
            digest.update(np.rint(weights * 2.0**36).astype(np.int64).tobytes())
            key = digest.digest()
            if key in self.log.fitted:
                self.fitted_ = self.log.fitted[key]
                return self
        self.fitted_ = self._fit_clone(X, labels, weights)
        self.log.n_fits += 1
        if self.log.deterministic:
            self.log.fitted[key] = self.fitted_
        return self

    def _fit_clone(self, X: Any, labels: NDArray[np.int64], weights: NDArray[np.float64]) -> Any:
        model = clone(self.estimator, safe=False)
        if self.log.resample_seed is not None:
            rng = np.random.default_rng(self.log.resample_seed)
            rows = rng.choice(len(labels), size=len(labels), p=weights / weights.sum())
            return model.fit(take_rows(X, rows), labels[rows])
        if get_config()["enable_metadata_routing"]:
            request_weights(model)
            return model.fit(X, labels, sample_weight=weights)
        return model.fit(X, labels, **{str(self.log.keyword): weights})

    def predict(self, X: Any) -> NDArray[Any]:
        """Decisions 0 or 1; those of the last call are remembered, error and gaps both ask."""
        last = self.log.last
        if last is not None and last[0] is self.fitted_ and last[1] is X:
            return last[2]
        decisions = np.asarray(self.fitted_.predict(X)).reshape(-1)
        self.log.last = (self.fitted_, X, decisions)
        return decisions


def make_oracle(
    estimator: Any, *, resample: bool, rng: np.random.RandomState | None
) -> tuple[Oracle, OracleLog]:
    """Wrap an estimator as an oracle.

    Raises
    ------
    InvalidParameterError
        If the estimator takes no ``sample_weight`` and ``resample`` is off.
    """
    template = seeded(estimator, rng)
    keyword = weight_keyword(template)
    if keyword is None and not resample:
        raise InvalidParameterError(
            f"{type(estimator).__name__}.fit takes no sample_weight, which the reduction needs; "
            "choose another estimator, or set resample=True to draw weighted rows instead."
        )
    log = OracleLog(
        keyword=keyword,
        deterministic=is_deterministic(template),
        resample_seed=(rng.randint(2**31 - 1) if rng is not None else 0) if resample else None,
    )
    return Oracle(template, log), log


_KEEPERS = ("_fit_X", "support_vectors_", "X_train_", "X_fit_", "X_")


def warn_if_rows_stored(predictors: list[Any]) -> None:
    """Name base estimators that keep training rows (nearest neighbours, kernel machines)."""
    keepers = sorted(
        {type(part).__name__ for p in predictors for part in _parts(p) if _keeps(part)}
    )
    if keepers:
        warnings.warn(
            f"{', '.join(keepers)} keeps training rows inside the fitted model: whoever gets the "
            "model gets them too. Choose an estimator that stores no rows before sharing it.",
            StoredRowsWarning,
            stacklevel=4,
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
