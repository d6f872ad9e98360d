"""The picture of a trade-off: performance against the gap, for one sweep or several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from fairtrain.constraints.objectives import as_said
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
    _name_performance(ax, shown[0].performance_name)
    _cut_bars(ax, tables)
    taken = _Taken(ax, [*tables, *(f.points for f in shown)], [chosen, *_plain(shown)], limit)
    most = max(labels // len(shown), min(labels, 2))
    for frontier, table in zip(shown, tables, strict=True):
        _label(ax, frontier.param, table, most, ink, taken)
    style.legend_below(ax, markerscale=0.6)
    return ax


def _name_performance(ax: Axes, name: str) -> None:
    """Say what lies upwards; costs and losses as they are paid, less being up."""
    loss = as_said(name, 1.0) < 0
    ax.set_ylabel(f"{style.plain_text(name)} ({'less' if loss else 'up'} is better →)")
    if loss:
        ax.yaxis.set_major_formatter(lambda value, _: f"{as_said(name, value):g}")


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
        # Limits of beaten points would only hide those of the others.
        bars = (None, None) if beaten else (_bars_of(rows, "gap"), _bars_of(rows, "performance"))
        ax.errorbar(
            rows["gap"], rows["performance"], xerr=bars[0], yerr=bars[1], linestyle="none",
            marker=marker, color=colour, elinewidth=0.8, markersize=5 if beaten else 7,
            alpha=0.4 if beaten else 1.0, markerfacecolor="none" if beaten else colour,
            zorder=2 if beaten else 4,
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


def _plain(shown: list[Frontier]) -> list[Spot]:
    return [frontier.baseline for frontier in shown if frontier.baseline is not None]


def _limits(
    ax: Axes, shown: list[Frontier], tables: list[pd.DataFrame], bound: float | None
) -> None:
    """Show every point, and bars as far as these do not push the points together."""
    frames, fronts = [*tables, *(f.points for f in shown)], [t[~t["dominated"]] for t in tables]
    plain = _plain(shown)

    def ends(name: str) -> tuple[float, float, float, float]:
        """Ends of the points, and those of points and bars."""
        values = np.concatenate([*(f[name] for f in frames), [getattr(p, name) for p in plain]])
        bars = [f[f"{name}_{end}"] for f in fronts for end in ("lower", "upper")]
        every = np.concatenate([values, *bars])
        shown, known = values[np.isfinite(values)], every[np.isfinite(every)]
        if not len(shown):  # gaps that rest on few rows are not told
            return 0.0, 0.0, 0.0, 0.0
        return shown.min(), shown.max(), known.min(), known.max()

    _, widest, _, farthest = ends("gap")
    widest = max(widest, 1.2 * (bound or 0.0))
    ax.set_xlim(0, 1.12 * max(widest, min(farthest, 1.3 * widest)) if widest > 0 else 0.1)
    lowest, highest, bottom, top = ends("performance")
    room = max(highest - lowest, 0.02)
    low, high = max(bottom, lowest - 0.6 * room), min(top, highest + 0.6 * room)
    ax.set_ylim(min(low, lowest) - 0.15 * room, max(high, highest) + 0.15 * room)


def _cut_bars(ax: Axes, tables: list[pd.DataFrame]) -> None:
    """Point outwards where a bar goes on beyond the frame."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    for i, table in enumerate(tables):
        front = table[~table["dominated"]]
        beyond = (
            (">", front[front["gap_upper"] > right], right, None),
            ("<", front[front["gap_lower"] < left], left, None),
            ("^", front[front["performance_upper"] > top], None, top),
            ("v", front[front["performance_lower"] < bottom], None, bottom),
        )
        for marker, rows, x, y in beyond:
            if not len(rows):
                continue
            ax.plot(
                rows["gap"] if x is None else [x] * len(rows),
                rows["performance"] if y is None else [y] * len(rows),
                marker, color=style.colour_of(ax, i), markersize=5, clip_on=False, zorder=4,
            )  # fmt: skip


