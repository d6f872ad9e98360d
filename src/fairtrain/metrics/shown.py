"""A fairness report as notebooks show it: a verdict, a picture of rates, small cells left out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fairtrain._figures import Dot, Lane, Scale, fragment, grid, legend, pill
from fairtrain.metrics.disclosure import FEW_WORDS, count_words, hidden_cells, rests_on_few
from fairtrain.metrics.verdicts import ConstraintResult

if TYPE_CHECKING:
    from fairtrain.metrics.report import FairnessReport

__all__ = ["as_html", "rate_of", "room", "shown_rates"]

_SHARES = ("selection_rate", "true_positive_rate", "false_positive_rate", "accuracy")
_MOST_LANES = 20


def rate_of(result: ConstraintResult) -> str:
    """The rate among those of every report that shows what a constraint limits; "" if none does.

    An error rate is shown as its complement, whose differences are the same.
    """
    rate = {"error_rate": "accuracy", "zero_one_loss": "accuracy"}.get(result.rate, result.rate)
    return rate if rate in _SHARES else ""


def room(result: ConstraintResult, rates: Sequence[float]) -> tuple[float, float] | None:
    """Where rates may lie under a bound: for a parity, laid where it holds these best.

    None where no one band says what is asked: within strata, for numbers of each group's own, and
    for distances from the rate of all rows.
    """
    known = rates and " given " not in result.constraint and result.reference != "overall"
    if not known or "its own number" in result.constraint:
        return None
    bound, low, high = result.bound, min(rates), max(rates)
    if result.kind == "difference":
        start = min(max((low + high - bound) / 2, 0.0), max(1.0 - bound, 0.0))
        return start, min(start + bound, 1.0)
    if result.rate not in _SHARES:  # an error rate, drawn as accuracy
        return None
    if result.kind == "ratio":
        return bound * high, high
    return (bound, 1.0) if result.larger_is_fairer else (0.0, bound)


def shown_rates(report: FairnessReport) -> Any:
    """The rates of a report that may be shown, as a frame."""
    table = report.group_rates
    hidden = hidden_cells(table, results=report.results)
    cells = zip(table["metric"], table["group"], strict=True)
    told = np.array([cell not in hidden for cell in cells], dtype=bool)
    return table[told & table["rate"].notna().to_numpy()]


def as_html(report: FairnessReport) -> str:
    """Give HTML without script: what is asked, whether it is kept, and what every group gets."""
    decisive = next(r for r in report.results if r.verdict is report.verdict)
    used = {
        "certification": "rows that trained and chose nothing",
        "steering": "rows that chose the model, so they certify nothing",
        "training": "rows that trained the model, so they say nothing about new people",
    }[report.rows]
    facts = f"{report.n_rows:,} {used}"
    if math.isfinite(report.accuracy[0]):
        facts += "; accuracy {:.3f} ({:.3f} to {:.3f})".format(*report.accuracy)
    lines = [facts]
    if report.no_better_than_constant:
        lines.insert(0, "No better than deciding alike for everybody.")
    if report.near_constant:
        lines.append("(Almost) everybody gets the same decision, which keeps any bound.")
    heads = ("Constraint", "Achieved", "Bound", "Verdict")
    rows = [_row(result) for result in report.results]
    picture = _picture(report, decisive)
    return fragment(pill(report.verdict), *lines, picture, grid(heads, rows))


def _row(result: ConstraintResult) -> tuple[str, ...]:
    few = rests_on_few(result) or not math.isfinite(result.achieved)
    achieved = f"{result.achieved:.3f}"
    if math.isfinite(result.lower):
        achieved += f" ({result.lower:.3f} to {result.upper:.3f})"
    name = result.constraint.replace("_", " ")
    verdict = str(result.verdict).replace("_", " ")
    return name, FEW_WORDS if few else achieved, f"{result.bound:g}", verdict


def _picture(report: FairnessReport, result: ConstraintResult) -> Any:
    metric = rate_of(result)
    table = shown_rates(report)
    table = table[table["metric"] == metric].sort_values("rate", ascending=False)
    if not len(table):
        return ""
    cells = table.to_dict("records")
    band = room(result, [cell["rate"] for cell in cells])
    if len(cells) > _MOST_LANES:
        cells = cells[: _MOST_LANES // 2] + cells[-_MOST_LANES // 2 :]
    lanes = [
        Lane(
            str(c["group"]), f"{count_words(int(c['count']))} rows",
            [Dot(c["rate"], c["lower"], c["upper"])],
            [(f"{c['rate']:.1%}", f"{c['lower']:.1%} to {c['upper']:.1%}")], room=band,
        )
        for c in cells
    ]  # fmt: skip
    entries: list[tuple[int | str, str]] = [
        (1, f"{metric.replace('_', ' ')}, {100 * report.confidence:.4g} % interval")
    ]
    if band is not None:
        entries.append(("room", "room that the bound leaves"))
    return Scale(lanes).draw(legend(entries))
