"""How training under bounds went: loss, gaps and multipliers over the epochs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fairtrain.exceptions import InvalidDataError
from fairtrain.plotting.style import COLOURS, axes, plain_text

__all__ = ["plot_convergence"]

_MOST_RATES = 4


def plot_convergence(history: pd.DataFrame, ax: Any = None, best_epoch: int | None = None) -> Any:
    """Draw held-out gaps against their bounds, with the loss and the multipliers beside them.

    Parameters
    ----------
    history : DataFrame
        ``history_`` of a trainer.
    ax : matplotlib Axes, optional
        Where; a new figure by default. The loss and the multipliers get axes of their own at the
        right, so that three scales do not share one.
    best_epoch : int, optional
        Epoch whose weights were kept, marked by a line.

    Returns
    -------
    matplotlib Axes
    """
    if not len(history):
        raise InvalidDataError("history is empty: fit first.")
    ax = axes(ax)
    columns = [str(c) for c in history.columns]
    names = [c.removeprefix("gap_held: ") for c in columns if c.startswith("gap_held: ")]
    epochs = history["epoch"].to_numpy() + 1
    for name, colour in zip(names[:_MOST_RATES], COLOURS, strict=False):
        label = f"gap: {plain_text(name)}"
        ax.plot(epochs, history[f"gap_held: {name}"], color=colour, label=label)
        if (bound := f"bound: {name}") in history:
            ax.plot(epochs, history[bound], color=colour, linestyle=":", linewidth=1.2)
    ax.set_xlabel("epoch")
    ax.set_ylabel("gap on held-out rows (dotted: bound)")
    ax.set_ylim(bottom=0)
    loss = ax.twinx()
    loss.plot(epochs, history["held_loss"], color="0.45", linestyle="--", label="held-out loss")
    loss.set_ylabel("held-out loss", color="0.35")
    lines = [*ax.get_lines(), *loss.get_lines()]
    multipliers = [c for c in (f"multipliers: {name}" for name in names) if c in history]
    if multipliers:
        third, total = ax.twinx(), history[multipliers].sum(axis=1)
        third.spines["right"].set_position(("outward", 48))
        third.plot(epochs, total, color="0.7", linestyle="-.", label="multipliers")
        third.set_ylabel("sum of multipliers", color="0.5")
        third.set_ylim(bottom=0)
        lines += third.get_lines()
    if best_epoch is not None and best_epoch >= 0:
        ax.axvline(best_epoch + 1, color="0.2", linewidth=0.8)
        ax.annotate(
            "kept", (best_epoch + 1, 1), xycoords=("data", "axes fraction"),
            xytext=(3, -10), textcoords="offset points", fontsize="small",
        )  # fmt: skip
    shown = [line for line in lines if not str(line.get_label()).startswith("_")]
    ax.legend(
        shown, [line.get_label() for line in shown], loc="upper center",
        bbox_to_anchor=(0.5, -0.18), ncols=min(3, len(shown)), frameon=False, fontsize="small",
    )  # fmt: skip
    top = float(np.nanmax(history[[f"gap_held: {n}" for n in names]].to_numpy(), initial=0.0))
    if top > 0:
        ax.set_ylim(0, 1.08 * top)
    return ax
