"""``Multicalibrator``: calibrated on overlapping subgroups at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from fairtrain._imports import require
from fairtrain._parameters import (
    ANYTHING,
    GENERATOR,
    MISSING,
    NONE,
    SEED,
    Choice,
    Of,
    Real,
    Several,
    Table,
    Whole,
    check_parameters,
)
from fairtrain.calibration.calibrator import GroupFairnessCalibrator
from fairtrain.calibration.cells import Floats, Mask, clipped_logit
from fairtrain.calibration.intake import fingerprint, later_scores, read_scored
from fairtrain.calibration.multicalibration.boosted import BoostedShift, fit_boosted
from fairtrain.calibration.multicalibration.columns import ColumnScheme, Settings, read_columns
from fairtrain.calibration.multicalibration.patching import CellPatches, fit_patches
from fairtrain.data import inputs
from fairtrain.data.groups import GroupScheme, Missing, match_columns
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

__all__ = ["Multicalibrator"]

Columns = dict[str, NDArray[Any]]


class Multicalibrator(BaseEstimator):
    r"""Calibrate scores on all subgroups of the attributes, overlapping ones included.

    Starts from the map of :class:`GroupFairnessCalibrator`, then corrects what is left.

    ``backend="cells"``, for a handful of categorical attributes, looks at the cells that subgroups
    and bins of the current probability make. The cell with the largest
    :math:`|z| = |\sum (y - q)| / \sqrt{\sum q (1 - q)}` is moved by the shrunk mean residual
    :math:`\sum (y - q) / (n + k)`, until no cell of at least ``min_rows`` rows lies beyond
    ``z``, or held-out log loss stops falling.

    ``backend="lightgbm"``, for many attributes or continuous ones, adds small boosted trees on
    the starting logit and the attributes, in rounds: each stops early on held-out log loss, is
    multiplied by the factor of at most 1 that suits held-out rows best, and is dropped unless it
    gains more than two standard errors there. The start uses the categorical attributes alone.

    Parameters
    ----------
    calibrator : GroupFairnessCalibrator, optional
        Where to start; by default ``GroupFairnessCalibrator()``.
    backend : {"cells", "lightgbm"}, default="cells"
        What corrects the start. ``"lightgbm"`` needs the extra ``boosting``.
    depth : int, optional
        Most attributes combined in a cell; all by default.
    n_bins : int, default=10
        Bins of the current probability, for cells.
    z : float, default=3.0
        Cells nearer to calibration are left alone.
    min_rows : int, default=30
        Smallest cell to move; smallest leaf of a tree.
    shrinkage : float, default=20.0
        k above, in rows; in trees the penalty on leaves that counts as so many rows.
    max_iter : int, default=200
        Most steps; most trees a round.
    validation_fraction : float, default=0.25
        Share of the rows that decide when to stop.
    patience : int, default=10
        Steps, or trees, without a better held-out log loss after which to stop.
    num_leaves : int, default=8
        Leaves of a tree.
    rounds : int, default=3
        Most rounds of trees.
    continuous : list of str, optional
        Attributes that trees take as numbers. By default those with fractions and more than two
        values, or more than 30 whole numbers. Cells take none: cut them first.
    missing, positive_label
        As in :class:`GroupFairnessCalibrator`.
    random_state : int, Generator or None
        Draws the held-out rows.

    Attributes
    ----------
    n_iter_ : int
        Steps, or rounds, kept.
    patches_ : list of dict
        ``subgroup``, ``low`` and ``high`` probability, ``z`` and ``shift`` of each step kept; of
        each round ``trees``, ``scale`` and held-out ``gain`` in log loss.
    calibrator_ : GroupFairnessCalibrator
        The map it started from.
    fingerprint_ : int
        One number by which an audit that is given this object knows the rows of the fit again.
    scheme_ : GroupScheme
        The groups of categorical attributes seen in ``fit``; one group, ``everyone``, where all
        are continuous.

    Notes
    -----
    Ranking: if the start rises with the score, so does the result among people whose attributes
    (and ``features``, where used) are all the same: a higher score never ends up lower. Cells can
    make equal what was not; trees are made rising by rearrangement. Nothing is promised between
    people who differ in a continuous attribute, each value of which is a group.

    The fitted object holds no row: tables a group, or trees over bins as text.

    References
    ----------
    Hebert-Johnson, Kim, Reingold and Rothblum (2018), "Multicalibration", ICML. Starting from a
    calibrated map, rather than from the scores, is what Hansen et al. (2024), "When is
    multicalibration post-processing necessary?", NeurIPS, found to matter most. Trees:
    Globus-Harris et al. (2023), "Multicalibration as boosting for regression", ICML.

    Examples
    --------
    >>> from fairtrain.datasets import make_miscalibrated
    >>> data = make_miscalibrated(20_000, distortion="nonlinear", random_state=0)
    >>> model = Multicalibrator(random_state=0)
    >>> model = model.fit(data.scores, data.y, data.sensitive_features)
    >>> q = model.transform(data.scores, data.sensitive_features)
    >>> bool(data.group_errors(q).max() < data.group_errors(data.scores).max())
    True
    """

    _allowed: ClassVar[Table] = {
        "calibrator": ANYTHING,
        "backend": Choice("cells", "lightgbm"),
        "depth": Whole(1) | NONE,
        "n_bins": Whole(1, 1000),
        "z": Real(0, ends="()"),
        "min_rows": Whole(1),
        "shrinkage": Real(0),
        "max_iter": Whole(0),
        "validation_fraction": Real(0, 1, "()"),
        "patience": Whole(1),
        "num_leaves": Whole(2),
        "rounds": Whole(0),
        "continuous": Several(Of("", str), "be a list of columns' names") | NONE,
        "missing": MISSING,
        "positive_label": ANYTHING,
        "random_state": SEED | GENERATOR,
    }

    def __init__(
        self,
        calibrator: GroupFairnessCalibrator | None = None,
        *,
        backend: str = "cells",
        depth: int | None = None,
        n_bins: int = 10,
        z: float = 3.0,
        min_rows: int = 30,
        shrinkage: float = 20.0,
        max_iter: int = 200,
        validation_fraction: float = 0.25,
        patience: int = 10,
        num_leaves: int = 8,
        rounds: int = 3,
        continuous: list[str] | None = None,
        missing: Missing = "error",
        positive_label: Any = None,
        random_state: Any = None,
    ) -> None:
        self.calibrator = calibrator
        self.backend = backend
        self.depth = depth
        self.n_bins = n_bins
        self.z = z
        self.min_rows = min_rows
        self.shrinkage = shrinkage
        self.max_iter = max_iter
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.num_leaves = num_leaves
        self.rounds = rounds
        self.continuous = continuous
        self.missing = missing
        self.positive_label = positive_label
        self.random_state = random_state

    def fit(
        self,
        scores: Any,
        y: Any,
        sensitive_features: Any,
        features: Any = None,
        sample_weight: Any = None,
        *,
        clusters: Any = None,
    ) -> Self:
        """Fit the starting map, then correct it.

        Parameters
        ----------
        scores : array-like of shape (n,)
            Probabilities of the positive label, from rows the model was not trained on.
        y : array-like of shape (n,)
            Two labels.
        sensitive_features : frame, series, mapping, array or list of n rows
            The sensitive features: which group each person belongs to.
        features : frame, mapping or array of n rows, optional
            More columns that trees may split on, numbers or categories; missing values allowed.
        sample_weight : array-like of shape (n,), optional
            Row weights. How sure a correction is, and how far it is shrunk, goes by the effective
            number of rows (Kish), so that their unit does not matter.
        clusters : array-like of shape (n,), optional
            Which rows belong together, such as those of one customer: those held out to know when
            to stop are of other clusters, and the starting map counts what they are worth.

        Returns
        -------
        self
        """
        self._check_settings(features)
        inputs.require_same_index(
            scores=scores,
            y=y,
            sensitive_features=sensitive_features,
            features=features,
            sample_weight=sample_weight,
            clusters=clusters,
        )
        columns = inputs.sensitive_columns(sensitive_features)
        more = self._features(features, columns)
        s = inputs.as_vector(scores, "scores")
        inputs.check_lengths(len(s), y=y, **columns, **more)
        weight = inputs.as_sample_weight(sample_weight, len(s))
        cluster = inputs.as_clusters(clusters, len(s))
        if weight is not None:
            there = weight > 0
            s, y, weight = s[there], inputs.as_vector(y, "y")[there], weight[there]
            columns, more = _rows_of(columns, there), _rows_of(more, there)
            cluster = None if cluster is None else cluster[there]
        self._sensitive = tuple(columns)
        self._scheme: ColumnScheme | None = None
        if self.backend == "lightgbm":
            self._scheme = read_columns(columns, more, self.continuous, self.missing)
        start_columns = self._start_columns(columns)
        start = GroupFairnessCalibrator() if self.calibrator is None else self.calibrator
        rows = read_scored(
            s,
            y,
            start_columns,
            weight,
            clusters=cluster,
            scale=start.scale,
            positive_label=self.positive_label,
            missing=self.missing,
        )
        self.scheme_: GroupScheme = rows.groups.scheme
        rng = np.random.default_rng(self.random_state)
        held = self._held_out(rows, rng)
        self.calibrator_ = clone(start).set_params(missing=self.missing, positive_label=None)
        fitting = rows.take(~held)
        own = _rows_of(start_columns, ~held)
        self.calibrator_.fit(
            s[~held], fitting.outcomes, own, fitting.weight, clusters=fitting.clusters
        )
        rows = replace(rows, X=clipped_logit(self.calibrator_.transform(s, start_columns)))
        settings = Settings(**{name: getattr(self, name) for name in Settings.__annotations__})
        self._shift: CellPatches | BoostedShift
        if self._scheme is not None:
            seed, every = int(rng.integers(1 << 30)), columns | more
            self._shift = fit_boosted(rows, every, self._scheme, held, settings, seed)
            shift = self._shift(rows.X, every)
        else:
            self._shift = fit_patches(rows, held, settings)
            shift = self._shift(rows.X, rows.groups.codes)
        self.patches_ = list(self._shift.steps)
        self.n_iter_ = len(self.patches_)
        self.fingerprint_ = fingerprint(np.asarray(expit(rows.X + shift)), rows.outcomes)
        return self

    def transform(
        self, scores: Any, sensitive_features: Any = None, features: Any = None
    ) -> Floats:
        """Calibrate scores.

        Parameters
        ----------
        scores : array-like of shape (n,)
            Probabilities.
        sensitive_features : frame, series, mapping, array or list of n rows
            Who. Intersections (to cells) and values (to trees) never seen take the starting map.
        features : frame, mapping or array of n rows, optional
            As in ``fit``.

        Returns
        -------
        ndarray of shape (n,)
        """
        check_is_fitted(self)
        later_scores(scores, sensitive_features)
        inputs.require_same_index(scores=scores, features=features)
        passed = inputs.sensitive_columns(sensitive_features)
        columns = dict(zip(self._sensitive, match_columns(passed, self._sensitive), strict=True))
        start_columns = self._start_columns(columns)
        x = clipped_logit(self.calibrator_.transform(scores, start_columns))
        more = self._features(features, columns)
        inputs.check_lengths(len(x), **more)
        if isinstance(self._shift, CellPatches):
            codes = self.scheme_.encode(start_columns, unseen="ignore")
            return np.asarray(expit(x + self._shift(x, codes)))
        absent = [n for n in self._shift.columns.names if n not in columns and n not in more]
        if absent:
            raise InvalidDataError(f"features lacks the column {absent[0]!r}; pass it as in fit.")
        return np.asarray(expit(x + self._shift(x, columns | more)))

    def _held_out(self, rows: Rows, rng: np.random.Generator) -> Mask:
        """Draw the rows that decide when to stop."""
        share, n = self.validation_fraction, len(rows)
        held = np.zeros(n, dtype=bool)
        if n * min(share, 1 - share) >= 1:
            split = rows.divided(
                validation_fraction=share, certification_fraction=None, random_state=rng
            ).split
            held[split.steering if split else []] = True
        if not held.any() or len(np.unique(rows.outcomes[~held])) < 2:
            raise InvalidDataError(
                f"{n} rows are too few to hold out {share:.0%} of them; pass more rows."
            )
        return held

    def _start_columns(self, columns: Columns) -> Columns:
        """Columns that make the groups of the start."""
        if self._scheme is None:
            return columns
        kinds = dict(zip(self._scheme.names, self._scheme.categorical, strict=True))
        named = {name: column for name, column in columns.items() if kinds[name]}
        if named:
            return named
        rows = len(next(iter(columns.values())))
        return {"everyone": np.full(rows, "everyone")}

    def _features(self, features: Any, columns: Columns) -> Columns:
        if features is None:
            return {}
        more = inputs.sensitive_columns(features, "feature")
        if twice := [name for name in more if name in columns]:
            raise InvalidDataError(
                f"features holds the sensitive column {twice[0]!r}; pass it once."
            )
        return more

    def _check_settings(self, features: Any) -> None:
        check_parameters(self)
        if self.backend == "lightgbm":
            require("lightgbm", extra="boosting")
        elif features is not None or self.continuous:
            raise InvalidParameterError(
                "features and continuous are for backend='lightgbm'; set it, or leave them out."
            )


def _rows_of(columns: Columns, rows: Mask) -> Columns:
    return {name: column[rows] for name, column in columns.items()}
