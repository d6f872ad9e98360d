"""Options in a TOML file: read for a command, written into a run folder."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fairtrain._text import flatten, one_line
from fairtrain.exceptions import InvalidParameterError

__all__ = ["parse_numbers", "read_options", "to_toml"]


def read_options(path: Path, command: str) -> dict[str, Any]:
    """Read the options of one command.

    Parameters
    ----------
    path : Path
        A TOML file with a table of the command's name, or with the options at its top.
    command : str
        Such as ``"train"``.

    Raises
    ------
    InvalidParameterError
        If the file cannot be read.
    """
    name = f"--config '{one_line(path)}'"
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise InvalidParameterError(f"{name} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidParameterError(f"{name} is not TOML: {one_line(error)}.") from None
    own = content.get(command)
    if isinstance(own, dict):
        return own
    return {key: value for key, value in content.items() if not isinstance(value, dict)}


def to_toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Write tables of plain values; None and empty lists are left out.

    Examples
    --------
    >>> print(to_toml({"train": {"bound": 0.05, "sensitive": ["race"], "over": None}}), end="")
    [train]
    bound = 0.05
    sensitive = ["race"]
    """
    lines = []
    for table, values in tables.items():
        lines += ["", f"[{table}]"]
        lines += [f"{_key(k)} = {_value(v)}" for k, v in values.items() if v not in (None, (), [])]
    return "\n".join(lines[1:]) + "\n"


def _key(key: str) -> str:
    return key if key.replace("-", "").replace("_", "").isalnum() and key.isascii() else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(_value(item) for item in value)}]"
    return _text(str(value))


def _text(text: str) -> str:
    # JSON's escapes are TOML's, but for DEL, which TOML wants escaped.
    clean = text.encode("utf-8", "replace").decode("utf-8")
    return json.dumps(clean, ensure_ascii=False).replace("\x7f", "\\u007f")


def parse_numbers(option: str, items: Sequence[str]) -> tuple[float, ...]:
    """Read ``"0,.1,1"``.

    Examples
    --------
    >>> parse_numbers("--etas", ["0,.1", "1"])
    (0.0, 0.1, 1.0)
    """
    found = []
    for word in flatten(items):
        try:
            found.append(float(word))
        except ValueError:
            raise InvalidParameterError(
                f"{option}: '{one_line(word)}' is not a number; write {option} 0,0.1,1."
            ) from None
    return tuple(found)
