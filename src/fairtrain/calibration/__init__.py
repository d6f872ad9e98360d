"""Calibration by group: maps, tests, audits, and what follows from calibrated scores."""

from __future__ import annotations

from fairtrain._imports import lazy_exports as _lazy_exports
from fairtrain.calibration.audit import CalibrationAudit, calibration_audit
from fairtrain.calibration.calibrator import GroupFairnessCalibrator
from fairtrain.calibration.classifier import CalibratedFairClassifier
from fairtrain.calibration.multicalibration import Multicalibrator

# The only module here that needs PyTorch.
_MODULES = {"TemperatureScaling": "fairtrain.calibration.temperature"}

__all__ = [
    "CalibratedFairClassifier",
    "CalibrationAudit",
    "GroupFairnessCalibrator",
    "Multicalibrator",
    "TemperatureScaling",
    "calibration_audit",
]

__getattr__, __dir__ = _lazy_exports(__name__, _MODULES, globals())
