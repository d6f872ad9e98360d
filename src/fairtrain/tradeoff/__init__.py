"""The trade-off made visible: what every step towards fairness costs in performance."""

from __future__ import annotations

from fairtrain.tradeoff.frontier import Chosen, ParetoFrontier
from fairtrain.tradeoff.sweep import pareto_frontier

__all__ = ["Chosen", "ParetoFrontier", "pareto_frontier"]
