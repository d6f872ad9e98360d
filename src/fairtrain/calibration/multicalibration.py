"""``Multicalibrator``: calibrated on overlapping subgroups at once."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from fairtrain import _validation as inputs
from fairtrain.calibration.calibrator import GroupFairnessCalibrator
from fairtrain.calibration.cells import CLIP
from fairtrain.calibration.fingerprint import fingerprint, remember
from fairtrain.calibration.lattice import Family, families
from fairtrain.calibration.steps import GroupTables
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.groups import Groups, GroupScheme, group_sums

__all__ = ["Multicalibrator"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

_KNOTS = 40


class Multicalibrator(BaseEstimator):
    r"""Calibrate scores on all subgroups of the attributes, overlapping ones included.

    Starts from the map of :class:`GroupFairnessCalibrator`, then looks at the cells that subgroups
    and bins of the current probability make. The cell with the largest
    :math:`|z| = |\sum (y - q)| / \sqrt{\sum q (1 - q)}` is moved by the shrunk mean residual
    :math:`\sum (y - q) / (n + k)`, until no cell of at least ``min_rows`` rows lies beyond
    ``z``, or held-out log loss stops falling. Each group's curve is made rising again after each
    step, so that ranking within a group stays what the scores say.

    Parameters
    ----------
    calibrator : GroupFairnessCalibrator, optional
        Where to start; by default ``GroupFairnessCalibrator()``.
    depth : int, optional
        Most attributes combined; all by default.
    n_bins : int, default=10
        Bins of the current probability.
    z : float, default=3.0
        Cells nearer to calibration are left alone.
    min_rows : int, default=30
        Smallest cell to move.
    shrinkage : float, default=20.0
        k above, in rows.
    max_iter : int, default=200
        Most steps.
    validation_fraction : float, default=0.25
        Share of the rows that decide when to stop.
    patience : int, default=10
        Steps without a better held-out log loss after which to stop.
    missing, positive_label
        As in :class:`GroupFairnessCalibrator`.
    random_state : int, Generator or None
        Draws the held-out rows.

    Attributes
    ----------
    n_iter_ : int
        Steps kept: those up to the best held-out log loss.
    patches_ : list of dict
        ``subgroup``, ``low`` and ``high`` probability, ``z`` and ``shift`` of each step kept.
    calibrator_ : GroupFairnessCalibrator
        The map it started from.
    scheme_ : GroupScheme
        The groups seen in ``fit``.

    References
    ----------
    Hebert-Johnson, Kim, Reingold and Rothblum (2018), "Multicalibration", ICML. Starting from a
    calibrated map, rather than from the scores, is what Hansen et al. (2024), "When is
    multicalibration post-processing necessary?", NeurIPS, found to matter most.

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

    def __init__(
        self,
        calibrator: GroupFairnessCalibrator | None = None,
        *,
        depth: int | None = None,
        n_bins: int = 10,
        z: float = 3.0,
        min_rows: int = 30,
        shrinkage: float = 20.0,
        max_iter: int = 200,
        validation_fraction: float = 0.25,
        patience: int = 10,
        missing: str = "error",
        positive_label: Any = None,
        random_state: Any = None,
    ) -> None:
        self.calibrator = calibrator
        self.depth = depth
        self.n_bins = n_bins
        self.z = z
        self.min_rows = min_rows
        self.shrinkage = shrinkage
        self.max_iter = max_iter
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.missing = missing
        self.positive_label = positive_label
        self.random_state = random_state

    def fit(self, scores: Any, y: Any, sensitive_features: Any) -> Self:
        """Fit the starting map, then move cells.

        Parameters
        ----------
        scores : array-like of shape (n,)
            Probabilities of the positive label, from rows the model was not trained on.
        y : array-like of shape (n,)
            Two labels.
        sensitive_features : frame, series, mapping, array or list of n rows
            Who.

        Returns
        -------
        self
        """
        self._check_settings()
        target, _ = inputs.scored_target(y, self.positive_label)
        like = scores if inputs.has_index(scores) else y
        groups = Groups.from_sensitive(
            sensitive_features,
            missing=self.missing,  # type: ignore[arg-type]
            like=like,
        )
        inputs.check_lengths(len(target), scores=scores, sensitive_features=groups.codes)
        start = GroupFairnessCalibrator() if self.calibrator is None else self.calibrator
        columns = inputs.sensitive_columns(
            inputs.align_to(like, sensitive_features, "sensitive_features")
        )
        rng = np.random.default_rng(self.random_state)
        held = _held_out(groups.codes, target, self.validation_fraction, rng)
        self.calibrator_ = clone(start).set_params(missing=self.missing, positive_label=None)
        s = inputs.as_vector(scores, "scores")
        self.calibrator_.fit(s[~held], target[~held], _rows_of(columns, ~held))
        self.scheme_: GroupScheme = groups.scheme
        base = self.calibrator_.transform(s, columns)
        self._patch(_logit(base), target, groups, held, rng)
        self._fingerprints = (fingerprint(self._moved(_logit(base), groups.codes), target),)
        remember(self)
        return self

    def _patch(
        self,
        x: Floats,
        y: NDArray[np.int8],
        groups: Groups,
        held: NDArray[np.bool_],
        rng: np.random.Generator,
    ) -> None:
        """Work on sums of leaf x knot: knots are bins of the starting probability."""
        edges = np.unique(np.quantile(x, np.linspace(0, 1, _KNOTS + 1)[1:-1]))
        knots, leaves = len(edges) + 1, len(groups)
        at = groups.codes * knots + np.searchsorted(edges, x, side="right")

        def table(values: Floats, rows: NDArray[np.bool_]) -> Floats:
            return group_sums(values[rows], at[rows], leaves * knots).reshape(leaves, knots)

        ones, events = np.ones(len(x)), y.astype(np.float64)
        rows, hits = table(ones, ~held), table(events, ~held)
        held_rows, held_hits = table(ones, held), table(events, held)
        middle = group_sums(x, at % knots, knots) / np.maximum(np.bincount(at % knots), 1)
        curve = np.tile(middle, (leaves, 1))  # logit at every knot of every leaf
        depth = len(groups.columns) if self.depth is None else self.depth
        found = [_everyone(leaves), *families(groups.scheme, min(depth, len(groups.columns)))]
        best, best_loss, self.patches_ = curve.copy(), _loss(curve, held_rows, held_hits), []
        kept = 0
        for step in range(1, self.max_iter + 1):
            patch = self._worst_cell(curve, rows, hits, found)
            if patch is None:
                break
            family, g, b, z, shift = patch
            low, high = b / self.n_bins, (b + 1) / self.n_bins
            q = expit(curve)
            inside = (family.of_leaf == g)[:, None] & (_bin_of(q, self.n_bins) == b)
            moved = np.where(inside, np.clip(q + shift, CLIP, 1 - CLIP), q)
            touched = np.flatnonzero(inside.any(axis=1))
            for leaf in touched:
                weight = rows[leaf] + 1e-3
                moved[leaf] = isotonic_regression(moved[leaf], weights=weight).x
            curve = _logit(moved)
            self.patches_.append(
                {
                    "subgroup": self._name(family, g),
                    "low": low,
                    "high": high,
                    "z": z,
                    "shift": shift,
                }
            )
            loss = _loss(curve, held_rows, held_hits)
            if loss < best_loss:
                best, best_loss, kept = curve.copy(), loss, step
            elif step - kept >= self.patience:
                break
        self.n_iter_ = kept
        self.patches_ = self.patches_[:kept]
        leaf, _ = np.indices(best.shape)
        shift_table = best - middle
        self._shift = GroupTables.make(
            leaf.ravel(), np.tile(middle, leaves), shift_table.ravel(), leaves
        )

    def _worst_cell(
        self, curve: Floats, rows: Floats, hits: Floats, found: list[Family]
    ) -> tuple[Family, int, int, float, float] | None:
        q = expit(curve)
        bins = _bin_of(q, self.n_bins)
        best: tuple[Family, int, int, float, float] | None = None
        for family in found:
            cell = (family.of_leaf[:, None] * self.n_bins + bins).ravel()
            size = len(family) * self.n_bins
            n = group_sums(rows.ravel(), cell, size)
            residual = group_sums((hits - rows * q).ravel(), cell, size)
            variance = group_sums((rows * q * (1 - q)).ravel(), cell, size)
            z = np.where(n >= self.min_rows, residual / np.sqrt(np.maximum(variance, 1e-9)), 0.0)
            worst = int(np.argmax(np.abs(z)))
            if abs(z[worst]) > max(self.z, abs(best[3]) if best else 0.0):
                shift = float(residual[worst] / (n[worst] + self.shrinkage))
                g, b = divmod(worst, self.n_bins)
                best = (family, g, b, float(z[worst]), shift)
        return best

    def _name(self, family: Family, g: int) -> str:
        leaf = int(family.first[g])
        parts = (
            f"{self.scheme_.columns[j]}={self.scheme_.levels[j][self.scheme_.level_codes[leaf, j]]}"
            for j in family.columns
        )
        return " & ".join(parts) or "everyone"

    def transform(self, scores: Any, sensitive_features: Any = None) -> Floats:
        """Calibrate scores.

        Parameters
        ----------
        scores : array-like of shape (n,)
            Probabilities.
        sensitive_features : frame, series, mapping, array or list of n rows
            Who; intersections never seen take the starting map.

        Returns
        -------
        ndarray of shape (n,)
        """
        check_is_fitted(self)
        base = _logit(self.calibrator_.transform(scores, sensitive_features))
        codes = self.scheme_.encode(
            sensitive_features, unseen="ignore", like=scores if inputs.has_index(scores) else None
        )
        return self._moved(base, codes)

    def _moved(self, x: Floats, codes: Codes) -> Floats:
        known = codes >= 0
        shift = np.zeros(len(x))
        shift[known] = self._shift(x[known], codes[known])
        return np.asarray(expit(x + shift))

    def _check_settings(self) -> None:
        if not 0 < self.validation_fraction < 1:
            raise InvalidParameterError(
                f"validation_fraction must lie between 0 and 1, got {self.validation_fraction!r}."
            )
        for name, least in (("n_bins", 1), ("min_rows", 1), ("max_iter", 0), ("patience", 1)):
            if not getattr(self, name) >= least:
                raise InvalidParameterError(
                    f"{name} must be at least {least}, got {getattr(self, name)!r}."
                )
        if not (self.z > 0 and self.shrinkage >= 0):
            raise InvalidParameterError("z must be above 0 and shrinkage not negative.")
        if self.depth is not None and not self.depth >= 1:
            raise InvalidParameterError(f"depth must be at least 1, got {self.depth!r}.")


