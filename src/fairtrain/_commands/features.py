"""Features of a table: numbers and dates imputed and scaled, frequent categories."""

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
from fairtrain._commands.plan import as_dates
from fairtrain._text import listed, one_line
from fairtrain.exceptions import InvalidDataError

__all__ = ["TableFeatures"]

MISSING, RARE = "(missing)", "(rare)"
_PARTS = ("year", "month", "day of the week", "days")


class TableFeatures(TransformerMixin, BaseEstimator):
    """Turn a table into an array of features.

    Levels seen in fewer than ``min_frequency`` rows become one level and are forgotten, so that a
    column of names or identifiers leaves none of them in the model; levels never seen are ignored.

    Parameters
    ----------
    numeric, categorical, dates : sequence of str
        Feature columns. A date gives four numbers: year, month, day of the week, and days since
        1970, so that seasons and trends are seen.
    lenient : sequence of str
        Numeric columns that hold words too, which count as missing.
    sensitive : SensitiveColumns, optional
        Sensitive columns that serve as categorical features too, read as they were for training.
    min_frequency : int, default=10
        Rows that a level needs for a column of its own.
    one_hot : bool, default=True
        Give a column of zeros and ones for every level; False gives the categories themselves, for
        estimators that read them.

    Attributes
    ----------
    levels_ : dict of str to list of str
        Levels kept for every categorical column.
    transformer_ : ColumnTransformer
        The fitted transformer.
    """

    one_hot: bool = True  # of models saved before there was a choice

    def __init__(
        self,
        numeric: Sequence[str] = (),
        categorical: Sequence[str] = (),
        *,
        dates: Sequence[str] = (),
        lenient: Sequence[str] = (),
        sensitive: SensitiveColumns | None = None,
        min_frequency: int = 10,
        one_hot: bool = True,
    ) -> None:
        self.numeric = numeric
        self.categorical = categorical
        self.dates = dates
        self.lenient = lenient
        self.sensitive = sensitive
        self.min_frequency = min_frequency
        self.one_hot = one_hot

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
                ("numbers", numbers, self._numbers),
                ("categories", codes, list(self.levels_)),
            ],
            verbose_feature_names_out=False,
        )
        self.transformer_.fit(self._table(X, words))
        return self

    def transform(self, X: pd.DataFrame) -> NDArray[np.float64] | pd.DataFrame:
        """Give an array of shape (n, d), or a frame of numbers and categories.

        Raises
        ------
        InvalidDataError
            If a column is absent or a number turned into text.
        """
        table = self._table(X, self._words(X))
        if self.one_hot:
            return np.asarray(self.transformer_.transform(table), dtype=np.float64)
        if names := self._numbers:
            table[names] = self.transformer_.named_transformers_["numbers"].transform(table[names])
        for name, levels in self.levels_.items():
            # Numbers for words, which are slow to look up.
            codes = pd.Series(pd.Categorical(table[name], categories=levels).codes, table.index)
            table[name] = codes.where(codes >= 0).astype("category")
        return table

    def _levels(self, column: pd.Series) -> list[str]:
        counts = column.value_counts()
        frequent = sorted(str(level) for level in counts.index[counts >= self.min_frequency])
        rare = [RARE] if len(frequent) < len(counts) or not frequent else []
        return [level for level in frequent if level != RARE] + rare

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that a table must have."""
        sensitive = () if self.sensitive is None else self.sensitive.columns
        return tuple(dict.fromkeys([*self.numeric, *self.categorical, *self.dates, *sensitive]))

    @property
    def _numbers(self) -> list[str]:
        return [*self.numeric, *(f"{name}: {part}" for name in self.dates for part in _PARTS)]

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
        columns: dict[str, Any] = {
            name: _as_number(X[name], name, lenient=name in self.lenient) for name in self.numeric
        }
        for name in self.dates:
            columns |= _date_columns(X[name], name)
        for name, column in words.items():
            known = self.levels_[name]
            columns[name] = column.where(column.isin(known), RARE) if RARE in known else column
        return pd.DataFrame(columns, index=X.index)


def _date_columns(column: pd.Series, name: str) -> dict[str, NDArray[np.float64]]:
    dates = as_dates(column) if column.notna().any() else pd.to_datetime(column)
    if dates is None:
        value = column.dropna().iloc[0]
        raise InvalidDataError(
            f"column '{one_line(name)}' must hold dates, as it did for training, but holds "
            f"'{one_line(value)}'."
        )
    days = (dates - pd.Timestamp("1970-01-01")) / pd.Timedelta(days=1)
    parts = (dates.dt.year, dates.dt.month, dates.dt.day_of_week, days // 1)
    return {
        f"{name}: {part}": np.asarray(values, dtype=np.float64)
        for part, values in zip(_PARTS, parts, strict=True)
    }


def _as_number(column: pd.Series, name: str, *, lenient: bool = False) -> NDArray[np.float64]:
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    bad = np.isnan(numbers) & column.notna().to_numpy()
    if bad.any() and not lenient:
        value = column.iloc[int(np.argmax(bad))]
        raise InvalidDataError(
            f"column '{one_line(name)}' must hold numbers, as it did for training, but holds "
            f"'{one_line(value)}'."
        )
    return np.where(np.isinf(numbers), np.nan, numbers)
