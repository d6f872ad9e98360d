"""What a command says: tables or JSON on standard output, notes beside them, an exit code.

Names from data are text, never markup.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fairtrain._commands.options import Show
from fairtrain._text import one_line
from fairtrain.metrics.disclosure import MIN_CELL, small_cells
from fairtrain.metrics.verdicts import Verdict
from fairtrain.report.judged import Judged
from fairtrain.report.summary import RunSummary

if TYPE_CHECKING:
    from fairtrain.tradeoff import Chosen, ParetoFrontier

__all__ = [
    "NOT_MET",
    "finish",
    "note",
    "number_span",
    "print_frontier",
    "print_groups",
    "print_json",
    "print_models",
    "print_rates",
    "print_standings",
    "print_table",
    "say",
    "show_run",
]

NOT_MET = 3
"""Exit code of ``--require-met`` where the verdict is another one."""

_STYLES = {"met": "green", "not_met": "red", "too_few_rows": "yellow"}
_NARROWEST = 110
_MOST_COLUMNS = 3


def _console() -> Console:
    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console.width = max(console.width, _NARROWEST)
    return console


def say(*lines: str) -> None:
    """Print lines of text."""
    console = _console()
    for line in lines:
        console.print(Text(one_line(line)))


def _table(title: str, columns: Sequence[str], *, words: Sequence[str] = ()) -> Table:
    table = Table(title=Text(one_line(title), style="bold"), title_justify="left")
    for i, column in enumerate(columns):
        left = i == 0 or column in words
        table.add_column(Text(one_line(column)), justify="left" if left else "right")
    return table


def _add(table: Table, cells: Sequence[Any]) -> None:
    table.add_row(*(c if isinstance(c, Text) else Text(one_line(c)) for c in cells))


def _verdict(words: str) -> Text:
    return Text(one_line(words), style=_STYLES.get(words.partition(":")[0], ""))


def _rate(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _span(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" [{_rate(low)}, {_rate(high)}]"


def number_span(three: Sequence[float] | None) -> str:
    """Write an estimate with its limits; a dash where it is hidden."""
    return "-" if three is None else _rate(three[0]) + _span(*three[1:])


def _cell(cell: Mapping[Any, Any]) -> str:
    if cell["suppressed"]:
        return "hidden (few rows)"
    return _rate(cell["rate"]) + _span(cell["lower"], cell["upper"])


def _count(count: int) -> str:
    return f"under {MIN_CELL}" if 0 < count < MIN_CELL else f"{count:,}"


def print_table(
    title: str, columns: Sequence[str], lines: Sequence[Sequence[Any]], *, words: Sequence[str] = ()
) -> None:
    """Print a table; the first column and ``words`` are aligned as text, the others as numbers."""
    table = _table(title, columns, words=words)
    for line in lines:
        _add(table, line)
    _console().print(table)


def print_models(summary: RunSummary) -> None:
    """Print baseline beside fair model, then what is known of every group.

    More than three models have a line each instead of a column.
    """
    if len(summary.models) > _MOST_COLUMNS:
        _print_lines(summary)
        return
    console = _console()
    table = _table(
        f"{summary.title}: judged on {summary.row_counts['certification']:,} untouched rows",
        ["", *(model.title for model in summary.models)],
        words=[model.title for model in summary.models],
    )
    reports = [model.report for model in summary.models]
    _add(table, ["accuracy", *(_rate(r.accuracy[0]) + _span(*r.accuracy[1:]) for r in reports)])
    _add(table, ["AUC", *(_rate(model.auc) for model in summary.models)])
    _add(table, [f"share {summary.outcome}", *(_rate(r.selection_rate) for r in reports)])
    for name in summary.models[0].names:
        cells = [_cell(m.rate("selection_rate", name)) for m in summary.models]
        _add(table, [f"  {name}", *cells])
    for i, result in enumerate(reports[0].results):
        found = [m.gap(m.report.results[i]) for m in summary.models]
        words = {"difference": "gap", "ratio": "ratio", "upper": "largest", "lower": "smallest"}
        word = words[result.kind]
        _add(
            table,
            [
                f"{result.constraint} {word} (bound {result.bound:g})",
                *("-" if g is None else _rate(g[0]) + _span(*g[1:]) for g in found),
            ],
        )
        _add(table, ["  verdict", *(_verdict(str(r.results[i].verdict)) for r in reports)])
    console.print(table)
    print_standings(summary.models)


def _print_lines(summary: RunSummary) -> None:
    lines = []
    for model in summary.models:
        report = model.report
        for result in report.results:
            found = model.gap(result)
            constant = ", near constant" if report.near_constant else ""
            lines.append(
                [
                    model.title,
                    _rate(report.accuracy[0]) + _span(*report.accuracy[1:]),
                    _rate(report.selection_rate),
                    "-" if found is None else _rate(found[0]) + _span(*found[1:]),
                    _verdict(f"{result.verdict}{constant}"),
                ]
            )
    first = summary.models[0].report.results[0]
    print_table(
        f"{summary.title}: judged on {summary.row_counts['certification']:,} untouched rows",
        ["", "accuracy", f"share {summary.outcome}", f"gap (bound {first.bound:g})", "verdict"],
        lines,
        words=["verdict"],
    )


def print_standings(models: Sequence[Judged]) -> None:
    """Print, for every group and constraint, whether its rows can tell and what they tell."""
    several = len(models[0].standings) > 1
    titles = [
        f"{model.title}: {result.constraint}" if several else model.title
        for model in models
        for result in model.report.results
    ]
    rates = models[0].rates
    counts = rates[rates["metric"] == "selection_rate"].set_index("group")["count"]
    table = _table("Verdict by group", ["group", "rows", *titles], words=titles)
    for name in models[0].names:
        known = [s[name] for m in models for s in m.standings if name in s]
        words = [_verdict(standing.words()) for standing in known]
        words += [Text("")] * (len(titles) - len(words))
        _add(table, [name, _count(int(counts[name])), *words])
    _console().print(table)


def print_rates(
    title: str,
    rates: pd.DataFrame,
    names: dict[str, str],
    hidden: Collection[tuple[str, str]] | None = None,
) -> None:
    """Print rates of every group, one column a metric.

    Parameters
    ----------
    title : str
        Above the table.
    rates : DataFrame
        As from ``group_rates``.
    names : dict of str to str
        Metric -> heading, in order.
    hidden : collection of (str, str), optional
        Cells (metric, group) not to show; those that are small by default.
    """
    table = _table(title, ["group", "rows", *names.values()])
    if hidden is None:
        hidden = {(metric, group) for metric in names for group in small_cells(rates, metric)}
    lines: list[dict[Any, Any]] = rates.to_dict("records")
    found = {(row["metric"], row["group"]): row for row in lines}
    first = next(iter(names))
    for group in (group for metric, group in found if metric == first):
        cells = [
            _cell({**found[metric, group], "suppressed": (metric, group) in hidden})
            for metric in names
        ]
        _add(table, [group, _count(int(found[first, group]["count"])), *cells])
    _console().print(table)


def print_groups(counts: Mapping[str, Mapping[str, int]]) -> None:
    """Print how many rows of every group train, steer and certify."""
    table = _table("Rows", ["group", *next(iter(counts.values()))])
    for name, parts in counts.items():
        _add(table, [name, *(_count(count) for count in parts.values())])
    _console().print(table)


def print_frontier(frontier: ParetoFrontier, chosen: Chosen) -> None:
    """Print the points of a sweep, means over seeds, the chosen value marked."""
    table = frontier.by_value()
    limits = ("seed" if (table["n_seeds"] > 1).any() else "row") + "s"
    lines = []
    for row in table.to_dict("records"):
        marks = [
            "chosen" if row[frontier.param] == chosen.value else "",
            "" if row["dominated"] else "front",
            "near constant" if row["near_constant"] else "",
        ]
        lines.append(
            [
                f"{row[frontier.param]:g}",
                *(
                    _rate(row[name]) + _span(row[f"{name}_lower"], row[f"{name}_upper"])
                    for name in ("performance", "gap")
                ),
                f"{row['seconds']:.1f}",
                ", ".join(m for m in marks if m),
            ]
        )
    print_table(
        f"{frontier.name} on {frontier.n_validation:,} validation rows [95 % over {limits}]",
        [frontier.param, frontier.performance_name, "gap", "seconds", ""],
        lines,
        words=[""],
    )


def print_json(numbers: Mapping[str, Any]) -> None:
    """Print plain values, and nothing else, on standard output."""
    json.dump(numbers, sys.stdout, indent=2, ensure_ascii=True, allow_nan=False)
    sys.stdout.write("\n")


def note(*lines: str) -> None:
    """Say something beside the results, on standard error."""
    for line in lines:
        sys.stderr.write(f"fairtrain: note: {one_line(line)}\n")


def finish(show: Show, verdict: Verdict | str | None) -> int:
    """Exit code of a command that judged something."""
    if show.require_met and str(verdict) != str(Verdict.MET):
        sys.stderr.write(f"fairtrain: --require-met: the verdict is {verdict}, not met.\n")
        return NOT_MET
    return 0


def show_run(summary: RunSummary, show: Show, out: Path) -> None:
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
