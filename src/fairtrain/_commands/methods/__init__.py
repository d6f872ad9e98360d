"""Ways to train, a file for each kind of model; a new one is a ``Method`` and a line here."""

from __future__ import annotations

from fairtrain._commands.methods import boosting, networks, reductions
from fairtrain._commands.methods.base import Method, Settings, as_passed, read_method

__all__ = ["METHODS", "Method", "Settings", "as_passed", "read_method"]

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        reductions.METHOD,
        boosting.METHOD,
        networks.LAGRANGIAN,
        networks.REGULARIZED,
        networks.ADVERSARIAL,
    )
}
"""By the name that ``--method`` takes."""
