"""Reductions: any classifier, under constraints by reweighting."""

from __future__ import annotations

from typing import Any

from fairtrain._commands.estimators import make_estimator
from fairtrain._commands.methods.base import Method, Settings, split_seed

__all__ = ["METHOD"]


def _plain(settings: Settings) -> Any:
    return make_estimator(settings.options["estimator"], settings.seed)


def _fair(settings: Settings) -> Any:
    from fairtrain.reductions import ReductionsWrapper

    return ReductionsWrapper(
        _plain(settings),
        settings.constraint,
        validation_fraction=settings.validation,
        certification_fraction=settings.certification,
        positive_label=settings.positive,
        missing=settings.missing,
        random_state=settings.seed,
    )


METHOD = Method(
    name="reductions",
    options={"estimator": "logistic"},
    fair=_fair,
    plain=_plain,
    moves="difference_bound",
    check=_plain,  # a booster that is not installed says so before any work
    random_state=split_seed,
)
