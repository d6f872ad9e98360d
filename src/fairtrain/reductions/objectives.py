"""What a reduction makes least: the mean cost of decisions, or the mean loss of numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from fairlearn.reductions import ClassificationMoment, LossMoment, Moment
from numpy.typing import NDArray

from fairtrain.constraints import ErrorCosts
from fairtrain.data.groups import Groups

__all__ = ["Loaded", "MeanLoss", "WeightedError", "automatic_nu"]

Floats = NDArray[np.float64]
Predictor = Callable[[Any], NDArray[Any]]

_NU_WHEN_MEMORISED = 1e-3  # fairlearn derives nu from the training error; from 0 it never stops


class WeightedError(ClassificationMoment):
    """Mean cost of decisions, each row counting by its weight.

    Parameters
    ----------
    costs : ErrorCosts, optional
        Of the two errors; 1 by default, which makes it the share of wrong decisions.
    """

    def __init__(self, costs: ErrorCosts | None = None) -> None:
        super().__init__()
        self.costs = ErrorCosts() if costs is None else costs

    def load_data(
        self, X: Any, y: Any, *, groups: Groups | None = None, sample_weight: Floats | None = None
    ) -> None:
        """Take the training rows; fairlearn before 0.15 hands over the groups too."""
        self.X = X
        labels = np.asarray(y, dtype=np.float64)
        weight = np.ones(len(labels)) if sample_weight is None else sample_weight
        self._total = float(weight.sum())
        self._missed = self.costs.false_negative * weight * labels
        self._gain = self._missed - self.costs.false_positive * weight * (1 - labels)
        self.data_loaded = True

    @property
    def index(self) -> list[str]:
        """The one quantity."""
        return ["error"]

    def gamma(self, predictor: Predictor) -> pd.Series:
        """Weighted cost of one predictor."""
        decisions = np.asarray(predictor(self.X)).reshape(-1)
        cost = float(self._missed.sum() - self._gain @ decisions)
        return pd.Series([cost / self._total], index=self.index)

    def project_lambda(self, lambda_vec: pd.Series) -> pd.Series:
        """Nothing to project."""
        return lambda_vec

    def signed_weights(self, lambda_vec: pd.Series | None = None) -> pd.Series:
        """Gain of the favourable decision in each row."""
        scale = 1.0 if lambda_vec is None else float(lambda_vec.iloc[0])
        return pd.Series(scale * self._gain)


class MeanLoss(LossMoment):
    """Mean loss of predicted numbers, each row counting by its weight.

    Parameters
    ----------
    loss : callable
        ``loss(y, prediction)`` gives one number a row.
    scale : float, default=1
        A loss of this size counts as 1.
    """

    def __init__(self, loss: Callable[[Any, Any], Any], scale: float = 1.0) -> None:
        super().__init__(loss)
        self.scale = scale

    def load_data(
        self, X: Any, y: Any, *, groups: Groups | None = None, sample_weight: Floats | None = None
    ) -> None:
        """Take the training rows."""
        self.X = X
        self._values = np.asarray(y, dtype=np.float64)
        self._weight = np.ones(len(self._values)) if sample_weight is None else sample_weight
        self.data_loaded = True

    @property
    def index(self) -> list[str]:
        """The one quantity."""
        return ["loss"]

    def gamma(self, predictor: Predictor) -> pd.Series:
        """Weighted mean loss of one predictor."""
        values = np.asarray(predictor(self.X), dtype=np.float64).reshape(-1)
        losses = np.asarray(self.reduction_loss(self._values, values))
        mean = float(np.average(losses, weights=self._weight))
        return pd.Series([mean / self.scale], index=self.index)

    def signed_weights(self, lambda_vec: pd.Series | None = None) -> pd.Series:
        """Weight of each row."""
        return pd.Series(self._weight)


class Loaded(Moment):
    """An objective that has its rows already."""

    def __init__(self, objective: Any) -> None:
        super().__init__()
        self.inner = objective

    def load_data(self, X: Any, y: Any, *, groups: Any = None, sample_weight: Any = None) -> None:
        """Keep the rows there are."""

    def gamma(self, predictor: Predictor) -> pd.Series:
        """Value of the objective."""
        return pd.Series(self.inner.gamma(predictor))

    def signed_weights(self, lambda_vec: pd.Series | None = None) -> pd.Series:
        """What each row's answer earns."""
        return pd.Series(self.inner.signed_weights(lambda_vec))


def automatic_nu(wrong: Floats, weight: Floats) -> float:
    """fairlearn's rule, half the standard error of the training error, for weighted rows too.

    Rows are counted by Kish's effective number, so that the unit of weights does not matter.
    """
    mean = np.average(wrong, weights=weight)
    variance = float(np.average((wrong - mean) ** 2, weights=weight))
    n = float(weight.sum() ** 2 / (weight @ weight))
    return 0.5 * math.sqrt(variance / max(n - 1, 1.0)) or _NU_WHEN_MEMORISED
