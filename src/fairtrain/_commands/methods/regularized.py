"""A network that pays a penalty."""

from __future__ import annotations

from functools import partial
from typing import Any

from fairtrain._commands.methods.base import Method, Settings, check_over
from fairtrain._commands.methods.networks import OPTIONS, TORCH, plain

__all__ = ["METHOD"]


def _fair(settings: Settings) -> Any:
    return plain(settings).set_params(eta=settings.options["eta"])


METHOD = Method(
    name="regularized",
    options={**OPTIONS, "eta": 1.0},
    fair=_fair,
    plain=plain,
    moves="eta",
    package=TORCH,
    check=partial(check_over, "regularized"),
    plain_splits=True,
)
