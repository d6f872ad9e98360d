"""What the two estimators share: rows in, the model kept, reports out."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted

from fairtrain._facade import warn_of_broken_bounds
from fairtrain.boosting.backend import feature_gains, load_backend, stock_predict
from fairtrain.boosting.distributed import DaskRows, local, map_rows, train_on_workers
from fairtrain.boosting.explaining import empty_cells, training_notes
from fairtrain.boosting.objective import Task
from fairtrain.boosting.settings import round_settings, tree_settings
from fairtrain.boosting.training import Job, JobRows, Trained, predict_all, train
from fairtrain.constraints import Constraint
from fairtrain.data import inputs
from fairtrain.data.groups import Groups, GroupScheme
from fairtrain.data.rows import take_sensitive
from fairtrain.data.splits import RowSplit, split_rows
from fairtrain.exceptions import (
    FairtrainWarning,
    InvalidParameterError,
    NearConstantWarning,
)
from fairtrain.lagrangian import multiplier_frame
from fairtrain.metrics.report import FairnessReport
from fairtrain.metrics.verdicts import RowsRole, Verdict

__all__ = ["LagrangianBoosting", "Prepared"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Prepared:
    """Checked rows, and which of them do what."""

    X: Any
    y: Floats
    groups: Groups
    weight: Floats | None
    split: RowSplit
    watched: list[tuple[Any, Floats]]

    @property
    def job_rows(self) -> JobRows:
        """What training needs of them; without steering rows the training rows have to steer."""
        steering = self.split.steering if len(self.split.steering) else None
        return JobRows(
            X=self.X,
            y=self.y,
            codes=self.groups.codes,
            weight=self.weight,
            training=self.split.training,
            steering=steering,
            watched=self.watched,
        )


class LagrangianBoosting(BaseEstimator):
    """Base of the classifier and the regressor."""

    task: ClassVar[Task]

    # Set by the subclasses' constructors.
    constraints: Any
    booster: str
    sensitive_features: str | Sequence[str] | None
    missing: str
    min_count: int
    validation_fraction: float | None
    certification_fraction: float | None
    confidence: float | None
    timeout: float
    random_state: Any

    @property
    def needs_sensitive_at_predict(self) -> bool:
        """False: predictions read the features only."""
        return False

    @property
    def feature_importances_(self) -> Floats:
        """Share of every feature in the gain of all splits, shape (d,)."""
        check_is_fitted(self)
        gains = feature_gains(self.booster_, self.n_features_in_)
        total = gains.sum()
        return gains / total if total > 0 else gains

    @abstractmethod
    def _read_constraints(self) -> tuple[Constraint, ...]:
        """Constraints with their bounds."""

    @abstractmethod
    def _read_target(self, y: Any, constraints: tuple[Constraint, ...]) -> Floats:
        """Labels as 0 and 1, or values; keeps what ``predict`` needs."""

    @abstractmethod
    def _read_later_target(self, y: Any) -> Floats:
        """Labels or values of rows that come after those of ``fit``."""

    @abstractmethod
    def _strata(self, target: Floats) -> NDArray[Any]:
        """Small whole numbers that the split keeps in proportion."""

    @abstractmethod
    def _report_on(
        self,
        y: Floats,
        predicted: Floats,
        groups: Groups,
        weight: Floats | None,
        role: RowsRole,
    ) -> FairnessReport:
        """Judge what the model says about rows."""

    def _fit(
        self, X: Any, y: Any, sensitive_features: Any, sample_weight: Any, eval_set: Any
    ) -> Self:
        self.__dict__.pop("fairness_report_", None)  # a fit that fails leaves no half of two models
        constraints = self._read_constraints()
        load_backend(self.booster)
        rng = check_random_state(self.random_state)
        trees = tree_settings(self, self.task, seed=int(rng.randint(0, 2**31 - 1)))
        rounds = round_settings(self)
        rows = self._prepare(X, y, sensitive_features, sample_weight, eval_set, constraints, rng)
        job = Job(self.booster, constraints, rows.groups.scheme, trees, rounds)
        found, predicted = self._train(job, rows)
        self._keep(job, found)
        self._report(rows, predicted)
        self._explain_training(job, found)
        self._warn_of_outcome()
        return self

    def _train(self, job: Job, rows: Prepared) -> tuple[Trained, Floats]:
        """Train, and predict for all rows."""
        if isinstance(rows.X, DaskRows):
            return train_on_workers(job, rows.X, rows.job_rows, self.timeout)
        found = train(job, rows.job_rows)
        return found, predict_all(found, rows.job_rows, self.task)

    def _prepare(
        self,
        X: Any,
        y: Any,
        sensitive_features: Any,
        sample_weight: Any,
        eval_set: Any,
        constraints: tuple[Constraint, ...],
        rng: np.random.RandomState,
    ) -> Prepared:
        on_workers = inputs.is_lazy(X)
        if on_workers:
            self._check_distributed(eval_set)
            X, sensitive = take_sensitive(X, self.sensitive_features, sensitive_features)
            X, y, sensitive, sample_weight = (
                DaskRows(X),
                local(y),
                local(sensitive),
                local(sample_weight),
            )
            inputs.check_features(self, X.head, reset=True)
        else:
            X, sensitive = take_sensitive(
                inputs.as_features(X), self.sensitive_features, sensitive_features
            )
            inputs.check_features(self, X, reset=True)
        target = self._read_target(y, constraints)
        groups = Groups.from_sensitive(
            sensitive,
            missing=self.missing,  # type: ignore[arg-type]
            min_count=self.min_count,
            like=X if inputs.has_index(X) else y,
        )
        n = X.shape[0] if on_workers else inputs.number_of_rows(X)
        inputs.check_lengths(n, y=target, sensitive_features=groups.codes)
        weight = inputs.as_sample_weight(sample_weight, n)
        if on_workers:
            self._levels = X.levels
        else:
            X, self._levels = inputs.booster_features(X)
        if weight is not None and (weight == 0).any():
            kept = np.flatnonzero(weight > 0)
            X = X.take(kept) if on_workers else inputs.take_rows(X, kept)
            target, groups, weight = target[kept], groups.take(kept), weight[kept]
        split = split_rows(
            groups.codes,
            self._strata(target),
            validation_fraction=self.validation_fraction,
            certification_fraction=self.certification_fraction,
            random_state=rng,
        )
        return Prepared(X, target, groups, weight, split, self._read_eval_set(eval_set))

    def _check_distributed(self, eval_set: Any) -> None:
        if self.booster != "xgboost":
            raise InvalidParameterError(
                f"booster={self.booster!r} does not train on Dask collections; use 'xgboost'."
            )
        if eval_set is not None:
            raise InvalidParameterError(
                "eval_set is not followed on Dask collections; the steering rows are: leave it out."
            )

    def _read_eval_set(self, eval_set: Any) -> list[tuple[Any, Floats]]:
        read = []
        for X, y in [] if eval_set is None else list(eval_set):
            rows, target = self._features(X), self._read_later_target(y)
            inputs.check_lengths(inputs.number_of_rows(rows), y=target)
            read.append((rows, target))
        return read

    def _keep(self, job: Job, found: Trained) -> None:
        self.booster_ = found.model
        self.constraints_ = job.constraints
        self.scheme_: GroupScheme = job.scheme
        self.history_: pd.DataFrame = found.rounds.history()
        self.n_estimators_ = found.rounds.kept
        self.best_iteration_ = found.rounds.best.when
        self.multipliers_: pd.DataFrame = multiplier_frame(job.families, found.rounds.multipliers)

    def _report(self, rows: Prepared, predicted: Floats) -> None:
        parts: dict[RowsRole, NDArray[np.int64]] = {
            "training": rows.split.training,
            "steering": rows.split.steering,
            "certification": rows.split.certification,
        }
        self.reports_: dict[str, FairnessReport] = {
            role: self._report_on(
                rows.y[part],
                predicted[part],
                rows.groups.take(part),
                None if rows.weight is None else rows.weight[part],
                role,
            )
            for role, part in parts.items()
            if len(part)
        }
        self.fairness_report_ = self.reports_[list(self.reports_)[-1]]
        self.status_: Verdict = self.fairness_report_.verdict

    def _explain_training(self, job: Job, found: Trained) -> None:
        self._notes = training_notes(self.fairness_report_, job, found)
        for note in empty_cells(job, found):
            warnings.warn(note, FairtrainWarning, stacklevel=4)

    def _warn_of_outcome(self) -> None:
        warn_of_broken_bounds(self.reports_, stacklevel=4)
        if self.reports_.get("steering", self.reports_["training"]).near_constant:
            warnings.warn(
                "(almost) everybody gets the same decision, so any bound is kept and worth "
                "nothing: loosen the bound, or raise n_estimators or learning_rate.",
                NearConstantWarning,
                stacklevel=4,
            )

    def _predicted(self, X: Any) -> Floats:
        check_is_fitted(self)
        return stock_predict(self.booster_, self._features(X))

    def _by_part(self, function: Any, X: Any, like: NDArray[Any]) -> Any:
        """Apply a function of rows, to a Dask collection lazily, part by part."""
        check_is_fitted(self)
        return map_rows(function, X, like) if inputs.is_lazy(X) else function(X)

    def evaluate(
        self, X: Any, y: Any, *, sensitive_features: Any = None, sample_weight: Any = None
    ) -> FairnessReport:
        """Judge the constraints on rows that took no part in training or choosing.

        Parameters
        ----------
        X, y, sensitive_features, sample_weight
            As in ``fit``; groups keep their codes, a group that fit never saw raises.

        Returns
        -------
        FairnessReport
        """
        check_is_fitted(self)
        X = X if inputs.is_lazy(X) else inputs.as_features(X)
        X, sensitive = take_sensitive(X, self.sensitive_features, sensitive_features)
        y, sensitive, sample_weight = local(y), local(sensitive), local(sample_weight)
        codes = self.scheme_.encode(sensitive, like=X if inputs.has_index(X) else y)
        predicted = np.asarray(self._by_part(self._predicted, X, np.empty(0)))
        target = self._read_later_target(y)
        inputs.check_lengths(len(predicted), y=target, sensitive_features=codes)
        weight = inputs.as_sample_weight(sample_weight, len(target))
        groups = Groups(self.scheme_, codes)
        return self._report_on(target, predicted, groups, weight, "certification")

    def explain(self) -> str:
        """Say in plain words what was achieved, on which rows, and how training went."""
        check_is_fitted(self)
        return "\n".join([self.fairness_report_.explain(), *self._notes])

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

    @property
    def _report_confidence(self) -> float:
        return 0.95 if self.confidence is None else self.confidence

    def _features(self, X: Any) -> Any:
        """Rows that come after those of ``fit``, as the booster takes them."""
        X = inputs.as_features(X)
        if self.sensitive_features is not None:
            X = inputs.drop_if_present(X, self.sensitive_features)
        inputs.check_features(self, X, reset=False)
        return inputs.booster_features(X, self._levels)[0]

    def __sklearn_is_fitted__(self) -> bool:
        """Whether ``fit`` has finished."""
        return hasattr(self, "fairness_report_")

    def __sklearn_tags__(self) -> Tags:
        """Tags of an estimator that takes missing values and sparse rows."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = tags.input_tags.allow_nan = True
        return tags
