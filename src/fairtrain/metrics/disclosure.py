"""Which numbers rest on so few rows that they would tell of single people.

Everything that is shown, written or saved asks here what to leave out.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from fairtrain.metrics.publication import Publication, Results, Tables, fewest
from fairtrain.metrics.verdicts import ConstraintResult

__all__ = [
    "FEW_WORDS",
    "HIDDEN",
    "MIN_CELL",
    "OF_ALL",
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

FEW_WORDS = (
    f"the numbers rest on a group of fewer than {MIN_CELL} rows and are not shown (or clusters, "
    "where rows come in such)."
)
"""Said in the place of numbers that rest on a small cell."""

OF_ALL = ("selection_rate", "accuracy", "base_rate")
"""Rates over all rows of a group, whatever their labels."""

HIDDEN = "hidden"
"""Written for a count that would tell of a small cell."""


def small_cells(rates: pd.DataFrame, metric: str) -> frozenset[str]:
    """Groups whose rate must not be shown, for a rate that stands by itself."""
    table = rates[rates["metric"] == metric]
    return frozenset(group for _, group in hidden_cells(table, MIN_CELL))


def hidden_cells(
    rates: pd.DataFrame | Tables,
    min_cell: int = MIN_CELL,
    results: Results = (),
) -> set[tuple[str, str]]:
    """Cells (metric, group) that are small, or that a small one could be worked out from.

    A publication is one system of linear equations in the people of every cell: the rates and
    counts shown, the totals over all rows, and both rates of every gap (its limits tell them).
    Cells are hidden, the smallest groups first, until no number of people in a small cell is
    determined or bounded to within one person, or nothing is left to hide.

    Parameters
    ----------
    rates : DataFrame, or sequence of DataFrame or of sequences of them
        Tables of rates on the same rows, as from ``group_rates``: one for each model, or several
        where its groups are told in several partitions, the one with most groups the finest. A cell
        that is hidden in one model is hidden in all.
    min_cell : int, default=10
        Cells with fewer rows, or fewer clusters where these are known, are small: a hundred rows
        of three customers tell of three.
    results : sequence of ConstraintResult, or a sequence of them for each model
        What is said of constraints beside them.
    """
    models: Tables = [rates] if isinstance(rates, pd.DataFrame) else rates
    tables = [t for m in models for t in ([m] if isinstance(m, pd.DataFrame) else m)]
    hidden: set[tuple[str, str]] = set()
    for table in tables:
        cells = zip(table["metric"], table["group"], fewest(table), strict=True)
        hidden |= {(m, g) for m, g, n in cells if 0 < n < min_cell}
        hidden |= set(zip(*(table[_left_out(table)][c] for c in ("metric", "group")), strict=True))
    hidden = _closed(tables, hidden)
    if not hidden or any(_left_out(table).any() for table in tables):
        return hidden  # nothing small, or a table that was cleared before it was written
    published = Publication(models, _shown(results, min_cell), min_cell)
    helpless: set[tuple[str, str, int]] | None = None
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


def _shown(results: Results, min_cell: int) -> Results:
    """Those that do not rest on few rows."""
    flat = [r for r in results if isinstance(r, ConstraintResult)]
    if flat or not results:
        return [r for r in flat if not rests_on_few(r, min_cell)]
    each = [said for said in results if not isinstance(said, ConstraintResult)]
    return [[r for r in said if not rests_on_few(r, min_cell)] for said in each]


def _closed(tables: Sequence[pd.DataFrame], hidden: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """With a rate on labels, hide all of the group: any two of them would tell the third."""
    told = {group for metric, group in hidden if metric != "selection_rate"}
    cells = {(m, g) for t in tables for m, g in zip(t["metric"], t["group"], strict=True)}
    return hidden | {(m, g) for m, g in cells if m != "selection_rate" and g in told}


def _left_out(table: pd.DataFrame) -> pd.Series[bool]:
    return table["rate"].isna() & (table["count"] > 0)


def rests_on_few(result: ConstraintResult, min_cell: int = MIN_CELL) -> bool:
    """Whether what a constraint achieved must not be shown.

    It rests on a cell of a few rows or clusters, or on none at all; or a group of a few rows has
    none in an event, which tells the label of every one of them.
    """
    few = min((*result.counts.values(), *result.clusters.values()), default=0) < min_cell
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
    return count if metric in OF_ALL else HIDDEN


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


_SUPPOSED = ("true_gap", "smallest_bound", "chance_broken")


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
        "left_out": list(result.left_out),
        **({"strata_left_out": list(result.strata_left_out)} if result.strata_left_out else {}),
        "suppressed": hidden,
        "rows_needed": {
            name: None if hidden else plain_value(rows) for name, rows in result.rows_needed.items()
        },
        "empty": [] if hidden else [asdict(cell) for cell in result.empty],
        **{k: None if hidden else getattr(result, k) for k in _SUPPOSED},
        **({"clusters": {} if hidden else result.clusters} if result.clusters else {}),
        "words": "suppressed: too few rows in a group" if hidden else result.words(),
    }


def cell_dicts(
    rates: pd.DataFrame,
    min_cell: int = MIN_CELL,
    results: Sequence[ConstraintResult] = (),
    hidden: Collection[tuple[str, str]] | None = None,
) -> list[dict[str, Any]]:
    """Rates of every group as plain values, without those that :func:`hidden_cells` names.

    ``hidden`` are cells that were found for a publication of which this is a part.
    """
    if hidden is None:
        hidden = hidden_cells(rates, min_cell, results)
    written = []
    for row in rates.to_dict("records"):
        shown = {str(name): plain_value(value) for name, value in row.items()}
        left_out = (row["metric"], row["group"]) in hidden
        if left_out:
            count = hidden_count(row["metric"], int(row["count"]), min_cell)
            shown |= {"rate": None, "lower": None, "upper": None, "count": count}
            if "clusters" in shown:
                shown["clusters"] = HIDDEN
        written.append(shown | {"suppressed": left_out})
    return written
