"""Fair classifiers by reduction to weighted classification."""

from __future__ import annotations

from fairtrain.reductions.wrapper import ReductionsWrapper

__all__ = ["ReductionsWrapper"]
