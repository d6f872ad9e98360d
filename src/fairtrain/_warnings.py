"""Warnings that name the line of the person who called, however deep they are raised."""

from __future__ import annotations

import sys
import warnings

__all__ = ["warn"]

_OWN = ("fairtrain", "jaxtyping")
"""Packages whose lines say nothing to the caller; jaxtyping may be wrapped around any function."""


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the first line of the stack that is not the library's own.

    What ``skip_file_prefixes`` of :func:`warnings.warn` does from Python 3.12 on. A number of
    levels would have to follow every function that is put in between.
    """
    level, frame = 1, sys._getframe()
    while frame.f_globals.get("__name__", "").partition(".")[0] in _OWN and frame.f_back:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
