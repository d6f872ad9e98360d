"""Watching a model after deployment: windows of fresh rows, tests that allow for repetition."""

from __future__ import annotations

from fairtrain.monitoring.calibration import CalibrationMonitor
from fairtrain.monitoring.fairness import FairnessMonitor

__all__ = ["CalibrationMonitor", "FairnessMonitor"]
