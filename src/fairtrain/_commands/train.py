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
from fairtrain._commands.training import choose_method, fit, judge, judge_held_out, prepare
from fairtrain.report import RunSummary

__all__ = ["train"]


def train(path: Path, options: TrainingOptions) -> int:
    """Train, show, write the run folder; gives the exit code."""
    place = options.place
    check_place(place.out, force=place.force)
    given, rationale = options_of(path, options), read_rationale(place.rationale)
    method, settings = choose_method(options)
    prepared = prepare(read_data(path, options.people), options, settings.constraint)
    notes: list[str] = []
    with new_run(place.out, force=place.force) as folder:
        fair = fit(method, prepared, settings, "fair model", notes)
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
            method=method_words(options.how, method, fair),
            crossed=options.shares.cross,
        )
        write_run(folder, "train", given, summary, prepared.pipeline(fair))
    show_run(summary, options.show, place.out)
    return finish(options.show, judged.report.verdict)
