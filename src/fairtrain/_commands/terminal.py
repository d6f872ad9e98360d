"""Tables on the terminal; names from data are text, never markup."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fairtrain._text import one_line
from fairtrain.report.summary import MIN_CELL, Judged, RunSummary, small_cells

__all__ = ["print_groups", "print_models", "print_rates", "print_table", "say"]

_STYLES = {"met": "green", "not_met": "red", "too_few_rows": "yellow"}
_NARROWEST = 110


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


def _cell(cell: dict[str, Any]) -> str:
    if cell["suppressed"]:
        return "hidden (few rows)"
    return _rate(cell["rate"]) + _span(cell["lower"], cell["upper"])


def _count(count: int) -> str:
    return f"under {MIN_CELL}" if 0 < count < MIN_CELL else f"{count:,}"


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text under headings."""
    table = _table(title, columns, words=columns)
    for row in rows:
        _add(table, row)
    _console().print(table)


def print_models(summary: RunSummary) -> None:
    """Print baseline beside fair model, then what is known of every group."""
    if len(summary.models) > 2:
        _print_many(summary)
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
        word = {"difference": "gap", "ratio": "ratio", "upper": "largest"}[result.kind]
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


def _print_many(summary: RunSummary) -> None:
    """One row a model, where they are too many to stand beside each other."""
    rows = [
        [
            model.title,
            _rate(model.report.accuracy[0]) + _span(*model.report.accuracy[1:]),
            _rate(model.auc),
            _rate(model.report.selection_rate),
            "-" if (gap := model.gap(found)) is None else _rate(gap[0]) + _span(*gap[1:]),
            str(found.verdict),
        ]
        for model in summary.models
        for found in model.report.results
    ]
    bound = summary.models[0].report.results[0].bound
    print_table(
        f"{summary.title}: judged on {summary.row_counts['certification']:,} untouched rows",
        ["model", "accuracy", "AUC", summary.outcome, f"gap (bound {bound:g})", "verdict"],
        rows,
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
        words = []
        for standing in (s[name] for m in models for s in m.standings if name in s):
            said = standing.words()
            if 0 < standing.rows < MIN_CELL:
                said = said.replace(f"has {standing.rows},", f"has under {MIN_CELL},", 1)
            words.append(_verdict(said))
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
    first = rates[rates["metric"] == next(iter(names))]
    for group, count in zip(first["group"], first["count"], strict=True):
        cells = []
        for metric in names:
            row = rates[(rates["metric"] == metric) & (rates["group"] == group)].iloc[0]
            cells.append(_cell({**row.to_dict(), "suppressed": (metric, group) in hidden}))
        _add(table, [group, _count(int(count)), *cells])
    _console().print(table)


def print_groups(counts: dict[str, dict[str, int]]) -> None:
    """Print how many rows of every group train, steer and certify."""
    table = _table("Rows", ["group", *next(iter(counts.values()))])
    for name, parts in counts.items():
        _add(table, [name, *(_count(count) for count in parts.values())])
    _console().print(table)
