"""Optional packages and lazily loaded public names."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from fairtrain.exceptions import MissingDependencyError

__all__ = ["lazy_exports", "require", "stub_names"]


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional module or say which extra of fairtrain brings it.

    Parameters
    ----------
    module : str
        Dotted name of the module.
    extra : str
        Extra that lists its package.

    Returns
    -------
    module
        The imported module.

    Raises
    ------
    MissingDependencyError
        If the package that holds ``module`` is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise  # the package is there; something it needs is not
        raise MissingDependencyError(package, extra=extra) from None


def stub_names(file: str) -> dict[str, str]:
    """Public name -> module that defines it, from the stub beside a package's ``__init__.py``.

    So type checkers and :func:`lazy_exports` read one list (as SPEC 1 of Scientific Python has it).
    """
    stub = ast.parse(Path(file).with_suffix(".pyi").read_text(encoding="utf-8"))
    found = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {name.name: str(node.module) for node in found for name in node.names}


def lazy_exports(
    package: str, modules: Mapping[str, str], namespace: dict[str, Any]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make the ``__getattr__`` and ``__dir__`` of a package that loads names late (PEP 562).

    Parameters
    ----------
    package : str
        Name of the package.
    modules : mapping of str to str
        Public name -> module that defines it.
    namespace : dict
        The package's ``globals()``: a name is kept there once it has been loaded.
    """

    def __getattr__(name: str) -> Any:  # noqa: N807 - becomes the package's own __getattr__
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(modules[name]), name)
        namespace[name] = value
        return value

    def __dir__() -> list[str]:  # noqa: N807 - becomes the package's own __dir__
        return sorted({*namespace, *modules})

    return __getattr__, __dir__
