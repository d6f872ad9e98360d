"""Pictures into files, without a display."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["save_figure"]


def save_figure(
    path: str | Path, draw: Callable[[Any], Any], *, size: tuple[float, float] = (8.0, 5.5)
) -> None:
    """Draw into a figure of its own and write it.

    Parameters
    ----------
    path : path
        ``.png``, ``.svg`` or ``.pdf``.
    draw : callable
        Takes the axes.
    size : (float, float), default=(8, 5.5)
        Width and height, inches.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    draw(figure.subplots())
    figure.savefig(path, dpi=150)
