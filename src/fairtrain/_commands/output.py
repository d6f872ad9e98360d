"""What a command says: tables or JSON on standard output, notes beside them, an exit code.

Names from data are text, never markup.
"""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fairtrain._commands.options import Show
from fairtrain._text import one_line
from fairtrain.metrics.disclosure import (
    FEW_WORDS,
    HIDDEN,
    MIN_CELL,
    count_words,
    small_cells,
)
from fairtrain.metrics.verdicts import Verdict
from fairtrain.report.judged import Judged
from fairtrain.report.summary import RunSummary

if TYPE_CHECKING:
    from fairtrain.tradeoff import Chosen, ParetoFrontier

__all__ = [
    "NOT_MET",
    "finish",
    "note",
    "notes_of",
    "number_span",
    "print_frontier",
    "print_groups",
    "print_json",
    "print_models",
    "print_proxies",
    "print_rates",
    "print_standings",
    "print_table",
    "say",
    "show_run",
]

NOT_MET = 3
"""Exit code of ``--require-met`` where the verdict is another one."""

_STYLES = {"met": "green", "not_met": "red", "too_few_rows": "yellow"}
_NUMBERS = [f"{name}{end}" for name in ("performance", "gap") for end in ("", "_lower", "_upper")]
_WHY_HIDDEN = (
    f"Hidden: rates over fewer than {MIN_CELL} rows, and those from which these could be worked "
    "out."
)
_NARROWEST = 110
_MOST_COLUMNS = 2
_TELLS = 0.55  # of an area under the curve: less is noise of a few hundred rows
_CARRIES = 0.005  # of a gap
_MOST_PROXIES = 12


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


def _verdict(words: str) -> Text:
    return Text(one_line(words), style=_STYLES.get(words.partition(":")[0], ""))


def _rate(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.3f}"


def number_span(three: Sequence[float | None] | None) -> str:
    """Write an estimate with its limits; a dash where it is hidden."""
    if three is None:
        return "-"
    value, low, high = three
    return _rate(value) + ("" if low is None or high is None else f" [{_rate(low)}, {_rate(high)}]")


def _cell(cell: Mapping[Any, Any]) -> str:
    if cell["suppressed"]:
        return HIDDEN
    return number_span([cell[name] for name in ("rate", "lower", "upper")])


def print_table(
    title: str, columns: Sequence[str], lines: Sequence[Sequence[Any]], *, words: Sequence[str] = ()
) -> None:
    """Print a table; the first column and ``words`` are aligned as text, the others as numbers."""
    table = Table(title=Text(one_line(title), style="bold"), title_justify="left")
    for i, column in enumerate(columns):
        left = i == 0 or column in words
        table.add_column(Text(one_line(column)), justify="left" if left else "right")
    for line in lines:
        table.add_row(*(c if isinstance(c, Text) else Text(one_line(c)) for c in line))
    _console().print(table)


def print_models(summary: RunSummary) -> None:
    """Print baseline beside fair model, then what is known of every group.

    More than two models have a line each instead of a column.
    """
    models = [m for m in (summary.constant, *summary.models) if m is not None]
    rows = f"{summary.row_counts['certification']:,} untouched rows"
    if summary.crossed or summary.on_fresh_rows:
        rows = summary.judging_rows
    title = f"{summary.title}: judged on {rows}"
    if len(summary.models) > _MOST_COLUMNS:
        first = summary.models[0].report.results[0]
        head = [
            "",
            "accuracy",
            f"share {summary.outcome}",
            f"gap (bound {first.bound:g})",
            "verdict",
        ]
        print_table(title, head, [line for m in models for line in _lines(m)], words=["verdict"])
        return
    titles = [model.title for model in models]
    lines: list[list[Any]] = [
        ["accuracy", *(number_span(m.report.accuracy) for m in models)],
        *_sought(models),
        ["AUC", *(_rate(m.auc) for m in models)],
        [f"share {summary.outcome}", *(_rate(m.report.selection_rate) for m in models)],
    ]
    lines += [
        [f"  {name}", *(_cell(m.rate("selection_rate", name)) for m in models)]
        for name in summary.models[0].names
    ]
    for i, result in enumerate(summary.models[0].report.results):
        own = [(m, m.report.results[i]) for m in models]
        words = {"difference": "gap", "ratio": "ratio", "upper": "largest", "lower": "smallest"}
        word = words[result.kind]
        heading = f"{result.constraint} {word} (bound {result.bound:g})"
        lines.append([heading, *(number_span(m.gap(r)) for m, r in own)])
        lines.append(["  verdict", *(_verdict(str(r.verdict)) for _, r in own)])
    print_table(title, ["", *titles], lines, words=titles)
    if any(HIDDEN in line[1:] for line in lines):
        say(_WHY_HIDDEN)
    print_standings(summary.models)


