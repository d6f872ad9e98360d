"""The models of a sweep: made for every value and seed, and trained.

Networks are trained all at once where they can be stacked; a plug-in of one seed is trained once
and priced for every bound; all others are trained one by one.
"""

from __future__ import annotations

import inspect
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.utils import check_random_state

from fairtrain._imports import require
from fairtrain._text import one_line
from fairtrain._warnings import warn
from fairtrain.data.rows import Rows
from fairtrain.exceptions import CannotStackError, FairtrainWarning, InvalidParameterError
from fairtrain.plugin.priced import PricedClassifier
from fairtrain.tradeoff.cache import PointCache, Trained

__all__ = ["Trained", "candidate", "fit_candidate", "read_template", "seeds_from", "train"]


def seeds_from(random_state: Any, n_seeds: int) -> tuple[int, ...]:
    """Seeds of a sweep: an integer and its successors, or one drawn and its successors."""
    if isinstance(n_seeds, bool) or int(n_seeds) != n_seeds or n_seeds < 1:
        raise InvalidParameterError(f"n_seeds must be a whole number >= 1, got {n_seeds!r}.")
    is_number = isinstance(random_state, int | np.integer) and not isinstance(random_state, bool)
    chance = check_random_state(int(random_state) if is_number else random_state)
    first = int(random_state) if is_number else chance.randint(2**30)
    return tuple((first + i) % 2**32 for i in range(int(n_seeds)))


def read_template(
    model: Any, param: str, options: Mapping[str, Any], common: Mapping[str, Any]
) -> Any:
    """Make the estimator whose copies are the models of a sweep.

    Parameters
    ----------
    model : nn.Module, callable, None, or estimator
        A network in any form that ``RegularizedFairnessTrainer`` takes, or any estimator.
    param : str
        What moves.
    options : mapping
        Settings of the trainer, None where they were not given; only a network takes them.
    common : mapping
        Settings for whatever has them, None where they were not given.
    """
    options = {name: value for name, value in options.items() if value is not None}
    if isinstance(model, type):
        raise InvalidParameterError(f"model is the class {model.__name__}; pass an instance.")
    if hasattr(model, "get_params"):
        template = clone(model)
        if param not in template.get_params():
            raise InvalidParameterError(
                f"{type(model).__name__} has no parameter {param!r}: name the one that moves, "
                "such as param='difference_bound', values=[...]."
            )
        if options and not _is_network(template):
            raise InvalidParameterError(
                f"{', '.join(sorted(options))}: set these in {type(model).__name__} itself; here "
                "they belong to a network."
            )
    else:
        template = _network(model, param, options)
    known = template.get_params()
    given = {k: v for k, v in common.items() if k in known and v is not None}
    return template.set_params(**options, **given)


def _is_network(template: Any) -> bool:
    return type(template).__name__ == "RegularizedFairnessTrainer"


def _network(model: Any, param: str, options: Mapping[str, Any]) -> Any:
    require("torch", extra="torch")
    from fairtrain.training.regularized import RegularizedFairnessTrainer

    if model is not None and not callable(model):
        raise InvalidParameterError(
            "model must be an nn.Module, a factory (n_features, n_outputs) -> nn.Module, None, or "
            f"an estimator, got {type(model).__name__}."
        )
    # All rows that are handed over train; the sweep keeps the ones that judge.
    made = RegularizedFairnessTrainer(model, validation_fraction=0.0, certification_fraction=0.0)
    for name, role in (*((n, "setting {!r}") for n in options), (param, "parameter {!r} to move")):
        if name not in made.get_params():
            raise InvalidParameterError(f"a network's training has no {role.format(name)}.")
    return made


def candidate(template: Any, param: str, value: Any, seed: int, n_seeds: int) -> Any:
    """Make one unfitted model: the template at a value, with every source of chance seeded."""
    made = clone(template)
    made.set_params(**{param: clone(value, safe=False)})
    names = [name for name in made.get_params() if name.rpartition("__")[2] == "random_state"]
    made.set_params(**{name: seed for name in names if name != param})
    torch = sys.modules.get("torch")  # without it there is no module
    module = getattr(made, "module", None)
    if n_seeds > 1 and torch is not None and isinstance(module, torch.nn.Module):
        made.set_params(module=_initialised(module, seed, torch))
    return made


def _initialised(module: Any, seed: int, torch: Any) -> Any:
    """Copy of a module with new weights, drawn under a seed."""
    made = deepcopy(module)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in made.modules():
            if callable(reset := getattr(part, "reset_parameters", None)):
                reset()
    return made


def fit_candidate(model: Any, rows: Rows) -> Any:
    """Fit one model with as much of the rows as its ``fit`` takes; return it."""
    model.fit(rows.X, rows.targets, **_people(model, rows))
    return model


def _people(model: Any, rows: Rows) -> dict[str, Any]:
    """Groups, weights and clusters, as far as a model's ``fit`` takes them."""
    takes = inspect.signature(model.fit).parameters
    given: dict[str, Any] = {}
    if rows.weight is not None:
        if "sample_weight" not in takes:
            raise InvalidParameterError(f"{type(model).__name__}.fit takes no sample_weight.")
        given["sample_weight"] = rows.weight
    if rows.clusters is not None and "clusters" in takes:
        given["clusters"] = rows.clusters
    own = getattr(model, "sensitive_features", None) is not None
    if "sensitive_features" in takes and not own:
        given["sensitive_features"] = rows.sensitive
    return given


