"""Pictures: every function draws into ``ax`` and returns it."""

from __future__ import annotations

from fairtrain.plotting.convergence import plot_convergence
from fairtrain.plotting.frontier import plot_frontier
from fairtrain.plotting.groups import plot_before_after, plot_group_rates, plot_scores
from fairtrain.plotting.monitor import plot_monitor
from fairtrain.plotting.reliability import plot_disparity, plot_reliability

__all__ = [
    "plot_before_after",
    "plot_convergence",
    "plot_disparity",
    "plot_frontier",
    "plot_group_rates",
    "plot_monitor",
    "plot_reliability",
    "plot_scores",
]
