"""A model after deployment: the gap of every window against its bound, and the alarms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from fairtrain.exceptions import InvalidDataError
from fairtrain.plotting import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_monitor"]


def plot_monitor(history: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw gaps with their limits over windows, their bounds, and where an alarm was raised.

    Parameters
    ----------
    history : DataFrame
        ``history`` of a :class:`~fairtrain.FairnessMonitor`: up to seven rates.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
        A curve a rate, with 95 % limits of each window, where there were rows enough; dashed, that
        of all windows so far. A cross marks a broken bound, a hollow ring a drift.

    Raises
    ------
    InvalidDataError
        If there is no window yet.
    """
    if not len(history):
        raise InvalidDataError("there is no window yet: update the monitor first.")
    ax = style.axes(ax)
    series = list(history.groupby(["constraint", "rate"], sort=False))
    style.check_few(len(series), "rates")
    for i, (_, rows) in enumerate(series):
        name = " ".join(rows[["constraint", "rate"]].iloc[0]).replace("_", " ")
        look = {"color": style.colour_of(ax, i), "markersize": 5, "linewidth": 1.4, "zorder": 3}
        ax.errorbar(
            rows["window"], rows["gap"], yerr=style.bars(rows["gap"], rows["lower"], rows["upper"]),
            marker=style.MARKERS[i], elinewidth=0.8, label=style.plain_text(name), **look,
        )  # fmt: skip
        ax.plot(rows["window"], rows["gap_all"], **{**look, "linestyle": "--", "linewidth": 0.9})
    for bound in sorted(set(history["bound"])):
        label = f"bound {bound:g}"
        ax.axhline(bound, color=style.FEASIBLE, linestyle=":", linewidth=1.6, label=label)
    for alarm, marker, size in (("broken", "x", 11), ("drifted", "o", 14)):
        rows = history[history[alarm]]
        ax.plot(
            rows["window"], rows["gap"].fillna(rows["gap_all"]), marker, markersize=size,
            markerfacecolor="none", markeredgewidth=1.8, zorder=5,
            color=ax.xaxis.label.get_color(), label=alarm if len(rows) else None,
        )  # fmt: skip
    said = {"difference": "gap (lower is fairer)", "ratio": "ratio (higher is fairer)"}
    ax.set_xlabel("window")
    ax.locator_params(axis="x", integer=True)
    ax.set_ylabel(" / ".join(said[kind] for kind in sorted(set(history["kind"]))))
    ax.set_ylim(bottom=0)
    style.legend_below(ax)
    return ax
