"""Deployment without the attribute: group-aware probabilities, learned from features and score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import roc_auc_score
from sklearn.utils import check_random_state

from fairtrain.calibration.audit.errors import make_cells, measures_of
from fairtrain.calibration.cells import CLIP, Codes, Floats, gather
from fairtrain.calibration.intake import as_logits
from fairtrain.calibration.maps.logistic import fit_platt
from fairtrain.data import inputs
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

__all__ = ["DistilledCalibrator", "distill"]


_SHARE_NEEDED = 0.5
_REVEALED = 0.75


@dataclass(frozen=True, eq=False)
class DistilledCalibrator:
    """A map of features and score that reads no sensitive attribute.

    Attributes
    ----------
    report : DataFrame
        One line for each of ``group-aware``, ``distilled`` and ``global``, on rows that the map
        was not fitted on: ``largest_error`` (debiased calibration error of the worst group of at
        least 30 rows), ``mean_error`` (over groups, weighted by rows) and ``log_loss``.
    revealed : float
        How well features and score tell groups apart: one-vs-rest AUC, from .5 (not at all) to 1.
    recovered : float
        Share of the way from the global map's mean error to the group-aware map's.
    is_group_calibration : bool
        Whether it may be called calibration by group: the features reveal the groups (AUC of at
        least .75) and at least half of the way is recovered.
    """

    report: pd.DataFrame
    revealed: float
    recovered: float
    is_group_calibration: bool
    _model: Any
    _scale: str

    def transform(self, X: Any, scores: Any) -> Floats:
        """Calibrate scores without the attribute.

        Parameters
        ----------
        X : array or frame of shape (n, d)
            Features, as in :func:`distill`.
        scores : array-like of shape (n,)
            Scores.

        Returns
        -------
        ndarray of shape (n,)
            Probabilities.
        """
        x = as_logits(scores, self._scale)
        return np.asarray(np.clip(self._model.predict(_table(X, x)), 0.0, 1.0))

    def explain(self) -> str:
        """Say in plain words what the map is, and what it must not be called."""
        rows = self.report.set_index("map")
        said = ", ".join(
            f"{name} {line['mean_error']:.3f} (worst group {line['largest_error']:.3f})"
            for name, line in rows.iterrows()
        )
        verdict = (
            "It may be called calibration by group."
            if self.is_group_calibration
            else "It must not be called calibration by group: the features do not stand in for "
            "the attribute."
        )
        return (
            f"Mean calibration error over groups: {said}. Features tell groups apart with an AUC "
            f"of {self.revealed:.2f}; {self.recovered:.0%} of the gain of knowing the group is "
            f"recovered. {verdict}"
        )


def distill(
    calibrator: Any,
    X: Any,
    scores: Any,
    y: Any,
    sensitive_features: Any,
    *,
    estimator: Any = None,
    cv: int = 3,
    random_state: Any = None,
) -> DistilledCalibrator:
    r"""Learn :math:`E[q \mid X, s]`, the group-aware probability given features and score.

    Parameters
    ----------
    calibrator : fitted GroupFairnessCalibrator or Multicalibrator
        Gives q, with the attribute.
    X : array or frame of shape (n, d)
        Numeric features that deployment will have; no sensitive column.
    scores : array-like of shape (n,)
        Scores of the positive label.
    y : array-like of shape (n,)
        Labels, for the report only.
    sensitive_features : frame, series, mapping, array or list of n rows
        Who: to make q, and for the report.
    estimator : regressor, optional
        Fitted to (X, logit of the score) with squared loss; by default
        ``HistGradientBoostingRegressor``, which keeps no row.
    cv : int, default=3
        Folds of the report: every line of it comes from rows its map was not fitted on.
    random_state : int or None
        Draws folds and seeds the estimator.

    Returns
    -------
    DistilledCalibrator

    Raises
    ------
    InvalidDataError, InvalidParameterError
        If rows or settings cannot be used.

    Notes
    -----
    Where features reveal nothing about groups this is no better than one map for all, and
    ``is_group_calibration`` says so.
    """
    if not cv >= 2:
        raise InvalidParameterError(f"cv must be at least 2, got {cv!r}.")
    inputs.require_same_index(X=X, scores=scores, y=y, sensitive_features=sensitive_features)
    columns = inputs.sensitive_columns(sensitive_features)
    scale, values = getattr(calibrator, "scale", "probability"), inputs.as_vector(scores, "scores")
    x = as_logits(values, scale)
    inputs.check_lengths(len(x), X=X)
    table = _table(X, x)
    rows = Rows.read(
        table,
        y,
        columns,
        positive_label=getattr(calibrator, "positive_label", None),
        missing="group",
    )
    if len(rows) < 10 * cv:
        raise InvalidDataError(f"{len(rows)} rows are too few for {cv} folds; pass more.")
    seed = random_state if isinstance(random_state, int) else None
    model = HistGradientBoostingRegressor(random_state=seed) if estimator is None else estimator
    aware = calibrator.transform(values, columns)
    calibrated = {name: np.empty(len(rows)) for name in ("group-aware", "distilled", "global")}
    rng = check_random_state(random_state)
    folds = rows.folds(cv, rng)
    everyone = np.zeros(len(rows), dtype=np.int64)
    for train, test in folds:
        mine, others = rows.take(train), rows.take(test)
        refitted = clone(calibrator).fit(values[train], mine.targets, mine.sensitive)
        calibrated["group-aware"][test] = refitted.transform(values[test], others.sensitive)
        teacher = refitted.transform(values[train], mine.sensitive)
        calibrated["distilled"][test] = clone(model).fit(table[train], teacher).predict(table[test])
        shared = fit_platt(gather(x[train], rows.outcomes[train], everyone[train], 1))
        calibrated["global"][test] = shared(x[test], everyone[test])
    report = pd.DataFrame([{"map": name, **_errors(q, rows)} for name, q in calibrated.items()])
    by_map = report.set_index("map")["mean_error"]
    gain = by_map["global"] - by_map["group-aware"]
    recovered = float((by_map["global"] - by_map["distilled"]) / gain) if gain > 0 else 0.0
    revealed = _revealed(rows, folds, seed)
    return DistilledCalibrator(
        report=report,
        revealed=revealed,
        recovered=recovered,
        is_group_calibration=revealed >= _REVEALED and recovered >= _SHARE_NEEDED,
        _model=clone(model).fit(table, aware),
        _scale=scale,
    )


def _table(X: Any, x: Floats) -> Floats:
    try:
        features = np.column_stack([*(c.astype(np.float64) for c in inputs.feature_columns(X)), x])
    except (TypeError, ValueError):
        raise InvalidDataError(
            "X must hold numbers in every column; encode categories first, and leave out the "
            "sensitive columns."
        ) from None
    return np.asarray(features)


def _errors(q: Floats, rows: Rows) -> dict[str, float]:
    y, groups = rows.outcomes, rows.groups
    q = np.clip(q, CLIP, 1 - CLIP)
    order = np.lexsort((q, groups.codes))
    cells = make_cells(q[order], y[order], groups.codes[order], len(groups), 10)
    error, counts = measures_of(cells, cells.events)["ece"], groups.counts
    judged = counts >= 30 if (counts >= 30).any() else counts > 0
    return {
        "largest_error": float(error[judged].max()),
        "mean_error": float(np.average(error[judged], weights=counts[judged])),
        "log_loss": float(-np.mean(np.where(y == 1, np.log(q), np.log1p(-q)))),
    }


def _revealed(rows: Rows, folds: list[tuple[Codes, Codes]], seed: int | None) -> float:
    """AUC of groups against the rest, weighted by rows, out of fold."""
    groups, codes = rows.groups, rows.groups.codes
    common = np.flatnonzero(groups.counts >= 30)
    if len(common) < 2:
        return 0.5
    kept = np.isin(codes, common)
    proba = np.zeros((len(codes), len(common)))
    for outside, inside in folds:
        train, test = outside[kept[outside]], inside[kept[inside]]
        model = HistGradientBoostingClassifier(max_iter=50, random_state=seed)
        model.fit(rows.X[train], codes[train])
        at = np.searchsorted(common, model.classes_)
        proba[np.ix_(test, at)] = model.predict_proba(rows.X[test])
    codes, proba = codes[kept], proba[kept]
    areas = [roc_auc_score(codes == g, proba[:, i]) for i, g in enumerate(common)]
    return float(np.average(areas, weights=groups.counts[common]))
