"""How a command ends: tables or JSON on standard output, and an exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from fairtrain._commands.asked import Show
from fairtrain._text import one_line
from fairtrain.metrics.verdicts import Verdict

__all__ = ["NOT_MET", "finish", "note", "print_json"]

NOT_MET = 3
"""Exit code of ``--require-met`` where the verdict is another one."""


def print_json(numbers: Mapping[str, Any]) -> None:
    """Print plain values, and nothing else, on standard output."""
    json.dump(numbers, sys.stdout, indent=2, ensure_ascii=True, allow_nan=False)
    sys.stdout.write("\n")


def note(*lines: str) -> None:
    """Say something beside the results, on standard error."""
    for line in lines:
        sys.stderr.write(f"fairtrain: note: {one_line(line)}\n")


def finish(show: Show, verdict: Verdict | str | None) -> int:
    """Exit code of a command that judged something."""
    if show.require_met and str(verdict) != str(Verdict.MET):
        sys.stderr.write(f"fairtrain: --require-met: the verdict is {verdict}, not met.\n")
        return NOT_MET
    return 0
