"""What rows that steer say to the multipliers, and which iterate they choose. NumPy only.

Shared by the network trainers and by boosting, so that both mean the same by a bound, a feasible
iterate and an outcome.
"""

from __future__ import annotations

from fairtrain.constraints.bounds import RateBounds
from fairtrain.constraints.families import RateFamily, families_of
from fairtrain.lagrangian.controller import DualController, DualSettings
from fairtrain.lagrangian.diagnosis import Sign, explain_training
from fairtrain.lagrangian.margins import steering_rates, working_margins
from fairtrain.lagrangian.multipliers import Ascent, Multipliers, NuPI, multiplier_frame
from fairtrain.lagrangian.priority import Yielding
from fairtrain.lagrangian.selection import Candidate, IterateChoice
from fairtrain.lagrangian.tuning import BOOSTING, NETWORKS, Tuning

__all__ = [
    "BOOSTING",
    "NETWORKS",
    "Ascent",
    "Candidate",
    "DualController",
    "DualSettings",
    "IterateChoice",
    "Multipliers",
    "NuPI",
    "RateBounds",
    "RateFamily",
    "Sign",
    "Tuning",
    "Yielding",
    "explain_training",
    "families_of",
    "multiplier_frame",
    "steering_rates",
    "working_margins",
]
