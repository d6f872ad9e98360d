"""Which numbers rest on so few rows that they would tell of single people.

Everything that is shown, written or saved asks here what to leave out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from fairtrain.metrics.publication import Publication
from fairtrain.metrics.verdicts import ConstraintResult

__all__ = [
    "FEW_WORDS",
    "HIDDEN",
    "MIN_CELL",
    "cell_dicts",
    "count_words",
    "hidden_cells",
    "hidden_count",
    "plain_value",
    "rests_on_few",
    "result_dict",
    "shown_count",
    "small_cells",
]

MIN_CELL = 10
"""Rates over fewer rows are left out: one over a single row discloses a person's label."""

FEW_WORDS = f"the numbers rest on a group of fewer than {MIN_CELL} rows and are not shown."
"""Said in the place of numbers that rest on a small cell."""

HIDDEN = "hidden"
"""Written for a count that would tell of a small cell."""


def small_cells(rates: pd.DataFrame, metric: str) -> frozenset[str]:
    """Groups whose rate must not be shown, for a rate that stands by itself."""
    table = rates[rates["metric"] == metric]
    return frozenset(group for _, group in hidden_cells(table, MIN_CELL))


def hidden_cells(
    rates: pd.DataFrame | Sequence[pd.DataFrame],
    min_cell: int = MIN_CELL,
    results: Sequence[ConstraintResult] = (),
) -> set[tuple[str, str]]:
    """Cells (metric, group) that are small, or that a small one could be worked out from.

    A publication is one system of linear equations in the people of every cell: the rates and
    counts shown, the totals over all rows, and both rates of every gap (its limits tell them).
    Cells are hidden, the smallest groups first, until no number of people in a small cell is
    determined or bounded to within one person, or nothing is left to hide.

    Parameters
    ----------
    rates : DataFrame or sequence of DataFrame
        Tables of rates on the same rows, as from ``group_rates``, such as those of a baseline and a
        fair model, or of several partitions; the one with most groups is the finest.
    min_cell : int, default=10
        Cells with fewer rows are small.
    results : sequence of ConstraintResult
        What is said of constraints beside them.
    """
    tables = [rates] if isinstance(rates, pd.DataFrame) else list(rates)
    hidden: set[tuple[str, str]] = set()
    for table in tables:
        cells = list(zip(table["metric"], table["group"], table["count"], strict=True))
        hidden |= {(m, g) for m, g, n in cells if 0 < n < min_cell}
        hidden |= set(zip(*(table[_left_out(table)][c] for c in ("metric", "group")), strict=True))
    hidden = _closed(tables, hidden)
    if not hidden or any(_left_out(table).any() for table in tables):
        return hidden  # nothing small, or a table that was cleared before it was written
    published = Publication(tables, [r for r in results if not rests_on_few(r, min_cell)], min_cell)
    helpless: set[tuple[str, str]] | None = None
    while unsafe := [cell for cell in published.exposed(hidden) if cell not in (helpless or ())]:
        if helpless is None:  # what the totals alone tell, such as that nobody was selected
            everything = {
                (m, g) for t in tables for m, g in zip(t["metric"], t["group"], strict=True)
            }
            helpless = set(published.exposed(everything))
        if not (more := published.next(hidden, unsafe)):
            break
        hidden |= more
    return _closed(tables, hidden)


def _closed(tables: Sequence[pd.DataFrame], hidden: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """With a rate on labels, hide all of the group: any two of them would tell the third."""
    told = {group for metric, group in hidden if metric != "selection_rate"}
    cells = {(m, g) for t in tables for m, g in zip(t["metric"], t["group"], strict=True)}
    return hidden | {(m, g) for m, g in cells if m != "selection_rate" and g in told}


def _left_out(table: pd.DataFrame) -> pd.Series[bool]:
    return table["rate"].isna() & (table["count"] > 0)


def rests_on_few(result: ConstraintResult, min_cell: int = MIN_CELL) -> bool:
    """Whether what a constraint achieved must not be shown.

    It rests on a cell of a few rows, or on none at all; or a group of a few rows has none in an
    event, which tells the label of every one of them.
    """
    few = min(result.counts.values(), default=0) < min_cell
    return few or any(0 < cell.rows < min_cell for cell in result.empty)


def shown_count(count: int, min_cell: int = MIN_CELL) -> int | str:
    """A count as it may be written."""
    return f"under {min_cell}" if 0 < count < min_cell else int(count)


def hidden_count(metric: str, count: int, min_cell: int = MIN_CELL) -> int | str:
    """The count of a hidden cell as it may be written."""
    # Not even that there is none: it would tell the labels of the group's other rows. Nor how many
    # have one label, where few have the other.
    if count < min_cell:
        return f"under {min_cell}"
    return count if metric in ("selection_rate", "accuracy") else HIDDEN


def count_words(count: int | str) -> str:
    """A count as it may be shown; what hides one already stays.

    Examples
    --------
    >>> count_words(1200), count_words(3), count_words(0)
    ('1,200', 'under 10', '0')
    """
    shown = count if isinstance(count, str) else shown_count(count)
    return shown if isinstance(shown, str) else f"{shown:,}"


def plain_value(value: Any) -> Any:
    """A value as JSON has it: no NumPy scalar, None where a number is not finite."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not np.isfinite(value) else value


def result_dict(result: ConstraintResult, min_cell: int = MIN_CELL) -> dict[str, Any]:
    """A result as plain values, without numbers where it rests on few rows."""
    hidden = rests_on_few(result, min_cell)
    numbers = ("achieved", "lower", "upper", "pairwise", "highest", "lowest")
    return {
        "constraint": result.constraint,
        "kind": result.kind,
        "reference": result.reference,
        "bound": result.bound,
        "rate": result.rate,
        **{name: None if hidden else plain_value(getattr(result, name)) for name in numbers},
        "verdict": str(result.verdict),
        "suppressed": hidden,
        "rows_needed": {
            name: None if hidden else plain_value(rows) for name, rows in result.rows_needed.items()
        },
        "empty": [] if hidden else [asdict(cell) for cell in result.empty],
        **{k: None if hidden else getattr(result, k) for k in ("true_gap", "smallest_bound")},
        **({"clusters": {} if hidden else result.clusters} if result.clusters else {}),
        "words": "suppressed: too few rows in a group" if hidden else result.words(),
    }


def cell_dicts(
    rates: pd.DataFrame, min_cell: int = MIN_CELL, results: Sequence[ConstraintResult] = ()
) -> list[dict[str, Any]]:
    """Rates of every group as plain values, without those that :func:`hidden_cells` names."""
    hidden = hidden_cells(rates, min_cell, results)
    written = []
    for row in rates.to_dict("records"):
        shown = {str(name): plain_value(value) for name, value in row.items()}
        left_out = (row["metric"], row["group"]) in hidden
        if left_out:
            count = hidden_count(row["metric"], int(row["count"]), min_cell)
            shown |= {"rate": None, "lower": None, "upper": None, "count": count}
        written.append(shown | {"suppressed": left_out})
    return written
