"""Run folders: model, numbers, settings and report, written whole and read again."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fairtrain._commands.folder import check_new, new_folder
from fairtrain._commands.options import to_toml
from fairtrain._text import one_line
from fairtrain._versions import versions
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.persistence import load, save
from fairtrain.report import RunSummary, render_card, render_report

__all__ = [
    "check_place",
    "load_model",
    "new_run",
    "options_of",
    "read_config",
    "read_numbers",
    "read_rationale",
    "read_summary",
    "versions",
    "write_config",
    "write_json",
    "write_model",
    "write_summary",
]

_NOT_SETTINGS = ("force", "json", "require_met", "resume")


def options_of(*groups: Any) -> dict[str, Any]:
    """Options as they were given, under the names that a file of options takes."""
    merged = {k: v for group in groups for k, v in vars(group).items()}
    return {k: v for k, v in merged.items() if k not in _NOT_SETTINGS}


@contextmanager
def new_run(out: Path, *, force: bool) -> Iterator[Path]:
    """Fill a run folder that appears when it is complete, or not at all."""
    with new_folder(out, force=force) as folder:
        yield folder


def check_place(out: Path, *, force: bool) -> None:
    """Raise before any work where the run could not be written."""
    check_new(out, force=force)


def write_model(folder: Path, model: Any, metadata: Mapping[str, Any]) -> None:
    """Write ``model/``, which loads without running code from it."""
    save(model, folder / "model", metadata=metadata)


def write_summary(folder: Path, summary: RunSummary) -> None:
    """Write ``metrics.json``, ``report.html`` and ``model_card.md``."""
    write_json(folder / "metrics.json", summary.to_dict())
    (folder / "report.html").write_text(render_report(summary), encoding="utf-8")
    (folder / "model_card.md").write_text(render_card(summary), encoding="utf-8")


def write_config(folder: Path, tables: Mapping[str, Mapping[str, Any]]) -> None:
    """Write ``config.toml``, which ``--config`` takes."""
    (folder / "config.toml").write_text(to_toml(tables), encoding="utf-8")


def write_json(path: Path, numbers: Mapping[str, Any]) -> None:
    """Write plain values."""
    text = json.dumps(numbers, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_numbers(run: Path) -> dict[str, Any]:
    """Read ``metrics.json`` of a run.

    Raises
    ------
    InvalidDataError
        If RUN is no run folder.
    """
    name = f"'{one_line(run)}'"
    file = run / "metrics.json"
    if not file.is_file():
        raise InvalidDataError(f"{name} is not a run of fairtrain: it has no metrics.json.")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InvalidDataError(f"{name}: metrics.json cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise InvalidDataError(f"{name}: metrics.json is not what fairtrain writes.")
    return found


def read_summary(run: Path) -> RunSummary:
    """Read what a run of ``train`` or ``sweep`` found."""
    numbers = read_numbers(run)
    if "models" not in numbers:
        raise InvalidDataError(
            f"'{one_line(run)}' holds no models to compare; it is no run of train or sweep."
        )
    return RunSummary.from_dict(numbers)


def read_config(run: Path) -> dict[str, dict[str, Any]]:
    """Read ``config.toml`` of a run; empty where there is none."""
    try:
        with (run / "config.toml").open("rb") as file:
            content = tomllib.load(file)
    except (OSError, ValueError):
        return {}
    return {key: value for key, value in content.items() if isinstance(value, dict)}


def load_model(path: Path) -> Any:
    """Load the model of a run folder, or a model folder; nothing is unpickled.

    Raises
    ------
    InvalidDataError, PersistenceError
        If there is none, or it was damaged.
    """
    folder = path / "model" if (path / "model").is_dir() else path
    if not folder.exists():
        raise InvalidDataError(
            f"'{one_line(folder)}' does not exist; MODEL is a run folder or its model folder."
        )
    return load(folder)


def read_rationale(given: str | None) -> str:
    """Read the text, or that of ``@FILE``."""
    if given is None or not given.startswith("@"):
        return given or ""
    path = Path(given[1:])
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InvalidParameterError(
            f"--rationale: '{one_line(path)}' cannot be read: {reason}."
        ) from None
