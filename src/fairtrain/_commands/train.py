"""``fairtrain train``: a fair model beside an ordinary one of its kind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairtrain._commands.data import read_data, sensitive_of
from fairtrain._commands.methods import METHODS, read_method
from fairtrain._commands.options import Ask, Features, How, People, Place, Shares, Show
from fairtrain._commands.output import finish, show_run
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
    fit,
    judge,
    make_constraint,
    notes_of,
    prepare,
    settings_for,
)
from fairtrain.report import RunSummary

__all__ = ["Train", "train"]


@dataclass(frozen=True)
class Train:
    """What ``fairtrain train`` was asked; see ``fairtrain train --help``."""

    data: Path
    people: People
    ask: Ask
    how: How
    features: Features
    shares: Shares
    place: Place
    show: Show

    @property
    def settings(self) -> dict[str, Any]:
        """Options, as ``config.toml`` keeps them."""
        groups = (self.people, self.ask, self.how, self.features, self.shares, self.place)
        return {"data": str(self.data), **options_of(*groups)}


def train(asked: Train) -> int:
    """Train, show, write the run folder; gives the exit code."""
    check_place(asked.place.out, force=asked.place.force)
    rationale = read_rationale(asked.place.rationale)
    method, options = read_method(asked.how, METHODS)
    sensitive = sensitive_of(asked.people)
    constraint = make_constraint(asked.ask, sensitive.columns)
    settings = settings_for(method, options, constraint, sensitive, asked.shares)
    data = read_data(asked.data, asked.people)
    prepared = prepare(data, asked.features, constraint, asked.shares, label=asked.people.label)
    with new_run(asked.place.out, force=asked.place.force) as folder:
        with notes_of() as notes:
            plain = fit(method, prepared, settings, fair=False, title="baseline")
            fair = fit(method, prepared, settings, fair=True, title="fair model")
        baseline, decided = judge("baseline", plain, prepared)
        models = (baseline, judge("fair model", fair, prepared, decided)[0])
        summary = RunSummary(
            title=f"Fair model of {asked.people.label}",
            models=models,
            **prepared.facts,
            settings=settings_shown(asked.settings),
            notes=tuple(notes),
            rationale=rationale,
        )
        write_model(folder, prepared.pipeline(fair), {"data_sha256": data.digest})
        write_config(folder, {"train": asked.settings, "made_with": summary.made_with})
        write_summary(folder, summary)
    show_run(summary, asked.show, asked.place.out)
    return finish(asked.show, models[-1].report.verdict)
