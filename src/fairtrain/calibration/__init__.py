"""Calibration by group: maps, tests, audits, and what follows from calibrated scores."""

from __future__ import annotations

from fairtrain._imports import lazy_exports as _lazy_exports
from fairtrain.calibration.audit import CalibrationAudit, calibration_audit
from fairtrain.calibration.calibrator import GroupFairnessCalibrator
from fairtrain.calibration.classifier import CalibratedFairClassifier
from fairtrain.calibration.distillation import DistilledCalibrator, distill
from fairtrain.calibration.multicalibration import Multicalibrator
from fairtrain.calibration.thresholds import GroupThresholds, threshold_effects

# The only module here that needs PyTorch.
_MODULES = {"TemperatureScaling": "fairtrain.calibration.maps.temperature"}

__all__ = [
    "CalibratedFairClassifier",
    "CalibrationAudit",
    "DistilledCalibrator",
    "GroupFairnessCalibrator",
    "GroupThresholds",
    "Multicalibrator",
    "TemperatureScaling",
    "calibration_audit",
    "distill",
    "threshold_effects",
]

__getattr__, __dir__ = _lazy_exports(__name__, _MODULES, globals())
