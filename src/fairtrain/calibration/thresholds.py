"""``GroupThresholds``: one threshold a group on calibrated scores, and what thresholds do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from fairtrain._parameters import (
    ANYTHING,
    FLAG,
    GENERATOR,
    LABEL,
    MISSING,
    SEED,
    Choice,
    Real,
    Table,
    Whole,
    check_parameters,
    checks,
)
from fairtrain._warnings import warn
from fairtrain.calibration.cells import Codes, Floats
from fairtrain.calibration.intake import read_scored
from fairtrain.calibration.shown import as_html
from fairtrain.constraints import (
    DemographicParity,
    EqualOpportunity,
    ErrorRateParity,
    PredictiveEquality,
)
from fairtrain.constraints.bounds import RateBounds
from fairtrain.constraints.families import families_of
from fairtrain.constraints.mixture import most_accurate_lots
from fairtrain.constraints.table import RateTable
from fairtrain.data import inputs
from fairtrain.data.groups import Groups, Missing
from fairtrain.data.rows import Rows
from fairtrain.exceptions import (
    InvalidDataError,
    InvalidParameterError,
    NearConstantWarning,
    UselessModelWarning,
)
from fairtrain.metrics.verdicts import Usefulness, usefulness

__all__ = ["GroupThresholds", "threshold_effects"]


_RATES: dict[str, tuple[str, ...]] = {
    "demographic_parity": ("selection_rate",),
    "equal_opportunity": ("true_positive_rate",),
    "predictive_equality": ("false_positive_rate",),
    "equalized_odds": ("true_positive_rate", "false_positive_rate"),
}
_CURVES = (DemographicParity(), EqualOpportunity(), PredictiveEquality(), ErrorRateParity())
_NAMES = ("selection_rate", "true_positive_rate", "false_positive_rate")
_CENTRES = 201
_NEAR_CONSTANT = 0.01
_SQUARE_CENTRES = 61


class GroupThresholds(BaseEstimator):
    """Decide by a threshold a group, such that a rate is (nearly) equal over groups.

    The second half of calibrate-then-threshold: calibrated scores mean the same in every group,
    and where base rates differ no single threshold then equalises error rates (Pleiss et al.,
    2017; Kleinberg et al., 2017). Thresholds of the largest accuracy are chosen for which the rate
    of any two groups differs by at most ``tolerance`` on the rows of the fit.

    Parameters
    ----------
    constraint : str, default="demographic_parity"
        ``"demographic_parity"``, ``"equal_opportunity"`` (TPR), ``"predictive_equality"`` (FPR) or
        ``"equalized_odds"`` (both).
    tolerance : float, default=0.01
        Largest difference between two groups.
    randomized : bool, default=False
        Allow a lot between thresholds: the constraint is then kept exactly and the accuracy is
        the largest possible (a linear program). The lot belongs to the row's values.
    n_candidates : int, default=200
        Most thresholds a group.
    missing, positive_label
        As in ``GroupFairnessCalibrator``.
    random_state : int or None
        Makes the key of the lots.

    Attributes
    ----------
    thresholds_ : DataFrame
        ``group``, ``threshold`` (decide at or above it), ``weight`` (share of the lot; 1 where
        nothing is drawn).
    rates_ : DataFrame
        ``group``, ``rows``, and ``selection_rate``, ``true_positive_rate`` and
        ``false_positive_rate`` on the rows of the fit.
    gap_ : float
        Largest difference of the constrained rate(s) between two groups, on those rows.
    accuracy_ : float
        Expected accuracy on them.
    usefulness_ : Usefulness
        Whether deciding alike for everybody, which keeps every parity, would be as accurate there.
        No rule without a tolerance can be more accurate at a gap as small: thresholds are the best.
    scheme_ : GroupScheme
        The groups seen in ``fit``.

    Examples
    --------
    >>> from fairtrain.datasets import make_miscalibrated
    >>> data = make_miscalibrated(20_000, smallest=300, random_state=0)
    >>> rule = GroupThresholds("equal_opportunity", tolerance=0.02)
    >>> rule = rule.fit(data.true_probability, data.y, data.sensitive_features)
    >>> rule.gap_ <= 0.02
    True
    """

    _allowed: ClassVar[Table] = {
        "constraint": Choice(*_RATES),
        "tolerance": Real(0, 1, "[)"),
        "randomized": FLAG,
        "n_candidates": Whole(2, 10**6),
        "missing": MISSING,
        "positive_label": ANYTHING,
        "random_state": SEED | GENERATOR,
    }

    def __init__(
        self,
        constraint: str = "demographic_parity",
        *,
        tolerance: float = 0.01,
        randomized: bool = False,
        n_candidates: int = 200,
        missing: Missing = "error",
        positive_label: Any = None,
        random_state: Any = None,
    ) -> None:
        self.constraint = constraint
        self.tolerance = tolerance
        self.randomized = randomized
        self.n_candidates = n_candidates
        self.missing = missing
        self.positive_label = positive_label
        self.random_state = random_state

    def fit(self, scores: Any, y: Any, sensitive_features: Any) -> Self:
        """Choose the thresholds.

        Parameters
        ----------
        scores : array-like of shape (n,)
            Calibrated probabilities of the positive label.
        y : array-like of shape (n,)
            Two labels.
        sensitive_features : frame, series, mapping, array or list of n rows
            The sensitive features: which group each person belongs to.

        Returns
        -------
        self

        Raises
        ------
        InvalidDataError
            If a group lacks the label that a rate is about.

        Warns
        -----
        NearConstantWarning
            If the tolerance is kept only by giving (almost) everybody the same decision.
        UselessModelWarning
            If the decisions are no more accurate than one decision for everybody.
        """
        if not isinstance(self.constraint, str):
            raise InvalidParameterError(
                f"constraint must be a name, one of {', '.join(_RATES)}, got "
                f"{type(self.constraint).__name__}; tolerance= is its bound, and "
                "FairPlugInClassifier(sensitive_at_predict=True) takes any constraint."
            )
        check_parameters(self)
        _probabilities(scores)
        rows = read_scored(
            scores, y, sensitive_features, positive_label=self.positive_label, missing=self.missing
        )
        assert rows.labels is not None
        names, groups = _RATES[self.constraint], rows.groups
        curves = _Curves.of(rows, self.n_candidates)
        curves.require(names, groups)
        rates = np.stack([curves.rates[name] for name in names])
        if self.randomized:
            parity = DemographicParity(difference_bound=self.tolerance)
            bounds = [RateBounds(parity, np.ones(len(groups)))] * len(names)
            weight = most_accurate_lots(bounds, rates, curves.right)
        else:
            weight = _deterministic(rates, curves.right, groups.counts, self.tolerance)
        g, k = np.nonzero(weight > 1e-9)
        self.scheme_ = groups.scheme
        self.classes_, self._labels = rows.labels.classes, rows.labels
        self.thresholds_ = pd.DataFrame(
            {
                "group": [groups.names[i] for i in g],
                "threshold": curves.threshold[g, k],
                "weight": weight[g, k],
            }
        )
        self._group_of = g
        achieved = {name: (rate * weight).sum(1) for name, rate in curves.rates.items()}
        self.rates_ = pd.DataFrame({"group": list(groups.names), "rows": groups.counts, **achieved})
        self.gap_ = float(max(np.ptp(achieved[name]) for name in names))
        self.accuracy_ = float((curves.right * weight).sum() / len(rows))
        selected = float(np.average(achieved["selection_rate"], weights=groups.counts))
        share = float(rows.outcomes.mean())
        constant = max(share, 1 - share)
        self.usefulness_ = usefulness(self.accuracy_, constant)
        if min(selected, 1 - selected) <= _NEAR_CONSTANT:
            warn(
                f"the tolerance {self.tolerance:g} is kept by giving "
                f"{max(selected, 1 - selected):.1%} the same decision. "
                "Set randomized=True, or loosen the tolerance.",
                NearConstantWarning,
            )
        elif self.usefulness_ is not Usefulness.USEFUL:
            warn(
                f"{self.usefulness_}: deciding alike for everybody has accuracy {constant:.3f}, "
                f"these thresholds {self.accuracy_:.3f}. Loosen the tolerance, or improve the "
                "scores.",
                UselessModelWarning,
            )
        self.draw_key_ = int(np.random.default_rng(self.random_state).integers(2**63))
        return self

    def _html_repr(self) -> str:
        """scikit-learn's diagram, and after ``fit`` the rates and thresholds of every group."""
        diagram: str = super()._html_repr()
        if not hasattr(self, "rates_"):
            return diagram
        cuts = self.thresholds_.groupby("group")["threshold"].apply(
            lambda found: " or ".join(f"{cut:.3g}" for cut in found)
        )
        facts = (
            f"{self.constraint.replace('_', ' ')} within {self.tolerance:g}: gap {self.gap_:.3f}, "
            f"accuracy {self.accuracy_:.3f}, on {self.rates_['rows'].sum():,} rows that chose the "
            "thresholds, so they certify nothing."
        )
        return diagram + as_html(
            facts,
            self.rates_,
            [(name, name.replace("_", " ")) for name in _RATES[self.constraint]],
            worth=self.usefulness_,
            notes=[f", from {cuts[group]} on" for group in self.rates_["group"]],
        )

    def predict(self, scores: Any, sensitive_features: Any, *, X: Any = None) -> NDArray[Any]:
        """Decide.

        Parameters
        ----------
        scores : array-like of shape (n,)
            Calibrated probabilities.
        sensitive_features : frame, series, mapping, array or list of n rows
            Who; a group that ``fit`` never saw raises.
        X : array or frame of shape (n, d), optional
            Values that tell people of equal score apart in the lot of a randomised rule.

        Returns
        -------
        ndarray of shape (n,)
            Labels.
        """
        share = self.decision_probability(scores, sensitive_features)
        if X is not None:
            inputs.check_lengths(len(share), X=X)
        lot = np.full(len(share), 0.5)
        if ((share > 0) & (share < 1)).any():
            from fairtrain.data.draws import keyed_uniform

            own = _probabilities(scores)[:, None] if X is None else X
            lot = keyed_uniform(own, self.draw_key_)
        return self._labels.decode(lot < share)

    def decision_probability(self, scores: Any, sensitive_features: Any) -> Floats:
        """Probability of the positive decision: 0 or 1 where nothing is drawn; shape (n,)."""
        check_is_fitted(self)
        s = _probabilities(scores)
        inputs.require_same_index(scores=scores, sensitive_features=sensitive_features)
        codes = self.scheme_.encode(sensitive_features)
        inputs.check_lengths(len(s), sensitive_features=codes)
        # A group's thresholds lie on one stretch of a line: one search serves all rows.
        cut = np.minimum(self.thresholds_["threshold"].to_numpy(dtype=np.float64), 2.0)
        order = np.lexsort((cut, self._group_of))
        own = self._group_of[order]
        place = 4.0 * own + cut[order]
        share = self.thresholds_["weight"].to_numpy(dtype=np.float64)[order]
        running = np.append(0.0, np.cumsum(share))
        at = np.searchsorted(place, 4.0 * codes + s, side="right")
        start = np.searchsorted(own, codes)
        reached = running[at] - running[np.minimum(start, at)]
        return np.asarray(np.clip(reached, 0.0, 1.0).round(9))


