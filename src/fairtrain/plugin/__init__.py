"""Fair decisions from any estimator's scores and a few prices."""

from __future__ import annotations

from fairtrain.plugin.classifier import FairPlugInClassifier

__all__ = ["FairPlugInClassifier"]
