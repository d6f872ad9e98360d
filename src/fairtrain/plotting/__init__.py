"""Pictures: every function draws into ``ax`` and returns it."""

from __future__ import annotations

from fairtrain.plotting.convergence import plot_convergence

__all__ = ["plot_convergence"]
