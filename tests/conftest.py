"""Checks that hold for all tests: tensor shapes are checked against their annotations."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import FunctionType, ModuleType
from typing import Any

import pytest
from hypothesis import settings


def checked(function: Callable[..., Any], names: set[str]) -> Callable[..., Any]:
    """Check the shapes that a function's annotations name, and leave any other function alone.

    Hints of other kinds are not checked: wrong arguments must meet the library's own errors.
    """
    import beartype
    from jaxtyping import jaxtyped

    def shapes_only(inner: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        hints = getattr(inner, "__annotations__", {})
        inner.__annotations__ = {k: h for k, h in hints.items() if "jaxtyping." in str(h)}
        return beartype.beartype(inner)

    hints = getattr(function, "__annotations__", {}).values()
    # Behind a decorator of the library the annotations belong to a function that it calls.
    plain = isinstance(function, FunctionType) and not hasattr(function, "__wrapped__")
    if plain and any(f"{name}[" in str(hint) for hint in hints for name in names):
        return jaxtyped(typechecker=shapes_only)(function)
    return function


def check_shapes(module: ModuleType) -> None:
    """Check every annotated function and method of a module from now on."""
    names = {k for k, v in vars(module).items() if str(v).startswith("<class 'jaxtyping.")}
    places: list[Any] = [module]
    places += [v for v in vars(module).values() if isinstance(v, type)]
    for place in places if names else []:
        if getattr(place, "__module__", module.__name__) != module.__name__:
            continue
        for name, value in list(vars(place).items()):
            if isinstance(value, (staticmethod, classmethod)):
                setattr(place, name, type(value)(checked(value.__func__, names)))
            elif getattr(value, "__module__", None) == module.__name__:
                setattr(place, name, checked(value, names))


class ShapeChecks(MetaPathFinder):
    """Imports the modules that annotate shapes so that they are checked.

    jaxtyping's own hook wraps every function of a module, also those without a shape, and a
    training of a thousand small steps takes half as long again.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module of the library's PyTorch side, and wrap how it is run."""
        if not fullname.startswith(("fairtrain.losses", "fairtrain.training")):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            check_shapes(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


# The same examples in every run: a red test must be one that the change broke.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

# Before any of these modules is imported. The annotations cost nothing outside the tests.
if importlib.util.find_spec("jaxtyping") and importlib.util.find_spec("beartype"):
    sys.meta_path.insert(0, ShapeChecks())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the notebook: at the end the other worker would wait a minute for it."""
    items.sort(key=lambda item: item.name != "test_notebook_runs")
