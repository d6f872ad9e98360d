"""How far: group rates with intervals, gaps, ratios, and the verdict on a list of constraints."""

from __future__ import annotations

from fairtrain.metrics.comparisons import Comparison, gap, ratio
from fairtrain.metrics.measures import group_rates
from fairtrain.metrics.planning import CertificationPlan, certification_plan
from fairtrain.metrics.report import FairnessReport, fairness_report
from fairtrain.metrics.verdicts import ConstraintResult, Usefulness, Verdict

__all__ = [
    "CertificationPlan",
    "Comparison",
    "ConstraintResult",
    "FairnessReport",
    "Usefulness",
    "Verdict",
    "certification_plan",
    "fairness_report",
    "gap",
    "group_rates",
    "ratio",
]
