"""Calibrated models and thresholds as notebooks show them: every group, small ones left out."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from fairtrain._figures import Dot, Lane, Scale, fragment, legend
from fairtrain.metrics.disclosure import MIN_CELL
from fairtrain.metrics.verdicts import Usefulness

__all__ = ["as_html"]

_MOST_LANES = 20


def as_html(
    facts: str,
    table: pd.DataFrame,
    columns: Sequence[tuple[str, str]],
    *,
    worth: Usefulness,
    percent: bool = True,
    notes: Sequence[str] | None = None,
) -> str:
    """Give HTML without script: some numbers of every group, on the rows of the fit.

    Parameters
    ----------
    facts : str
        What was fitted, on which rows.
    table : DataFrame
        A row a group: ``group``, ``rows``, and numbers.
    columns : sequence of (str, str)
        Numbers that are drawn: the column, and what it is.
    worth : Usefulness
        Whether the model is of use.
    percent : bool, default=True
        Whether they are shares.
    notes : sequence of str, optional
        More about each group.
    """
    told = table.assign(note=[""] * len(table) if notes is None else list(notes))
    told = told[_shown(table["rows"])].sort_values(columns[-1][0], ascending=False, kind="stable")
    form = "{:.1%}" if percent else "{:+.3f}"
    lanes = [
        Lane(
            row["group"], f"{row['rows']:,} rows{row['note']}",
            [Dot(row[name], series=i, level=i) for i, (name, _) in enumerate(columns)],
            [(form.format(row[name]), said) for name, said in columns],
        )
        for row in told.head(_MOST_LANES).to_dict("records")
    ]  # fmt: skip
    idle = "" if worth is Usefulness.USEFUL else "No better than deciding alike for everybody."
    left = len(table) - len(lanes)
    why = f"as a group has fewer than {MIN_CELL} rows, or as more than {_MOST_LANES} are too many"
    last = f"{left} groups are not shown, {why}." if left else ""
    key = legend([(i, said) for i, (_, said) in enumerate(columns)])
    return fragment(idle, facts, Scale(lanes, percent=percent).draw(key) if lanes else "", last)


def _shown(rows: pd.Series[int]) -> pd.Series[bool]:
    """Which groups may be shown: with one hidden another is, as totals would tell the one."""
    few = rows < MIN_CELL
    if few.sum() == 1:
        few |= rows.rank(method="first") == 2
    return ~few
