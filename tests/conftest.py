"""Checks that hold for all tests: tensor shapes are checked against their annotations."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from hypothesis import settings


def check_shapes(function: Callable[..., Any], **_: Any) -> Callable[..., Any]:
    """Check the jaxtyping annotations of a function and no others.

    Wrong arguments of other kinds must meet the library's own errors.
    """
    import beartype

    hints = getattr(function, "__annotations__", {})
    function.__annotations__ = {
        name: hint for name, hint in hints.items() if "jaxtyping." in str(hint)
    }
    return beartype.beartype(function)


# The same examples in every run: a red test must be one that the change broke.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

# Before any of these modules is imported. The annotations cost nothing outside the tests.
if importlib.util.find_spec("jaxtyping") and importlib.util.find_spec("beartype"):
    from jaxtyping import install_import_hook

    checks = ModuleType("fairtrain_test_checks")
    checks.check_shapes = check_shapes  # type: ignore[attr-defined]
    sys.modules[checks.__name__] = checks
    install_import_hook(
        ["fairtrain.losses", "fairtrain.training"], "fairtrain_test_checks.check_shapes"
    )
