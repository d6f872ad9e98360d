"""What all pictures share: colours, axes, and text that stays text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fairtrain.exceptions import InvalidParameterError

__all__ = [
    "COLOURS",
    "FEASIBLE",
    "MARKERS",
    "ON_DARK",
    "axes",
    "bars",
    "check_few",
    "colour_of",
    "fit_height",
    "legend_below",
    "plain_text",
    "save_figure",
]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Told apart by colour-blind readers (Okabe & Ito, 2008)."""

ON_DARK = ("#4DA3E0", "#F08A3C", "#2FC08F", "#E39CC5", "#F0B93A", "#9FD4F5", "#C7CCD4")
"""The same on a dark page."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""Told apart without colour."""

FEASIBLE = "#009E73"
"""What keeps a bound."""


def axes(ax: Any) -> Any:
    """The axes handed in, or those of a new figure."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(layout="constrained")[1]


def colour_of(ax: Any, i: int) -> Any:
    """Colour of a series; black becomes the colour of the text, which a dark page has white."""
    return ax.xaxis.label.get_color() if COLOURS[i] == "#000000" else COLOURS[i]


def check_few(n: int, what: str) -> None:
    """Raise where there are more series than colours."""
    if n > len(COLOURS):
        raise InvalidParameterError(
            f"at most {len(COLOURS)} {what} can be told apart in one picture, got {n}."
        )


def bars(middle: Any, lower: Any, upper: Any) -> Any:
    """Lengths of error bars below and above, shape (2, n); 0 where a limit is unknown."""
    middle, lower, upper = np.asarray(middle), np.asarray(lower), np.asarray(upper)
    return np.nan_to_num(np.maximum(np.stack([middle - lower, upper - middle]), 0.0))


def plain_text(name: Any, longest: int = 48) -> str:
    """A name as text: one line, not too long, and no ``$...$``, which would be mathematics."""
    text = " ".join(str(name).split())
    if len(text) > longest:
        text = text[: longest - 1] + "\u2026"
    return text.replace("$", r"\$")


def legend_below(ax: Any, *, markerscale: float = 1.0) -> None:
    """Put the legend under the axis label, clear of the data, if there is anything to explain.

    Marks larger than a line of text need ``markerscale`` to stay off each other there.
    """
    if ax.get_legend_handles_labels()[1]:
        ax.legend(
            loc="upper center", bbox_to_anchor=(0.5, 0.0), borderaxespad=4.6, ncols=2,
            frameon=False, fontsize="small", markerscale=markerscale, labelspacing=0.7,
        )  # fmt: skip


def fit_height(ax: Any, lines: float) -> None:
    """Make a figure that holds only these axes high enough for so many lines of text."""
    if len(ax.figure.axes) == 1:
        ax.figure.set_figheight(max(ax.figure.get_figheight(), 1.8 + 0.2 * lines))


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
