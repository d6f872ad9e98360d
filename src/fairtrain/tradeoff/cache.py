"""Finished points of a sweep on disk: an interrupted sweep goes on where it was.

A point is found again by one number for its settings and data, the same in every process.
"""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np

import fairtrain
from fairtrain._atomic import check_private, new_file
from fairtrain._text import one_line
from fairtrain.data.rows import Rows
from fairtrain.exceptions import FairtrainError, InvalidParameterError, PersistenceError
from fairtrain.persistence import pack, unpack

__all__ = ["PointCache", "Trained", "fingerprint"]

_DIGEST = hashlib.sha256().digest_size
_FORMAT = "fairtrain point 2"
_CONTAINERS: Any = Mapping | list | tuple | set | frozenset
_CODE: Any = types.FunctionType | types.CodeType | functools.partial


@dataclass(frozen=True)
class Trained:
    """A fitted model, the seconds that it took, and what its training warned of."""

    model: Any
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PointCache:
    """A folder with one file a trained model.

    A file is a SHA-256 digest and the model in the format of :mod:`fairtrain.persistence`, which
    runs no code when it is read. It is written under another name and renamed, so that a killed
    process leaves no half of one, and of two that write the same point one is there whole. A
    damaged one is trained again. A model that cannot be written without running code from the file
    is not kept, and a note says so.

    Parameters
    ----------
    folder : Path or None
        Made when the first point is kept, for its owner alone; one that others can write to is
        refused: what it holds decides about people. None keeps nothing.
    """

    folder: Path | None = None

    def __post_init__(self) -> None:
        if self.folder is None:
            return
        if self.folder.exists() and not self.folder.is_dir():
            raise InvalidParameterError(f"cache='{one_line(self.folder)}' is a file, not a folder.")
        check_private(self.folder, "cache=")

    def files(self, models: Sequence[Any], rows: Rows) -> list[Path]:
        """Where each model is kept when it was trained on these rows."""
        assert self.folder is not None
        data = fingerprint(rows.X, rows.targets, rows.sensitive, rows.weight)
        keys = [fingerprint(type(each), each.get_params(), data) for each in models]
        return [self.folder / f"{key}.point" for key in keys]

    @staticmethod
    def read(file: Path | None, model: Any) -> Trained | None:
        """Return the kept point of an unfitted model, or None."""
        try:
            content = b"" if file is None else file.read_bytes()
        except OSError:
            return None
        digest, body = content[:_DIGEST], content[_DIGEST:]
        if hashlib.sha256(body).digest() == digest:
            # One that is whole, but of other versions of the libraries it needs, is trained again.
            with suppress(FairtrainError, KeyError, TypeError, ValueError):
                fitted, facts = unpack(body, model)
                return Trained(fitted, float(facts["seconds"]), tuple(map(str, facts["notes"])))
        return None

    @staticmethod
    def write(file: Path | None, point: Trained) -> Trained:
        """Keep a point; return it, with a note where it cannot be kept."""
        if file is None:
            return point
        try:
            body = pack(point.model, {"seconds": point.seconds, "notes": list(point.notes)})
        except PersistenceError as error:
            note = f"a {type(point.model).__name__} is not kept in the cache: {error}"
            return replace(point, notes=(*point.notes, one_line(note)))
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with new_file(file) as work:
            work.write_bytes(hashlib.sha256(body).digest() + body)
        return point


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
    if isinstance(what, type) and what.__module__ == "__main__":
        return None  # a class of a notebook or script may be written anew
    if isinstance(what, type | types.BuiltinFunctionType | types.ModuleType):
        return f"{getattr(what, '__module__', '')}.{what.__name__}".encode()
    if (array := _as_array(what)) is not None:
        return str(joblib.hash(array)).encode()
    if isinstance(what, _CONTAINERS | _CODE) or hasattr(what, "get_params"):
        return None
    return None if getattr(what, "__dict__", None) else str(joblib.hash(what)).encode()


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
    if isinstance(what, functools.partial):
        return what.func, what.args, what.keywords
    if isinstance(what, type):
        return what.__qualname__, {k: v for k, v in vars(what).items() if callable(v)}
    if not isinstance(what, types.FunctionType):
        return None
    around = [cell.cell_contents for cell in what.__closure__ or ()]
    names = (what.__module__, what.__qualname__)
    seen = {n: what.__globals__[n] for n in what.__code__.co_names if n in what.__globals__}
    plain = (bool, int, float, str, tuple, type(None), types.FunctionType)
    read = {n: v for n, v in seen.items() if isinstance(v, plain)}
    return *names, what.__code__, around, what.__defaults__, what.__kwdefaults__, read


def _parts_of_object(what: Any) -> tuple[Any, ...]:
    if hasattr(what, "state_dict") and hasattr(what, "named_parameters"):
        # Plain attributes may be read in forward, and are in no state dict.
        own = [
            {k: v for k, v in vars(part).items() if not k.startswith("_") and not callable(v)}
            for part in what.modules()
        ]
        return repr(what), type(what), dict(what.state_dict()), own
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