class _Taken:
    """Where labels must not lie: on marks, on other labels, on the bound. In shares of the axes.

    The size of a label is estimated, for nothing is drawn yet.
    """

    def __init__(
        self,
        ax: Axes,
        frames: Sequence[pd.DataFrame],
        spots: Sequence[Spot | None],
        bound: float | None,
    ) -> None:
        self._ax = ax
        marks = [(x, y) for f in frames for x, y in zip(f["gap"], f["performance"], strict=True)]
        marks += [(spot.gap, spot.performance) for spot in spots if spot is not None]
        self._marks = [self.at(x, y) for x, y in marks]
        self._bound = None if bound is None else self.at(bound, 0.0)[0]
        self._labels: list[tuple[float, float, float, float]] = []

    def at(self, x: float, y: float) -> Place:
        """A point in shares of the axes."""
        (left, right), (bottom, top) = self._ax.get_xlim(), self._ax.get_ylim()
        return (x - left) / (right - left), (y - bottom) / (top - bottom)

    def corner(self, x: float, y: float, said: str) -> Place | None:
        """The side of a point (right or left, up or down) that is freest, if one is free at all."""
        figure: Any = self._ax.figure
        wide = (6 + 5.6 * len(said)) / (72 * 0.8 * figure.get_figwidth())
        high = 12 / (72 * 0.75 * figure.get_figheight())
        a, b = self.at(x, y)
        found: list[tuple[int, int, Place, tuple[float, float, float, float]]] = []
        for order, (side, up) in enumerate(((1, -1), (-1, -1), (1, 1), (-1, 1))):
            ends = sorted((a + side * 0.008, a + side * (0.008 + wide)))
            height = sorted((b + up * 0.5 * high, b + up * 1.6 * high))
            box = (ends[0], ends[1], height[0], height[1])
            inside = box[0] >= 0 and box[1] <= 1 and box[2] >= 0 and box[3] <= 1
            if not inside or any(_overlap(box, other) for other in self._labels):
                continue
            hit = sum(box[0] < m < box[1] and box[2] < n < box[3] for m, n in self._marks)
            crossed = self._bound is not None and box[0] < self._bound < box[1]
            found.append((hit + crossed, order, (side, up), box))
        if not found:
            return None
        _, _, corner, box = min(found, key=lambda one: one[:2])
        self._labels.append(box)
        return corner


def _overlap(
    a: tuple[float, float, float, float], b: tuple[float, float, float, float], room: float = 0.01
) -> bool:
    return a[0] < b[1] + room and b[0] < a[1] + room and a[2] < b[3] + room and b[2] < a[3] + room


def _label(ax: Axes, param: str, table: pd.DataFrame, most: int, ink: Any, taken: _Taken) -> None:
    """Write the value beside a few points of the front, its ends first, where there is room."""
    from matplotlib.patheffects import withStroke

    front = table[~table["dominated"]].sort_values("gap").reset_index(drop=True)
    halo = withStroke(linewidth=2.5, foreground=ax.get_facecolor())
    written = 0
    for at in dict.fromkeys([0, len(front) - 1, *range(len(front))]) if len(front) else ():
        if written >= most:
            break
        row = front.loc[at]
        value = row[param]
        number = f"{value:.3g}" if isinstance(value, int | float | np.number) else str(value)
        said = f"{_symbol(param)} {style.plain_text(number)[:24]}"
        corner = taken.corner(row["gap"], row["performance"], said)
        if corner is None:
            continue
        written += 1
        side, up = corner
        ax.annotate(
            said, (row["gap"], row["performance"]), xytext=(6 * side, 6 if up > 0 else -13),
            textcoords="offset points", fontsize=8, color=ink,
            ha="left" if side > 0 else "right", zorder=7, path_effects=[halo],
        )  # fmt: skip


def _symbol(param: str) -> str:
    return {"eta": "η", "difference_bound": "bound", "ratio_bound": "ratio"}.get(
        param.rpartition("__")[2], style.plain_text(param)[:20]
    )
