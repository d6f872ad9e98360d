"""One run of fairlearn's exponentiated gradient, stripped of every training row."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from fairlearn.reductions import ExponentiatedGradient
from numpy.typing import NDArray
from sklearn.base import clone

from fairtrain.constraints import Constraint
from fairtrain.constraints.inequalities import constraint_rows
from fairtrain.constraints.table import RateTable
from fairtrain.data.groups import Groups
from fairtrain.data.rows import Rows
from fairtrain.exceptions import MemorisationWarning
from fairtrain.reductions.history import iteration_history
from fairtrain.reductions.moments import BincountMoment
from fairtrain.reductions.oracle import Oracle

__all__ = ["ReductionRun", "Settings", "run_reduction"]

Floats = NDArray[np.float64]

_NU_WHEN_MEMORISED = 1e-3  # fairlearn derives nu from the training error; from 0 it never stops


@dataclass(frozen=True)
class Settings:
    """Parameters that go to fairlearn's ``ExponentiatedGradient`` under the same names."""

    eps: float
    max_iter: int
    nu: float | None


@dataclass(frozen=True)
class ReductionRun:
    """What a reduction leaves behind.

    Attributes
    ----------
    predictors : list
        Fitted base estimators (or fairlearn's constant ones).
    weights : ndarray of shape (T,)
        Probability of each.
    history : DataFrame
        One row an iteration.
    n_oracle_calls : int
        Best responses asked for.
    best_gap : float
        Smallest duality gap reached.
    """

    predictors: list[Any]
    weights: Floats
    history: pd.DataFrame
    n_oracle_calls: int
    best_gap: float


def run_reduction(
    oracle: Oracle,
    constraints: Sequence[Constraint],
    rows: Rows,
    settings: Settings,
) -> ReductionRun:
    """Train the mixture; see :class:`fairtrain.ReductionsWrapper` for the settings."""
    assert rows.y is not None
    X, y, groups, sample_weight = rows.X, rows.y.astype(np.int8), rows.groups, rows.weight
    plain = clone(oracle).fit(X, y, np.ones(len(y)) if sample_weight is None else sample_weight)
    wrong = np.abs(np.asarray(plain.predict(X), dtype=np.float64) - y)
    nu = settings.nu
    if not wrong.any():
        _warn_memorised(oracle.estimator)
        if _keeps_bounds(constraints, y, groups, sample_weight):
            return ReductionRun([plain.fitted_], np.ones(1), pd.DataFrame(), 1, 0.0)
        nu = _NU_WHEN_MEMORISED if nu is None else nu
    elif nu is None and sample_weight is not None:
        nu = _automatic_nu(wrong, sample_weight)
    moment = BincountMoment(constraints)
    reduction = ExponentiatedGradient(
        oracle, moment, eps=settings.eps, max_iter=settings.max_iter, nu=nu
    )
    with warnings.catch_warnings():
        # fairlearn's own bookkeeping, once a new predictor; nothing a user could act on.
        warnings.filterwarnings("ignore", message="Setting a value on a Series via .at")
        reduction.fit(X, y, groups=groups, sample_weight=sample_weight)
    # Before 0.15 fairlearn loads the moment itself, not a copy.
    fitted: BincountMoment = getattr(reduction, "constraints_", reduction.constraints)
    history = iteration_history(fitted, reduction.lambda_vecs_EG_.to_numpy(), norm=1 / settings.eps)
    return ReductionRun(
        predictors=[getattr(p, "fitted_", p) for p in reduction.predictors_],
        weights=reduction.weights_.sort_index().to_numpy(dtype=np.float64),
        history=history,
        n_oracle_calls=int(reduction.n_oracle_calls_),
        best_gap=float(reduction.best_gap_),
    )


def _keeps_bounds(
    constraints: Sequence[Constraint], y: NDArray[Any], groups: Groups, weight: Floats | None
) -> bool:
    """Whether decisions equal to the labels keep every bound."""
    table = RateTable.comparing(constraints, y, groups, weight)
    rows = constraint_rows(table)
    return bool((rows.matrix @ np.nan_to_num(table(y)) <= rows.limits + 1e-9).all())


def _automatic_nu(wrong: Floats, weight: Floats) -> float:
    """fairlearn's rule, half the standard error of the training error, for weighted rows.

    Rows are counted by Kish's effective number, so that the unit of weights does not matter.
    """
    error = float(np.average(wrong, weights=weight))
    n = float(weight.sum() ** 2 / (weight @ weight))
    return 0.5 * math.sqrt(error * (1 - error) / max(n - 1, 1.0))


def _warn_memorised(estimator: Any) -> None:
    warnings.warn(
        f"{type(estimator).__name__} reproduces every training label, so gaps on training rows say "
        "nothing about new ones; limit its depth or regularise it, and set validation_fraction to "
        "steer on rows it has not seen.",
        MemorisationWarning,
        stacklevel=5,
    )
