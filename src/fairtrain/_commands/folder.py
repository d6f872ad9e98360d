"""Files that appear whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fairtrain import _atomic
from fairtrain._text import one_line
from fairtrain.exceptions import InvalidParameterError

__all__ = ["RUN_FILES", "check_new", "new_file", "new_folder"]

RUN_FILES = (
    "model", "metrics.json", "config.toml", "report.html", "model_card.md", "fresh.html",
    "frontier.csv", "frontier.json", "frontier.png",
    "calibration.csv", "reliability.png",
    "model.joblib",  # of earlier versions
)  # fmt: skip
"""What a run folder may hold."""


def check_new(path: Path, *, force: bool) -> None:
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


@contextmanager
def new_folder(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Fill a temporary folder beside ``path`` and rename it when all is written.

    Whatever goes wrong, Ctrl-C included, the temporary folder is removed.

    Parameters
    ----------
    path : Path
        Where the folder shall be.
    force : bool, default=False
        Replace a run folder that is there already.
    """
    with _atomic.new_folder(path, lambda: check_new(path, force=force)) as work:
        yield work


@contextmanager
def new_file(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Write a temporary file beside ``path`` and rename it when it is complete."""
    path = path.absolute()
    if path.is_dir() or (path.exists() and not force):
        hint = "is a folder" if path.is_dir() else "exists; replace it with --force"
        raise InvalidParameterError(f"--out '{one_line(path)}' {hint}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = 0o666 & ~_atomic.umask()
    with _atomic.new_file(path, mode=mode, suffix=path.suffix) as work:
        yield work
