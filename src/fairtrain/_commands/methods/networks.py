"""What the three ways to train a network share."""

from __future__ import annotations

from typing import Any

from fairtrain._commands.methods.base import Settings

__all__ = ["OPTIONS", "TORCH", "given", "plain"]

TORCH = ("torch", "torch")
"""Module, and the extra that brings it."""

OPTIONS: dict[str, Any] = {"epochs": None}


def given(settings: Settings) -> dict[str, Any]:
    """Keywords that every trainer takes."""
    return {
        "max_epochs": settings.options["epochs"],
        "validation_fraction": settings.validation,
        "certification_fraction": settings.certification,
        "positive_label": settings.positive,
        "missing": settings.missing,
        "callbacks": settings.callbacks,
        "random_state": settings.seed,
        "device": "cpu",  # the same numbers wherever the command runs
    }


def plain(settings: Settings) -> Any:
    """Make the same network, with the same first weights and batches, that pays for nothing."""
    from fairtrain.training import RegularizedFairnessTrainer

    constraint = settings.constraint
    return RegularizedFairnessTrainer(
        None, constraint.notion, eta=0.0, constraints=constraint, **given(settings)
    )
