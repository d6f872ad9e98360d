"""``Reduction``: a fair estimator around any other, by a sequence of weighted problems."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import MetaEstimatorMixin, clone
from sklearn.utils import Tags, get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping

from fairtrain._parameters import ANYTHING, FLAG, NONE, SPLITTER, Real, Table, Whole
from fairtrain.data.draws import new_key
from fairtrain.data.fitting import request_weights
from fairtrain.data.rows import Role, Rows
from fairtrain.estimator import FairEstimator
from fairtrain.exceptions import InvalidParameterError
from fairtrain.reductions.moments import Recorded
from fairtrain.reductions.oracle import Oracle, warn_if_rows_stored
from fairtrain.reductions.training import run_reduction

__all__ = ["Reduction"]

Floats = NDArray[np.float64]

_TIE = 1e-6  # of equally accurate members the earlier one: rounding errors shall not choose


class Reduction(MetaEstimatorMixin, FairEstimator):
    """Base of estimators that fairlearn's ``ExponentiatedGradient`` trains."""

    not_saved = ("exponentiated_gradient_",)  # most of its predictors are in no mixture

    _allowed: ClassVar[Table] = {
        "estimator": ANYTHING,
        "eps": Real(0, ends="()"),
        "max_iter": Whole(1),
        "nu": Real(0) | NONE,
        "cv": Whole(2) | SPLITTER | NONE,
        "deterministic": FLAG,
        "resample": FLAG,
    }

    # Set by the subclasses' constructors.
    estimator: Any
    eps: float
    max_iter: int
    nu: float | None
    cv: Any
    deterministic: bool
    resample: bool

    # Set by fit.
    predictors_: list[Any]
    weights_: Floats

    @abstractmethod
    def _moment(self) -> Recorded:
        """What is asked, and what is optimised, as one moment without rows."""

    @abstractmethod
    def _mixed(self, weights: Floats, answered: NDArray[Any], X: Any) -> Floats:
        """Decide about rows by what members with these weights answered, shape (T, n)."""

    @abstractmethod
    def _keep_constants(self, weights: Floats) -> None:
        """Keep the weights of the moment's constant answers."""

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sensitive_features: Any = None,
        sample_weight: Any = None,
        clusters: Any = None,
    ) -> Self:
        """Train the mixture.

        Parameters
        ----------
        X : array, sparse matrix or frame of shape (n, d)
            Features, handed to the estimator as they come.
        y : array-like of shape (n,)
            Two labels; numbers in regression.
        sensitive_features : frame, series, mapping, array or list of n rows, optional
            Who; left out where the constructor names columns of ``X``.
        sample_weight : array-like of shape (n,), optional
            Row weights, honoured in the error and in the rates.
        clusters : array-like of shape (n,) or str, optional
            Which rows belong together, such as those of one customer, or the column of ``X`` that
            says so: no split tears them apart, and limits allow for them.

        Returns
        -------
        self

        Raises
        ------
        InvalidDataError, InvalidParameterError
            If rows or settings cannot be used.

        Warns
        -----
        ConstraintNotMetWarning, NearConstantWarning, MemorisationWarning, StoredRowsWarning
        """
        return self._fit(X, y, sensitive_features, sample_weight, clusters)

    def _check_settings(self) -> None:
        if self.cv is not None and self.validation_fraction:
            raise InvalidParameterError(
                "cv and validation_fraction both say which rows steer; with cv all of them do: "
                "leave validation_fraction out."
            )

    def _train(self, rows: Rows, rng: np.random.RandomState, *args: Any, **more: Any) -> Rows:
        """Run the reduction on the training rows, weigh its mixture on rows that steer."""
        learning = rows.part("training")
        folds = () if self.cv is None else learning.folds(self.cv, rng)
        seeds = None if self.random_state is None else rng
        oracle = Oracle(
            self.estimator,
            resample=self.resample,
            rng=seeds,
            folds=folds,
            values=self._is_regression,
        )
        moment = self._moment()
        settings: dict[str, Any] = {"eps": self.eps, "max_iter": self.max_iter, "nu": self.nu}
        run, answered, plain = run_reduction(oracle, moment, learning, **settings)
        self.exponentiated_gradient_ = run
        self.draw_key_ = new_key(rng)
        self.history_: pd.DataFrame = run.history
        self.n_iter_ = run.last_iter_ + 1
        self.n_oracle_calls_, self.n_fits_ = run.n_oracle_calls_, oracle.n_fits
        self.best_gap_ = float(run.best_gap_)
        weights = np.append(run.weights_, np.zeros(len(moment.constants)))
        if folds:
            weights = _weighed(moment, learning, answered)
        elif "steering" in rows.roles:
            steering = rows.part("steering")
            said = np.array([oracle.answers(p, steering.X) for p in run.predictors_])
            weights = _weighed(moment, steering, said)
        trained = weights[: len(run.weights_)]
        kept = np.flatnonzero(trained > 0)
        self.predictors_ = [run.predictors_[t] for t in kept]
        self.weights_ = weights[kept]
        self._keep_constants(weights[len(trained) :])
        warn_if_rows_stored(self.predictors_)
        if not self._is_regression:
            self._keep_baseline(plain, rows, learning)
        if not folds:
            return rows
        self._notes = ["Out-of-fold decisions weighed the mixture, so they certify nothing."]
        return self._out_of_fold(rows, self._mixed(trained, answered, learning.X))

    def _keep_baseline(self, plain: Oracle, rows: Rows, learning: Rows) -> None:
        """Judge the estimator without constraints on the rows that judge the mixture."""
        role: Role = "steering" if plain.folds or "steering" in rows.roles else "training"
        decided = learning.decided(plain.predict(learning.X))
        if "steering" in rows.roles:
            steering = rows.part("steering")
            decided = steering.decided(plain.answers(plain.model, steering.X).astype(np.float64))
        self.baseline_report_ = self._judged(decided, role)

    def get_metadata_routing(self) -> MetadataRouter:
        """Route: groups and weights come here, the estimator gets the reduction's weights."""
        base = clone(self.estimator, safe=False)
        router = MetadataRouter(owner=self).add_self_request(self)
        if hasattr(base, "get_metadata_routing"):
            request_weights(base)
            router.add(
                estimator=base, method_mapping=MethodMapping().add(caller="fit", callee="fit")
            )
        return router

    def __sklearn_tags__(self) -> Tags:
        """Tags of an estimator that accepts what its own accepts."""
        tags = super().__sklearn_tags__()
        if hasattr(self.estimator, "__sklearn_tags__"):
            base = get_tags(self.estimator).input_tags
            tags.input_tags.sparse, tags.input_tags.allow_nan = base.sparse, base.allow_nan
        return tags


def _weighed(moment: Recorded, rows: Rows, answered: NDArray[Any]) -> Floats:
    """Weights under which members, and constant answers, keep the bounds on these rows."""
    moment.load_data(rows.X, rows.outcomes, groups=rows.groups, sample_weight=rows.weight)
    constant = np.repeat(np.array(moment.constants)[:, None], len(rows), axis=1)
    answered = np.vstack([answered.astype(np.float64), constant])
    errors = np.array([moment.objective.gamma(lambda _, a=a: a).iloc[0] for a in answered])
    errors += _TIE * np.arange(len(errors))
    return moment.mixture(answered, errors).weights
