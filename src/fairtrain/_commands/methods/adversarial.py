"""A network against an adversary that reads the groups from its outputs."""

from __future__ import annotations

from typing import Any

from fairtrain._commands.methods.base import Method, Settings, check_over
from fairtrain._commands.methods.networks import OPTIONS, TORCH, given, plain
from fairtrain.exceptions import InvalidParameterError

__all__ = ["METHOD"]

_NOTIONS = ("demographic_parity", "equalized_odds", "equal_opportunity")


def _check(settings: Settings) -> None:
    check_over("adversarial", settings)
    if settings.constraint.notion not in _NOTIONS:
        raise InvalidParameterError(
            f"--method adversarial takes --constraint {', '.join(_NOTIONS)}, not "
            f"{settings.constraint.notion}."
        )


def _fair(settings: Settings) -> Any:
    from fairtrain.training import AdversarialDebiasingTrainer

    return AdversarialDebiasingTrainer(
        constraint=settings.constraint.notion,  # type: ignore[arg-type]
        constraints=settings.constraint,
        strength=settings.options["strength"],
        leakage="none",  # what is judged here are decisions
        **given(settings),
    )


METHOD = Method(
    name="adversarial",
    options={**OPTIONS, "strength": 5.0},
    fair=_fair,
    plain=plain,
    moves="strength",
    package=TORCH,
    check=_check,
    plain_splits=True,
)
