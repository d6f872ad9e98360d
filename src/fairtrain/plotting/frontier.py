"""The picture of a trade-off: performance against the gap, for one sweep or several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from fairtrain.exceptions import InvalidParameterError
from fairtrain.plotting import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_frontier"]

Place = tuple[float, float]

_MOST_LABELS = 8
_NO_BETTER = "no better than a constant"


class Spot(Protocol):
    """A model of a sweep, as a picture sees it."""

    @property
    def gap(self) -> float:
        """Its gap."""

    @property
    def performance(self) -> float:
        """Its performance."""


class Frontier(Protocol):
    """What a :class:`~fairtrain.ParetoFrontier` shows a picture, which need not know the sweep."""

    @property
    def name(self) -> str:
        """Heading."""

    @property
    def param(self) -> str:
        """What was moved."""

    @property
    def points(self) -> pd.DataFrame:
        """A row a trained model."""

    @property
    def performance_name(self) -> str:
        """What is drawn upwards."""

    @property
    def gap_name(self) -> str:
        """What is drawn to the right."""

    @property
    def bound(self) -> float | None:
        """Gap that is asked for."""

    @property
    def baseline(self) -> Spot | None:
        """An ordinary model on the same rows."""

    def by_value(self) -> pd.DataFrame:
        """Mean over seeds of each value."""


def plot_frontier(
    frontiers: Frontier | Sequence[Frontier],
    ax: Axes | None = None,
    *,
    bound: float | None = None,
    chosen: Spot | None = None,
    labels: int = _MOST_LABELS,
) -> Axes:
    """Draw performance over gap, the front as a step line, and what a bound leaves.

    Several seeds of a value are one point, their mean, with its limits over seeds; the seeds
    themselves are drawn faint. A point of one seed has its limits over validation rows. A cross
    marks what performs no better than the same decision for everybody.

    Parameters
    ----------
    frontiers : ParetoFrontier or sequence of them
        Up to seven, told apart by colour and mark. They should be scored alike.
    ax : Axes, optional
        Where to draw; a new figure by default.
    bound : float, optional
        Gap that is asked for, that of the first frontier by default: a line, with the side that
        keeps it shaded.
    chosen : Chosen, optional
        A point to ring.
    labels : int, default=8
        Most points of a frontier that say their value, spread along the front.

    Returns
    -------
    Axes
    """
    shown = _as_list(frontiers)
    ax = style.axes(ax)
    ink: Any = ax.xaxis.label.get_color()
    limit = next((f.bound for f in shown if f.bound is not None), None) if bound is None else bound
    tables = [frontier.by_value() for frontier in shown]
    for i, (frontier, table) in enumerate(zip(shown, tables, strict=True)):
        _draw(ax, frontier, table, style.colour_of(ax, i), style.MARKERS[i])
    _baselines(ax, shown, ink)
    if chosen is not None:
        ax.plot(
            chosen.gap, chosen.performance, "o", markersize=15, markerfacecolor="none",
            markeredgecolor=ink, markeredgewidth=1.6, label="chosen", zorder=6,
        )  # fmt: skip
    _limits(ax, shown, tables, limit)
    if limit is not None:
        ax.axvspan(0, limit, color=style.FEASIBLE, alpha=0.12, linewidth=0, zorder=0)
        ax.axvline(
            limit, color=style.FEASIBLE, linestyle="--", linewidth=1.4, label=f"bound {limit:g}",
            zorder=1,
        )  # fmt: skip
    ax.set_xlabel(f"{style.plain_text(shown[0].gap_name)} on validation rows (← left is fairer)")
    ax.set_ylabel(f"{style.plain_text(shown[0].performance_name)} (up is better →)")
    placed: list[Place] = []
    most = max(labels // len(shown), min(labels, 2))
    for frontier, table in zip(shown, tables, strict=True):
        _label(ax, frontier.param, table, most, ink, placed)
    style.legend_below(ax)
    return ax


def _as_list(frontiers: Any) -> list[Frontier]:
    found = list(frontiers) if isinstance(frontiers, Iterable) else [frontiers]
    if not found:
        raise InvalidParameterError("there is no frontier to draw.")
    style.check_few(len(found), "frontiers")
    return found


def _draw(ax: Axes, frontier: Frontier, table: pd.DataFrame, colour: str, marker: str) -> None:
    if (table["n_seeds"] > 1).any():
        ax.plot(
            frontier.points["gap"], frontier.points["performance"], linestyle="none",
            marker=".", markersize=4, color=colour, alpha=0.3, zorder=2,
        )  # fmt: skip
    known = table[table["gap"].notna() & table["performance"].notna()]
    for beaten, rows in known.groupby("dominated"):
        ax.errorbar(
            rows["gap"], rows["performance"], xerr=_bars_of(rows, "gap"),
            yerr=_bars_of(rows, "performance"), linestyle="none", marker=marker, color=colour,
            elinewidth=0.8, markersize=5 if beaten else 7, alpha=0.25 if beaten else 1.0,
            markerfacecolor="none" if beaten else colour, zorder=2 if beaten else 4,
            label=None if beaten else style.plain_text(frontier.name, 36),
        )  # fmt: skip
    if "no_better_than_constant" in known and known["no_better_than_constant"].any():
        worse = known[known["no_better_than_constant"]]
        drawn = ax.get_legend_handles_labels()[1]
        ax.plot(
            worse["gap"], worse["performance"], "x", markersize=12, markeredgewidth=1.6,
            color=ax.xaxis.label.get_color(), zorder=5, clip_on=False,  # its gap is often 0
            label=None if _NO_BETTER in drawn else _NO_BETTER,
        )  # fmt: skip
    front = table[~table["dominated"]].sort_values("gap")
    ax.step(front["gap"], front["performance"], where="post", color=colour, linewidth=1.6, zorder=3)


def _bars_of(rows: pd.DataFrame, name: str) -> Any:
    return style.bars(rows[name], rows[f"{name}_lower"], rows[f"{name}_upper"])


def _baselines(ax: Axes, shown: list[Frontier], ink: str) -> None:
    """Mark each ordinary model once."""
    done: set[Place] = set()
    for frontier in shown:
        plain = frontier.baseline
        if plain is None or (place := (plain.gap, plain.performance)) in done:
            continue
        ax.plot(
            *place, marker="*", markersize=14, linestyle="none", markerfacecolor="none",
            markeredgecolor=ink, label="unconstrained" if not done else None, zorder=5,
        )  # fmt: skip
        done.add(place)


def _limits(
    ax: Axes, shown: list[Frontier], tables: list[pd.DataFrame], bound: float | None
) -> None:
    """Show every point and what matters of the bars; gaps from zero on."""
    frames = [*tables, *(frontier.points for frontier in shown)]
    plain = [frontier.baseline for frontier in shown if frontier.baseline is not None]
    gaps, scores = (
        np.concatenate([*(frame[name] for frame in frames), [getattr(p, name) for p in plain]])
        for name in ("gap", "performance")
    )
    widest = np.nanmax([*gaps, 1.2 * (bound or 0.0)])
    lowest, highest = np.nanmin(scores), np.nanmax(scores)
    room = max(highest - lowest, 0.02)
    ax.set_xlim(0, 1.12 * widest if widest > 0 else 0.1)
    ax.set_ylim(lowest - 0.25 * room, highest + 0.25 * room)


def _label(
    ax: Axes,
    param: str,
    table: pd.DataFrame,
    most: int,
    ink: Any,
    placed: list[tuple[float, float]],
) -> None:
    """Write the value beside a few points of the front, its ends first, where there is room."""
    from matplotlib.patheffects import withStroke

    front = table[~table["dominated"]].sort_values("gap").reset_index(drop=True)
    width, height = np.ptp(ax.get_xlim()), np.ptp(ax.get_ylim())
    halo = withStroke(linewidth=2.5, foreground=ax.get_facecolor())
    written = 0
    for at in dict.fromkeys([0, len(front) - 1, *range(len(front))]) if len(front) else ():
        row = front.loc[at]
        x, y = row["gap"] / width, row["performance"] / height
        if written >= most or any(abs(x - a) < 0.11 and abs(y - b) < 0.05 for a, b in placed):
            continue
        placed.append((x, y))
        written += 1
        value = row[param]
        said = f"{value:.3g}" if isinstance(value, int | float | np.number) else str(value)
        right = x > 0.85
        ax.annotate(
            f"{_symbol(param)} {style.plain_text(said)[:24]}", (row["gap"], row["performance"]),
            xytext=(-6 if right else 6, -13), textcoords="offset points", fontsize=8, color=ink,
            ha="right" if right else "left", zorder=7, path_effects=[halo],
        )  # fmt: skip


def _symbol(param: str) -> str:
    return {"eta": "η", "difference_bound": "bound", "ratio_bound": "ratio"}.get(
        param.rpartition("__")[2], style.plain_text(param)[:20]
    )
