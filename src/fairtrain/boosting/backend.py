"""What a booster has to offer: one more tree from given derivatives, and margins so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fairtrain.boosting.objective import Task
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

__all__ = [
    "Backend",
    "Derivatives",
    "TreeData",
    "TreeRun",
    "TreeSettings",
    "booster_said",
    "check_params",
    "finite_margins",
]

Floats = NDArray[np.float64]

Derivatives = Callable[[Floats], tuple[Floats, Floats]]
"""Gradient and Hessian at the margins of the training rows."""


@dataclass(frozen=True)
class TreeSettings:
    """Settings every booster knows, and its own under its own names.

    Attributes
    ----------
    n_estimators, max_depth, learning_rate
        Rounds, depth of a tree (None: the booster's own rule), shrinkage.
    seed : int
        For sampling of rows and columns.
    n_jobs : int or None
        Threads; None: the booster's own default.
    params : dict
        More of the booster's parameters.
    task : {"classification", "regression"}
        Which of its objectives the stock model carries.
    """

    n_estimators: int
    max_depth: int | None
    learning_rate: float
    seed: int
    n_jobs: int | None
    params: dict[str, Any] = field(default_factory=dict)
    task: Task = "classification"


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

    start: Callable[[TreeData, TreeSettings], TreeRun]
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


def booster_said(error: Exception, booster: str) -> InvalidDataError:
    """Turn a booster's own complaint about rows into one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = next((line for line in lines if not line.startswith("Stack trace")), "no reason given")
    return InvalidDataError(f"{booster} cannot use these rows: {text}")


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
