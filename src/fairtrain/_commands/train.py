"""``fairtrain train``: a fair model beside an ordinary one of its kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairtrain._commands.asked import Ask, Features, How, People, Place, Shares, Show
from fairtrain._commands.data import read_data, sensitive_of
from fairtrain._commands.methods import METHODS, read_method
from fairtrain._commands.output import finish, note, print_json
from fairtrain._commands.runs import (
    check_place,
    new_run,
    options_of,
    read_rationale,
    versions,
    write_config,
    write_model,
    write_summary,
)
from fairtrain._commands.splitting import certified_digest
from fairtrain._commands.terminal import print_groups, print_models, say
from fairtrain._commands.training import (
    Prepared,
    fit,
    judge,
    make_constraint,
    notes_of,
    prepare,
    settings_for,
)
from fairtrain._commands.words import constraint_in_words
from fairtrain.report import RunSummary

__all__ = ["NOT_SHOWN", "Train", "made_with", "shown", "train"]

NOT_SHOWN = ("out", "rationale")
"""Options that are no property of the run, or have a place of their own on its page."""


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
            data=data.name,
            outcome=data.outcome,
            constraint=constraint_in_words(constraint, data.sensitive.columns),
            models=models,
            **prepared.counts,
            # Where the run is kept is no property of it.
            settings={k: v for k, v in asked.settings.items() if k not in NOT_SHOWN},
            notes=tuple(notes),
            rationale=rationale,
            made_with=made_with(prepared),
        )
        write_model(folder, prepared.pipeline(fair), {"data_sha256": data.digest})
        write_config(folder, {"train": asked.settings, "made_with": summary.made_with})
        write_summary(folder, summary)
    shown(summary, asked.show, asked.place.out)
    return finish(asked.show, models[-1].report.verdict)


def made_with(prepared: Prepared) -> Mapping[str, Any]:
    """Versions, and what identifies the rows."""
    digest = prepared.data.digest
    return {
        **versions(),
        "data_sha256": digest,
        "certified_on": certified_digest(digest, prepared.rows.split),
    }


def shown(summary: RunSummary, show: Show, out: Path) -> None:
    """Show tables and sentences, or the numbers as JSON."""
    if show.json:
        print_json(summary.to_dict())
        note(*summary.notes, f"the run is in {out}")
        return
    print_groups(summary.group_counts)
    print_models(summary)
    say("", *summary.explanation())
    say(*summary.choice)
    say(*(f"Note: {line}" for line in summary.notes))
    say("", f"Model, numbers, settings and report are in {out}: open {out / 'report.html'}")
