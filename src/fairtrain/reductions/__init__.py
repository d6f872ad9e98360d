"""Fair estimators by reduction to weighted problems."""

from __future__ import annotations

from fairtrain.reductions.regressor import ReductionsRegressor
from fairtrain.reductions.training import ReductionRun
from fairtrain.reductions.wrapper import ReductionsWrapper

__all__ = ["ReductionRun", "ReductionsRegressor", "ReductionsWrapper"]
