"""``fairtrain sweep``: the trade-off over strengths or bounds, and a point of it, certified."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fairtrain._commands.data import read_data
from fairtrain._commands.methods import Method, Settings, as_passed, method_words
from fairtrain._commands.options import SweepOptions, parse_numbers
from fairtrain._commands.output import finish, show_run
from fairtrain._commands.progress import progress
from fairtrain._commands.resume import FinishedPoints
from fairtrain._commands.runs import (
    check_place,
    new_run,
    options_of,
    read_rationale,
    settings_shown,
    write_run,
)
from fairtrain._commands.training import Prepared, choose_method, fit, judge, prepare
from fairtrain.constraints.objectives import as_said
from fairtrain.exceptions import FairtrainWarning, InvalidParameterError
from fairtrain.metrics.disclosure import FEW_WORDS, rests_on_few
from fairtrain.metrics.report import FairnessReport
from fairtrain.report import FrontierChart, RunSummary
from fairtrain.tradeoff import Chosen, ParetoFrontier, pareto_frontier
from fairtrain.tradeoff.dominance import dominated
from fairtrain.tradeoff.scoring import Score, Scorer, read_metric

__all__ = ["choose", "sweep", "swept"]

_ETAS = (0.0, 0.1, 0.5, 1.0, 5.0, 10.0)
_BOUNDS = (0.01, 0.02, 0.05, 0.1, 0.2)


def sweep(path: Path, options: SweepOptions) -> int:
    """Train every point, choose one on validation rows, judge it once; gives the exit code."""
    place = options.place
    check_place(place.out, force=place.force)
    given, rationale = options_of(path, options), read_rationale(place.rationale)
    method, settings = choose_method(options)
    values = _values(options, method)
    data = read_data(path, options.people)
    prepared = prepare(data, options, settings.constraint).read_by(method, settings)
    points = FinishedPoints.beside(place.out, resume=options.resume)
    notes: list[str] = []
    with points.going(len(values) * options.seeds), new_run(place.out, force=place.force) as folder:
        frontier = swept(method, prepared, settings, values, options.seeds, notes, points.folder)
        first = frontier.models[0]
        baseline = fit(method, prepared, settings, "baseline", notes, fair=first)
        if method.reprices:
            kind, score = "rows, decided out of fold", _out_of_fold(baseline.fairness_report_)
        else:
            held = frontier.scorer.read(*as_passed(prepared.rows.part("steering")))
            kind, score = "validation rows", frontier.scorer(baseline, held)
        frontier, scored_on = replace(frontier, baseline=score), f"{frontier.n_validation:,} {kind}"
        chosen, sentences = choose(frontier, settings.constraint.bound, scored_on)
        judged, decided = judge("baseline", baseline, prepared)
        point = judge(_title(chosen), chosen.model, prepared, decided)[0]
        summary = RunSummary(
            title=f"Trade-off of {options.people.label}, {method.name}",
            models=(judged, point),
            **prepared.facts,
            settings=settings_shown(given, method.name),
            notes=tuple(dict.fromkeys([*notes, *(f"sweep: {n}" for n in frontier.notes)])),
            rationale=rationale,
            method=(
                *method_words(options.how, method, chosen.model),
                *prepared.point.words(prepared.data.outcome),
            ),
            choice=tuple(sentences),
            frontiers=(FrontierChart.from_frontier(frontier, chosen),),
        )
        model = prepared.pipeline(chosen.model)
        write_run(folder, "sweep", given, summary, model, frontier, chosen)
    show_run(summary, options.show, place.out, (frontier, chosen, scored_on))
    return finish(options.show, point.report.verdict)


def swept(
    method: Method,
    prepared: Prepared,
    settings: Settings,
    values: Sequence[float],
    seeds: int,
    notes: list[str],
    cache: Path | None = None,
) -> ParetoFrontier:
    """Train every point on the training rows and score it on the validation rows.

    With a cache a value's seeds are trained together, and every finished value is kept, so that a
    stopped sweep goes on with the next one; without one everything is trained together. Where
    another bound costs no training, each seed is trained once.
    """
    if method.reprices:
        return _repriced(method, prepared, settings, values, seeds, notes)
    X, y, who = as_passed(prepared.rows.part("training"))
    share = 0.0 if method.moves == "eta" else settings.shares.validation
    # The command keeps the rows that judge; what is handed over trains, or steers the training.
    shares = replace(settings.shares, validation=share, certification=0.0)
    common: dict[str, Any] = {
        "sensitive_features": who,
        "param": method.moves,
        "metric": prepared.constraint,
        "performance": prepared.point.objective,
        "bound": prepared.constraint.bound,
        "validation_data": as_passed(prepared.rows.part("steering")),
        "n_seeds": seeds,
        "random_state": shares.seed,
        "missing": settings.sensitive.missing,
        "cache": cache,
        "name": method.name,
    }
    known = {"positive": prepared.data.favourable, "point": prepared.point}
    template = method.fair(replace(settings, shares=shares, **known))
    with progress(f"sweeping {method.moves}", len(values) * seeds, unit="models") as advance:
        for value in [] if cache is None else values:
            pareto_frontier(template, X, y, values=[value], **common)
            advance(seeds)
        return pareto_frontier(template, X, y, values=list(values), **common)


def _repriced(
    method: Method,
    prepared: Prepared,
    settings: Settings,
    values: Sequence[float],
    seeds: int,
    notes: list[str],
) -> ParetoFrontier:
    """Fit once a seed, and find the prices of every bound.

    Points are scored on out-of-fold decisions: no rows are set aside to choose among them.
    """
    constraint, labels = prepared.constraint, prepared.rows.labels
    assert labels is not None
    rows, models, numbers = 0, [], []
    for seed in range(settings.shares.seed, settings.shares.seed + seeds):
        start = time.perf_counter()
        own = replace(settings, shares=replace(settings.shares, seed=seed))
        fitted = fit(method, prepared, own, f"plug-in, seed {seed}", notes)
        seconds = (time.perf_counter() - start) / len(values)
        for value in values:
            asked = prepared.point.limited(constraint.with_bounds(value))
            model = fitted.with_constraints(asked)
            rows = model.fairness_report_.n_rows
            score = vars(_out_of_fold(model.fairness_report_))
            models.append(model)
            numbers.append({method.moves: value, "seed": seed, **score, "seconds": seconds})
    points = pd.DataFrame(numbers)
    points["dominated"] = dominated(points["gap"], points["performance"])
    order = points[method.moves].argsort(kind="stable")
    return ParetoFrontier(
        points=points.iloc[order].reset_index(drop=True),
        models=tuple(models[i] for i in order),
        param=method.moves,
        scorer=Scorer(
            read_metric(constraint),
            prepared.point.objective,
            labels,
            prepared.rows.groups.scheme,
        ),
        name=method.name,
        bound=constraint.bound,
        n_validation=rows,
        rests_on_few=any(map(rests_on_few, models[0].fairness_report_.results)),
    )


def _out_of_fold(report: FairnessReport) -> Score:
    result = report.results[0]  # places are no gap
    gap = result.achieved, result.lower, result.upper
    known = report.objective == "accuracy"
    performance = report.accuracy if known else (report.worth, np.nan, np.nan)
    return Score(*performance, *gap, report.near_constant)


def choose(frontier: ParetoFrontier, max_gap: float, rows: str) -> tuple[Chosen, list[str]]:
    """The most accurate point that keeps the gap on the rows that scored, else the narrowest one.

    Returns
    -------
    chosen : Chosen
        The point.
    sentences : list of str
        What was chosen, why, and what it costs there.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FairtrainWarning)  # said below
            chosen = frontier.select(max_gap)
        why = f"the best {frontier.performance_name} with a gap of at most {max_gap:g} there"
    except InvalidParameterError:
        table = frontier.points.dropna(subset=["gap", "performance"])
        table = table.sort_values(["near_constant", "gap"], kind="stable")
        chosen = frontier.select(float(table["gap"].iloc[0]))
        why = f"no point has a gap of at most {max_gap:g} there, and this one has the narrowest"
    few, at = frontier.rests_on_few, f" at a gap of {chosen.gap:.3f}."
    performance = as_said(frontier.performance_name, chosen.performance)
    sentences = [
        f"Chosen on {rows}: {_title(chosen)} ({why}): {frontier.performance_name} "
        f"{performance:.3f}{f'; of gaps, {FEW_WORDS}' if few else at}"
    ]
    plain = frontier.baseline
    if plain is not None:
        cost = 100 * (plain.performance - chosen.performance)
        more_or_less = "costs" if cost >= 0 else "gains"
        sentences.append(
            f"There it {more_or_less} {abs(cost):.1f} percentage points of "
            f"{frontier.performance_name} against the baseline"
            f"{'.' if few else f', whose gap is {plain.gap:.3f}.'}"
        )
    if chosen.near_constant:
        sentences.append("It is near_constant: (almost) everybody gets the same decision.")
    sentences.append(
        "Numbers on rows that chose a point flatter it; the verdict comes from the certification "
        "rows, which judged this point alone, once."
    )
    return chosen, sentences


