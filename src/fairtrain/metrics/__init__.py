"""How far: group rates with intervals, gaps, ratios, and the verdict on a list of constraints."""

from __future__ import annotations

from fairtrain.metrics.comparisons import Comparison, gap, ratio
from fairtrain.metrics.measures import group_rates
from fairtrain.metrics.planning import CertificationPlan, certification_plan
from fairtrain.metrics.proxies import feature_proxies
from fairtrain.metrics.report import FairnessReport, fairness_report
from fairtrain.metrics.scoring import FairScorer, best_feasible, fair_scorer, gap_score
from fairtrain.metrics.verdicts import ConstraintResult, Usefulness, Verdict

__all__ = [
    "CertificationPlan",
    "Comparison",
    "ConstraintResult",
    "FairScorer",
    "FairnessReport",
    "Usefulness",
    "Verdict",
    "best_feasible",
    "certification_plan",
    "fair_scorer",
    "fairness_report",
    "feature_proxies",
    "gap",
    "gap_score",
    "group_rates",
    "ratio",
]
