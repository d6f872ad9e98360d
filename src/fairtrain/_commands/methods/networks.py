"""Networks: under hard constraints, with a penalty, or against an adversary."""

from __future__ import annotations

from functools import partial
from typing import Any

from fairtrain._commands.methods.base import Method, Settings, check_over
from fairtrain.exceptions import InvalidParameterError

__all__ = ["ADVERSARIAL", "LAGRANGIAN", "REGULARIZED"]

_NOTIONS = ("demographic_parity", "equalized_odds", "equal_opportunity")


def _given(settings: Settings) -> dict[str, Any]:
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


def _plain(settings: Settings) -> Any:
    """Make the same network, with the same first weights and batches, that pays for nothing."""
    from fairtrain.training import RegularizedFairnessTrainer

    constraint = settings.constraint
    return RegularizedFairnessTrainer(
        None, constraint.notion, eta=0.0, constraints=constraint, **_given(settings)
    )


def _lagrangian(settings: Settings) -> Any:
    from fairtrain.training import LagrangianFairnessTrainer

    return LagrangianFairnessTrainer(None, settings.constraint, **_given(settings))


def _regularized(settings: Settings) -> Any:
    return _plain(settings).set_params(eta=settings.options["eta"])


def _check_adversarial(settings: Settings) -> None:
    check_over("adversarial", settings)
    if settings.constraint.notion not in _NOTIONS:
        raise InvalidParameterError(
            f"--method adversarial takes --constraint {', '.join(_NOTIONS)}, not "
            f"{settings.constraint.notion}."
        )


def _adversarial(settings: Settings) -> Any:
    from fairtrain.training import AdversarialDebiasingTrainer

    return AdversarialDebiasingTrainer(
        constraint=settings.constraint.notion,  # type: ignore[arg-type]
        constraints=settings.constraint,
        strength=settings.options["strength"],
        leakage="none",  # what is judged here are decisions
        **_given(settings),
    )


_network = partial(Method, plain=_plain, package=("torch", "torch"), plain_splits=True)

LAGRANGIAN = _network(
    name="lagrangian",
    options={"epochs": None},
    fair=_lagrangian,
    moves="difference_bound",
)
REGULARIZED = _network(
    name="regularized",
    options={"epochs": None, "eta": 1.0},
    fair=_regularized,
    moves="eta",
    check=partial(check_over, "regularized"),
)
ADVERSARIAL = _network(
    name="adversarial",
    options={"epochs": None, "strength": 5.0},
    fair=_adversarial,
    moves="strength",
    check=_check_adversarial,
)
