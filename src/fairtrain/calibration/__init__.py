"""Calibration by group: maps, tests, audits, and what follows from calibrated scores."""

from __future__ import annotations

from fairtrain.calibration.calibrator import GroupFairnessCalibrator

__all__ = ["GroupFairnessCalibrator"]
