"""How far: group rates with intervals, gaps, ratios, and the verdict on a list of constraints."""

from __future__ import annotations

from fairtrain.metrics.comparisons import Comparison, gap, ratio
from fairtrain.metrics.measures import group_rates
from fairtrain.metrics.report import FairnessReport, fairness_report
from fairtrain.metrics.verdicts import ConstraintResult, Usefulness, Verdict

__all__ = [
    "Comparison",
    "ConstraintResult",
    "FairnessReport",
    "Usefulness",
    "Verdict",
    "fairness_report",
    "gap",
    "group_rates",
    "ratio",
]
