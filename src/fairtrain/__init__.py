"""Fair training as a drop-in for people who know scikit-learn and PyTorch."""

from __future__ import annotations

from fairtrain._imports import lazy_exports as _lazy_exports
from fairtrain._imports import stub_names as _stub_names

__version__ = "0.1.0"

_MODULES = _stub_names(__file__)

__all__ = [*_MODULES, "__version__"]

__getattr__, __dir__ = _lazy_exports(__name__, _MODULES, globals())
