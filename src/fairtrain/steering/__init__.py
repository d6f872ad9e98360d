"""What rows that steer say to the multipliers, and which iterate they choose. NumPy only.

Shared by the network trainers and by boosting, so that both mean the same by a bound, a feasible
iterate and an outcome.
"""

from __future__ import annotations

from fairtrain.steering.families import RateFamily, families_of, multiplier_frame
from fairtrain.steering.outcome import Sign, explain_training
from fairtrain.steering.priority import Yielding
from fairtrain.steering.selection import Candidate, IterateChoice
from fairtrain.steering.signal import steering_rates, working_margins

__all__ = [
    "Candidate",
    "IterateChoice",
    "RateFamily",
    "Sign",
    "Yielding",
    "explain_training",
    "families_of",
    "multiplier_frame",
    "steering_rates",
    "working_margins",
]
