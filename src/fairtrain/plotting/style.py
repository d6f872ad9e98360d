"""What all pictures share: colours, axes, and text that stays text."""

from __future__ import annotations

from typing import Any

__all__ = ["COLOURS", "axes", "plain"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Told apart by colour-blind readers (Okabe & Ito, 2008)."""


def axes(ax: Any) -> Any:
    """The axes handed in, or those of a new figure."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(layout="constrained")[1]


def plain(name: Any, longest: int = 40) -> str:
    """A name as text: no mathtext, one line, not too long."""
    text = " ".join(str(name).split()).replace("$", r"\$")
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
