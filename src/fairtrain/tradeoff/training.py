"""The models of a sweep, trained: all at once where they can be stacked, else one by one."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from joblib import Parallel, delayed

from fairtrain._text import one_line
from fairtrain.data.rows import Rows
from fairtrain.exceptions import CannotStackError, FairtrainWarning, InvalidParameterError
from fairtrain.tradeoff.cache import PointCache
from fairtrain.tradeoff.candidates import Candidates, fit_candidate
from fairtrain.tradeoff.fingerprint import fingerprint

__all__ = ["Trained", "train"]


@dataclass(frozen=True)
class Trained:
    """A fitted model, the seconds that it took, and what it warned of."""

    model: Any
    seconds: float
    notes: tuple[str, ...] = ()


def train(
    found: Candidates,
    rows: Rows,
    vectorize: Literal["auto"] | bool,
    n_jobs: int | None,
    store: PointCache | None,
) -> tuple[list[Trained], tuple[str, ...]]:
    """Train what is not kept yet.

    Parameters
    ----------
    found : Candidates
        The models.
    rows : Rows
        Rows that train.
    vectorize : {"auto", True, False}
        Whether networks are trained all at once; True warns where they cannot be.
    n_jobs : int or None
        Processes that train one by one.
    store : PointCache or None
        Keeps each model as soon as it is finished.

    Returns
    -------
    trained : list of Trained
        In the order of ``found.models``.
    notes : tuple of str
        Warnings of the trainings, and why they went one by one.
    """
    if vectorize not in ("auto", True, False):
        raise InvalidParameterError(f"vectorize must be 'auto', True or False, got {vectorize!r}.")
    keys = ["" for _ in found.models]
    if store is not None:
        data = fingerprint(rows.X, rows.targets, rows.sensitive, rows.weight)
        keys = [fingerprint(type(each), each.get_params(), data) for each in found.models]
    kept = [None if store is None else store.read(key) for key in keys]
    todo = [i for i, each in enumerate(kept) if not isinstance(each, Trained)]
    notes: list[str] = []
    new: list[Trained] = []
    if (vectorize is True or (vectorize == "auto" and found.is_network)) and len(todo) > 1:
        try:
            new = _fit_together(found, [found.models[i] for i in todo], rows)
        except CannotStackError as reason:
            notes += _say(f"trained one by one: {reason}", loudly=vectorize is True)
        for i, each in zip(todo, new, strict=False):
            if store is not None:
                store.write(keys[i], each)
    if not new:
        new = Parallel(n_jobs=n_jobs)(
            delayed(_fit_one)(found.models[i], rows, store, keys[i]) for i in todo
        )
    for i, each in zip(todo, new, strict=True):
        kept[i] = each
    done = [each for each in kept if isinstance(each, Trained)]
    notes += [note for each in done for note in each.notes]
    return done, tuple(dict.fromkeys(notes))


def _say(what: str, *, loudly: bool) -> list[str]:
    if loudly:
        warnings.warn(what, FairtrainWarning, stacklevel=4)
    return [what]


def _fit_together(found: Candidates, models: Sequence[Any], rows: Rows) -> list[Trained]:
    if not found.is_network:
        raise CannotStackError(f"{type(models[0]).__name__} is not a network with a penalty.")
    from fairtrain.training.stacked import fit_stacked

    start = time.perf_counter()
    fit_stacked(
        models,
        rows.X,
        rows.targets,
        sensitive_features=None if models[0].sensitive_features else rows.sensitive,
        sample_weight=rows.weight,
    )
    seconds = (time.perf_counter() - start) / len(models)
    return [Trained(model, seconds) for model in models]


def _fit_one(model: Any, rows: Rows, store: PointCache | None, key: str) -> Trained:
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FairtrainWarning)
        fit_candidate(model, rows)
    notes = []
    for warning in caught:
        if issubclass(warning.category, FairtrainWarning):
            notes.append(one_line(str(warning.message).partition("\n")[0]))
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    done = Trained(model, time.perf_counter() - start, tuple(notes))
    if store is not None:
        store.write(key, done)
    return done
