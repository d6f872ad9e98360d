"""Calibration on overlapping subgroups at once."""

from __future__ import annotations

from fairtrain.calibration.multicalibration.multicalibrator import Multicalibrator

__all__ = ["Multicalibrator"]