def _probabilities(scores: Any) -> Floats:
    s = inputs.as_float_column(scores, "scores")
    if len(s) and (s.min() < 0 or s.max() > 1):
        raise InvalidDataError("scores must be probabilities in [0, 1]; calibrate them first.")
    return s


@dataclass(frozen=True)
class _Curves:
    """Every group at up to K thresholds, each of shape (G, K): rates, and right decisions."""

    threshold: Floats
    rates: dict[str, Floats]
    right: Floats

    @classmethod
    def of(cls, rows: Rows, most: int) -> _Curves:
        """Sweep the thresholds of all groups in one sort."""
        s, groups, counts = rows.scores, rows.groups, rows.groups.counts
        order = np.lexsort((-s, groups.codes))
        s, codes = s[order], groups.codes[order]
        start = np.cumsum(counts) - counts
        # A cut must not part equal scores: it moves on to the end of the tie.
        last = np.append((np.diff(s) != 0) | (np.diff(codes) != 0), True)
        end_of_tie = np.minimum.accumulate(np.where(last, np.arange(len(s)), len(s))[::-1])[::-1]
        cuts = np.rint(np.linspace(0, 1, most) * counts[:, None]).astype(np.int64)
        before = np.clip(start[:, None] + cuts - 1, 0, len(s) - 1)
        ends = np.where(cuts > 0, end_of_tie[before] + 1, start[:, None])
        families = families_of(_CURVES, groups.scheme)
        *rates, error = RateTable(families, rows.outcomes, groups.codes).sweep(order, start, ends)
        return cls(
            np.where(cuts > 0, s[ends - 1], np.inf),
            dict(zip(_NAMES, rates, strict=True)),
            # Whole numbers again, so that ties stay ties.
            counts[:, None] - np.rint(error * counts[:, None]),
        )

    def require(self, names: Sequence[str], groups: Groups) -> None:
        """Raise if a rate is defined on no row of some group."""
        for name in names:
            empty = np.isnan(self.rates[name]).all(axis=1)
            if empty.any():
                raise InvalidDataError(
                    f"the group {groups.names[int(np.argmax(empty))]!r} has no row that a "
                    f"{name.replace('_', ' ')} speaks of; merge it with another group or choose "
                    "demographic_parity."
                )


