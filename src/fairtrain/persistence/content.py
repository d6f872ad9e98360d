"""A model's files as bytes: the same ones in a folder and in a single file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from fairtrain._text import one_line
from fairtrain.exceptions import PersistenceError
from fairtrain.persistence.allowed import Known, failing
from fairtrain.persistence.decode import decode
from fairtrain.persistence.encode import Encoded

__all__ = ["ARRAYS", "STRUCTURE", "from_files", "from_json", "to_files", "to_json"]

STRUCTURE, ARRAYS = "structure.json", "arrays.safetensors"


def to_files(encoded: Encoded) -> dict[str, bytes]:
    """Write a model that was taken apart.

    Returns
    -------
    dict of str to bytes
        Contents by name.
    """
    from safetensors.numpy import save

    # No array is written with no number or no axis: shapes are kept in the structure.
    flat = {key: array.reshape(-1) for key, array in encoded.arrays.items()}
    structure = {"root": encoded.root, "nodes": encoded.nodes}
    return {**encoded.parts, STRUCTURE: to_json(structure), ARRAYS: bytes(save(flat))}


def from_files(
    files: Mapping[str, bytes], *, module: Any = None, known: Known = MappingProxyType({})
) -> Any:
    """Put a model together again; parameters as of :func:`~fairtrain.persistence.decode.decode`.

    Raises
    ------
    PersistenceError
        If that is not what :func:`to_files` writes.
    """
    from safetensors.numpy import load

    structure = from_json(files[STRUCTURE], STRUCTURE)
    with failing(f"{ARRAYS} cannot be read"):
        arrays = load(files[ARRAYS])
    wrong = (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError,
             OverflowError, MemoryError)  # fmt: skip
    try:
        encoded = Encoded(structure["root"], structure["nodes"], arrays, dict(files))
        return decode(encoded, module, known)
    except wrong as error:
        said = f"{type(error).__name__}: {one_line(error)[:200]}"
        raise PersistenceError(f"{STRUCTURE} does not describe a model ({said}).") from None


def to_json(what: Any, indent: int | None = None) -> bytes:
    """Write plain values."""
    try:
        text = json.dumps(what, ensure_ascii=False, allow_nan=False, indent=indent)
    except (TypeError, ValueError) as error:
        raise PersistenceError(f"metadata must be plain values: {one_line(error)}.") from None
    return text.encode("utf-8", "surrogatepass") + b"\n"


def from_json(content: bytes, name: str) -> dict[str, Any]:
    """Read an object."""
    try:
        found = json.loads(content.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        raise PersistenceError(f"{name} is not JSON.") from None
    if not isinstance(found, dict):
        raise PersistenceError(f"{name} is not what fairtrain writes.")
    return found
