"""What all pictures share: colours, axes, and text that stays text."""

from __future__ import annotations

from typing import Any

__all__ = ["COLOURS", "axes", "plain_text"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Told apart by colour-blind readers (Okabe & Ito, 2008)."""


def axes(ax: Any) -> Any:
    """The axes handed in, or those of a new figure."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(layout="constrained")[1]


def plain_text(name: Any) -> str:
    """A name as text: one line, not too long, and no ``$...$``, which would be mathematics."""
    text = " ".join(str(name).split())
    if len(text) > _LONGEST_NAME:
        text = text[: _LONGEST_NAME - 1] + "\u2026"
    return text.replace("$", r"\$")


_LONGEST_NAME = 48
