"""How well scores are calibrated in every group, beside what chance alone would show."""

from __future__ import annotations

from fairtrain.calibration.audit.audit import CalibrationAudit, calibration_audit

__all__ = ["CalibrationAudit", "calibration_audit"]
