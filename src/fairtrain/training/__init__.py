"""Parts of a training loop: batches that hold every group, and rates over a whole epoch."""

from __future__ import annotations

from fairtrain._imports import lazy_exports as _lazy_exports
from fairtrain._imports import require
from fairtrain._imports import stub_names as _stub_names

require("torch", extra="torch")
require("jaxtyping", extra="torch")

_MODULES = _stub_names(__file__)

__all__ = [*_MODULES]

__getattr__, __dir__ = _lazy_exports(__name__, _MODULES, globals())
