"""Decisions whose labels come late: what is held of them until then."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from fairtrain._text import listed
from fairtrain.data import inputs
from fairtrain.exceptions import InvalidDataError

__all__ = ["Waiting"]

_DECISION = "decision of the model"  # no sensitive column is called so
_CLUSTER = "cluster of the row"


@dataclass
class Waiting:
    """Id, decision and sensitive values of each row whose label has not come.

    Attributes
    ----------
    rows : DataFrame
        By id; a column for the decision, one for the cluster where rows come in such, and one for
        each sensitive column.
    """

    rows: pd.DataFrame = field(default_factory=pd.DataFrame)

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, ids: Any, y_pred: Any, sensitive: inputs.Columns, clusters: Any = None) -> None:
        """Hold the rows of a window.

        Raises
        ------
        InvalidDataError
            If they have other sensitive columns than those that wait, or an id waits already.
        """
        names = _names(ids)
        decisions = inputs.as_vector(y_pred, "y_pred")
        inputs.check_lengths(len(decisions), ids=names)
        own = {} if clusters is None else {_CLUSTER: inputs.as_vector(clusters, "clusters")}
        window = pd.DataFrame({_DECISION: decisions, **own, **sensitive}, index=names)
        if len(self) and (_CLUSTER in window) != (_CLUSTER in self.rows):
            raise InvalidDataError(
                "rows that wait for labels come in clusters, or do not: pass clusters for all of "
                "them or for none, or forget(ids) those that wait."
            )
        if len(self) and set(window.columns) != set(self.rows.columns):
            raise InvalidDataError(
                "the rows that wait for labels have the sensitive columns "
                f"{listed(self.rows.columns.drop(_DECISION))}, these {listed(sensitive)}; pass the "
                "same, or forget(ids) those that wait."
            )
        rows = pd.concat([self.rows, window])
        if rows.index.has_duplicates:
            twice = listed(rows.index[rows.index.duplicated()][:1])
            raise InvalidDataError(f"ids must name each waiting row once, not {twice} twice.")
        self.rows = rows

    def decided(self, ids: Any) -> tuple[Any, dict[str, Any], Any]:
        """Decisions, sensitive columns and clusters (or None) of rows that wait.

        Raises
        ------
        InvalidDataError
            If an id waits for no label, or is named twice.
        """
        names = _names(ids)
        strange = names[names.duplicated() | ~names.isin(self.rows.index)]
        if len(strange):
            raise InvalidDataError(
                f"ids must name waiting rows once; {listed(strange[:1])} does not."
            )
        columns = {name: column.to_numpy() for name, column in self.rows.loc[names].items()}
        decisions, clusters = columns.pop(_DECISION), columns.pop(_CLUSTER, None)
        return decisions, {str(name): column for name, column in columns.items()}, clusters

    def forget(self, ids: Any) -> None:
        """Drop rows; ids that do not wait are passed over."""
        self.rows = self.rows[~self.rows.index.isin(_names(ids))]


def _names(ids: Any) -> pd.Index:
    column = inputs.as_vector(ids, "ids")
    inputs.factorize(column)  # which refuses lists
    names: pd.Index = pd.Index(column, dtype=object)
    return names
