"""A run as a page: what models do to every group, what it costs, and what can be said of it."""

from __future__ import annotations

from fairtrain.metrics.paired import Cost, cost_against
from fairtrain.metrics.standing import GroupStanding, group_standings
from fairtrain.report.card import render_card
from fairtrain.report.chart import FrontierChart, FrontierPoint
from fairtrain.report.html import render_report
from fairtrain.report.judged import Judged, judged
from fairtrain.report.summary import RunSummary

__all__ = [
    "Cost",
    "FrontierChart",
    "FrontierPoint",
    "GroupStanding",
    "Judged",
    "RunSummary",
    "cost_against",
    "group_standings",
    "judged",
    "render_card",
    "render_report",
]
