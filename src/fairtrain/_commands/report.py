"""``fairtrain report``: the page of a run made again, or of its model on fresh rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from fairtrain._commands.data import Data, read_data, sensitive_values
from fairtrain._commands.features import TableFeatures
from fairtrain._commands.options import Ask, People, Show
from fairtrain._commands.output import finish, note, print_json, print_models, say
from fairtrain._commands.runs import (
    load_model,
    new_file,
    read_config,
    read_rationale,
    read_summary,
    versions,
    write_json,
)
from fairtrain._commands.training import decisions, make_constraint
from fairtrain._text import one_line
from fairtrain.data.groups import Groups
from fairtrain.exceptions import InvalidDataError
from fairtrain.metrics.verdicts import RowsRole
from fairtrain.report import Judged, RunSummary, judged, render_card, render_report

__all__ = ["Report", "report"]


@dataclass(frozen=True)
class Report:
    """What ``fairtrain report`` was asked; see ``fairtrain report --help``."""

    run: Path
    show: Show
    data: Path | None = None
    rationale: str | None = None
    out: Path | None = None
    force: bool = False


def report(asked: Report) -> int:
    """Write a page; gives the exit code."""
    summary = read_summary(asked.run)
    if asked.rationale is not None:
        summary = replace(summary, rationale=read_rationale(asked.rationale))
    if asked.data is not None:
        summary = _fresh(asked.run, asked.data, summary)
    own = asked.run / ("report.html" if asked.data is None else "fresh.html")
    out = own if asked.out is None else asked.out
    # The run's own pages are made from its numbers, so nothing is lost with the old ones.
    with new_file(out, force=asked.force or out == own) as work:
        work.write_text(render_report(summary), encoding="utf-8")
    if asked.data is None and asked.out is None:
        with new_file(asked.run / "model_card.md", force=True) as work:
            work.write_text(render_card(summary), encoding="utf-8")
    if asked.rationale is not None and asked.data is None:
        with new_file(asked.run / "metrics.json", force=True) as work:
            write_json(work, summary.to_dict())
    if asked.show.json:
        print_json(summary.to_dict())
        note(f"the page is {out}")
    else:
        print_models(summary)
        say("", *summary.explanation(), *summary.choice, "", f"The page is {out}.")
    return finish(asked.show, summary.models[-1].report.verdict)


def _fresh(run: Path, path: Path, summary: RunSummary) -> RunSummary:
    """The saved model on fresh rows, beside itself on the rows that certified it."""
    options = _options(run)
    people = People(**_taken(People, options))
    ask = Ask(**_taken(Ask, {**options, "bound": options.get("bound", options.get("max_gap"))}))
    data = read_data(path, people)
    constraint = make_constraint(ask, data.sensitive.columns)
    model = load_model(run)
    steps = getattr(model, "named_steps", {})
    if not isinstance(steps.get("features"), TableFeatures):
        raise InvalidDataError(f"'{one_line(run)}' holds no model that reads a table.")
    fair = steps["model"]
    rows = data.rows
    assert rows.y is not None
    decision, score = decisions(fair, steps["features"].transform(rows.X), data.favourable)
    groups = Groups(fair.scheme_, fair.scheme_.encode(sensitive_values(rows.groups)))
    same = data.digest == summary.made_with.get("data_sha256")
    role: RowsRole = "training" if same else "certification"
    found = judged(
        f"{summary.models[-1].title}, {path.name}",
        (constraint,),
        rows.y,
        decision,
        groups,
        outcome=data.outcome,
        score=score,
        rows=role,
        over=constraint.over,
    )
    return _page(summary, data, found, same=same)


def _page(summary: RunSummary, data: Data, found: Judged, *, same: bool) -> RunSummary:
    before = replace(summary.models[-1], title="as certified", cost=None)
    said = [
        f"The saved model, judged on {found.report.n_rows:,} rows of {data.name.split(':')[0]}; "
        f"as certified: on the {before.report.n_rows:,} rows set aside when it was made."
    ]
    if same:
        said.append("This is the table that it was made from, so these rows certify nothing.")
    return replace(
        summary,
        data=data.name,
        models=(before, found),
        row_counts={**summary.row_counts, "certification": found.report.n_rows},
        choice=tuple(said),
        frontiers=(),
        notes=(),
        made_with={**summary.made_with, **versions(), "judged_on_sha256": data.digest},
    )


def _options(run: Path) -> dict[str, Any]:
    config = read_config(run)
    for command in ("train", "sweep", "demo"):
        if command in config:
            return config[command]
    raise InvalidDataError(
        f"'{one_line(run)}' has no config.toml of train or sweep, which says what the columns are."
    )


def _taken(kind: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those options that a group has, lists as tuples."""
    names = [f.name for f in fields(kind)]
    return {
        name: tuple(options[name]) if isinstance(options[name], list) else options[name]
        for name in names
        if options.get(name) is not None
    }
