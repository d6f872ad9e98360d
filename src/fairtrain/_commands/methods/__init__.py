"""Ways to train, one a file; a new one is a file and a line here."""

from __future__ import annotations

from fairtrain._commands.methods import (
    adversarial,
    boosting,
    lagrangian,
    reductions,
    regularized,
)
from fairtrain._commands.methods.base import Method, Rows, Settings, read_method

__all__ = ["METHODS", "Method", "Rows", "Settings", "read_method"]

METHODS: dict[str, Method] = {
    each.METHOD.name: each.METHOD
    for each in (reductions, boosting, lagrangian, regularized, adversarial)
}
"""By the name that ``--method`` takes."""
