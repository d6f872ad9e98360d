"""What may be made when a model is loaded. The list is here, never in the file."""

from __future__ import annotations

import importlib
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fairtrain.exceptions import MissingDependencyError, PersistenceError

__all__ = ["BY_STATE", "failing", "foreign_types", "is_function", "name_of", "resolve"]

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


def resolve(name: str) -> Any:
    """Find a class or function that may be made: fairtrain's, or one of :data:`BY_STATE`.

    Raises
    ------
    PersistenceError
        If it is anything else.
    """
    module, _, attribute = name.rpartition(".")
    refused = PersistenceError(f"the model names {name[:80]!r}, which may not be made from a file.")
    own = module == "fairtrain" or module.startswith("fairtrain.")
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
    """Those of skops' type names that are no class of scikit-learn."""
    return [name for name in names if not _is_class_of_sklearn(name)]


def _is_class_of_sklearn(name: str) -> bool:
    if not name.startswith("sklearn."):
        return name in _NUMBERS
    module, _, attribute = name.rpartition(".")
    if "test" in module:
        return False
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return False
    # What scikit-learn only imports from elsewhere is not its own.
    return isinstance(found, type) and found.__module__.startswith("sklearn.")


_NUMBERS = frozenset({"numpy.dtype", "numpy.float64", "numpy.int64", "numpy.bool", "numpy.str_"})
