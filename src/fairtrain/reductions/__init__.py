"""Fair classifiers by reduction to weighted classification."""

from __future__ import annotations

from fairtrain.reductions.training import ReductionRun
from fairtrain.reductions.wrapper import ReductionsWrapper

__all__ = ["ReductionRun", "ReductionsWrapper"]
