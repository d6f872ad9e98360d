"""What a way to train has to offer: a fair model, an ordinary one of its kind, its options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairtrain._commands.data import sensitive_values
from fairtrain._commands.options import How
from fairtrain._imports import require
from fairtrain.constraints import Constraint
from fairtrain.data.labels import LabelCoding
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidParameterError

__all__ = ["InWords", "Method", "Settings", "as_passed", "check_over", "read_method"]


@dataclass(frozen=True)
class Settings:
    """What methods read.

    Attributes
    ----------
    constraint : Constraint
        What is asked.
    validation, certification : float
        Shares of the rows handed over that steer and that certify.
    seed : int
        Source of all chance.
    positive : label
        The favourable outcome.
    missing : {"error", "group"}
        What to do with missing sensitive values.
    columns : tuple of str
        The sensitive columns.
    options : mapping
        The method's own options, defaults filled in.
    callbacks : tuple
        Watch the training of a network.
    """

    constraint: Constraint
    validation: float
    certification: float
    seed: int
    positive: Any
    missing: str
    columns: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    callbacks: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Method:
    """A way to train.

    Attributes
    ----------
    name : str
        What ``--method`` takes.
    options : mapping of str to value
        Options of ``How`` that it reads, with their defaults.
    fair : callable
        Settings -> an unfitted estimator under the constraint.
    plain : callable
        Settings -> an unfitted estimator of the same kind without it.
    moves : str
        Parameter that a sweep moves.
    package : (module, extra) or None
        What has to be installed.
    check : callable
        Raises where the settings are not for this method.
    plain_splits : bool
        Whether ``plain`` takes all rows and splits them itself, as ``fair`` does.
    random_state : callable
        Seed -> the estimator's ``random_state`` that makes the split of :func:`split_seed`.
    """

    name: str
    options: Mapping[str, Any]
    fair: Callable[[Settings], Any]
    plain: Callable[[Settings], Any]
    moves: str
    package: tuple[str, str] | None = None
    check: Callable[[Settings], None] = lambda settings: None
    plain_splits: bool = False
    random_state: Callable[[int], Any] = int

    def require(self) -> None:
        """Raise unless what the method needs is installed."""
        if self.package is not None:
            require(self.package[0], extra=self.package[1])

    def fit_fair(self, rows: Rows, settings: Settings) -> Any:
        """Fit on all rows; the estimator splits them as ``rows.split`` says."""
        model = self.fair(settings).set_params(random_state=self.random_state(settings.seed))
        return _fit(model, rows).set_params(random_state=settings.seed)

    def fit_plain(self, rows: Rows, settings: Settings) -> Any:
        """Fit the ordinary model on the rows that train."""
        model = self.plain(settings)
        if self.plain_splits:
            return _fit(model, rows)
        training = rows.part("training")
        assert training.y is not None
        assert training.labels is not None
        return InWords(model.fit(training.X, training.y.astype(np.int64)), training.labels)


def as_passed(rows: Rows) -> tuple[Any, Any, Any]:
    """Features, labels in the words of the data, and sensitive columns: what ``fit`` takes."""
    assert rows.labels is not None
    assert rows.y is not None
    return rows.X, rows.labels.decode(rows.y), sensitive_values(rows.groups)


def _fit(model: Any, rows: Rows) -> Any:
    X, y, who = as_passed(rows)
    return model.fit(X, y, sensitive_features=who)


class InWords:
    """A classifier that was fitted on 0 and 1, answering in the labels of the data."""

    def __init__(self, model: Any, labels: LabelCoding) -> None:
        self.model = model
        self.classes_ = labels.labels

    def predict(self, X: Any) -> NDArray[Any]:
        """Labels, shape (n,)."""
        return np.asarray(self.classes_[np.asarray(self.model.predict(X)).astype(np.int64)])

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities, shape (n, 2), in the order of ``classes_``."""
        return np.asarray(self.model.predict_proba(X), dtype=np.float64)


def read_method(how: How, methods: Mapping[str, Method]) -> tuple[Method, dict[str, Any]]:
    """Find the method, and its options with their defaults.

    Raises
    ------
    InvalidParameterError
        If an option was given that the method does not read.
    MissingDependencyError
        If what it needs is not installed.
    """
    method = methods[how.method]
    given = {k: v for k, v in vars(how).items() if k != "method" and v is not None}
    for name in given:
        if name not in method.options:
            readers = ", ".join(m.name for m in methods.values() if name in m.options)
            raise InvalidParameterError(
                f"--{name} is read by {readers}, not by --method {method.name}; leave it out."
            )
    for name in ("eta", "strength"):
        if name in given and not 0 <= given[name] < np.inf:
            raise InvalidParameterError(f"--{name} must be a number >= 0, got {given[name]:g}.")
    if given.get("epochs", 1) < 1:
        raise InvalidParameterError(f"--epochs must be 1 or more, got {given['epochs']}.")
    method.require()
    return method, {**method.options, **given}


def check_over(name: str, settings: Settings) -> None:
    """Raise where a method that knows one set of groups only is asked about another."""
    over = settings.constraint.over
    if over is not None and set(over) != set(settings.columns):
        raise InvalidParameterError(
            f"--over is not for --method {name}, which compares the groups of all sensitive "
            f"columns: give --sensitive {','.join(over)} alone."
        )
