"""What the two estimators share: rows as boosters take them, the model kept, how training went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from fairtrain._parameters import ANYTHING, MAPPING, NONE, SPLITTER, Choice, Real, Table, Whole
from fairtrain._warnings import warn
from fairtrain.boosting.backend import Settings, backend_of, load_backend
from fairtrain.boosting.distributed import DaskRows, map_rows, train_on_workers
from fairtrain.boosting.objective import Task, is_probability_loss
from fairtrain.boosting.training import Job, Trained, scored, train_here
from fairtrain.data import inputs
from fairtrain.data.rows import Role, Rows
from fairtrain.estimator import FairEstimator
from fairtrain.exceptions import FairtrainWarning, InvalidParameterError
from fairtrain.lagrangian import explain_training, multiplier_frame
from fairtrain.metrics.disclosure import MIN_CELL
from fairtrain.metrics.joint import jointly
from fairtrain.metrics.report import FairnessReport
from fairtrain.metrics.verdicts import judge

__all__ = ["LagrangianBoosting"]

Floats = NDArray[np.float64]

_BY_FOLDS = "Out-of-fold decisions moved the prices and chose the round, so they certify nothing."
_COUNTABLE = 2.0**53  # above it every float is a whole number


class LagrangianBoosting(FairEstimator):
    """Base of the classifier and the regressor."""

    task: ClassVar[Task]
    _advice = "loosen the bound, or raise n_estimators or learning_rate"

    _allowed: ClassVar[Table] = {
        "booster": Choice("xgboost", "lightgbm"),
        "objective": ANYTHING,
        "n_estimators": Whole(1),
        "max_depth": Whole(1) | NONE,
        "learning_rate": Real(0, ends="()"),
        "dual_lr": Real(0, ends="()"),
        "multiplier_cap": Real(0, ends="()"),
        "confidence": Real(0, 1, "()") | NONE,
        "early_stopping_rounds": Whole(1) | NONE,
        "booster_params": MAPPING | NONE,
        "timeout": Real(0, 1e9, "(]"),
        "n_jobs": Whole(-1024) | NONE,
        "cv": Whole(2) | SPLITTER | NONE,
    }

    # Set by the subclasses' constructors.
    booster: str
    timeout: float
    cv: Any = None

    @property
    def feature_importances_(self) -> Floats:
        """Share of every feature in the gain of all splits, shape (d,)."""
        check_is_fitted(self)
        gains = backend_of(self.booster_).gains(self.booster_, self.n_features_in_)
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

    def _draw(self, rng: np.random.RandomState) -> None:
        self._seed = int(rng.randint(0, 2**31 - 1))  # the booster's

    def _train(self, rows: Rows, rng: np.random.RandomState, eval_set: Any = None) -> Rows:
        """Train, and predict for all rows."""
        objective = self._objective(rows.labels)
        job = Job(Settings.of(self, self._seed), self.constraints_, self.scheme_, objective)
        given = replace(rows, weight=_without_unit(rows.weight))
        if not isinstance(rows.X, DaskRows):
            folds = () if self.cv is None else given.part("training").folds(self.cv, rng)
            trained, judged = train_here(job, given, self._read_eval_set(eval_set), folds)
        elif self.cv is not None:
            raise InvalidParameterError("cv does not train on Dask collections; leave it out.")
        elif eval_set is None:
            trained, judged = train_on_workers(job, given, self.timeout)
        else:
            raise InvalidParameterError(
                "eval_set is not followed on Dask collections; the steering rows are: leave it out."
            )
        self._keep(job, trained)
        return replace(judged, X=rows.X, weight=rows.weight)

    def _read_eval_set(self, eval_set: Any) -> list[tuple[Any, Floats]]:
        read = []
        for X, y in [] if eval_set is None else eval_set:
            rows = self._bare_features(X)
            target = inputs.column_of_values(y) if self._coding is None else self._coding.encode(y)
            inputs.check_lengths(inputs.number_of_rows(rows), y=target)
            read.append((rows, target.astype(np.float64)))
        return read

    def _keep(self, job: Job, trained: Trained) -> None:
        self.booster_ = trained.model
        self.history_: pd.DataFrame = trained.history()
        self.n_estimators_ = trained.n_trees
        self.best_iteration_ = trained.best.when
        self.multipliers_: pd.DataFrame = multiplier_frame(job.families, trained.dual.multipliers)
        self._course = job, trained.without_margins()  # until there is a report to explain

    def _decided(self, rows: Rows) -> Rows:
        if not inputs.is_lazy(rows.X):
            return scored(rows, self._predicted(rows.X))
        values = np.asarray(map_rows(self._values, rows.X, np.empty(0)))
        inputs.check_lengths(len(values), y=rows.y)
        rows = scored(replace(rows, X=None), values)
        return rows if rows.weight is None else rows.take(np.flatnonzero(rows.weight > 0))

    def _report(self, rows: Rows, role: Role, reading: int = 1) -> FairnessReport:
        """Judge decisions, but where a bound is on a loss of probabilities, these."""
        report = super()._report(rows, role, reading)
        if self._is_regression or not any(map(is_probability_loss, self.constraints_)):
            return report
        confidence = report.confidence
        soft = replace(rows, decision=rows.score)
        judged = [(c, soft if is_probability_loss(c) else rows) for c in self.constraints_]
        results = tuple(
            judge(c, on, role, confidence) if on is soft else found
            for (c, on), found in zip(judged, report.results, strict=True)
        )
        joint = jointly(judged, results, role, confidence)
        return replace(report, results=results, joint=joint)

    def _decision(self, X: Any) -> Floats:
        values = self._predicted(X)
        return values if self._is_regression else (values > 0.5).astype(np.float64)

    def _predicted(self, X: Any) -> Floats:
        """Probabilities of the favourable label, or values, of prepared rows."""
        return backend_of(self.booster_).predict(self.booster_, X)

    def _values(self, X: Any) -> Floats:
        """The same, of rows that a person passes."""
        return self._predicted(self._features(X))

    def _by_part(self, function: Callable[[Any], Any], X: Any, like: NDArray[Any]) -> Any:
        """Apply a function of rows, to a Dask collection lazily, part by part."""
        check_is_fitted(self)
        return map_rows(function, X, like) if inputs.is_lazy(X) else function(X)

    def _warn_of_outcome(self) -> None:
        job, trained = self.__dict__.pop("_course")
        empty = _empty_cells(job, trained)
        self._notes = [
            f"The model holds {trained.n_trees} of {len(trained.records)} rounds.",
            *([] if self.cv is None else [_BY_FOLDS]),
            *empty,
            *explain_training(
                self.fairness_report_,
                trained.dual,
                base_rates=None if self._is_regression else trained.base_rates,
                names=job.scheme.names,
                rates=("learning_rate", "dual_lr"),
            ),
        ]
        for note in empty:
            warn(note, FairtrainWarning)
        self._warn_of_broken_bounds()
        self._warn_of_uselessness()

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


def _empty_cells(job: Job, trained: Trained) -> list[str]:
    """Name groups in which a rate is not defined, so that nothing watched their bound."""
    said, start = [], 0
    for family in job.families:
        counts = trained.steering_counts[start : start + len(family.scheme)]
        start += len(family.scheme)
        empty = np.flatnonzero(counts == 0)
        if len(empty):
            # That a small group has no such row tells the labels of its few people.
            large = [g for g in empty if family.scheme.counts[g] >= MIN_CELL]
            names = [family.cell_names[g] for g in large[:5]]
            few = f"groups of fewer than {MIN_CELL} rows"
            where = " and ".join([str(names)] * bool(large) + [few] * (len(large) < len(empty)))
            rows = {
                "true_positive_rate": "row with the favourable label",
                "false_positive_rate": "row with the unfavourable label",
            }.get(family.rate.name, "row of its event")
            said.append(
                f"{family.name}: no {rows} among those that steer in {where}, so the "
                f"{family.rate.name} of such a group is not defined and its bound not watched; "
                "bring more rows, or merge groups."
            )
    return said
