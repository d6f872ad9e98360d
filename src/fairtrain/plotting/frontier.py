"""The picture of a trade-off: performance against the gap, for one sweep or several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fairtrain.exceptions import InvalidParameterError
from fairtrain.plotting.style import COLOURS, MARKERS, axes, legend_below, plain_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fairtrain.tradeoff.frontier import Chosen, ParetoFrontier

__all__ = ["plot_frontier"]

_MOST_LABELS = 8
_FEASIBLE = "#009E73"


def plot_frontier(
    frontiers: ParetoFrontier | Sequence[ParetoFrontier],
    ax: Axes | None = None,
    *,
    bound: float | None = None,
    chosen: Chosen | None = None,
    labels: int = _MOST_LABELS,
) -> Axes:
    """Draw performance over gap, the front as a step line, and what a bound leaves.

    Several seeds of a value are one point, their mean, with its limits over seeds; the seeds
    themselves are drawn faint. A point of one seed has its limits over validation rows.

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
    ax = axes(ax)
    ink: Any = ax.xaxis.label.get_color()
    limit = next((f.bound for f in shown if f.bound is not None), None) if bound is None else bound
    for frontier, colour, marker in zip(shown, COLOURS, MARKERS, strict=False):
        _draw(ax, frontier, ink if colour == "#000000" else colour, marker)
    _baselines(ax, shown, ink)
    if chosen is not None:
        ax.plot(
            chosen.gap, chosen.performance, "o", markersize=15, markerfacecolor="none",
            markeredgecolor=ink, markeredgewidth=1.6, label="chosen", zorder=6,
        )  # fmt: skip
    _limits(ax, shown, limit)
    if limit is not None:
        ax.axvspan(0, limit, color=_FEASIBLE, alpha=0.12, linewidth=0, zorder=0)
        ax.axvline(
            limit, color=_FEASIBLE, linestyle="--", linewidth=1.4, label=f"bound {limit:g}",
            zorder=1,
        )  # fmt: skip
    ax.set_xlabel(f"{plain_text(shown[0].gap_name)} on validation rows (← left is fairer)")
    ax.set_ylabel(f"{plain_text(shown[0].performance_name)} (up is better →)")
    placed: list[tuple[float, float]] = []
    for frontier in shown:
        _label(ax, frontier, max(labels // len(shown), min(labels, 2)), ink, placed)
    legend_below(ax)
    return ax


def _as_list(frontiers: Any) -> list[ParetoFrontier]:
    found = list(frontiers) if isinstance(frontiers, Iterable) else [frontiers]
    if not found:
        raise InvalidParameterError("there is no frontier to draw.")
    if len(found) > len(COLOURS):
        raise InvalidParameterError(
            f"at most {len(COLOURS)} frontiers can be told apart in one picture, got {len(found)}."
        )
    return found


def _draw(ax: Axes, frontier: ParetoFrontier, colour: str, marker: str) -> None:
    table = frontier.by_value()
    if (table["n_seeds"] > 1).any():
        ax.plot(
            frontier.points["gap"], frontier.points["performance"], linestyle="none",
            marker=".", markersize=4, color=colour, alpha=0.3, zorder=2,
        )  # fmt: skip
    known = table[table["gap"].notna() & table["performance"].notna()]
    for beaten, rows in known.groupby("dominated"):
        ax.errorbar(
            rows["gap"], rows["performance"], xerr=_bars(rows, "gap"),
            yerr=_bars(rows, "performance"), linestyle="none", marker=marker, color=colour,
            elinewidth=0.8, markersize=5 if beaten else 7, alpha=0.25 if beaten else 1.0,
            markerfacecolor="none" if beaten else colour, zorder=2 if beaten else 4,
            label=None if beaten else plain_text(frontier.name, 36),
        )  # fmt: skip
    front = table[~table["dominated"]].sort_values("gap")
    ax.step(front["gap"], front["performance"], where="post", color=colour, linewidth=1.6, zorder=3)


def _bars(rows: pd.DataFrame, name: str) -> Any:
    """Lengths of error bars; none where an interval is unknown."""
    middle = rows[name].to_numpy()
    low, high = rows[f"{name}_lower"].to_numpy(), rows[f"{name}_upper"].to_numpy()
    return np.nan_to_num(np.maximum(np.stack([middle - low, high - middle]), 0.0))


def _baselines(ax: Axes, shown: list[ParetoFrontier], ink: str) -> None:
    """Mark each ordinary model once."""
    done: set[tuple[float, float]] = set()
    for frontier in shown:
        plain = frontier.baseline
        if plain is None or (place := (plain.gap, plain.performance)) in done:
            continue
        ax.plot(
            *place, marker="*", markersize=14, linestyle="none", markerfacecolor="none",
            markeredgecolor=ink, label="unconstrained" if not done else None, zorder=5,
        )  # fmt: skip
        done.add(place)


def _limits(ax: Axes, shown: list[ParetoFrontier], bound: float | None) -> None:
    """Show every point and what matters of the bars; gaps from zero on."""
    gaps, scores = [0.0 if bound is None else 1.2 * bound], []
    for frontier in shown:
        table = frontier.by_value()
        gaps += [*table["gap"], *frontier.points["gap"]]
        scores += [*table["performance"], *frontier.points["performance"]]
        if frontier.baseline is not None:
            gaps.append(frontier.baseline.gap)
            scores.append(frontier.baseline.performance)
    widest = np.nanmax(gaps)
    lowest, highest = np.nanmin(scores), np.nanmax(scores)
    room = max(highest - lowest, 0.02)
    ax.set_xlim(0, 1.12 * widest if widest > 0 else 0.1)
    ax.set_ylim(lowest - 0.25 * room, highest + 0.25 * room)


def _label(
    ax: Axes,
    frontier: ParetoFrontier,
    most: int,
    ink: Any,
    placed: list[tuple[float, float]],
) -> None:
    """Write the value beside a few points of the front, its ends first, where there is room."""
    from matplotlib.patheffects import withStroke

    table = frontier.by_value()
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
        value = row[frontier.param]
        said = f"{value:.3g}" if isinstance(value, int | float | np.number) else str(value)
        right = x > 0.85
        ax.annotate(
            f"{_symbol(frontier.param)} {plain_text(said)[:24]}", (row["gap"], row["performance"]),
            xytext=(-6 if right else 6, -13), textcoords="offset points", fontsize=8, color=ink,
            ha="right" if right else "left", zorder=7, path_effects=[halo],
        )  # fmt: skip


def _symbol(param: str) -> str:
    return {"eta": "η", "difference_bound": "bound", "ratio_bound": "ratio"}.get(
        param.rpartition("__")[2], plain_text(param)[:20]
    )
