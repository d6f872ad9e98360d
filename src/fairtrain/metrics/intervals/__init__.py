"""Confidence intervals for group rates, and for the gap and the ratio between groups.

Arrays hold one number a group on their last axis; leading axes are independent problems of the
same kind. An empty group (count 0) has NaN limits of its own and is left out of every comparison.
"""

from __future__ import annotations

from fairtrain.metrics.intervals.gaps import GapInterval, gap_interval, ratio_interval
from fairtrain.metrics.intervals.means import mean_interval
from fairtrain.metrics.intervals.overall import differences_from_overall
from fairtrain.metrics.intervals.pairs import (
    pairwise_differences,
    pairwise_ratios,
    reference_ratios,
)
from fairtrain.metrics.intervals.rows import rows_needed
from fairtrain.metrics.intervals.sides import Limits
from fairtrain.metrics.intervals.single import clopper_pearson, short_exact, wilson

__all__ = [
    "GapInterval",
    "Limits",
    "clopper_pearson",
    "differences_from_overall",
    "gap_interval",
    "mean_interval",
    "pairwise_differences",
    "pairwise_ratios",
    "ratio_interval",
    "reference_ratios",
    "rows_needed",
    "short_exact",
    "wilson",
]
