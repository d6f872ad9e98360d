"""What may be made when a model is loaded. The list is here, never in the file."""

from __future__ import annotations

import importlib
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

import fairtrain
from fairtrain.exceptions import MissingDependencyError, PersistenceError

__all__ = [
    "BY_STATE",
    "CHECKED_BY",
    "Known",
    "check_root",
    "failing",
    "foreign_types",
    "is_function",
    "name_of",
    "resolve",
]

Known = Mapping[str, type]
"""Classes that whoever reads hands over, by :func:`name_of`."""

_ROOTS = ("CalibrationMonitor", "FairnessMonitor", "TemperatureScaling")
"""Public names that are saved besides those of estimators."""

_TABLE = "fairtrain._commands.scores.TableCalibrator"
"""What the command saves for a column of scores."""

_ROOMS = (
    "_commands.columns",
    "_commands.features",
    "_commands.scores",
    "boosting",
    "calibration",
    "constraints",
    "data",
    "estimator",
    "lagrangian",
    "losses",
    "metrics",
    "monitoring",
    "plugin",
    "reductions",
    "training",
)
"""Where the classes of a model's parts are; what reads files or runs commands is elsewhere."""

BY_STATE = (
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
    "sklearn.pipeline.Pipeline",
    "xgboost.sklearn.XGBClassifier",
    "xgboost.sklearn.XGBRFClassifier",
    "xgboost.sklearn.XGBRFRegressor",
    "xgboost.sklearn.XGBRegressor",
)
"""Classes besides fairtrain's own that are rebuilt from their attributes."""

_FUNCTIONS = ("fairtrain.losses.", "fairtrain.constraints.")


def is_function(name: str) -> bool:
    """Whether a function may be named: one that does arithmetic and nothing else."""
    return name.startswith(_FUNCTIONS)


def name_of(what: Any) -> str:
    """Module and name of a class or function."""
    return f"{what.__module__}.{what.__qualname__}"


def check_root(model: Any) -> None:
    """Check that a model is one: an estimator or monitor of fairtrain, or a pipeline to one.

    Raises
    ------
    PersistenceError
        If it is anything else, such as a part of one.
    """
    last = model.steps[-1][1] if type(model) is Pipeline else model
    kind, name = type(last), type(last).__name__
    public = getattr(fairtrain, name, None) is kind or name_of(kind) == _TABLE
    if not public or not (name in _ROOTS or issubclass(kind, BaseEstimator)):
        raise PersistenceError(
            f"a {name} is no model of fairtrain: a model folder holds an estimator "
            "or a monitor of fairtrain, or a Pipeline that ends in one."
        )


def resolve(name: str, known: Known = MappingProxyType({})) -> Any:
    """Find a class or function that may be made: fairtrain's, or one of :data:`BY_STATE`.

    Classes that are handed over may be made as well.

    Raises
    ------
    PersistenceError
        If it is anything else.
    """
    if name in known:
        return known[name]
    module, _, attribute = name.rpartition(".")
    refused = PersistenceError(f"the model names {name[:80]!r}, which may not be made from a file.")
    room = module.removeprefix("fairtrain.")
    own = room != module and any(room == r or room.startswith(f"{r}.") for r in _ROOMS)
    if not (own or name in BY_STATE) or not attribute.isidentifier():
        raise refused
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ModuleNotFoundError, AttributeError) as error:
        absent = (error.name or "").partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and absent not in ("", "fairtrain"):
            extra = "boosting" if absent in ("xgboost", "lightgbm") else "torch"
            raise MissingDependencyError(absent, extra=extra) from None
        raise PersistenceError(f"this version of fairtrain has no {name!r}.") from None
    is_arithmetic = isinstance(found, types.FunctionType) and is_function(name)
    if not (isinstance(found, type) or is_arithmetic) or found.__module__ != module:
        raise refused
    return found


@contextmanager
def failing(what: str) -> Iterator[None]:
    """Say in one line what failed where another library raises, whatever it raises."""
    try:
        yield
    except PersistenceError:
        raise
    except Exception as error:  # noqa: BLE001 - the libraries raise errors of all kinds
        reason = str(error).strip().partition("\n")[0]
        raise PersistenceError(f"{what}: {reason}") from None


def foreign_types(names: list[str]) -> list[str]:
    """Those of skops' type names that are no class of scikit-learn.

    Histogram trees that read categories check their numbers by a function with its arguments:
    :func:`~fairtrain.persistence.limits.check_skops` lets no other one have any.
    """
    return [name for name in names if not _is_class_of_sklearn(name)]


def _is_class_of_sklearn(name: str) -> bool:
    if not name.startswith("sklearn."):
        return name in _NUMBERS or name == "functools.partial"
    if name == CHECKED_BY:
        return True
    module, _, attribute = name.rpartition(".")
    if "test" in module:
        return False
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return False
    # What scikit-learn only imports from elsewhere is not its own.
    return isinstance(found, type) and found.__module__.startswith("sklearn.")


CHECKED_BY = "sklearn.utils.validation.check_array"
"""The one function of scikit-learn that may be named: it looks at numbers and gives them back."""

_NUMBERS = frozenset({"numpy.dtype", "numpy.float64", "numpy.int64", "numpy.bool", "numpy.str_"})
