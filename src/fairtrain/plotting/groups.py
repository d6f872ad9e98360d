"""What each group gets: rates with intervals, gaps before and after, and scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fairtrain.data import inputs
from fairtrain.data.groups import Groups, Missing
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.metrics.disclosure import rests_on_few
from fairtrain.metrics.report import FairnessReport
from fairtrain.plotting import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_before_after", "plot_group_rates", "plot_scores"]


def plot_group_rates(
    rates: pd.DataFrame | Mapping[str, pd.DataFrame],
    metric: str = "selection_rate",
    *,
    bound: float | None = None,
    most: int = 40,
    min_cell: int = 10,
    ax: Axes | None = None,
) -> Axes:
    """Draw a rate of every group with its 95 % interval, for one model or several.

    Parameters
    ----------
    rates : DataFrame, or mapping of model name to DataFrame
        As from :func:`fairtrain.metrics.group_rates`, or ``FairnessReport.group_rates``.
    metric : str, default="selection_rate"
        Which rate.
    bound : float, optional
        Largest allowed difference: a band of that width is drawn about the last model's rates; a
        model keeps the bound if a band of this width holds all of its points.
    most : int, default=40
        Most groups: those with the lowest and the highest rates.
    min_cell : int, default=10
        Groups of fewer rows are left out: their rates would disclose single people.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
    """
    models = {"": rates} if isinstance(rates, pd.DataFrame) else dict(rates)
    _check_models(models)
    tables = {name: _rates_of(frame, metric, min_cell) for name, frame in models.items()}
    last = list(tables.values())[-1].sort_values("rate")
    if len(last) > most:
        last = pd.concat([last[: most // 2], last[-(most - most // 2) :]])
    ax = style.axes(ax)
    place = {group: at for at, group in enumerate(last.index)}
    step = 0.6 / len(tables)
    for i, (name, table) in enumerate(tables.items()):
        shown = table[table.index.isin(place)]
        rate = shown["rate"].to_numpy()
        middle = shown.index.map(place) + ((len(tables) - 1) / 2 - i) * step
        ax.errorbar(
            rate, middle, xerr=style.bars(rate, shown["lower"], shown["upper"]),
            fmt=style.MARKERS[i], color=style.colour_of(ax, i), markersize=5, elinewidth=1.1,
            zorder=3, label=style.plain_text(name, 28) or None,
        )  # fmt: skip
    if bound is not None:
        middle_rate = (last["rate"].min() + last["rate"].max()) / 2
        ax.axvspan(
            middle_rate - bound / 2, middle_rate + bound / 2, color=style.FEASIBLE, alpha=0.15,
            linewidth=0, label=f"bound: {bound:g} wide", zorder=0,
        )  # fmt: skip
    counts = last["count"].astype(int)
    names = [f"{style.plain_text(group, 28)} ({counts[group]:,})" for group in last.index]
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.set_ylim(-0.7, len(names) - 0.3)
    said = style.plain_text(metric.replace("_", " "))
    ax.set_xlabel(f"{said}, 95 % interval (closer together is fairer)")
    style.fit_height(ax, len(names) * max(1.0, 0.6 * len(tables)))
    style.legend_below(ax)
    return ax


def plot_before_after(
    reports: Mapping[str, FairnessReport], *, min_cell: int = 10, ax: Axes | None = None
) -> Axes:
    """Draw the gaps of several models against their bounds, such as before and after.

    Parameters
    ----------
    reports : mapping of model name to FairnessReport
        On the same rows and constraints; the first is the one compared with.
    min_cell : int, default=10
        Gaps that rest on a group of fewer rows are left out.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
        A row a constraint: what each model achieves with its interval, and the bound as a bar.
    """
    _check_models(reports)
    first = next(iter(reports.values())).results
    names = [r.constraint for r in first]
    if any([r.constraint for r in report.results] != names for report in reports.values()):
        raise InvalidParameterError("the reports are about different constraints.")
    ax = style.axes(ax)
    step = 0.6 / len(reports)
    for i, (name, report) in enumerate(reports.items()):
        shown = [
            (at, r) for at, r in enumerate(report.results)
            if not rests_on_few(r, min_cell) and np.isfinite(r.achieved)
        ]  # fmt: skip
        value = np.array([r.achieved for _, r in shown])
        limits = [[getattr(r, end) for _, r in shown] for end in ("lower", "upper")]
        ax.errorbar(
            value, [at + (i - (len(reports) - 1) / 2) * step for at, _ in shown],
            xerr=style.bars(value, *limits), fmt=style.MARKERS[i],
            color=style.colour_of(ax, i), markersize=6, elinewidth=1.2, zorder=3,
            label=style.plain_text(name, 28),
        )  # fmt: skip
    for at, result in enumerate(first):
        ax.plot(
            [result.bound] * 2, [at - 0.4, at + 0.4], color=style.FEASIBLE, linewidth=2.2,
            label="bound" if at == 0 else None, zorder=2,
        )  # fmt: skip
    labels = [style.plain_text(n.replace("_", " "), 30) for n in names]
    ax.set_yticks(range(len(names)), labels, fontsize=9)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlim(left=0)
    way = {
        "difference": "lower is fairer", "ratio": "higher is fairer",
        "upper": "lower is better", "lower": "higher is better",
    }  # fmt: skip
    kinds = {r.kind for r in first}
    said = " / ".join(way[kind] for kind in sorted(kinds))
    word = "ratio" if kinds == {"ratio"} else "difference between groups"
    word = "rate of the group nearest to its limit" if kinds <= {"upper", "lower"} else word
    ax.set_xlabel(f"{word}, 95 % interval ({said})")
    style.fit_height(ax, 2 * len(names))
    style.legend_below(ax)
    return ax


def plot_scores(
    scores: Any,
    sensitive_features: Any,
    *,
    threshold: float | None = 0.5,
    most: int = 7,
    min_cell: int = 30,
    missing: Missing = "error",
    ax: Axes | None = None,
) -> Axes:
    """Draw the share of each group that scores at least so much.

    Where the curves cross a threshold they show the groups' selection rates: the vertical distance
    of two curves is their gap at that threshold.

    Parameters
    ----------
    scores : array-like of shape (n,)
        Scores or probabilities of the favourable outcome.
    sensitive_features : frame, series, mapping, array or list of n rows
        The sensitive features: which group each person belongs to.
    threshold : float, optional
        Where decisions are made.
    most : int, default=7
        Most groups that have a curve of their own: the largest ones.
    min_cell : int, default=30
        Groups of fewer rows are left out, for a curve of few rows discloses them.
    missing : {"error", "group"}, default="error"
        What to do with missing sensitive values.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
    """
    values = inputs.as_float_column(scores, "scores")
    groups = Groups.from_sensitive(sensitive_features, missing=missing, like=scores)
    inputs.check_lengths(len(values), sensitive_features=groups.codes)
    if not 1 <= most <= (few := len(style.COLOURS)):
        raise InvalidParameterError(f"most must lie between 1 and {few}, got {most!r}.")
    largest = [g for g in np.argsort(-groups.counts, kind="stable") if groups.counts[g] >= min_cell]
    if not largest:
        raise InvalidDataError(f"no group has {min_cell} rows; lower min_cell.")
    ax = style.axes(ax)
    for i, g in enumerate(largest[:most]):
        own = np.sort(values[groups.codes == g])
        share = 1 - np.arange(len(own)) / len(own)
        ax.step(
            np.append(own, own[-1]), np.append(share, 0), where="pre", color=style.colour_of(ax, i),
            linestyle=_DASHES[i % len(_DASHES)], linewidth=1.6,
            label=f"{style.plain_text(groups.names[g], 28)} ({len(own):,})",
        )  # fmt: skip
    left = len(groups) - len(largest[:most])
    if left:
        ax.plot([], [], linestyle="none", label=f"{left} smaller groups not drawn")
    if threshold is not None:
        ax.axvline(threshold, color="0.5", linestyle=":", linewidth=1.4, label="threshold")
    ax.set_xlabel("score")
    ax.set_ylabel("share of the group that scores this or more")
    ax.set_ylim(0, 1)
    style.legend_below(ax)
    return ax


_DASHES: tuple[Any, ...] = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))


def _check_models(models: Mapping[str, Any]) -> None:
    if not models:
        raise InvalidParameterError("there is no model to draw.")
    style.check_few(len(models), "models")


def _rates_of(frame: pd.DataFrame, metric: str, min_cell: int) -> pd.DataFrame:
    known = list(dict.fromkeys(frame["metric"]))
    if metric not in known:
        raise InvalidParameterError(f"there is no {metric!r} among the rates: {known[:12]}.")
    table = frame[(frame["metric"] == metric) & (frame["count"] >= min_cell)].set_index("group")
    if not len(table):
        raise InvalidDataError(f"no group has {min_cell} rows; lower min_cell.")
    return pd.DataFrame(table)
