"""Calibration by group: maps, tests, audits, and what follows from calibrated scores."""
