"""Pictures of calibration by group; every function takes an ``ax`` and returns it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fairtrain.calibration.audit import CalibrationAudit
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.metrics.intervals import wilson
from fairtrain.plotting import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_disparity", "plot_reliability"]


def plot_reliability(
    audit: CalibrationAudit,
    groups: str | Sequence[str] | None = None,
    *,
    before: CalibrationAudit | None = None,
    confidence: float = 0.95,
    min_cell: int = 10,
    ax: Axes | None = None,
) -> Axes:
    """Draw event rates over mean scores of the bins of each group.

    Parameters
    ----------
    audit : CalibrationAudit
        What to draw.
    groups : str or sequence of str, optional
        Names as in ``audit.groups["group"]``; by default up to seven of the finest family, the
        worst ones first.
    before : CalibrationAudit, optional
        The same groups before calibration: drawn hollow and dashed.
    confidence : float, default=0.95
        Level of the vertical bars: Wilson's interval of each bin's event rate.
    min_cell : int, default=10
        Bins of fewer rows are left out: they would disclose single outcomes.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes

    Raises
    ------
    InvalidParameterError
        If a group is unknown, or more than seven are asked for.
    """
    ax = style.axes(ax)
    names = _chosen(audit, groups)
    rows = audit.groups.drop_duplicates("group").set_index("group")["rows"]
    ax.plot([0, 1], [0, 1], color="0.6", linewidth=1, zorder=1)
    for i, name in enumerate(names):
        look: dict[str, Any] = {"color": style.COLOURS[i], "marker": style.MARKERS[i]}
        bins = _bins_of(audit, name, min_cell)
        if not len(bins):  # every bin is small: a name without a curve would only puzzle
            continue
        rate, label = bins["event_rate"], f"{style.plain_text(name)} ({rows[name]:,} rows)"
        limits = style.bars(rate, *wilson(rate, bins["rows"], confidence))
        ax.errorbar(
            bins["mean_score"], rate, yerr=limits, markersize=5, linewidth=1.4, elinewidth=0.8,
            label=label, zorder=3, **look,
        )  # fmt: skip
        if before is not None:
            old = _bins_of(before, name, min_cell)
            look |= {"markersize": 5, "markerfacecolor": "none", "linestyle": "--"}
            ax.plot(old["mean_score"], old["event_rate"], linewidth=1, zorder=2, **look)
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="mean score of the bin", ylabel="event rate of the bin")
    ax.set_aspect("equal")
    told = f"bars: {confidence:.0%} intervals"
    told += "; dashed, hollow: before calibration" if before is not None else ""
    ax.set_title(f"Reliability: on the line is calibrated\n{told}", fontsize=10)
    style.legend_below(ax)
    return ax


def plot_disparity(
    audit: CalibrationAudit,
    *,
    before: CalibrationAudit | None = None,
    most: int = 25,
    min_cell: int = 10,
    ax: Axes | None = None,
) -> Axes:
    """Draw the calibration error of each group beside what perfect calibration would give.

    Parameters
    ----------
    audit : CalibrationAudit
        What to draw: its finest family.
    before : CalibrationAudit, optional
        The same before calibration: hollow marks.
    most : int, default=25
        Most groups, the largest errors first.
    min_cell : int, default=10
        Groups of fewer rows are left out.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
    """
    ax = style.axes(ax)
    table = audit.finest
    table = table[table["rows"] >= min_cell].sort_values("ece").tail(most)
    if not len(table):
        raise InvalidDataError(f"no group has {min_cell} rows; lower min_cell.")
    place, error = np.arange(len(table)), table["ece"].to_numpy()
    null = "95 % of samples if calibrated"
    ax.barh(place, table["ece_null"], color="0.85", height=0.7, label=null, zorder=1)
    ax.errorbar(
        error, place, xerr=np.stack([error - table["ece_lower"], table["ece_upper"] - error]),
        fmt="o", color=style.COLOURS[0], elinewidth=1, label="error, with interval", zorder=3,
    )  # fmt: skip
    if before is not None:
        old = before.groups.drop_duplicates("group").set_index("group")["ece"]
        ax.plot(
            old.reindex(table["group"]).to_numpy(), place, linestyle="none", marker="D",
            markerfacecolor="none", color=style.COLOURS[1], label="before calibration", zorder=2,
        )  # fmt: skip
    pairs = zip(table["group"], table["rows"], strict=True)
    names = [f"{style.plain_text(group)} ({n:,})" for group, n in pairs]
    ax.set_yticks(place, names, fontsize=8)
    ax.set_xlim(left=0)
    ax.set_xlabel("calibration error (debiased; lower is better)")
    ax.set_title(
        f"Disparity {audit.disparity:.3f}; perfect calibration stays below "
        f"{audit.disparity_null:.3f}\nin 95 % of samples (p = {audit.disparity_p:.3f})",
        fontsize=10,
    )
    ax.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.4, -0.16))
    return ax


def _chosen(audit: CalibrationAudit, groups: str | Sequence[str] | None) -> list[str]:
    if groups is None:
        worst = audit.finest.sort_values("ece", ascending=False)
        return [str(name) for name in worst["group"].head(len(style.COLOURS))]
    names = [groups] if isinstance(groups, str) else list(groups)
    known = set(audit.groups["group"])
    if unknown := [name for name in names if name not in known]:
        raise InvalidParameterError(
            f"the audit has no group {unknown[0]!r}; it has {sorted(known)[:12]}."
        )
    style.check_few(len(names), "groups")
    return names


def _bins_of(audit: CalibrationAudit, name: str, min_cell: int) -> pd.DataFrame:
    bins = audit.bins
    return pd.DataFrame(bins[(bins["group"] == name) & (bins["rows"] >= min_cell)])