def _title(chosen: Chosen) -> str:
    name = {"difference_bound": "bound"}.get(chosen.param, chosen.param)
    return f"{name} = {chosen.value:g}, seed {chosen.seed}"


def _values(options: SweepOptions, method: Method) -> list[float]:
    """Where the moved parameter goes.

    Raises
    ------
    InvalidParameterError
        If the values are of another method, out of range, or twice the same.
    """
    moves_bound = method.moves == "difference_bound"
    etas, bounds = parse_numbers("--etas", options.etas), parse_numbers("--bounds", options.bounds)
    if etas and bounds:
        raise InvalidParameterError("give --etas or --bounds, not both.")
    if bounds and not moves_bound:
        raise InvalidParameterError(
            f"--method {method.name} has no bound to move: give --etas (of regularized: strengths "
            "of the penalty; of adversarial: strengths of the adversary)."
        )
    if etas and moves_bound:
        raise InvalidParameterError(
            f"--method {method.name} moves a bound: give --bounds; --etas is for regularized and "
            "adversarial."
        )
    if options.seeds < 1:
        raise InvalidParameterError(f"--seeds must be 1 or more, got {options.seeds}.")
    values = list(bounds or etas or (_BOUNDS if moves_bound else _ETAS))
    name = "--bounds" if moves_bound else "--etas"
    if bad := [v for v in values if not (0 <= v < np.inf) or (moves_bound and v > 1)]:
        raise InvalidParameterError(f"{name}: {bad[0]:g} is out of range.")
    if len(set(values)) < len(values):
        raise InvalidParameterError(f"{name} names a value twice.")
    return values
