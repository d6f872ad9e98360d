"""One number for settings and data, the same in every process."""

from __future__ import annotations

import hashlib
import types
from collections.abc import Iterable, Mapping
from typing import Any

import joblib
import numpy as np

import fairtrain

__all__ = ["fingerprint"]

_FORMAT = "fairtrain point 1"


def fingerprint(*what: Any) -> str:
    """SHA-256 of settings and data.

    Parameters
    ----------
    *what
        Plain values, arrays, frames, tensors, modules, estimators, functions, and containers and
        objects of these.

    Returns
    -------
    str
        64 hexadecimal digits.

    Examples
    --------
    >>> fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    True
    """
    digest = hashlib.sha256(f"{_FORMAT} {fairtrain.__version__}".encode())
    for part in what:
        _feed(digest, part, ())
    return digest.hexdigest()


def _feed(digest: Any, what: Any, above: tuple[int, ...]) -> None:
    digest.update(type(what).__qualname__.encode() + b"(")
    if id(what) not in above:  # a cycle adds nothing new
        leaf = _leaf(what)
        if leaf is not None:
            digest.update(leaf)
        else:
            for part in _parts(what):
                _feed(digest, part, (*above, id(what)))
    digest.update(b")")


def _leaf(what: Any) -> bytes | None:
    """What stands for a value without parts; None if it has some."""
    if what is None or isinstance(what, bool | int | float | complex | str | bytes | np.generic):
        return repr(what).encode()
    if isinstance(what, type | types.BuiltinFunctionType | types.ModuleType):
        return f"{getattr(what, '__module__', '')}.{what.__name__}".encode()
    if (array := _as_array(what)) is not None:
        return str(joblib.hash(array)).encode()
    if isinstance(what, _CONTAINERS) or hasattr(what, "get_params"):
        return None
    return None if getattr(what, "__dict__", None) else str(joblib.hash(what)).encode()


_CONTAINERS = (Mapping, list, tuple, set, frozenset, types.FunctionType, types.CodeType)


def _parts(what: Any) -> Iterable[Any]:
    if isinstance(what, Mapping):
        return [part for key in sorted(what, key=repr) for part in (key, what[key])]
    if isinstance(what, set | frozenset):
        return sorted(what, key=repr)
    if isinstance(what, list | tuple):
        return what
    return _parts_of_code(what) or _parts_of_object(what)


def _parts_of_code(what: Any) -> tuple[Any, ...] | None:
    if isinstance(what, types.CodeType):
        return what.co_code, what.co_consts, what.co_names
    if not isinstance(what, types.FunctionType):
        return None
    around = [cell.cell_contents for cell in what.__closure__ or ()]
    names = (what.__module__, what.__qualname__)
    return *names, what.__code__, around, what.__defaults__, what.__kwdefaults__


def _parts_of_object(what: Any) -> tuple[Any, ...]:
    if hasattr(what, "state_dict") and hasattr(what, "named_parameters"):
        return repr(what), dict(what.state_dict())
    return (what.get_params(deep=False) if hasattr(what, "get_params") else vars(what),)


def _as_array(what: Any) -> Any:
    """Arrays, frames, series and tensors as something that joblib hashes by content."""
    if isinstance(what, np.ndarray):
        return what
    if hasattr(what, "detach") and hasattr(what, "numpy"):
        return what.detach().cpu().numpy()
    if hasattr(what, "to_pandas"):
        return what.to_pandas()
    return what if hasattr(what, "iloc") or hasattr(what, "tocsr") else None
