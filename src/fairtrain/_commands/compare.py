"""``fairtrain compare``: runs side by side."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairtrain._commands.terminal import print_table, say
from fairtrain._text import listed, one_line
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

__all__ = ["compare"]


def compare(runs: Sequence[Path]) -> None:
    """Print the models of several runs in one table.

    Raises
    ------
    InvalidDataError
        If a folder is no run.
    """
    if not runs:
        raise InvalidParameterError("name at least one run folder.")
    read = [(run, *_read(run)) for run in runs]
    rows = [
        _row(run, config, model, found)
        for run, numbers, config in read
        for model in numbers["models"]
        for found in model["constraints"]
    ]
    columns = ["run", "method", "model", "accuracy", "constraint", "achieved", "verdict", "rows"]
    print_table("Runs", columns, rows)
    for what, values in (
        ("data", [config.get("made_with", {}).get("data_sha256") for _, _, config in read]),
        ("constraints", [numbers["constraint"] for _, numbers, _ in read]),
        ("rows that judge", [numbers["rows"]["certification"] for _, numbers, _ in read]),
    ):
        if len(set(map(str, values))) > 1:
            say(f"Note: these runs have different {what}, so their numbers cannot be compared.")


def _row(
    run: Path, config: dict[str, Any], model: dict[str, Any], found: dict[str, Any]
) -> list[str]:
    asked = config.get("train", config.get("sweep", config.get("demo", {})))
    sign = ">=" if found["kind"] == "ratio" else "<="
    return [
        one_line(run.name),
        str(asked.get("method", "all")),
        str(model["model"]),
        _number(model["accuracy"]["estimate"]),
        f"{found['constraint']} {sign} {found['bound']:g}",
        _span(found),
        str(found["verdict"]),
        f"{model['n_rows']:,}",
    ]


def _read(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        numbers = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
        config = tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))
        absent = {"models", "constraint", "rows"} - set(numbers)
    except (OSError, ValueError, TypeError) as error:
        raise InvalidDataError(f"'{one_line(run)}' is no run folder: {one_line(error)}.") from None
    if absent:
        raise InvalidDataError(f"'{one_line(run)}' is no run folder: it lacks {listed(absent)}.")
    return numbers, config


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _span(found: dict[str, Any]) -> str:
    if found["achieved"] is None:
        return "hidden (few rows)"
    return f"{found['achieved']:.3f} [{_number(found['lower'])}, {_number(found['upper'])}]"
