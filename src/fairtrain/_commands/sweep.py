"""``fairtrain sweep``: the trade-off, a choice on validation rows, a verdict on further ones."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from fairtrain._commands.columns import Label
from fairtrain._commands.methods import METHODS, method_of
from fairtrain._commands.training import Plan, Prepared
from fairtrain._text import one_line
from fairtrain.exceptions import InvalidParameterError
from fairtrain.report.summary import Judged
from fairtrain.tradeoff import Chosen, ParetoFrontier, pareto_frontier
from fairtrain.tradeoff.sweep import save_plot

__all__ = ["Swept", "cache_of", "draw_frontier", "sweep"]

ETAS = (0.0, 0.1, 0.5, 1.0, 5.0, 10.0)
BOUNDS = (0.01, 0.02, 0.05, 0.1, 0.2)
STRENGTHS = (0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class Swept:
    """What a sweep leaves.

    Attributes
    ----------
    frontier : ParetoFrontier
        All points, scored on the validation rows.
    chosen : Chosen
        The best one under the limit, or the fairest where none is.
    model : Pipeline
        The chosen model, which holds no row.
    models : tuple of Judged
        The ordinary model and the chosen one, on rows that no choice was made on.
    notes : tuple of str
        What happened on the way.
    counts : dict
        Group -> rows that train, choose and certify.
    """

    frontier: ParetoFrontier
    chosen: Chosen
    model: Pipeline
    models: tuple[Judged, ...]
    notes: tuple[str, ...]
    counts: dict[str, dict[str, int]]


def cache_of(out: Path) -> Path:
    """Folder beside a run that keeps the finished points of a sweep until the run is written."""
    return out.absolute().parent / f".{out.name}.sweep"


def sweep(
    frame: pd.DataFrame,
    label: Label,
    plan: Plan,
    *,
    values: Sequence[float] | None,
    max_gap: float,
    n_seeds: int,
    outcome: str,
    cache: Path | None = None,
) -> Swept:
    """Train over a range, choose on validation rows, judge the choice on certification rows.

    Parameters
    ----------
    frame, label, plan, outcome
        As in :func:`fairtrain._commands.training.train`; the steering rows are the ones that score.
    values : sequence of float, optional
        Etas, bounds or strengths, as the method has them.
    max_gap : float
        Largest gap of the model that is chosen.
    n_seeds : int
        Models for each value.
    cache : Path, optional
        Keeps finished points.
    """
    rows = Prepared.of(frame, label, plan)
    frontier = _frontier(rows, values, max_gap, n_seeds, cache)
    notes = list(frontier.notes)
    try:
        chosen = frontier.select(max_gap)
    except InvalidParameterError as error:
        points = frontier.points
        chosen = frontier.select(float(points["gap"].min()))
        notes.append(f"{error} The fairest model was taken.")
    baseline = rows.fit(METHODS[plan.method].baseline(plan.settings(label)))
    title = f"{frontier.param} {chosen.value:g}"
    judged = rows.judged_all({"baseline": baseline, title: chosen.model}, outcome)
    model = Pipeline([("features", rows.features), ("model", chosen.model)])
    return Swept(frontier, chosen, model, judged, tuple(notes), rows.counts(None))


def _frontier(
    rows: Prepared,
    values: Sequence[float] | None,
    max_gap: float,
    n_seeds: int,
    cache: Path | None,
) -> ParetoFrontier:
    plan, label = rows.plan, rows.label
    options = {name: getattr(plan, name) for name in ("estimator", "eta", "strength", "epochs")}
    method = method_of(plan.method, **options)
    param = method.moves
    if plan.constraint.kind == "ratio" and param == "difference_bound":
        param = "ratio_bound"
    usual = {"eta": ETAS, "strength": STRENGTHS, "ratio_bound": tuple(1 - b for b in BOUNDS)}
    where = tuple(usual.get(param, BOUNDS) if values is None else values)
    # What steers a single model is taken from the training rows; the steering rows only score.
    settings = replace(plan.settings(label), validation=0.25)
    if param == "eta":
        settings = replace(settings, validation=0.0, eta=1.0)
    train, held = rows.split.training, rows.split.steering
    return pareto_frontier(
        method.fair(settings),
        rows.X[train],
        label.values[train],
        sensitive_features=_who(rows, train),
        param=param,
        values=where,
        validation_data=(rows.X[held], label.values[held], _who(rows, held)),
        metric=plan.constraint if plan.constraint.kind == "difference" else plan.constraint.name,
        bound=max_gap,
        baseline=_numbered(METHODS[plan.method].baseline(settings), label),
        n_seeds=n_seeds,
        random_state=plan.seed,
        missing=plan.sensitive.missing,
        positive_label=label.positive,
        cache=cache,
        name=method.title,
    )


def _who(rows: Prepared, at: Any) -> dict[str, np.ndarray[Any, Any]]:
    return {str(name): column.to_numpy()[at] for name, column in rows.who.items()}


def _numbered(model: Any, label: Label) -> Any:
    """A booster's own classifier takes numbers only; it is no baseline where labels are words."""
    words = label.values.dtype.kind not in "biu"
    return None if words and type(model).__module__.startswith("xgboost") else model


def draw_frontier(folder: Path, frame: pd.DataFrame, label: Label, plan: Plan) -> ParetoFrontier:
    """Write a small frontier of the reduction: picture, table and numbers."""
    rows = Prepared.of(frame, label, plan)
    found = _frontier(rows, BOUNDS, plan.constraint.bound, 1, None)
    write_frontier(folder, found)
    return found


def write_frontier(folder: Path, frontier: ParetoFrontier) -> None:
    """Write ``frontier.png``, ``.csv`` and ``.json``."""
    save_plot(frontier, folder / "frontier.png")
    frontier.to_csv(folder / "frontier.csv")
    frontier.to_json(folder / "frontier.json")


def forget(cache: Path) -> None:
    """Remove the points of a sweep whose run is written."""
    shutil.rmtree(cache, ignore_errors=True)


def in_words(chosen: Chosen, frontier: ParetoFrontier) -> str:
    """Say what was chosen."""
    return one_line(
        f"Chosen on {frontier.n_validation:,} validation rows: {frontier.param} = "
        f"{chosen.value:g}, {frontier.performance_name} {chosen.performance:.3f} at a gap of "
        f"{chosen.gap:.3f} there. Both flatter, since these rows chose it; what follows was "
        "measured on others."
    )