def _sought(models: Sequence[Judged]) -> list[list[Any]]:
    """A line of what models were to be best at, where that is not accuracy."""
    name = models[-1].report.objective
    if name == "accuracy":
        return []
    return [[name.replace("_", " "), *(_rate(m.report.worth_said) for m in models)]]


def _lines(model: Judged) -> list[list[Any]]:
    """A line a constraint."""
    report = model.report
    constant = ", near constant" if report.near_constant else ""
    return [
        [
            model.title,
            number_span(report.accuracy),
            _rate(report.selection_rate),
            number_span(model.gap(result)),
            _verdict(f"{result.verdict}{constant}"),
        ]
        for result in report.results
    ]


def print_standings(models: Sequence[Judged]) -> None:
    """Print, for every group and constraint, whether its rows can tell and what they tell."""
    several = len(models[0].standings) > 1
    titles = [
        f"{model.title}: {result.constraint}" if several else model.title
        for model in models
        for result in model.report.results
    ]
    rates = models[-1].rates
    counts = rates[rates["metric"] == "selection_rate"].set_index("group")["count"]
    lines = []
    for name in models[0].names:
        known = [s[name] for m in models for s in m.standings if name in s]
        words = [_verdict(standing.words()) for standing in known]
        words += [Text("")] * (len(titles) - len(words))
        lines.append([name, count_words(int(counts[name])), *words])
    print_table("Verdict by group", ["group", "rows", *titles], lines, words=titles)


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
    if hidden is None:
        hidden = {(metric, group) for metric in names for group in small_cells(rates, metric)}
    rows: list[dict[Any, Any]] = rates.to_dict("records")
    cells = {(row["metric"], row["group"]): row for row in rows}
    first = next(iter(names))
    lines = [
        [
            group,
            count_words(int(cells[first, group]["count"])),
            *(_cell({**cells[m, group], "suppressed": (m, group) in hidden}) for m in names),
        ]
        for metric, group in cells
        if metric == first
    ]
    print_table(title, ["group", "rows", *names.values()], lines)
    if any(HIDDEN in line[1:] for line in lines):
        say(_WHY_HIDDEN)


def print_groups(counts: Mapping[str, Mapping[str, int]]) -> None:
    """Print how many rows of every group train, steer and certify."""
    lines = [[name, *map(count_words, parts.values())] for name, parts in counts.items()]
    print_table("Rows", ["group", *next(iter(counts.values()))], lines)


def print_frontier(frontier: ParetoFrontier, chosen: Chosen, rows: str) -> None:
    """Print the points of a sweep on some rows, means over seeds, the chosen value marked."""
    table = frontier.published().by_value()
    limits = ("seed" if (table["n_seeds"] > 1).any() else "row") + "s"
    lines = []
    for row in table.to_dict("records"):
        value, *numbers = (row[frontier.param], *(row[name] for name in _NUMBERS))
        marks = {
            "chosen": value == chosen.value,
            "front": not row["dominated"],
            "near constant": row["near_constant"],
        }
        lines.append(
            [
                f"{value:g}",
                *(number_span(numbers[i : i + 3]) for i in (0, 3)),
                f"{row['seconds']:.1f}",
                ", ".join(mark for mark, holds in marks.items() if holds),
            ]
        )
    print_table(
        f"{frontier.name} on {rows} [95 % over {limits}]",
        [frontier.param, frontier.performance_name, "gap", "seconds", ""],
        lines,
        words=[""],
    )
    if frontier.rests_on_few:
        say(f"Gaps: {FEW_WORDS}")


