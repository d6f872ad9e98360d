"""A network under hard constraints."""

from __future__ import annotations

from typing import Any

from fairtrain._commands.methods.base import Method, Settings
from fairtrain._commands.methods.networks import OPTIONS, TORCH, given, plain

__all__ = ["METHOD"]


def _fair(settings: Settings) -> Any:
    from fairtrain.training import LagrangianFairnessTrainer

    return LagrangianFairnessTrainer(None, settings.constraint, **given(settings))


METHOD = Method(
    name="lagrangian",
    options=OPTIONS,
    fair=_fair,
    plain=plain,
    moves="difference_bound",
    package=TORCH,
    plain_splits=True,
)
