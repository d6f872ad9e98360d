"""Which columns of a table tell the group, and which the gap goes with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairtrain._commands.plan import ColumnPlan, as_dates
from fairtrain.data.groups import Groups
from fairtrain.metrics.disclosure import plain_value
from fairtrain.metrics.proxies import feature_proxies

__all__ = ["proxies_of", "telling"]

_TELLS_GROUP = 0.95


def proxies_of(
    frame: pd.DataFrame,
    plan: ColumnPlan,
    decided: NDArray[Any],
    groups: Groups,
    clusters: NDArray[np.int64] | None = None,
) -> tuple[dict[str, Any], ...]:
    """Look at the columns that are used, as they are used.

    Parameters
    ----------
    frame : DataFrame of n rows
        With these columns.
    plan : ColumnPlan
        What each is used as.
    decided : ndarray of shape (n,)
        1 for the favourable label or decision.
    groups : Groups
        Who.
    clusters : ndarray of int64, shape (n,), optional
        Which rows belong together.

    Returns
    -------
    tuple of dict
        Plain values of :func:`~fairtrain.metrics.feature_proxies`, to three digits.
    """
    used = {column.name: _read(frame[column.name], column.use, column.words)
            for column in plan.columns if column.use != "drop"}  # fmt: skip
    if not used:
        return ()
    X = pd.DataFrame(used, index=frame.index)
    table = feature_proxies(X.reset_index(drop=True), decided, groups, clusters=clusters)
    rows: list[dict[Any, Any]] = table.to_dict("records")
    return tuple(
        {
            str(name): plain_value(round(v, 3)) if isinstance(v, float) else str(v)
            for name, v in row.items()
        }
        for row in rows
    )


def _read(column: pd.Series, use: str, words: bool) -> Any:
    if use == "date":
        return as_dates(column)
    if use == "number":
        return pd.to_numeric(column, errors="coerce" if words else "raise").astype(np.float64)
    return column.astype(object).where(column.notna(), None)


def telling(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name the columns that are as good as the sensitive one."""
    return [
        f"Column '{p['feature']}' tells '{p['group']}' nearly by itself (AUC {p['auc']:.3f}): a "
        f"model that reads it all but reads the group; --drop {p['feature']} leaves it out."
        for p in found
        if p["auc"] >= _TELLS_GROUP
    ]
