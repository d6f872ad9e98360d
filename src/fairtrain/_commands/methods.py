"""The ways to train that the command knows: what each makes, and which options it reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from fairtrain._commands.estimators import EstimatorName, make_estimator
from fairtrain._imports import require
from fairtrain.constraints import Constraint
from fairtrain.exceptions import InvalidParameterError

__all__ = ["METHODS", "Method", "MethodName", "Settings", "method_of"]

MethodName = Literal["reductions", "boosting", "lagrangian", "regularized", "adversarial"]

_TREES: dict[str, Any] = {"n_estimators": 100, "max_depth": 4, "learning_rate": 0.1}


@dataclass(frozen=True)
class Settings:
    """What models are made of.

    Attributes
    ----------
    constraint : Constraint
        What is asked.
    estimator : str or None
        Base estimator, where the method has one.
    eta, strength : float or None
        Of a penalty, and of an adversary.
    epochs : int or None
        Of a network.
    validation : float
        Share of the rows handed to ``fit`` that steer.
    common : dict
        ``positive_label``, ``missing`` and ``random_state``.
    """

    constraint: Constraint
    estimator: EstimatorName | None
    eta: float | None
    strength: float | None
    epochs: int | None
    validation: float
    common: dict[str, Any]

    @property
    def seed(self) -> int:
        """Source of all chance."""
        return int(self.common["random_state"])


@dataclass(frozen=True)
class Method:
    """One way to train.

    Attributes
    ----------
    title : str
        What its model is called in tables.
    fair, baseline : callable
        Settings -> unfitted model, under the constraint and without it.
    reads : frozenset of str
        Options that belong to it.
    moves : str
        Parameter that a sweep moves.
    """

    title: str
    fair: Callable[[Settings], Any]
    baseline: Callable[[Settings], Any]
    reads: frozenset[str]
    moves: str = "difference_bound"


def method_of(name: str, **given: Any) -> Method:
    """Find a method, and refuse options that are not its own.

    Parameters
    ----------
    name : str
        One of :data:`MethodName`.
    **given
        Options of single methods; None where they were not given.

    Raises
    ------
    InvalidParameterError
        If the method has no such option.
    """
    method = METHODS[name]
    for option, value in given.items():
        if value is not None and option not in method.reads:
            own = [key for key, other in METHODS.items() if option in other.reads]
            raise InvalidParameterError(
                f"--{option} belongs to --method {' and '.join(own)}, not to {name}."
            )
    return method


def _plain_estimator(settings: Settings) -> Any:
    return make_estimator(settings.estimator or "logistic", settings.seed)


def _reductions(settings: Settings) -> Any:
    from fairtrain.reductions import ReductionsWrapper

    return ReductionsWrapper(
        _plain_estimator(settings),
        settings.constraint,
        validation_fraction=settings.validation,
        **settings.common,
    )


def _booster(settings: Settings) -> str:
    name = settings.estimator or "xgboost"
    if name not in ("xgboost", "lightgbm"):
        raise InvalidParameterError(
            f"--method boosting takes --estimator xgboost or lightgbm, not {name}."
        )
    return name


def _boosting(settings: Settings) -> Any:
    from fairtrain.boosting import LagrangianBoostingClassifier

    return LagrangianBoostingClassifier(
        settings.constraint,
        booster=_booster(settings),  # type: ignore[arg-type]
        n_jobs=1,
        validation_fraction=settings.validation,
        **_TREES,
        **settings.common,
    )


def _plain_trees(settings: Settings) -> Any:
    if _booster(settings) == "xgboost":
        library = require("xgboost", extra="boosting")
        return library.XGBClassifier(n_jobs=1, random_state=settings.seed, **_TREES)
    library = require("lightgbm", extra="boosting")
    return library.LGBMClassifier(n_jobs=1, verbose=-1, random_state=settings.seed, **_TREES)


def _regularized(settings: Settings) -> Any:
    return _penalised(settings, 1.0 if settings.eta is None else settings.eta)


def _penalised(settings: Settings, eta: float) -> Any:
    require("torch", extra="torch")
    from fairtrain.training import RegularizedFairnessTrainer

    penalty: Any = settings.constraint if eta else "demographic_parity"
    return RegularizedFairnessTrainer(
        None,
        penalty,
        eta,
        constraints=settings.constraint,
        validation_fraction=settings.validation,
        max_epochs=settings.epochs,
        **settings.common,
    )


def _lagrangian(settings: Settings) -> Any:
    require("torch", extra="torch")
    from fairtrain.training import LagrangianFairnessTrainer

    return LagrangianFairnessTrainer(
        None,
        settings.constraint,
        validation_fraction=settings.validation,
        max_epochs=settings.epochs,
        **settings.common,
    )


def _adversarial(settings: Settings) -> Any:
    require("torch", extra="torch")
    from fairtrain.training import AdversarialDebiasingTrainer

    strength: dict[str, Any] = {} if settings.strength is None else {"strength": settings.strength}
    return AdversarialDebiasingTrainer(
        None,
        constraint=settings.constraint.name,  # type: ignore[arg-type]
        constraints=settings.constraint,
        validation_fraction=settings.validation,
        max_epochs=settings.epochs,
        **strength,
        **settings.common,
    )


def _plain_network(settings: Settings) -> Any:
    return _penalised(settings, 0.0)


METHODS: dict[str, Method] = {
    "reductions": Method("reduction", _reductions, _plain_estimator, frozenset({"estimator"})),
    "boosting": Method("fair boosting", _boosting, _plain_trees, frozenset({"estimator"})),
    "lagrangian": Method("Lagrangian MLP", _lagrangian, _plain_network, frozenset({"epochs"})),
    "regularized": Method(
        "penalised MLP", _regularized, _plain_network, frozenset({"eta", "epochs"}), moves="eta"
    ),
    "adversarial": Method(
        "adversarial MLP",
        _adversarial,
        _plain_network,
        frozenset({"strength", "epochs"}),
        moves="strength",
    ),
}
"""Every method by name."""

assert set(METHODS) == set(get_args(MethodName))
