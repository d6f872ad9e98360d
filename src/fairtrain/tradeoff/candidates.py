"""The models of a sweep before they are trained: one for every value and seed."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_random_state

from fairtrain._imports import require
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidParameterError

__all__ = ["Candidates", "candidates_of", "fit_candidate", "seeds_from"]


RESERVED = ("seed", "performance", "gap", "dominated", "near_constant", "seconds", "n_seeds")
"""Names of columns of a frontier."""


@dataclass(frozen=True)
class Candidates:
    """Unfitted models.

    Attributes
    ----------
    param : str
        What moves.
    points : tuple of (value, seed)
        In the order they are trained in.
    models : tuple of estimators
        One a point.
    is_network : bool
        Whether these are ``RegularizedFairnessTrainer`` that may be trained together.
    """

    param: str
    points: tuple[tuple[Any, int], ...]
    models: tuple[Any, ...]
    is_network: bool


def seeds_from(random_state: Any, n_seeds: int) -> tuple[int, ...]:
    """Seeds of a sweep: an integer and its successors, or one drawn and its successors."""
    if isinstance(n_seeds, bool) or int(n_seeds) != n_seeds or n_seeds < 1:
        raise InvalidParameterError(f"n_seeds must be a whole number >= 1, got {n_seeds!r}.")
    is_number = isinstance(random_state, int | np.integer) and not isinstance(random_state, bool)
    if is_number:
        check_random_state(int(random_state))
    first = int(random_state) if is_number else check_random_state(random_state).randint(2**30)
    return tuple((first + i) % 2**32 for i in range(int(n_seeds)))


def candidates_of(
    model: Any,
    *,
    param: str | None,
    values: Sequence[Any] | None,
    etas: Sequence[float],
    seeds: Sequence[int],
    options: Mapping[str, Any],
) -> Candidates:
    """Make the models of a sweep.

    Parameters
    ----------
    model : nn.Module, callable, None, or estimator
        A network in any form that ``RegularizedFairnessTrainer`` takes, or any estimator.
    param, values : str and sequence, optional
        What moves, and where to; both, or neither for ``eta``.
    etas : sequence of float
        Values of ``eta`` where neither is given.
    seeds : sequence of int
        A model for each value and seed.
    options : mapping
        Settings of the trainer that were given; only a network takes them.
    """
    if (param is None) != (values is None):
        missing, given = ("values", "param") if values is None else ("param", "values")
        raise InvalidParameterError(
            f"{given} is given without {missing}: name a parameter and its values, such as "
            "param='difference_bound', values=[0.01, 0.05]."
        )
    moving = "eta" if param is None else param
    where = tuple(_read_etas(etas) if values is None else values)
    if not where:
        raise InvalidParameterError("there is nothing to train: the list of values is empty.")
    if moving in RESERVED:
        raise InvalidParameterError(f"param={moving!r} cannot be moved: a column has that name.")
    if len(set(map(repr, where))) < len(where):
        raise InvalidParameterError(f"{moving} has the same value twice in {list(where)}.")
    if isinstance(model, type):
        raise InvalidParameterError(f"model is the class {model.__name__}; pass an instance.")
    template, is_network = _template(model, options, moving)
    points = tuple((value, seed) for value in where for seed in seeds)
    models = tuple(_at(template, moving, value, seed, len(seeds)) for value, seed in points)
    return Candidates(moving, points, models, is_network)


def fit_candidate(model: Any, rows: Rows) -> Any:
    """Fit one model with as much of the rows as its ``fit`` takes."""
    takes = inspect.signature(model.fit).parameters
    if rows.weight is not None and "sample_weight" not in takes:
        raise InvalidParameterError(f"{type(model).__name__}.fit takes no sample_weight.")
    given: dict[str, Any] = {} if rows.weight is None else {"sample_weight": rows.weight}
    own = getattr(model, "sensitive_features", None) is not None
    if "sensitive_features" in takes and not own:
        given["sensitive_features"] = rows.sensitive
    return model.fit(rows.X, rows.targets, **given)


def _template(model: Any, options: Mapping[str, Any], moving: str) -> tuple[Any, bool]:
    if isinstance(model, BaseEstimator) or hasattr(model, "get_params"):
        from_losses = type(model).__name__ == "RegularizedFairnessTrainer"
        if moving not in model.get_params(deep=True):
            hint = "param='difference_bound', values=[...]"
            raise InvalidParameterError(
                f"{type(model).__name__} has no parameter {moving!r}: name the one that moves, "
                f"such as {hint}."
            )
        if options and not from_losses:
            raise InvalidParameterError(
                f"{', '.join(sorted(options))}: set these in {type(model).__name__} itself; here "
                "they belong to a network."
            )
        template = clone(model)
        return template.set_params(**options) if options else template, from_losses
    require("torch", extra="torch")
    from fairtrain.training.regularized import RegularizedFairnessTrainer

    if model is not None and not callable(model):
        raise InvalidParameterError(
            "model must be an nn.Module, a factory (n_features, n_outputs) -> nn.Module, None, or "
            f"an estimator, got {type(model).__name__}."
        )
    names = RegularizedFairnessTrainer().get_params()
    if unknown := sorted(set(options) - set(names)):
        raise InvalidParameterError(f"a network's training has no setting {unknown[0]!r}.")
    if moving not in names:
        raise InvalidParameterError(f"a network's training has no parameter {moving!r} to move.")
    trainer = RegularizedFairnessTrainer(model)
    # All rows that are handed over train; the sweep keeps the ones that judge.
    return trainer.set_params(
        **{"validation_fraction": 0.0, "certification_fraction": 0.0, **options}
    ), True


def _at(template: Any, param: str, value: Any, seed: int, n_seeds: int) -> Any:
    made = clone(template)
    made.set_params(**{param: clone(value, safe=False)})
    chance = {
        name: seed
        for name in made.get_params(deep=True)
        if name == "random_state" or name.endswith("__random_state")
    }
    made.set_params(**{name: seed for name in chance if name != param})
    if n_seeds > 1 and _is_module(getattr(made, "module", None)):
        made.set_params(module=_initialised(made.module, seed))
    return made


def _is_module(what: Any) -> bool:
    import sys

    torch = sys.modules.get("torch")  # without it there is no module
    return torch is not None and isinstance(what, torch.nn.Module)


def _initialised(module: Any, seed: int) -> Any:
    """Copy of a module with new weights, drawn under a seed."""
    import copy

    import torch

    made = copy.deepcopy(module)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in made.modules():
            if callable(reset := getattr(part, "reset_parameters", None)):
                reset()
    return made


def _read_etas(etas: Sequence[float]) -> list[float]:
    found = [float(eta) for eta in etas]
    if bad := [eta for eta in found if not (eta >= 0 and math.isfinite(eta))]:
        raise InvalidParameterError(f"etas must be finite numbers >= 0, got {bad[0]!r}.")
    return found
