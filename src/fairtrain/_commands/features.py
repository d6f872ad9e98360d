"""Features of a table: numbers imputed and scaled, categories one-hot with rare levels merged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from fairtrain._commands.columns import SensitiveColumns, as_words
from fairtrain._commands.options import Features
from fairtrain._commands.tables import require_columns
from fairtrain._text import flatten, listed, one_line
from fairtrain.exceptions import InvalidDataError

__all__ = ["TableFeatures", "choose_features"]

MISSING, RARE = "(missing)", "(rare)"


class TableFeatures(TransformerMixin, BaseEstimator):
    """Turn a table into an array of features.

    Levels seen in fewer than ``min_frequency`` rows become one level and are forgotten, so that a
    column of names or identifiers leaves none of them in the model; levels never seen are ignored.

    Parameters
    ----------
    numeric, categorical : sequence of str
        Feature columns.
    sensitive : SensitiveColumns, optional
        Sensitive columns that serve as categorical features too, read as they were for training.
    min_frequency : int, default=10
        Rows that a level needs for a column of its own.

    Attributes
    ----------
    levels_ : dict of str to list of str
        Levels kept for every categorical column.
    transformer_ : ColumnTransformer
        The fitted transformer.
    """

    def __init__(
        self,
        numeric: Sequence[str] = (),
        categorical: Sequence[str] = (),
        *,
        sensitive: SensitiveColumns | None = None,
        min_frequency: int = 10,
    ) -> None:
        self.numeric = numeric
        self.categorical = categorical
        self.sensitive = sensitive
        self.min_frequency = min_frequency

    def fit(self, X: pd.DataFrame, y: Any = None) -> Self:
        """Learn medians, scales and frequent levels."""
        words = self._words(X)
        self.levels_ = {name: self._levels(column) for name, column in words.items()}
        numbers = make_pipeline(
            SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()
        )
        codes = OneHotEncoder(
            categories=list(self.levels_.values()), handle_unknown="ignore", sparse_output=False
        )
        self.transformer_ = ColumnTransformer(
            [
                ("numbers", numbers, list(self.numeric)),
                ("categories", codes, list(self.levels_)),
            ],
            verbose_feature_names_out=False,
        )
        self.transformer_.fit(self._table(X, words))
        return self

    def transform(self, X: pd.DataFrame) -> NDArray[np.float64]:
        """Give an array of shape (n, d).

        Raises
        ------
        InvalidDataError
            If a column is absent or a number turned into text.
        """
        table = self._table(X, self._words(X))
        return np.asarray(self.transformer_.transform(table), dtype=np.float64)

    def _levels(self, column: pd.Series) -> list[str]:
        counts = column.value_counts()
        frequent = sorted(str(level) for level in counts.index[counts >= self.min_frequency])
        rare = [RARE] if len(frequent) < len(counts) or not frequent else []
        return [level for level in frequent if level != RARE] + rare

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that a table must have."""
        sensitive = () if self.sensitive is None else self.sensitive.columns
        return tuple(dict.fromkeys([*self.numeric, *self.categorical, *sensitive]))

    def _words(self, X: pd.DataFrame) -> dict[str, pd.Series]:
        absent = [name for name in self.columns if name not in X.columns]
        if absent:
            raise InvalidDataError(
                f"the table lacks {listed(absent)}, which the model was trained on."
            )
        words = {name: as_words(X[name]) for name in self.categorical}
        if self.sensitive is not None:
            words |= {str(name): column for name, column in self.sensitive.read(X).items()}
        return {name: column.fillna(MISSING) for name, column in words.items()}

    def _table(self, X: pd.DataFrame, words: dict[str, pd.Series]) -> pd.DataFrame:
        columns: dict[str, Any] = {name: _as_number(X[name], name) for name in self.numeric}
        for name, column in words.items():
            known = self.levels_[name]
            columns[name] = column.where(column.isin(known), RARE) if RARE in known else column
        return pd.DataFrame(columns, index=X.index)


def _as_number(column: pd.Series, name: str) -> NDArray[np.float64]:
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    bad = np.isnan(numbers) & column.notna().to_numpy()
    if bad.any():
        value = column.iloc[int(np.argmax(bad))]
        raise InvalidDataError(
            f"column '{one_line(name)}' must hold numbers, as it did for training, but holds "
            f"'{one_line(value)}'."
        )
    return np.where(np.isinf(numbers), np.nan, numbers)


def _numeric_columns(frame: pd.DataFrame, names: Sequence[str]) -> tuple[str, ...]:
    """Those of the columns that hold numbers or truth values.

    Raises
    ------
    InvalidDataError
        If a column holds dates.
    """
    numeric = []
    for name in names:
        column = frame[name]
        dates = pd.api.types.is_datetime64_any_dtype(column) or (
            column.dtype == object and column.map(lambda v: hasattr(v, "isoformat")).any()
        )
        if dates:
            raise InvalidDataError(
                f"column '{one_line(name)}' holds dates or times, which are no feature: turn it "
                f"into a number, or leave it out with --drop {one_line(name)}."
            )
        if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
            numeric.append(name)
    return tuple(numeric)


def choose_features(
    frame: pd.DataFrame, options: Features, *, without: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Numeric and categorical columns among those that nobody took out.

    Raises
    ------
    InvalidDataError
        If a named column is absent, or none is left.
    """
    known = tuple(frame.columns)
    dropped, codes = flatten(options.drop, known), flatten(options.categorical, known)
    require_columns(frame, (*dropped, *codes), what="column")
    out = {*without, *dropped}
    names = [name for name in known if name not in out]
    numbers = _numeric_columns(frame, [name for name in names if name not in codes])
    if not names and not options.use_sensitive:
        raise InvalidDataError("no feature column is left.")
    return numbers, tuple(name for name in names if name not in set(numbers))
