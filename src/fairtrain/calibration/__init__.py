"""Calibration by group: maps, tests, audits, and what follows from calibrated scores."""

from __future__ import annotations

from fairtrain.calibration.audit import CalibrationAudit, calibration_audit
from fairtrain.calibration.calibrator import GroupFairnessCalibrator
from fairtrain.calibration.classifier import CalibratedFairClassifier

__all__ = [
    "CalibratedFairClassifier",
    "CalibrationAudit",
    "GroupFairnessCalibrator",
    "calibration_audit",
]