def _deterministic(rates: Floats, right: Floats, counts: Codes, tolerance: float) -> Floats:
    """Best threshold of each group within [c, c + tolerance], for the best common c.

    A threshold outside costs more than any accuracy gains. Deciding for nobody, or everybody, is
    always inside for some c.
    """
    if len(rates) == 1:
        centres = np.linspace(0, 1, _CENTRES)[:, None]
    else:
        line = np.linspace(0, 1, _SQUARE_CENTRES)
        centres = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    best, chosen = -np.inf, np.zeros(len(counts), dtype=np.int64)
    price = 1e6 * counts.sum()
    for centre in centres:
        low = centre[:, None, None]
        outside = np.maximum(low - rates, rates - low - tolerance).max(0)
        value = right - price * np.maximum(outside - 1e-12, 0.0)
        at = np.argmax(value, axis=1)
        total = np.take_along_axis(value, at[:, None], 1).sum()
        if total > best:
            best, chosen = total, at
    weight = np.zeros_like(right)
    weight[np.arange(len(counts)), chosen] = 1.0
    return weight


@checks(threshold=Real(), missing=MISSING, positive_label=LABEL)
def threshold_effects(
    before: Any,
    after: Any,
    y: Any,
    sensitive_features: Any,
    *,
    threshold: float = 0.5,
    missing: Missing = "error",
    positive_label: Any = None,
) -> pd.DataFrame:
    """What calibration does to selection and error rates at one threshold for all.

    Where base rates differ, calibrated scores are compatible with equality of at most one error
    rate (Pleiss et al., 2017): calibration may widen the gaps of the others, and here is by how
    much.

    Parameters
    ----------
    before, after : array-like of shape (n,)
        Probabilities before and after calibration.
    y : array-like of shape (n,)
        Two labels.
    sensitive_features : frame, series, mapping, array or list of n rows
        The sensitive features: which group each person belongs to.
    threshold : float, default=0.5
        Decide positively at or above it.
    missing, positive_label
        As in ``GroupFairnessCalibrator``.

    Returns
    -------
    DataFrame
        A line a group, and last ``(gap)``, largest minus smallest: ``rows``, ``base_rate``, and
        ``selection_rate``, ``true_positive_rate`` and ``false_positive_rate``, each ``_before``
        and ``_after``; NaN where no row counts.

    Examples
    --------
    >>> table = threshold_effects([0.6, 0.4], [0.4, 0.6], [1, 0], ["a", "b"])
    >>> table["selection_rate_after"].tolist()
    [0.0, 1.0, 1.0]
    """
    inputs.require_same_index(
        before=before, after=after, y=y, sensitive_features=sensitive_features
    )
    rows = Rows.read(
        _probabilities(after), y, sensitive_features, positive_label=positive_label, missing=missing
    )
    groups = rows.groups
    cells = RateTable(families_of(_CURVES[:-1], groups.scheme), rows.outcomes, groups.codes)
    table: dict[str, Any] = {"group": list(groups.names), "rows": groups.counts}
    table["base_rate"] = cells.cells[0](rows.outcomes)
    for when, scores in (("before", before), ("after", after)):
        chosen = (_probabilities(scores) >= threshold).astype(np.float64)
        inputs.check_lengths(len(rows), **{when: chosen})
        by_name = zip(_NAMES, cells(chosen).reshape(len(_NAMES), -1), strict=True)
        table |= {f"{name}_{when}": rate for name, rate in by_name}
    frame = pd.DataFrame(table)
    rates = frame.columns[2:]
    gap = (frame[rates].max() - frame[rates].min()).to_dict()
    last = pd.DataFrame([{"group": "(gap)", "rows": int(groups.counts.sum()), **gap}])
    return pd.concat([frame, last], ignore_index=True)