def _everyone(leaves: int) -> Family:
    return Family((), np.zeros(leaves, dtype=np.int64), np.zeros(1, dtype=np.int64))


def _bin_of(q: Floats, n_bins: int) -> Codes:
    return np.minimum((q * n_bins).astype(np.int64), n_bins - 1)


def _loss(curve: Floats, rows: Floats, hits: Floats) -> float:
    """Log loss of rows and hits at knots."""
    total = (rows * np.logaddexp(0.0, curve) - hits * curve).sum()
    return float(total / max(rows.sum(), 1.0))


def _logit(q: Floats) -> Floats:
    return np.asarray(logit(np.clip(q, CLIP, 1 - CLIP)))


def _held_out(
    codes: Codes, y: NDArray[np.int8], fraction: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Rows that decide when to stop, in proportion from every group and label."""
    order = np.lexsort((rng.permutation(len(y)), y, codes))
    held = np.zeros(len(y), dtype=bool)
    held[order] = (np.arange(len(y)) * fraction + rng.uniform()) % 1.0 < fraction
    if held.all() or not held.any() or len(np.unique(y[~held])) < 2:
        raise InvalidDataError(
            f"{len(y)} rows are too few to hold out {fraction:.0%} of them; pass more rows."
        )
    return held


def _rows_of(columns: inputs.Columns, rows: NDArray[np.bool_]) -> inputs.Columns:
    return {name: column[rows] for name, column in columns.items()}
