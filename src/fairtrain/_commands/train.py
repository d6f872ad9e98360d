"""``fairtrain train``: a fair model beside an ordinary one of its kind."""

from __future__ import annotations

from pathlib import Path

from fairtrain._commands.data import read_data
from fairtrain._commands.methods import method_words
from fairtrain._commands.options import TrainingOptions
from fairtrain._commands.output import finish, show_run
from fairtrain._commands.runs import (
    check_place,
    new_run,
    options_of,
    read_rationale,
    settings_shown,
    write_run,
)
from fairtrain._commands.selection import best_of
from fairtrain._commands.training import choose_methods, fit, judge, judge_held_out, prepare
from fairtrain.report import RunSummary

__all__ = ["train"]


def train(path: Path, options: TrainingOptions) -> int:
    """Train, show, write the run folder; gives the exit code."""
    place = options.place
    check_place(place.out, force=place.force)
    given, rationale = options_of(path, options), read_rationale(place.rationale)
    asked = choose_methods(options)
    constraint = asked[0][2].constraint
    table = prepare(read_data(path, options.people), options, constraint)
    notes: list[str] = []
    with new_run(place.out, force=place.force) as folder:
        names = [method.name if len(asked) > 1 else "fair" for _, method, _ in asked]
        models = [
            fit(method, table.read_by(method, settings), settings, f"{name} model", notes)
            for name, (_, method, settings) in zip(names, asked, strict=True)
        ]
        taken, choice = best_of(names, models)
        (how, method, settings), fair = asked[taken], models[taken]
        prepared = table.read_by(method, settings)
        if options.shares.cross:
            baseline, judged = judge_held_out(fair, prepared)
        else:
            plain = fit(method, prepared, settings, "baseline", notes, fair=fair)
            baseline, decided = judge("baseline", plain, prepared)
            judged = judge("fair model", fair, prepared, decided)[0]
        summary = RunSummary(
            title=f"Fair model of {options.people.label}",
            models=(baseline, judged),
            **prepared.facts,
            settings=settings_shown(given, method.name),
            notes=tuple(notes),
            rationale=rationale,
            choice=choice,
            method=(
                *method_words(how, method, fair),
                *prepared.point.words(prepared.data.outcome),
            ),
            crossed=options.shares.cross,
        )
        write_run(folder, "train", given, summary, prepared.pipeline(fair))
    show_run(summary, options.show, place.out)
    return finish(options.show, judged.report.verdict)
