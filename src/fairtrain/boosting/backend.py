"""What a booster has to offer: one more tree from given derivatives, and margins so far.

The registry of boosters is at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from fairtrain.boosting.objective import Task
from fairtrain.exceptions import FairtrainError, InvalidDataError, InvalidParameterError

__all__ = [
    "Backend",
    "Derivatives",
    "Settings",
    "TreeData",
    "TreeRun",
    "backend_of",
    "check_params",
    "finite_margins",
    "in_one_line",
    "load_backend",
]

Floats = NDArray[np.float64]

Derivatives = Callable[[Floats], tuple[Floats, Floats]]
"""Gradient and Hessian at the margins of the training rows."""


@dataclass(frozen=True)
class Settings:
    """Settings of the trees, and of the prices they are grown against.

    Attributes
    ----------
    booster : str
        Who grows the trees.
    task : {"classification", "regression"}
        Which of its objectives the stock model carries.
    n_estimators, max_depth, learning_rate
        Most rounds, depth of a tree (None: the booster's own rule), shrinkage.
    seed : int
        For sampling of rows and columns.
    n_jobs : int or None
        Threads; None: the booster's own default.
    params : dict
        More of the booster's parameters.
    dual_lr : float
        What a violation of 1 adds to a multiplier in one round.
    cap : float
        Largest sum of a bound's multipliers.
    confidence : float or None
        Steer for this confidence limit of a gap instead of the gap itself.
    min_count : int
        Groups with fewer steering rows are steadied by their parents.
    patience : int or None
        Rounds without a better choice after which to stop.
    """

    booster: str
    task: Task
    n_estimators: int
    max_depth: int | None = 6
    learning_rate: float = 0.1
    seed: int = 0
    n_jobs: int | None = None
    params: dict[str, Any] = field(default_factory=dict)
    dual_lr: float = 1.0
    cap: float = 50.0
    confidence: float | None = None
    min_count: int = 30
    patience: int | None = None

    @classmethod
    def of(cls, estimator: Any, seed: int) -> Self:
        """Read an estimator's parameters, which were checked before."""
        return cls(
            estimator.booster,
            estimator.task,
            int(estimator.n_estimators),
            max_depth=None if estimator.max_depth is None else int(estimator.max_depth),
            learning_rate=float(estimator.learning_rate),
            seed=seed,
            n_jobs=estimator.n_jobs,
            params=dict(estimator.booster_params or {}),
            dual_lr=float(estimator.dual_lr),
            cap=float(estimator.multiplier_cap),
            confidence=None if estimator.confidence is None else float(estimator.confidence),
            min_count=int(estimator.min_count),
            patience=estimator.early_stopping_rounds,
        )


@dataclass(frozen=True)
class TreeData:
    """Rows as the booster takes them.

    Attributes
    ----------
    X, y, weight
        Training rows.
    steering : array, frame or None
        Rows whose margins steer; None: the training rows themselves.
    watched : sequence
        Further rows whose margins are followed.
    """

    X: Any
    y: Floats
    weight: Floats | None = None
    steering: Any = None
    watched: Sequence[Any] = ()


class TreeRun(Protocol):
    """One booster in training. The cost of a round does not depend on the rounds before it."""

    @property
    def n_rounds(self) -> int:
        """Rounds that the model holds."""
        ...

    @property
    def can_go_plain(self) -> bool:
        """Whether :meth:`plain_round` may still be used."""
        ...

    def plain_round(self) -> None:
        """Add a tree by the booster's own objective."""
        ...

    def round(self, derivatives: Derivatives) -> None:
        """Add a tree by derivatives taken at the training margins."""
        ...

    def training_margin(self) -> Floats:
        """Margins of the training rows."""
        ...

    def steering_margin(self) -> Floats:
        """Margins of the steering rows."""
        ...

    def watched_margin(self, i: int) -> Floats:
        """Margins of the watched rows number i."""
        ...

    def model(self, n_rounds: int) -> Any:
        """Cut the model after so many rounds: a stock one that holds no row."""
        ...


@dataclass(frozen=True)
class Backend:
    """All that is needed of one booster.

    Attributes
    ----------
    start : callable
        Rows and settings -> a :class:`TreeRun`.
    predict : callable
        A stock model and rows -> probabilities of the favourable label, or values, shape (n,).
    gains : callable
        A stock model and the number of features d -> gain of every feature over all its splits,
        shape (d,).
    """

    start: Callable[[TreeData, Settings], TreeRun]
    predict: Callable[[Any, Any], Floats]
    gains: Callable[[Any, int], Floats]


def check_params(params: Any, taken: dict[str, str], allowed_boosting: dict[str, set[str]]) -> None:
    """Raise on parameters that would change what is trained.

    Parameters
    ----------
    params : mapping or None
        ``booster_params``.
    taken : dict of str to str
        Parameter -> what to use instead.
    allowed_boosting : dict of str to set
        Parameter that names the kind of boosting -> the kinds whose trees stay as they are.
    """
    for name, value in params.items():
        if name in taken:
            raise InvalidParameterError(f"booster_params may not set {name!r}: {taken[name]}.")
        if name in allowed_boosting and value not in allowed_boosting[name]:
            raise InvalidParameterError(
                f"booster_params[{name!r}] must be one of {sorted(allowed_boosting[name])}, got "
                f"{value!r}: margins are kept round by round, so trees may not change later."
            )


@contextmanager
def in_one_line(booster: str, what: str, errors: type[Exception]) -> Iterator[None]:
    """Turn a booster's own complaint about rows or parameters into one line."""
    try:
        yield
    except (ValueError, TypeError, errors) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        spoken = (line for line in lines if not line.startswith("Stack trace"))
        kind: type[FairtrainError] = InvalidDataError if what == "rows" else InvalidParameterError
        text = next(spoken, "no reason given")
        raise kind(f"{booster} cannot use these {what}: {text}") from error


def finite_margins(margins: Floats) -> Floats:
    """Margins as they came.

    Raises
    ------
    InvalidDataError
        If one is NaN or infinite: no later tree mends that.
    """
    wrong = ~np.isfinite(margins)
    if wrong.any():
        raise InvalidDataError(
            f"the booster predicts NaN or infinity in {int(wrong.sum())} of {len(margins)} rows; "
            "look for extreme values in y, sample_weight or a loss of your own, or lower "
            "learning_rate."
        )
    return margins


# A booster's name is that of its package. A module here defines ``BACKEND``; it is imported when it
# is asked for.
_MODULES = {
    "xgboost": "fairtrain.boosting.xgboost",
    "lightgbm": "fairtrain.boosting.lightgbm",
}


def load_backend(booster: str) -> Backend:
    """Find the back end of a booster.

    Raises
    ------
    InvalidParameterError
        If there is none of that name.
    MissingDependencyError
        If it is not installed.
    """
    if booster not in _MODULES:
        known = " or ".join(repr(name) for name in _MODULES)
        raise InvalidParameterError(f"booster must be {known}, got {booster!r}.")
    backend: Backend = import_module(_MODULES[booster]).BACKEND
    return backend


def backend_of(model: Any) -> Backend:
    """Find the back end that a stock model belongs to."""
    return load_backend(type(model).__module__.partition(".")[0])
