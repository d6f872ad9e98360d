"""Which numbers rest on so few rows that they would tell of single people."""

from __future__ import annotations

import pandas as pd

__all__ = ["MIN_CELL", "count_words", "small_cells"]

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
    others = {name: count for name, count in counts.items() if count >= MIN_CELL}
    if hidden and others and sum(counts[name] for name in hidden) < MIN_CELL:
        hidden.add(min(others, key=lambda name: others[name]))
    return frozenset(hidden)


def count_words(count: int) -> str:
    """A count as it may be shown.

    Examples
    --------
    >>> count_words(1200), count_words(3), count_words(0)
    ('1,200', 'under 10', '0')
    """
    return f"under {MIN_CELL}" if 0 < count < MIN_CELL else f"{count:,}"
