"""``fairtrain sweep``: the trade-off over strengths or bounds, and a point of it, certified."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fairtrain._commands.data import read_data, sensitive_of
from fairtrain._commands.methods import METHODS, Method, Settings, as_passed, read_method
from fairtrain._commands.options import Ask, Features, How, People, Place, Shares, Show
from fairtrain._commands.output import finish, print_frontier, show_run
from fairtrain._commands.progress import progress
from fairtrain._commands.resume import Kept
from fairtrain._commands.runs import (
    check_place,
    new_run,
    options_of,
    read_rationale,
    settings_shown,
    write_config,
    write_model,
    write_summary,
)
from fairtrain._commands.training import (
    Prepared,
    fit,
    judge,
    make_constraint,
    notes_of,
    prepare,
    settings_for,
)
from fairtrain.exceptions import FairtrainWarning, InvalidParameterError
from fairtrain.plotting.style import save_figure
from fairtrain.report import FrontierChart, RunSummary
from fairtrain.tradeoff import Chosen, ParetoFrontier, pareto_frontier

__all__ = ["Sweep", "choose", "sweep", "swept"]

_ETAS = (0.0, 0.1, 0.5, 1.0, 5.0, 10.0)
_BOUNDS = (0.01, 0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Sweep:
    """What ``fairtrain sweep`` was asked; see ``fairtrain sweep --help``."""

    data: Path
    people: People
    ask: Ask
    how: How
    features: Features
    shares: Shares
    place: Place
    show: Show
    etas: tuple[float, ...] = ()
    bounds: tuple[float, ...] = ()
    seeds: int = 1
    resume: bool = True

    @property
    def settings(self) -> dict[str, Any]:
        """Options, as ``config.toml`` keeps them."""
        own = {
            "data": str(self.data),
            "etas": [str(v) for v in self.etas],
            "bounds": [str(v) for v in self.bounds],
            "seeds": self.seeds,
        }
        groups = (self.people, self.ask, self.how, self.features, self.shares, self.place)
        settings = {**own, **options_of(*groups)}
        # Here the bound is what the choice has to keep.
        settings["max_gap"] = settings.pop("bound")
        return {k: v for k, v in settings.items() if k not in ("ratio", "eta", "strength")}


def sweep(asked: Sweep) -> int:
    """Train every point, choose one on validation rows, judge it once; gives the exit code."""
    check_place(asked.place.out, force=asked.place.force)
    rationale = read_rationale(asked.place.rationale)
    method, options = read_method(asked.how, METHODS)
    values = _values(asked, method)
    sensitive = sensitive_of(asked.people)
    constraint = make_constraint(asked.ask, sensitive.columns)
    settings = settings_for(method, options, constraint, sensitive, asked.shares)
    data = read_data(asked.data, asked.people)
    prepared = prepare(data, asked.features, constraint, asked.shares, label=asked.people.label)
    kept = Kept.beside(asked.place.out, resume=asked.resume)
    total = len(values) * asked.seeds
    with kept.going(total), new_run(asked.place.out, force=asked.place.force) as folder:
        with notes_of() as notes:
            frontier = swept(method, prepared, settings, values, asked.seeds, kept.folder)
            baseline = fit(method, prepared, settings, fair=False, title="baseline")
            frontier = _with_baseline(frontier, baseline, prepared)
            chosen, said = choose(frontier, constraint.bound)
        judged, decided = judge("baseline", baseline, prepared)
        point = judge(_title(chosen), chosen.model, prepared, decided)[0]
        summary = RunSummary(
            title=f"Trade-off of {asked.people.label}, {method.name}",
            models=(judged, point),
            **prepared.facts,
            settings=settings_shown(asked.settings),
            notes=tuple(dict.fromkeys([*notes, *frontier.notes])),
            rationale=rationale,
            choice=tuple(said),
            frontiers=(FrontierChart.from_frontier(frontier, chosen),),
        )
        write_model(folder, prepared.pipeline(chosen.model), {"data_sha256": data.digest})
        write_config(folder, {"sweep": asked.settings, "made_with": summary.made_with})
        write_summary(folder, summary)
        frontier.to_csv(folder / "frontier.csv")
        frontier.to_json(folder / "frontier.json")
        save_figure(folder / "frontier.png", lambda ax: frontier.plot(ax, chosen=chosen))
    if not asked.show.json:
        print_frontier(frontier, chosen)
    show_run(summary, asked.show, asked.place.out)
    return finish(asked.show, point.report.verdict)


def swept(
    method: Method,
    prepared: Prepared,
    settings: Settings,
    values: Sequence[float],
    seeds: int,
    cache: Path | None,
) -> ParetoFrontier:
    """Train every point on the training rows and score it on the validation rows.

    With a cache a value's seeds are trained together, and every finished value is kept, so that a
    stopped sweep goes on with the next one; without one everything is trained together.
    """
    X, y, who = as_passed(prepared.rows.part("training"))
    share = 0.0 if method.moves == "eta" else prepared.shares.validation
    # The command keeps the rows that judge; what is handed over trains, or steers the training.
    inner = replace(
        settings, validation=share, certification=0.0, positive=prepared.data.favourable
    )
    common: dict[str, Any] = {
        "sensitive_features": who,
        "param": method.moves,
        "metric": prepared.constraint,
        "bound": prepared.constraint.bound,
        "validation_data": as_passed(prepared.rows.part("steering")),
        "n_seeds": seeds,
        "random_state": settings.seed,
        "missing": settings.missing,
        "cache": cache,
        "name": method.name,
    }
    template = method.fair(inner)
    with progress(f"sweeping {method.moves}", len(values) * seeds, unit="models") as advance:
        for value in [] if cache is None else values:
            pareto_frontier(template, X, y, values=[value], **common)
            advance(seeds)
        return pareto_frontier(template, X, y, values=list(values), **common)


def choose(frontier: ParetoFrontier, max_gap: float) -> tuple[Chosen, list[str]]:
    """The most accurate point that keeps the gap on the validation rows, else the narrowest one.

    Returns
    -------
    chosen : Chosen
        The point.
    said : list of str
        What was chosen, why, and what it costs there.
    """
    rows = f"{frontier.n_validation:,} validation rows"
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
    said = [
        f"Chosen on {rows}: {_title(chosen)} ({why}): {frontier.performance_name} "
        f"{chosen.performance:.3f} at a gap of {chosen.gap:.3f}."
    ]
    plain = frontier.baseline
    if plain is not None:
        cost = 100 * (plain.performance - chosen.performance)
        more_or_less = "costs" if cost >= 0 else "gains"
        said.append(
            f"There it {more_or_less} {abs(cost):.1f} percentage points of "
            f"{frontier.performance_name} against the baseline, whose gap is {plain.gap:.3f}."
        )
    if chosen.near_constant:
        said.append("It is near_constant: (almost) everybody gets the same decision.")
    said.append(
        "Numbers on rows that chose a point flatter it; the verdict comes from the certification "
        "rows, which judged this point alone, once."
    )
    return chosen, said


def _title(chosen: Chosen) -> str:
    name = {"difference_bound": "bound"}.get(chosen.param, chosen.param)
    return f"{name} = {chosen.value:g}, seed {chosen.seed}"


def _with_baseline(frontier: ParetoFrontier, model: Any, prepared: Prepared) -> ParetoFrontier:
    held = frontier.scorer.read(*as_passed(prepared.rows.part("steering")))
    return replace(frontier, baseline=frontier.scorer(model, held))


def _values(asked: Sweep, method: Method) -> list[float]:
    """Where the moved parameter goes.

    Raises
    ------
    InvalidParameterError
        If the values are of another method, out of range, or twice the same.
    """
    moves_bound = method.moves == "difference_bound"
    if asked.etas and asked.bounds:
        raise InvalidParameterError("give --etas or --bounds, not both.")
    if asked.bounds and not moves_bound:
        raise InvalidParameterError(
            f"--method {method.name} has no bound to move: give --etas (of regularized: strengths "
            "of the penalty; of adversarial: strengths of the adversary)."
        )
    if asked.etas and moves_bound:
        raise InvalidParameterError(
            f"--method {method.name} moves a bound: give --bounds; --etas is for regularized and "
            "adversarial."
        )
    if asked.seeds < 1:
        raise InvalidParameterError(f"--seeds must be 1 or more, got {asked.seeds}.")
    found = list(asked.bounds or asked.etas or (_BOUNDS if moves_bound else _ETAS))
    name = "--bounds" if moves_bound else "--etas"
    if bad := [v for v in found if not (0 <= v < np.inf) or (moves_bound and v > 1)]:
        raise InvalidParameterError(f"{name}: {bad[0]:g} is out of range.")
    if len(set(found)) < len(found):
        raise InvalidParameterError(f"{name} names a value twice.")
    return found
