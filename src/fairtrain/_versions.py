"""What is installed: written into whatever has to be made again one day."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import fairtrain

__all__ = ["versions"]

_PACKAGES = (
    "numpy",
    "pandas",
    "scikit-learn",
    "fairlearn",
    "torch",
    "xgboost",
    "xgboost-cpu",
    "lightgbm",
    "skops",
)


def versions() -> dict[str, str]:
    """Versions of fairtrain, of Python, and of the packages that models are made with."""
    found = {"fairtrain": fairtrain.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
