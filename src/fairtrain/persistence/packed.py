"""A fitted estimator as one string of bytes, read back into a twin that was never fitted.

The twin brings the classes and the settings; the bytes hold what ``fit`` found, and nothing that
runs. So estimators of anybody's can be kept whose attributes are plain.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from fairtrain.exceptions import PersistenceError
from fairtrain.persistence.allowed import Known, failing, name_of
from fairtrain.persistence.content import from_files, to_files
from fairtrain.persistence.encode import encode

__all__ = ["pack", "unpack"]

_PLAIN_STATE = (object.__getstate__, BaseEstimator.__getstate__)


def pack(model: Any, facts: Mapping[str, Any]) -> bytes:
    """Write a fitted estimator, but for settings that are code, and some plain facts about it.

    Raises
    ------
    PersistenceError
        If it holds something that cannot be read back without running code.
    """
    encoded = encode({"facts": dict(facts), "model": model}, known=_classes(model), whole=True)
    files = to_files(encoded)
    _read(files, model)  # whatever would fail to load fails now
    return _join(files)


def unpack(content: bytes, twin: Any) -> tuple[Any, dict[str, Any]]:
    """Read what :func:`pack` wrote.

    Parameters
    ----------
    content : bytes
        What was written.
    twin : estimator
        An unfitted one of the same class and settings.

    Returns
    -------
    model : estimator
        The fitted one.
    facts : dict
        What is known about it.

    Raises
    ------
    PersistenceError
        If it is anything else.
    """
    return _read(_split(content), twin)


def _read(files: Mapping[str, bytes], twin: Any) -> tuple[Any, dict[str, Any]]:
    found = from_files(files, module=_module(twin), known=_classes(twin))
    if not isinstance(found, dict) or set(found) != {"facts", "model"}:
        raise PersistenceError("the file holds no model and its facts.")
    model, facts = found["model"], found["facts"]
    if type(model) is not type(twin) or not isinstance(facts, dict):
        raise PersistenceError(f"the file holds no {type(twin).__name__}.")
    read = model.get_params()
    # Functions, and what else no file can hold, come back as None.
    left_out = {k: v for k, v in twin.get_params().items() if v is not None and read.get(k) is None}
    return model.set_params(**left_out), facts


def _parts(model: Any) -> list[Any]:
    return [model, *model.get_params().values()]


def _classes(model: Any) -> Known:
    """Classes of an estimator and of those among its settings."""
    kinds = {type(part) for part in _parts(model) if hasattr(part, "get_params")}
    return {
        name_of(kind): kind
        for kind in kinds
        if not kind.__module__.startswith(("fairtrain.", "sklearn."))
        and getattr(kind, "__getstate__", None) in _PLAIN_STATE
        and getattr(kind, "__setstate__", None) in (None, BaseEstimator.__setstate__)
    }


def _module(model: Any) -> Any:
    """The architecture among the settings, if there is one."""
    found = [part.module for part in _parts(model) if getattr(part, "module", None) is not None]
    return found[0] if found else None


def _join(files: Mapping[str, bytes]) -> bytes:
    from safetensors.numpy import save

    return bytes(save({name: np.frombuffer(each, np.uint8) for name, each in files.items()}))


def _split(content: bytes) -> dict[str, bytes]:
    from safetensors.numpy import load

    with failing("the file cannot be read"):
        return {name: array.tobytes() for name, array in load(content).items()}
