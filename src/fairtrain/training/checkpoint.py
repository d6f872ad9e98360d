"""Checkpoints: one file, written whole or not at all, and read without running code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

from fairtrain._atomic import new_file
from fairtrain.exceptions import InvalidDataError

__all__ = ["read_checkpoint", "write_checkpoint"]

FORMAT = 2

_ARRAY = "__ndarray__"


def write_checkpoint(state: Mapping[str, Any], path: Path) -> None:
    """Write a state beside its place, flush it to disk, and move it there.

    Parameters
    ----------
    state : mapping
        Numbers, strings, tensors, arrays, and lists and mappings of these.
    path : Path
        The file; its folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as work:
        torch.save({"format": FORMAT, "state": _plain(state)}, work)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read what :func:`write_checkpoint` wrote; nothing in it is run.

    Raises
    ------
    InvalidDataError
        If the file is missing, cut short, or no checkpoint.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InvalidDataError(f"there is no checkpoint {str(path)!r}.") from None
    except (EOFError, KeyError, OSError, RuntimeError, UnpicklingError, ValueError) as error:
        raise InvalidDataError(
            f"{str(path)!r} is no whole checkpoint ({type(error).__name__}); train from the start."
        ) from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise InvalidDataError(
            f"{str(path)!r} is no checkpoint of this version of fairtrain; train from the start."
        )
    state: dict[str, Any] = _restored(found["state"])
    return state


def _plain(value: Any) -> Any:
    """Only what can be read back without running code."""
    if isinstance(value, np.ndarray):
        return {_ARRAY: torch.from_numpy(value.copy())}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value


def _restored(value: Any) -> Any:
    """Undo :func:`_plain`, but for tuples, which come back as lists."""
    if isinstance(value, dict):
        if set(value) == {_ARRAY}:
            return value[_ARRAY].numpy()
        return {key: _restored(part) for key, part in value.items()}
    return [_restored(part) for part in value] if isinstance(value, list) else value
