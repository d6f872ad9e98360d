"""What the two estimators share: rows as boosters take them, the model kept, how training went."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from fairtrain._parameters import (
    ANYTHING,
    COLUMNS,
    DIFFERENCE,
    MAPPING,
    MISSING,
    NONE,
    RATIO,
    SEED,
    SHARE,
    Choice,
    Real,
    Table,
    Whole,
)
from fairtrain.boosting.distributed import DaskRows, map_rows, train_on_workers
from fairtrain.boosting.explaining import empty_cells, training_notes
from fairtrain.boosting.objective import Task
from fairtrain.boosting.registry import feature_gains, load_backend, stock_predict
from fairtrain.boosting.settings import round_settings, tree_settings
from fairtrain.boosting.training import Job, Trained, predict_all, train
from fairtrain.data import inputs
from fairtrain.data.rows import Rows
from fairtrain.estimator import FairEstimator
from fairtrain.exceptions import (
    FairtrainWarning,
    InvalidParameterError,
)
from fairtrain.lagrangian import multiplier_frame

__all__ = ["LagrangianBoosting"]

Floats = NDArray[np.float64]

_COUNTABLE = 2.0**53  # above it every float is a whole number


class LagrangianBoosting(FairEstimator):
    """Base of the classifier and the regressor."""

    task: ClassVar[Task]

    _allowed: ClassVar[Table] = {
        "constraints": ANYTHING,
        "difference_bound": DIFFERENCE | NONE,
        "ratio_bound": RATIO | NONE,
        "booster": Choice("xgboost", "lightgbm"),
        "n_estimators": Whole(1),
        "max_depth": Whole(1) | NONE,
        "learning_rate": Real(0, ends="()"),
        "dual_lr": Real(0, ends="()"),
        "multiplier_cap": Real(0, ends="()"),
        "validation_fraction": SHARE,
        "certification_fraction": SHARE,
        "confidence": Real(0, 1, "()") | NONE,
        "early_stopping_rounds": Whole(1) | NONE,
        "booster_params": MAPPING | NONE,
        "sensitive_features": COLUMNS,
        "positive_label": ANYTHING,
        "missing": MISSING,
        "min_count": Whole(0),
        "timeout": Real(0, 1e9, "(]"),
        "random_state": SEED,
        "n_jobs": Whole(-1024) | NONE,
    }

    # Set by the subclasses' constructors.
    booster: str
    timeout: float

    @property
    def feature_importances_(self) -> Floats:
        """Share of every feature in the gain of all splits, shape (d,)."""
        check_is_fitted(self)
        gains = feature_gains(self.booster_, self.n_features_in_)
        total = gains.sum()
        return gains / total if total > 0 else gains

    @property
    def _is_regression(self) -> bool:
        return self.task == "regression"

    def _check_settings(self) -> None:
        load_backend(self.booster)

    def _fit_features(self, X: Any) -> Any:
        if inputs.is_lazy(X):
            if self.booster != "xgboost":
                raise InvalidParameterError(
                    f"booster={self.booster!r} does not train on Dask collections; use 'xgboost'."
                )
            rows = DaskRows(X)
            inputs.check_features(self, rows.head, reset=True)
            self._levels = rows.levels
            return rows
        inputs.check_features(self, X, reset=True)
        X, self._levels = inputs.booster_features(X)
        return X

    def _features(self, X: Any) -> Any:
        """Features after ``fit``; a Dask collection stays as it is, to be read part by part."""
        return X if inputs.is_lazy(X) else super()._features(X)

    def _later_features(self, X: Any) -> Any:
        inputs.check_features(self, X, reset=False)
        return inputs.booster_features(X, self._levels)[0]

    def _divide(self, rows: Rows, rng: np.random.RandomState) -> Rows:
        self._seed = int(rng.randint(0, 2**31 - 1))  # the booster's, drawn before the split
        return super()._divide(rows, rng)

    def _train(self, rows: Rows, rng: np.random.RandomState, eval_set: Any = None) -> Rows:
        """Train, and predict for all rows."""
        trees = tree_settings(self, self.task, seed=self._seed)
        job = Job(self.booster, self.constraints_, self.scheme_, trees, round_settings(self))
        given = replace(rows, weight=_without_unit(rows.weight))
        if isinstance(rows.X, DaskRows):
            if eval_set is not None:
                raise InvalidParameterError(
                    "eval_set is not followed on Dask collections; the steering rows are: leave "
                    "it out."
                )
            found, predicted = train_on_workers(job, given, self.timeout)
        else:
            found = train(job, given, self._read_eval_set(eval_set))
            predicted = predict_all(job, found, given)
        self._keep(job, found)
        return self._scored(replace(rows, X=None), predicted)

    def _read_eval_set(self, eval_set: Any) -> list[tuple[Any, Floats]]:
        read = []
        for X, y in [] if eval_set is None else eval_set:
            rows = self._bare_features(X)
            target = inputs.column_of_values(y) if self._coding is None else self._coding.encode(y)
            inputs.check_lengths(inputs.number_of_rows(rows), y=target)
            read.append((rows, target.astype(np.float64)))
        return read

    def _keep(self, job: Job, found: Trained) -> None:
        self.booster_ = found.model
        self.history_: pd.DataFrame = found.rounds.history()
        self.n_estimators_ = found.rounds.n_trees
        self.best_iteration_ = found.rounds.best.when
        self.multipliers_: pd.DataFrame = multiplier_frame(job.families, found.rounds.multipliers)
        self._course = job, found.without_margins()  # until there is a report to explain

    def _scored(self, rows: Rows, values: Floats) -> Rows:
        """Add what is decided at these values, and the values."""
        if self._is_regression:
            return rows.decided(values)
        return rows.decided((values > 0.5).astype(np.float64), values)

    def _decided(self, rows: Rows) -> Rows:
        if not inputs.is_lazy(rows.X):
            return self._scored(rows, stock_predict(self.booster_, rows.X))
        values = np.asarray(map_rows(self._values, rows.X, np.empty(0)))
        inputs.check_lengths(len(values), y=rows.y)
        rows = self._scored(replace(rows, X=None), values)
        return rows if rows.weight is None else rows.take(np.flatnonzero(rows.weight > 0))

    def _decision(self, X: Any) -> Floats:
        values = stock_predict(self.booster_, X)
        return values if self._is_regression else (values > 0.5).astype(np.float64)

    def _values(self, X: Any) -> Floats:
        """Probabilities of the favourable label, or values, of rows that a person passes."""
        return stock_predict(self.booster_, self._features(X))

    def _by_part(self, function: Callable[[Any], Any], X: Any, like: NDArray[Any]) -> Any:
        """Apply a function of rows, to a Dask collection lazily, part by part."""
        check_is_fitted(self)
        return map_rows(function, X, like) if inputs.is_lazy(X) else function(X)

    def _warn_of_outcome(self) -> None:
        job, found = self.__dict__.pop("_course")
        self._notes = training_notes(self.fairness_report_, job, found)
        for note in empty_cells(job, found):
            warnings.warn(note, FairtrainWarning, stacklevel=4)
        self._warn_of_broken_bounds(stacklevel=5)
        self._warn_of_uselessness(stacklevel=5)

    def plot_convergence(self, ax: Any = None) -> Any:
        """Draw loss, gaps and multipliers over the rounds.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where; a new figure by default.

        Returns
        -------
        matplotlib Axes
        """
        from fairtrain.plotting import plot_convergence

        check_is_fitted(self)
        history = self.history_.rename(columns={"round": "epoch"})
        ax = plot_convergence(history, ax=ax, best_epoch=self.best_iteration_)
        ax.set_xlabel("round")
        return ax

    def __sklearn_tags__(self) -> Tags:
        """Tags of an estimator that takes missing values and sparse rows."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = tags.input_tags.allow_nan = True
        return tags


def _without_unit(weight: Floats | None) -> Floats | None:
    """Weights of mean 1, since leaves are shrunk and refused by the sum of the weights in them.

    Whole numbers stay: they count rows, and a weight of 2 is then the same as a row given twice.
    """
    if weight is None or ((weight == np.rint(weight)).all() and weight.sum() < _COUNTABLE):
        return weight
    scaled = weight / weight.max()  # whose sum cannot overflow
    mean_one: Floats = scaled / scaled.mean()
    return mean_one
