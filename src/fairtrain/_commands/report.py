"""``fairtrain report``: the page of a run made again, or of its model on fresh rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from fairtrain._commands.data import read_data
from fairtrain._commands.features import TableFeatures
from fairtrain._commands.operating import read_point
from fairtrain._commands.options import Ask, Decide, People, Show
from fairtrain._commands.output import finish, note, print_json, print_models, say
from fairtrain._commands.runs import (
    load_model,
    new_file,
    read_config,
    read_ledger,
    read_summary,
    read_words,
    write_json,
)
from fairtrain._commands.training import decisions, make_constraint
from fairtrain._text import one_line
from fairtrain._versions import versions
from fairtrain.data.groups import Groups
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidDataError
from fairtrain.metrics.ledger import Look
from fairtrain.report import RunSummary, judged, render_card, render_report

__all__ = ["report"]


def report(
    run: Path,
    *,
    data: Path | None,
    words: Mapping[str, str | None],
    out: Path | None,
    force: bool,
    show: Show,
) -> int:
    """Write a page; gives the exit code."""
    summary = read_summary(run)
    given: dict[str, Any] = {
        name: read_words(name, text) for name, text in words.items() if text is not None
    }
    if "signed" in given:
        given["signed"] = tuple(line for line in given["signed"].splitlines() if line.strip())
    summary = replace(summary, **given)
    if data is not None:
        summary = _fresh(run, data, summary)
    own = run / ("report.html" if data is None else "fresh.html")
    page = own if out is None else out
    # The run's own pages are made from its numbers, so nothing is lost with the old ones.
    with new_file(page, force=force or page == own) as work:
        work.write_text(render_report(summary), encoding="utf-8")
    if data is None and out is None:
        with new_file(run / "model_card.md", force=True) as work:
            work.write_text(render_card(summary), encoding="utf-8")
    if given and data is None:
        with new_file(run / "metrics.json", force=True) as work:
            write_json(work, summary.to_dict())
    if show.json:
        print_json(summary.to_dict())
        note(f"the page is {page}")
    else:
        say(*summary.warnings())
        print_models(summary)
        say("", *summary.explanation(), *summary.choice, "", f"The page is {page}.")
    return finish(show, summary.models[-1].report.verdict)


def _fresh(run: Path, path: Path, summary: RunSummary) -> RunSummary:
    """The saved model on fresh rows, beside itself on the rows that certified it."""
    options = _options(run)
    people = People(**_taken(People, options))
    ask = Ask(**_taken(Ask, {**options, "bound": options.get("bound", options.get("max_gap"))}))
    data = read_data(path, people)
    constraint = make_constraint(ask, people)
    model = load_model(run)
    steps = getattr(model, "named_steps", {})
    if not isinstance(steps.get("features"), TableFeatures):
        raise InvalidDataError(f"'{one_line(run)}' holds no model that reads a table.")
    fair = steps["model"]
    rows = data.rows
    X = steps["features"].transform(rows.X)
    decision, score = decisions(fair, X, data.favourable)
    groups = Groups(fair.scheme_, fair.scheme_.encode(rows.sensitive))
    point = read_point(Decide(**_taken(Decide, options)), options.get("objective"))
    point = point.among(sum(summary.row_counts.values()))
    same = data.digest == summary.made_with.get("data_sha256")
    shown_by = constraint.columns(groups.scheme)
    role, reading = Look("training", 1) if same else _entered(run, fair, X, rows)
    judging: dict[str, Any] = {
        "outcome": data.outcome,
        "rows": role,
        "over": shown_by,
        "reading": reading,
        "clusters": rows.clusters,
        "objective": point.sought,
    }
    title = f"{summary.models[-1].title}, {path.name}"
    fresh = judged(title, (constraint,), rows.outcomes, decision, groups, score=score, **judging)
    constant = judged(
        "constant", (constraint,), rows.outcomes, point.constant(rows.outcomes), groups, **judging
    )
    shown = groups.over(shown_by)
    now = dict(zip(shown.names, shown.counts.tolist(), strict=True))
    before = replace(summary.models[-1], title="as certified", cost=None)
    choice = [
        f"The saved model, judged on {len(rows):,} rows of {path.name}; "
        f"as certified: on the {before.report.n_rows:,} rows set aside when it was made."
    ]
    choice.append(
        "This is the table that it was made from, so these rows certify nothing."
        if same
        else "Many of these rows trained or chose the model, so they certify nothing."
        if role != "certification"
        else f"The verdict takes it that none of {'the fresh' if reading == 1 else 'these'} rows "
        "trained or chose the model."
    )
    return replace(
        summary,
        data=data.name,
        models=(before, fresh),
        row_counts={**summary.row_counts, "certification": len(rows)},
        group_counts={
            name: {**parts, "certification": now.get(name, 0)}
            for name, parts in summary.group_counts.items()
        },
        choice=tuple(choice),
        frontiers=(),
        notes=(),
        made_with={**summary.made_with, **versions(), "judged_on_sha256": data.digest},
        constant=constant,
    )


def _entered(run: Path, fair: Any, X: Any, rows: Rows) -> Look:
    """What these rows are good for; the run's ledger keeps count."""
    fair.ledger_ = read_ledger(run) or getattr(fair, "ledger_", None)
    look: Look = fair.note_reading(X, rows.targets, sensitive_features=rows.sensitive)
    with new_file(run / "ledger.json", force=True) as work:
        write_json(work, fair.ledger_.to_dict())
    return look


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
    given = {f.name: options[f.name] for f in fields(kind) if options.get(f.name) is not None}
    return {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
