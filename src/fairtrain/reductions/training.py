"""One run of fairlearn's exponentiated gradient, stripped of every training row."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from fairlearn.reductions import ExponentiatedGradient
from numpy.typing import NDArray
from sklearn.base import clone

from fairtrain._warnings import warn
from fairtrain.data.rows import Rows
from fairtrain.exceptions import MemorisationWarning
from fairtrain.reductions.moments import Recorded
from fairtrain.reductions.oracle import Oracle

__all__ = ["ReductionRun", "run_reduction"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ReductionRun:
    """fairlearn's bookkeeping of one reduction, under its own names, without its rows.

    Attributes
    ----------
    predictors_ : list of T estimators
        Fitted base estimators, or fairlearn's constant ones.
    weights_ : ndarray of shape (T,)
        Probability of each, as training rows would have it.
    lambda_vecs_ : DataFrame of shape (rows of constraints, T)
        Multipliers that each was the best response to.
    lambda_vecs_EG_, lambda_vecs_LP_ : DataFrame
        Multipliers of each iteration, and of the linear program after it.
    best_iter_, last_iter_ : int
        Iteration of the smallest duality gap, and the last.
    best_gap_ : float
        Smallest duality gap reached.
    n_oracle_calls_, n_oracle_calls_dummy_returned_ : int
        Best responses asked for, and those that were constant.
    oracle_execution_times_ : list of float
        Seconds of each; a repeated problem is looked up.
    nu : float
        Duality gap at which it was to stop.
    history : DataFrame
        A row an iteration; see :class:`fairtrain.ReductionsWrapper`.
    """

    predictors_: list[Any]
    weights_: Floats
    lambda_vecs_: pd.DataFrame
    lambda_vecs_EG_: pd.DataFrame  # noqa: N815
    lambda_vecs_LP_: pd.DataFrame  # noqa: N815
    best_iter_: int
    last_iter_: int
    best_gap_: float
    n_oracle_calls_: int
    n_oracle_calls_dummy_returned_: int
    oracle_execution_times_: list[float]
    nu: float
    history: pd.DataFrame


def run_reduction(
    oracle: Oracle, moment: Recorded, rows: Rows, *, eps: float, max_iter: int, nu: float | None
) -> tuple[ReductionRun, NDArray[Any], Oracle]:
    """Train the mixture; see :class:`fairtrain.ReductionsWrapper` for the settings.

    Parameters
    ----------
    oracle : Oracle
        The estimator.
    moment : Recorded
        The constraints and what is optimised, without rows.
    rows : Rows
        Training rows.
    eps, max_iter, nu
        As there.

    Returns
    -------
    run : ReductionRun
        What it leaves behind.
    answered : ndarray of shape (T, n)
        What every predictor says of the training rows; out of fold, where the oracle has folds.
    plain : Oracle
        The estimator without constraints.
    """
    X = rows.X
    y = rows.outcomes if rows.labels is None else rows.outcomes.astype(np.int8)
    given: dict[str, Any] = {"groups": rows.groups, "sample_weight": rows.weight}
    plain = clone(oracle).fit(X, y, rows.weights)
    answers = plain.predict(X)
    moment.suit(answers, y, rows.groups, rows.weight)
    nu = moment.nu(answers, y, rows.weights) if nu is None else nu
    if not oracle.folds and (answers == y).all():
        _warn_memorised(oracle.estimator)
        trial = copy.deepcopy(moment)
        trial.load_data(X, y, **given)
        bound = trial.bound()
        if (trial.gamma(lambda _: answers) <= bound + 1e-9).all():
            once = pd.DataFrame({0: bound * 0.0})  # no multiplier was needed
            bookkeeping = (once, once, once[[]], 0, 0, 0.0, 1, 0, [0.0], nu, pd.DataFrame())
            return ReductionRun([plain.model], np.ones(1), *bookkeeping), answers[None, :], plain
    reduction = ExponentiatedGradient(oracle, moment, eps=eps, max_iter=max_iter, nu=nu)
    with warnings.catch_warnings():
        # fairlearn's own bookkeeping, once a new predictor; nothing a user could act on.
        warnings.filterwarnings("ignore", message="Setting a value on a Series via .at")
        reduction.fit(X, y, **given)
    # Before 0.15 fairlearn loads the moment itself, not a copy.
    moment = getattr(reduction, "constraints_", reduction.constraints)
    known: dict[str, Any] = {f.name: getattr(reduction, f.name, None) for f in fields(ReductionRun)}
    run = ReductionRun(
        **known
        | {
            "predictors_": [getattr(p, "model", p) for p in reduction.predictors_],
            "weights_": reduction.weights_.sort_index().to_numpy(dtype=np.float64),
            "history": _history(moment, reduction.lambda_vecs_EG_.to_numpy(), norm=1 / eps),
        }
    )
    return run, np.array([oracle.answers(p, X) for p in reduction.predictors_]), plain


def _history(moment: Recorded, multipliers: Floats, *, norm: float) -> pd.DataFrame:
    """Rebuild the iterations of the exponentiated gradient from its oracle calls.

    Parameters
    ----------
    moment : Recorded
        The constraints, with the log of the calls.
    multipliers : ndarray of shape (rows, iterations)
        Multipliers at each iteration.
    norm : float
        Largest sum of multipliers (fairlearn's B).

    Returns
    -------
    DataFrame
        ``error``, ``gap`` (pairwise), ``violation`` (of the worst row, 0 or below when all hold)
        and ``duality_gap`` of the average over all iterations so far, ``best_gap`` (smallest
        duality gap so far), then one multiplier a constraint row.
    """
    asked, gammas, errors, rates = map(np.array, zip(*moment.calls, strict=True))
    excess = gammas - moment.bound().to_numpy(dtype=np.float64)
    rows, chosen, call = [], np.zeros(len(errors)), -1
    for t, now in enumerate(multipliers.T):
        later = np.flatnonzero((asked[call + 1 :] == now).all(axis=1))
        call = call + 1 + later[0] if len(later) else len(errors) - 1
        seen = slice(0, call + 1)
        chosen[int(np.argmin(errors[seen] + excess[seen] @ now))] += 1
        share = chosen / chosen.sum()
        mean = multipliers[:, : t + 1].mean(axis=1)
        error, violation = float(share @ errors), float((share @ excess).max())
        here = error + float(mean @ (share @ excess))
        low = float((errors[seen] + excess[seen] @ mean).min())
        high = error + norm * max(violation, 0.0)
        gap = moment.widest_gap(share @ rates)
        rows.append((error, gap, violation, max(here - low, high - here)))
    frame = pd.DataFrame(rows, columns=["error", "gap", "violation", "duality_gap"])
    frame.index.name = "iteration"
    frame["best_gap"] = frame["duality_gap"].cummin()
    names = [f"multiplier {name}" for name in moment.names]
    return frame.join(pd.DataFrame(multipliers.T, columns=names))


def _warn_memorised(estimator: Any) -> None:
    warn(
        f"{type(estimator).__name__} reproduces every training label, so gaps on training rows say "
        "nothing about new ones; limit its depth or regularise it, and set validation_fraction or "
        "cv to steer on rows it has not seen.",
        MemorisationWarning,
    )
