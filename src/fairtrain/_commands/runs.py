"""Run folders and files: written whole or not at all, and read again."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairtrain import _atomic
from fairtrain._commands.options import to_toml
from fairtrain._text import one_line
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.metrics.ledger import Ledger
from fairtrain.persistence import load, save
from fairtrain.plotting.style import save_figure
from fairtrain.report import RunSummary, render_card, render_report

if TYPE_CHECKING:
    from fairtrain.tradeoff import Chosen, ParetoFrontier

__all__ = [
    "RUN_FILES",
    "check_place",
    "load_model",
    "new_file",
    "new_run",
    "options_of",
    "read_config",
    "read_ledger",
    "read_rationale",
    "read_summary",
    "read_words",
    "settings_shown",
    "write_config",
    "write_json",
    "write_run",
]

RUN_FILES = (
    "model", "metrics.json", "config.toml", "report.html", "model_card.md", "fresh.html",
    "ledger.json", "frontier.csv", "frontier.json", "frontier.png",
    "calibration.csv", "reliability.png",
    "model.joblib",  # of earlier versions
)  # fmt: skip
"""What a run folder may hold."""

_NOT_SETTINGS = ("force", "json", "require_met", "resume")


def options_of(data: Path, options: Any) -> dict[str, Any]:
    """Options of a command as they were given, under the names that a file of options takes."""
    flat: dict[str, Any] = {"data": data}
    for name, value in vars(options).items():
        flat |= vars(value) if is_dataclass(value) else {name: value}
    plain = {k: str(v) if isinstance(v, Path) else v for k, v in flat.items()}
    return {k: v for k, v in plain.items() if k not in _NOT_SETTINGS}


def settings_shown(options: Mapping[str, Any], method: str) -> dict[str, Any]:
    """Options for the page of a run: without its place, with the method that was taken."""
    shown = {k: v for k, v in options.items() if k not in ("out", "rationale")}
    given = options["method"]
    return {**shown, "method": given if given == method else f"{given}: {method}"}


def check_place(path: Path, *, force: bool) -> None:
    """Raise if a run must not be written there.

    Raises
    ------
    InvalidParameterError
        If something exists, unless ``force`` is set and it is a run folder or empty: no other
        folder is ever replaced.
    """
    name = f"'{one_line(path)}'"
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise InvalidParameterError(f"--out {name} exists and is not a folder.")
    if not path.exists():
        return
    if not force:
        raise InvalidParameterError(
            f"--out {name} exists; choose another folder, or replace it with --force."
        )
    strangers = sorted({entry.name for entry in path.iterdir()} - set(RUN_FILES))
    inside = path / "model"
    if inside.exists() and any(inside.iterdir()) and not (inside / "manifest.json").is_file():
        strangers.append("model")  # somebody's own folder of that name
    if strangers:
        raise InvalidParameterError(
            f"--out {name} is not a run of fairtrain (it holds '{one_line(strangers[0])}') and is "
            "not replaced; choose another folder."
        )


def new_run(path: Path, *, force: bool = False) -> AbstractContextManager[Path]:
    """Fill a temporary folder beside ``path`` and rename it when all is written.

    Whatever goes wrong, Ctrl-C included, the temporary folder is removed.

    Parameters
    ----------
    path : Path
        Where the folder shall be.
    force : bool, default=False
        Replace a run folder that is there already.
    """
    return _atomic.new_folder(path, lambda: check_place(path, force=force))


@contextmanager
def new_file(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Write a temporary file beside ``path`` and rename it when it is complete."""
    path = path.absolute()
    with _atomic.writing(path):
        if path.is_dir() or (path.exists() and not force):
            hint = "is a folder" if path.is_dir() else "exists; replace it with --force"
            raise InvalidParameterError(f"--out '{one_line(path)}' {hint}.")
        path.parent.mkdir(parents=True, exist_ok=True)
    mode = 0o666 & ~_atomic.umask()
    with _atomic.new_file(path, mode=mode, suffix=path.suffix) as work:
        yield work


def write_run(
    folder: Path,
    command: str,
    options: Mapping[str, Any],
    summary: RunSummary,
    model: Any,
    frontier: ParetoFrontier | None = None,
    chosen: Chosen | None = None,
) -> None:
    """Write what ``train``, ``sweep`` and ``demo`` leave: numbers, pages, model, options."""
    write_json(folder / "metrics.json", summary.to_dict())
    (folder / "report.html").write_text(render_report(summary), encoding="utf-8")
    (folder / "model_card.md").write_text(render_card(summary), encoding="utf-8")
    # The folder of the model loads without running code from it.
    digest = summary.made_with["data_sha256"]
    save(model, folder / "model", metadata={"data_sha256": digest})
    write_config(folder, {command: options, "made_with": summary.made_with})
    if frontier is not None:
        frontier.to_csv(folder / "frontier.csv")
        frontier.to_json(folder / "frontier.json")
        save_figure(folder / "frontier.png", lambda ax: frontier.plot(ax, chosen=chosen))


def write_config(folder: Path, tables: Mapping[str, Mapping[str, Any]]) -> None:
    """Write ``config.toml``, which ``--config`` takes."""
    (folder / "config.toml").write_text(to_toml(tables), encoding="utf-8")


def write_json(path: Path, numbers: Mapping[str, Any]) -> None:
    """Write plain values."""
    text = json.dumps(numbers, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_summary(run: Path) -> RunSummary:
    """Read what a run of ``train``, ``sweep`` or ``demo`` found.

    Raises
    ------
    InvalidDataError
        If RUN is no such folder.
    """
    name = f"'{one_line(run)}'"
    file = run / "metrics.json"
    if not file.is_file():
        raise InvalidDataError(f"{name} is not a run of fairtrain: it has no metrics.json.")
    try:
        numbers = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise InvalidDataError(
            f"{name}: metrics.json cannot be read: {one_line(error)[:200]}"
        ) from None
    if not isinstance(numbers, dict) or "models" not in numbers:
        raise InvalidDataError(
            f"{name} holds no models to compare; it is no run of train, sweep or demo."
        )
    return RunSummary.from_dict(numbers)


def read_config(run: Path) -> dict[str, dict[str, Any]]:
    """Read ``config.toml`` of a run; empty where there is none."""
    try:
        with (run / "config.toml").open("rb") as file:
            content = tomllib.load(file)
    except (OSError, ValueError, RecursionError):
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


def read_ledger(run: Path) -> Ledger | None:
    """Which rows ``report --data`` read after the run was made; None where it read none."""
    file = run / "ledger.json"
    if not file.is_file():
        return None
    try:
        return Ledger.from_dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise InvalidDataError(f"'{one_line(file)}' cannot be read: {error}.") from None


def read_rationale(given: str | None) -> str:
    """Read the reason, or that of ``@FILE``."""
    return read_words("rationale", given)


def read_words(option: str, given: str | None) -> str:
    """Read the text of an option, or that of ``@FILE``."""
    if given is None or not given.startswith("@"):
        return given or ""
    path = Path(given[1:])
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InvalidParameterError(
            f"--{option.replace('_', '-')}: '{one_line(path)}' cannot be read: {reason}."
        ) from None
