"""Pictures: every function draws into ``ax`` and returns it."""

from __future__ import annotations

from fairtrain.plotting.convergence import plot_convergence
from fairtrain.plotting.frontier import plot_frontier
from fairtrain.plotting.reliability import plot_disparity, plot_reliability

__all__ = ["plot_convergence", "plot_disparity", "plot_frontier", "plot_reliability"]
