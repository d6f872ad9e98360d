"""A calibrator that reads score and groups from the columns of a table."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone

from fairtrain._commands.columns import SensitiveColumns
from fairtrain._commands.tables import require_columns
from fairtrain._text import one_line
from fairtrain.exceptions import InvalidDataError

__all__ = ["TableCalibrator", "decides_at_half", "read_score"]

Floats = NDArray[np.float64]


class TableCalibrator(BaseEstimator):
    """Calibrate a column of scores group by group.

    Parameters
    ----------
    score : str
        The column.
    sensitive : SensitiveColumns
        How the groups are read.
    calibrator : GroupFairnessCalibrator
        What is fitted.

    Attributes
    ----------
    calibrator_ : GroupFairnessCalibrator
        The fitted calibrator.
    """

    def __init__(self, score: str, sensitive: SensitiveColumns, calibrator: Any) -> None:
        self.score = score
        self.sensitive = sensitive
        self.calibrator = calibrator

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the table that are read."""
        return (self.score, *self.sensitive.columns)

    def fit(self, X: pd.DataFrame, y: Any, *, clusters: Any = None) -> Self:
        """Fit on a table and its labels."""
        scores, who = read_score(X, self.score), self.sensitive.read(X)
        self.calibrator_ = clone(self.calibrator).fit(scores, y, who, clusters=clusters)
        return self

    def transform(self, X: pd.DataFrame) -> Floats:
        """Calibrated scores, shape (n,).

        Raises
        ------
        InvalidDataError
            If a column is absent or holds no probabilities.
        """
        calibrated = self.calibrator_.transform(read_score(X, self.score), self.sensitive.read(X))
        return np.asarray(calibrated, dtype=np.float64)


def decides_at_half(model: Any) -> bool:
    """Whether a fitted model decides where its probability exceeds .5: it is then asked once.

    The plug-in does, unless it draws lots; its scores take longest of all that a command does.
    """
    return getattr(model, "lottery_", None) is False


def read_score(frame: pd.DataFrame, name: str) -> Floats:
    """Read a column of probabilities of the favourable label.

    Raises
    ------
    InvalidDataError
        If it is absent, has gaps, or leaves [0, 1].
    """
    require_columns(frame, (name,), what="score column")
    column = frame[name]
    if not pd.api.types.is_numeric_dtype(column) or column.isna().any():
        raise InvalidDataError(f"score column '{one_line(name)}' must hold a number in every row.")
    score = column.to_numpy(dtype=np.float64)
    if score.min() < 0 or score.max() > 1:
        raise InvalidDataError(
            f"score column '{one_line(name)}' must hold probabilities of the favourable label, "
            f"from 0 to 1, but ranges from {score.min():g} to {score.max():g}."
        )
    return score
