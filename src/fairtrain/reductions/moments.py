"""The moments that fairlearn's ``ExponentiatedGradient`` is given, on ``np.bincount``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from fairlearn.reductions import ClassificationMoment
from numpy.typing import NDArray

from fairtrain.constraints import Constraint
from fairtrain.constraints.inequalities import constraint_rows
from fairtrain.constraints.table import RateTable
from fairtrain.data.groups import Groups

__all__ = ["BincountMoment"]

Floats = NDArray[np.float64]
Predictor = Callable[[Any], NDArray[Any]]

_NOTHING_LEFT = 1e-9


class BincountMoment(ClassificationMoment):
    """A list of constraints as one fairlearn moment.

    Memory is O(rows); one evaluation is one ``bincount`` for every rate.

    Parameters
    ----------
    constraints : sequence of Constraint
        Stacked: each contributes its own rows and multipliers.
    """

    def __init__(self, constraints: Sequence[Constraint]) -> None:
        super().__init__()
        self.constraints = tuple(constraints)

    def load_data(
        self, X: Any, y: Any, *, groups: Groups, sample_weight: Floats | None = None
    ) -> None:
        """Take the training rows. ``y`` holds 0 and 1."""
        self.X = X
        self._y = pd.Series(np.asarray(y, dtype=np.float64))
        self.data_loaded = True
        plain = np.ones(len(self._y)) if sample_weight is None else sample_weight
        self._size = float(plain.sum())
        self._gain = plain * (2 * self._y.to_numpy() - 1)
        self.calls: list[tuple[Floats, Floats, float]] = []
        self._asked: Floats | None = None
        self.table = RateTable.comparing(
            self.constraints, self._y.to_numpy(), groups, sample_weight
        )
        self.rows = constraint_rows(self.table)
        self._index = pd.RangeIndex(len(self.rows.limits))

    @property
    def total_samples(self) -> float:
        """Sum of the training rows' weights: their number, where they have none."""
        return self._size

    @property
    def index(self) -> pd.RangeIndex:
        """One place for every constraint row; ``rows.names`` says what it means."""
        return self._index

    def default_objective(self) -> WeightedError:
        """Mean error, with the rows' own weights."""
        return WeightedError()

    def gamma(self, predictor: Predictor) -> pd.Series:
        """Left-hand side of every row, for one predictor."""
        decisions = np.asarray(predictor(self.X)).reshape(-1)
        rates = np.nan_to_num(self.table(decisions))  # a cell without rows is in no constraint
        if self._asked is not None:  # the first look at the oracle's answer to these multipliers
            self.calls.append((self._asked, rates, self.table.error(decisions)))
            self._asked = None
        return pd.Series(self.rows.matrix @ rates, index=self._index)

    def bound(self) -> pd.Series:
        """Right-hand side of every row."""
        return pd.Series(self.rows.limits, index=self._index)

    def project_lambda(self, lambda_vec: pd.Series) -> pd.Series:
        """Multipliers that bound the Lagrangian at least as well."""
        projected = self.rows.projected(lambda_vec.to_numpy(dtype=np.float64))
        return pd.Series(projected, index=self._index)

    def signed_weights(self, lambda_vec: pd.Series) -> pd.Series:
        """What each row's favourable decision costs under these multipliers, sign turned."""
        self._asked = lambda_vec.to_numpy(dtype=np.float64, copy=True)
        cell_weights = self.rows.matrix.T @ self._asked
        weights = -self._size * self.table.pull_back(cell_weights)
        if np.abs(weights + self._gain).max() < _NOTHING_LEFT * np.abs(self._gain).max():
            # The multipliers outweigh every label exactly: any decision is a best response, but
            # fairlearn would divide by the sum of weights, 0.
            weights *= 1 - 1e-6
        return pd.Series(weights)


class WeightedError(ClassificationMoment):
    """Share of wrong decisions, each row counting by its weight."""

    def load_data(
        self, X: Any, y: Any, *, groups: Groups | None = None, sample_weight: Floats | None = None
    ) -> None:
        """Take the training rows; fairlearn before 0.15 hands over the groups too."""
        self.X = X
        self._labels = np.asarray(y, dtype=np.float64)
        self._weight = np.ones(len(self._labels)) if sample_weight is None else sample_weight
        self.data_loaded = True

    @property
    def index(self) -> list[str]:
        """The one quantity."""
        return ["error"]

    def gamma(self, predictor: Predictor) -> pd.Series:
        """Weighted error of one predictor."""
        wrong = np.abs(self._labels - np.asarray(predictor(self.X)).reshape(-1))
        return pd.Series([float(self._weight @ wrong / self._weight.sum())], index=self.index)

    def project_lambda(self, lambda_vec: pd.Series) -> pd.Series:
        """Nothing to project."""
        return lambda_vec

    def signed_weights(self, lambda_vec: pd.Series | None = None) -> pd.Series:
        """Gain of the favourable decision in each row."""
        scale = 1.0 if lambda_vec is None else float(lambda_vec.iloc[0])
        return pd.Series(scale * self._weight * (2 * self._labels - 1))
