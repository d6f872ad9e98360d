"""Which numbers rest on so few rows that they would tell of single people.

Everything that is shown, written or saved asks here what to leave out.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from fairtrain.metrics.verdicts import ConstraintResult

__all__ = [
    "MIN_CELL",
    "cell_dicts",
    "count_words",
    "hidden_cells",
    "plain_value",
    "rests_on_few",
    "result_dict",
    "shown_count",
    "small_cells",
]

MIN_CELL = 10
"""Rates over fewer rows are left out: one over a single row discloses a person's label."""


def small_cells(rates: pd.DataFrame, metric: str) -> frozenset[str]:
    """Groups whose rate must not be shown, for a rate that stands by itself.

    Those with 1 to 9 rows; and, where these have fewer than ten between them, the smallest other
    group too, for otherwise the total minus the groups shown would tell.
    """
    rows = rates[rates["metric"] == metric]
    counts = dict(zip(rows["group"], rows["count"], strict=True))
    hidden = {name for name, count in counts.items() if 0 < count < MIN_CELL}
    return frozenset(hidden | _next_smallest(counts, hidden, MIN_CELL))


def hidden_cells(rates: pd.DataFrame, min_cell: int = MIN_CELL) -> set[tuple[str, str]]:
    """Cells (metric, group) that are small, or that a small one could be worked out from."""
    counts = {
        str(metric): dict(zip(cells["group"], cells["count"], strict=True))
        for metric, cells in rates.groupby("metric", sort=False)
    }
    hidden = {(m, g) for m in counts for g, n in counts[m].items() if 0 < n < min_cell}
    on_labels = [metric for metric in counts if metric != "selection_rate"]
    told = {group for metric, group in hidden if metric in on_labels}
    hidden |= {(metric, group) for metric in on_labels for group in told}
    for metric in {"accuracy", "selection_rate"} & set(counts):  # given for all rows as well
        own = {group for m, group in hidden if m == metric}
        hidden |= {(metric, group) for group in _next_smallest(counts[metric], own, min_cell)}
    return hidden


def _next_smallest(counts: dict[str, int], hidden: set[str], min_cell: int) -> set[str]:
    """The smallest group shown, where few rows are hidden: the total would give them away."""
    few = sum(counts[name] for name in hidden)
    shown = {name: count for name, count in counts.items() if count and name not in hidden}
    return {min(shown, key=shown.__getitem__)} if 0 < few < min_cell and shown else set()


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


def count_words(count: int) -> str:
    """A count as it may be shown.

    Examples
    --------
    >>> count_words(1200), count_words(3), count_words(0)
    ('1,200', 'under 10', '0')
    """
    shown = shown_count(count)
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
        "words": "suppressed: too few rows in a group" if hidden else result.words(),
    }


def cell_dicts(rates: pd.DataFrame, min_cell: int = MIN_CELL) -> list[dict[str, Any]]:
    """Rates of every group as plain values, without those that :func:`hidden_cells` names."""
    hidden = hidden_cells(rates, min_cell)
    found = []
    for row in rates.to_dict("records"):
        shown = {str(name): plain_value(value) for name, value in row.items()}
        left_out = (row["metric"], row["group"]) in hidden
        if left_out:
            # Not even that there is none: it would tell the labels of the group's other rows.
            count = f"under {min_cell}" if row["count"] < min_cell else shown["count"]
            shown |= {"rate": None, "lower": None, "upper": None, "count": count}
        found.append(shown | {"suppressed": left_out})
    return found
