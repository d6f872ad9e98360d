"""A run as a page: what two models do to every group, and what can be said of it."""

from __future__ import annotations

from fairtrain.report.html import render_report
from fairtrain.report.standing import GroupStanding, group_standings
from fairtrain.report.summary import Judged, RunSummary, judged

__all__ = [
    "GroupStanding",
    "Judged",
    "RunSummary",
    "group_standings",
    "judged",
    "render_report",
]