def train(
    models: Sequence[Any],
    param: str,
    rows: Rows,
    vectorize: Literal["auto"] | bool,
    n_jobs: int | None,
    store: PointCache,
) -> tuple[list[Trained], list[str]]:
    """Train what is not kept yet.

    Parameters
    ----------
    models : sequence of estimators
        As :func:`candidate` makes them.
    param : str
        What they differ in, besides seeds.
    rows : Rows
        Rows that train.
    vectorize : {"auto", True, False}
        Whether one training may serve several points; True warns where networks cannot be stacked.
    n_jobs : int or None
        Processes that train one by one.
    store : PointCache
        Keeps each model as soon as it is finished.

    Returns
    -------
    trained : list of Trained
        In the order of ``models``.
    notes : list of str
        Warnings of the trainings, and why they went one by one.
    """
    if vectorize not in ("auto", True, False):
        raise InvalidParameterError(f"vectorize must be 'auto', True or False, got {vectorize!r}.")
    files = [None] * len(models) if store.folder is None else store.files(models, rows)
    kept = [store.read(file, model) for file, model in zip(files, models, strict=True)]
    todo = [i for i, each in enumerate(kept) if each is None]
    jobs, notes, new = [[i] for i in todo], [], []
    if vectorize is not False and _is_repriced(models[0], param):
        seeds = dict.fromkeys(models[i].random_state for i in todo)
        jobs = [[i for i in todo if models[i].random_state == seed] for seed in seeds]
    elif len(todo) > 1 and (vectorize is True or (vectorize and _is_network(models[0]))):
        try:
            new = [_fit_stacked([models[i] for i in todo], [files[i] for i in todo], rows, store)]
            jobs = [todo]
        except CannotStackError as reason:
            notes.append(f"trained one by one: {reason}")
            if vectorize is True:
                warn(notes[0], FairtrainWarning)
    if not new:
        new = Parallel(n_jobs=n_jobs)(
            delayed(_fit_job)([models[i] for i in job], [files[i] for i in job], rows, store)
            for job in jobs
        )
    for job, fitted in zip(jobs, new, strict=True):
        for i, each in zip(job, fitted, strict=True):
            kept[i] = each
    done = [each for each in kept if each is not None]
    return done, [*notes, *(note for each in done for note in each.notes)]


def _fit_stacked(
    models: Sequence[Any], files: Sequence[Path | None], rows: Rows, store: PointCache
) -> list[Trained]:
    if not _is_network(models[0]):
        raise CannotStackError(f"{type(models[0]).__name__} is not a network with a penalty.")
    from fairtrain.training.stacked import fit_stacked

    with _noted() as notes:
        start = time.perf_counter()
        fit_stacked(models, rows.X, rows.targets, **_people(models[0], rows))
        seconds = (time.perf_counter() - start) / len(models)
    done = [Trained(model, seconds, tuple(notes)) for model in models]
    return [store.write(file, each) for each, file in zip(done, files, strict=True)]


def _is_repriced(model: Any, param: str) -> bool:
    """Whether one training serves all bounds: a repriced plug-in has no certificate of its own."""
    own = isinstance(model, PricedClassifier) and type(model).__module__.startswith("fairtrain.")
    if not own or param not in ("difference_bound", "ratio_bound"):
        return False
    certified = getattr(model, "certification", None) is not None or model.certification_fraction
    return not certified and model.cv is not None


def _fit_job(
    models: Sequence[Any], files: Sequence[Path | None], rows: Rows, store: PointCache
) -> list[Trained]:
    """Fit the first model, and price it for the others, which differ from it in bounds alone."""
    done: list[Trained] = []
    for model, file in zip(models, files, strict=True):
        make = _repriced if done else fit_candidate
        point = _timed(make, model, done[0].model if done else rows)
        done.append(store.write(file, point))
    return done


def _repriced(model: Any, fitted: PricedClassifier) -> PricedClassifier:
    """What ``model.fit`` on the same rows would give, without training."""
    # From no prices, as fit does: a point must not depend on which others are in the sweep.
    made = fitted.with_constraints(
        model.constraints,
        difference_bound=model.difference_bound,
        ratio_bound=model.ratio_bound,
        warm_start=False,
    )
    made._warn_of_outcome()
    return made


def _timed(make: Callable[[Any, Any], Any], *given: Any) -> Trained:
    with _noted() as notes:
        start = time.perf_counter()
        model = make(*given)
        seconds = time.perf_counter() - start
    return Trained(model, seconds, tuple(notes))


@contextmanager
def _noted() -> Iterator[list[str]]:
    """Turn warnings of fairtrain into notes, each once; others are passed on."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FairtrainWarning)
        yield notes
    for warning in caught:
        if not issubclass(warning.category, FairtrainWarning):
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
            continue
        note = one_line(str(warning.message).partition("\n")[0])
        if note not in notes:
            notes.append(note)
