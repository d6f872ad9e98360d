"""``fairtrain report``: the pages of a run, made again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from fairtrain._commands.folder import new_file
from fairtrain._commands.terminal import say
from fairtrain._text import one_line
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.report import RunSummary, render_card, render_report

__all__ = ["read_reason", "report"]


def report(run: Path, *, rationale: str | None) -> None:
    """Write ``report.html`` and ``model_card.md`` of a run again, from its numbers.

    Parameters
    ----------
    run : Path
        Run folder.
    rationale : str, optional
        Why this constraint was chosen; replaces the recorded reason, in ``metrics.json`` too.
    """
    file = run / "metrics.json"
    try:
        summary = RunSummary.from_dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InvalidDataError(f"'{one_line(run)}' is no run folder: {one_line(error)}") from None
    if rationale is not None:
        summary = replace(summary, rationale=rationale)
        numbers = json.dumps(summary.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        _write(file, numbers + "\n")
    _write(run / "report.html", render_report(summary))
    _write(run / "model_card.md", render_card(summary))
    say(f"Written: {run / 'report.html'} and {run / 'model_card.md'}")


def read_reason(text: str) -> str:
    """Read a reason as it was typed, or from a file if it starts with ``@``.

    Raises
    ------
    InvalidParameterError
        If the file cannot be read.
    """
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidParameterError(
            f"--rationale '{one_line(text)}' cannot be read: {one_line(error)}."
        ) from None


def _write(file: Path, text: str) -> None:
    with new_file(file, force=True) as work:
        work.write_text(text, encoding="utf-8")