def _area(proxy: Mapping[str, Any]) -> str:
    low, high = proxy.get("auc_lower"), proxy.get("auc_upper")
    limits = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
    return f"{proxy['auc']:.3f}{limits}"


def print_proxies(found: Sequence[Mapping[str, Any]], outcome: str, whose: str) -> None:
    """Print the columns that reveal or carry something.

    Parameters
    ----------
    found : sequence of mapping
        As in a ``RunSummary``.
    outcome : str
        The favourable outcome in words.
    whose : str
        What the gap is one of, such as ``"labels"``.
    """
    if not found:
        return
    told = [p for p in found if p["auc"] >= _TELLS or abs(p["carried"]) >= _CARRIES]
    shown = told[:_MOST_PROXIES]
    first = found[0]
    lines = [
        [p["feature"], _area(p), p["group"], f"{p['carried']:+.3f}", f"{p['without']:.3f}"]
        for p in shown
    ]
    head = ["column", "AUC", "tells", "carries", "gap without"]
    if lines:
        print_table(
            "Columns that reveal the group or go with the gap", head, lines, words=["tells"]
        )
    rest = len(found) - len(shown)
    others = f"{rest} more column{' does' if rest == 1 else 's do'} so less" if rest else ""
    say(
        f"Share {outcome} among {whose}: '{first['highest']}' is {first['gap']:.3f} above "
        f"'{first['lowest']}'. AUC: how well the column alone tells the group, .5 is not at all. "
        "Gap without: what is left of the gap among people who are alike in the column."
        + (f" {others}." if others else ""),
        "",
    )


def print_json(numbers: Mapping[str, Any]) -> None:
    """Print plain values, and nothing else, on standard output."""
    json.dump(numbers, sys.stdout, indent=2, ensure_ascii=True, allow_nan=False)
    sys.stdout.write("\n")


def note(*lines: str) -> None:
    """Say something beside the results, on standard error."""
    for line in lines:
        sys.stderr.write(f"fairtrain: note: {one_line(line)}\n")


@contextmanager
def notes_of(notes: list[str], prefix: str = "") -> Iterator[None]:
    """Collect warnings as sentences that name what they are about; each once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    said = (prefix + one_line(str(w.message).partition("\n")[0]) for w in caught)
    notes += [note for note in dict.fromkeys(said) if note not in notes]


def finish(show: Show, verdict: Verdict | str | None) -> int:
    """Exit code of a command that judged something."""
    if show.require_met and str(verdict) != str(Verdict.MET):
        sys.stderr.write(f"fairtrain: --require-met: the verdict is {verdict}, not met.\n")
        return NOT_MET
    return 0


def show_run(
    summary: RunSummary, show: Show, out: Path, trade_off: tuple[Any, Any, str] | None = None
) -> None:
    """Show tables and sentences, what to beware of first; or the numbers as JSON."""
    if show.json:
        print_json(summary.to_dict())
        note(*summary.notes, f"the run is in {out}")
        return
    say(*summary.warnings(), *summary.method, *summary.columns)
    print_proxies(summary.proxies, summary.outcome, "labels that train")
    print_groups(summary.group_counts)
    print_models(summary)
    if trade_off is not None:
        print_frontier(*trade_off)
    say("", *summary.explanation(), *summary.choice)
    say(*(f"Note: {line}" for line in summary.notes))
    say("", f"Model, numbers, settings and report are in {out}: open {out / 'report.html'}")
