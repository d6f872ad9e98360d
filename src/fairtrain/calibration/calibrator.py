"""``GroupFairnessCalibrator``: scores that mean the same in every group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from fairtrain._parameters import (
    ANYTHING,
    GENERATOR,
    MISSING,
    NONE,
    SEED,
    Choice,
    Real,
    Several,
    Table,
    Whole,
    check_parameters,
)
from fairtrain._warnings import warn
from fairtrain.calibration.cells import CLIP, Cells, Codes, Floats, Mask
from fairtrain.calibration.intake import fingerprint, later_scores, logits_of, read_scored
from fairtrain.calibration.maps.assignment import (
    METHODS,
    Assignment,
    assign,
    choose_methods,
    log_loss_and_gap,
)
from fairtrain.calibration.maps.multiclass import MulticlassMaps, fit_multiclass
from fairtrain.calibration.significance import adjusted, compare_with_parents, find_parents
from fairtrain.constraints.table import CellRows
from fairtrain.data import inputs
from fairtrain.data.groups import GroupScheme, Missing, match_columns
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidParameterError, UnseenGroupWarning

if TYPE_CHECKING:
    from fairtrain.calibration.distillation import DistilledCalibrator

__all__ = ["GroupFairnessCalibrator"]


_MOST_ROWS_REMEMBERED = 1_000_000  # beyond, calibrating them once more would cost too much


class GroupFairnessCalibrator(BaseEstimator):
    r"""Calibrate scores group by group, small groups included.

    A score of 70 % then means 70 % for everyone. The default map of group g is logistic in the
    logit x of the score,

    .. math:: \operatorname{logit} q = \Bigl(a_0 + \sum_e a_e\Bigr)
              + \Bigl(b_0 + \sum_e b_e\Bigr)\, x, \qquad a_e, b_e \sim N(0, \tau^2)

    with effects e of each attribute's levels and of the group's intersection. How far effects are
    shrunk is learned from the groups, so that twenty rows borrow from what their group shares with
    others and twenty thousand speak for themselves.

    Parameters
    ----------
    method : str, default="hierarchical"
        ``"hierarchical"``: the map above, with a rising correction in groups where curvature is
        detected. Plain methods, that fit each group by itself: ``"platt"`` (on logits, smoothed
        targets), ``"isotonic"``, ``"temperature"``, ``"beta"`` (Kull et al., 2017),
        ``"histogram"``, ``"venn_abers"``. ``"auto"``: for each group whichever of hierarchical,
        platt, isotonic, temperature and beta has the smallest cross-validated log loss.
        For three or more classes: ``"temperature"``, ``"vector"``, or any other method one class
        against the rest, renormalised.
    group_methods : mapping of str to str, optional
        Methods of single groups, such as ``{"black/female": "isotonic"}``.
    min_group_size : int, default=30
        Groups with fewer rows get a warning in ``group_report_``, everyone's map under
        ``fallback="global"``, and are never left to ``"auto"``.
    fallback : {None, "global", "parent_test"}, default=None
        Textbook policies for plain methods. ``"global"``: groups under ``min_group_size`` take
        everyone's map. ``"parent_test"``: a group takes its parent's map unless the test in
        ``group_report_`` rejects it. Both have larger errors than the default method.
    alpha : float, default=0.05
        Level of that test, for p-values adjusted over groups.
    scale : {"probability", "logit"}, default="probability"
        What scores are. Probabilities are turned into logits before anything else.
    missing : {"error", "group"}, default="error"
        Missing sensitive values raise, or form a group of their own.
    positive_label : label, optional
        The label whose probability the scores are; may be left out for {0, 1}, {-1, 1}, booleans.
    cv : int, default=5
        Folds of ``"auto"``.
    random_state : int, Generator or None
        Draws folds, and outcomes for the p-values of groups with few events.

    Attributes
    ----------
    scheme_ : GroupScheme
        The groups seen in ``fit``: names and counts, no row.
    classes_ : ndarray
        Labels, sorted.
    group_report_ : DataFrame
        One line a group, measured on the rows of the fit: ``rows``, ``event_rate``, ``method``,
        ``map`` ("own", "shrunk", or whose), ``parent``, ``statistic`` and ``p_value`` of the score
        test against the parent's other rows, ``p_adjusted`` (Benjamini-Hochberg), ``gap_before``
        and ``gap_after`` (mean probability minus event rate), ``log_loss_before`` and
        ``log_loss_after``, and ``warning``, in words. The test reports; under the default method
        shrinkage chooses the map.
    fingerprint_ : int or None
        One number by which an audit that is given this calibrator knows the rows of the fit again;
        None beyond a million rows, and for several classes.

    Notes
    -----
    The fitted object holds no row: a few numbers a group, and the corners of isotonic curves.

    Examples
    --------
    >>> from fairtrain.datasets import make_miscalibrated
    >>> data = make_miscalibrated(20_000, random_state=0)
    >>> model = GroupFairnessCalibrator().fit(data.scores, data.y, data.sensitive_features)
    >>> fresh = data.fresh(random_state=1)
    >>> calibrated = model.transform(fresh.scores, fresh.sensitive_features)
    >>> bool(fresh.group_errors(fresh.scores).max() > 4 * fresh.group_errors(calibrated).max())
    True
    """

    _allowed: ClassVar[Table] = {
        "method": Choice(*METHODS, "vector"),
        "group_methods": Several(Choice(*METHODS, "vector"), "map groups to methods") | NONE,
        "min_group_size": Whole(1),
        "fallback": Choice("global", "parent_test") | NONE,
        "alpha": Real(0, 1, "()"),
        "scale": Choice("probability", "logit"),
        "missing": MISSING,
        "positive_label": ANYTHING,
        "cv": Whole(2),
        "random_state": SEED | GENERATOR,
    }

    def __init__(
        self,
        method: str = "hierarchical",
        *,
        group_methods: Mapping[str, str] | None = None,
        min_group_size: int = 30,
        fallback: str | None = None,
        alpha: float = 0.05,
        scale: str = "probability",
        missing: Missing = "error",
        positive_label: Any = None,
        cv: int = 5,
        random_state: Any = None,
    ) -> None:
        self.method = method
        self.group_methods = group_methods
        self.min_group_size = min_group_size
        self.fallback = fallback
        self.alpha = alpha
        self.scale = scale
        self.missing = missing
        self.positive_label = positive_label
        self.cv = cv
        self.random_state = random_state

    def fit(
        self,
        scores: Any,
        y: Any,
        sensitive_features: Any,
        sample_weight: Any = None,
        *,
        clusters: Any = None,
    ) -> Self:
        """Fit one map a group.

        Parameters
        ----------
        scores : array-like of shape (n,), (n, 2) or (n, K)
            Probability (or logit) of the positive label; of both labels; or of K classes, sorted.
            They must come from rows that the scoring model was not trained on.
        y : array-like of shape (n,)
            Labels.
        sensitive_features : frame, series, mapping, array or list of n rows
            The sensitive features: which group each person belongs to.
        sample_weight : array-like of shape (n,), optional
            Row weights.
        clusters : array-like of shape (n,), optional
            Which rows belong together, such as those of one customer: folds keep them whole, and
            tests and shrinkage count what they are worth.

        Returns
        -------
        self

        Raises
        ------
        InvalidDataError, InvalidParameterError
            If rows or settings cannot be used.
        """
        check_parameters(self)
        rows = read_scored(
            scores,
            y,
            sensitive_features,
            sample_weight,
            clusters=clusters,
            scale=self.scale,
            positive_label=self.positive_label,
            missing=self.missing,
            min_count=self.min_group_size,
        )
        assert rows.labels is not None
        self.scheme_: GroupScheme = rows.groups.scheme
        if unknown := [g for g in self.group_methods or {} if g not in self.scheme_.names]:
            raise InvalidParameterError(
                f"group_methods names the group {unknown[0]!r}, which is not among "
                f"{list(self.scheme_.names)[:12]}."
            )
        self.classes_, self._labels = rows.labels.classes, rows.labels
        self._maps: Assignment | MulticlassMaps
        if rows.score is None:
            self._fit_classes(rows)
        else:
            self._fit_binary(rows)
        return self

    def _fit_binary(self, rows: Rows) -> None:
        groups, rng = rows.groups, np.random.default_rng(_seed(self.random_state))
        cells, parents = Cells.of(rows), find_parents(groups.scheme)
        test = compare_with_parents(cells, parents, rng)
        methods, p_adjusted = self._methods(rows, rng), adjusted(test.p_value)
        plain = np.array([m != "hierarchical" for m in methods])
        empty = cells.sums(cells.weight) == 0
        small = (groups.counts < self.min_group_size) & (self.fallback == "global")
        alike = ~(p_adjusted < self.alpha) & (self.fallback == "parent_test")
        maps = self._maps = assign(
            cells,
            groups.scheme,
            methods,
            parents,
            to_parent=plain & alike & ~empty,
            to_everyone=plain & (small | empty),
        )
        self.fingerprint_: int | None = None
        if len(rows) <= _MOST_ROWS_REMEMBERED:
            self.fingerprint_ = fingerprint(maps(rows.X, groups.codes), rows.outcomes)
        owner, weight = maps.owner[:-1], cells.sums(cells.weight)
        before = log_loss_and_gap(cells, expit(cells.x))
        after = log_loss_and_gap(cells, maps(cells.x, cells.group))
        self.group_report_ = pd.DataFrame(
            {
                "group": list(groups.names),
                "rows": groups.counts,
                "event_rate": cells.sums(cells.events) / np.where(weight > 0, weight, np.nan),
                "method": maps.method[:-1],
                "map": owner,
                "parent": list(parents.names),
                "statistic": test.statistic,
                "p_value": test.p_value,
                "p_adjusted": p_adjusted,
                "gap_before": before[1],
                "gap_after": after[1],
                "log_loss_before": before[0],
                "log_loss_after": after[0],
                "warning": self._warnings(groups.counts, owner),
            }
        )

    def _fit_classes(self, rows: Rows) -> None:
        if self.fallback is not None or self.group_methods or self.method == "auto":
            raise InvalidParameterError(
                "fallback, group_methods and method='auto' are for two classes; leave them out."
            )
        self._maps = fit_multiclass(rows, self.method)
        self.fingerprint_ = None
        own = np.arange(len(rows)), rows.outcomes.astype(np.int64)
        groups = rows.groups
        people = CellRows(groups.codes, len(groups), rows.weight)
        self.group_report_ = pd.DataFrame(
            {
                "group": list(groups.names),
                "rows": groups.counts,
                "method": self.method,
                **{
                    f"log_loss_{when}": people.mean(-np.log(np.maximum(q[own], CLIP)))
                    for when, q in (
                        ("before", np.exp(rows.X)),
                        ("after", self._maps(rows.X, groups.codes)),
                    )
                },
                "warning": self._warnings(groups.counts, [self.method] * len(groups)),
            }
        )

    def transform(self, scores: Any, sensitive_features: Any = None) -> Floats:
        """Calibrate scores.

        Parameters
        ----------
        scores : array-like
            As in ``fit``.
        sensitive_features : frame, series, mapping, array or list of n rows
            Who. An intersection that ``fit`` never saw inherits its attributes' effects
            (everyone's map, under plain methods); so does a value never seen, with a warning.

        Returns
        -------
        ndarray of shape (n,) or (n, K)
            Calibrated probabilities of the positive label, or of K classes.

        Raises
        ------
        InvalidDataError
            If sensitive features are missing: :meth:`distill` makes a map that needs none.

        Warns
        -----
        UnseenGroupWarning
        """
        check_is_fitted(self)
        later_scores(scores, sensitive_features)
        x = logits_of(scores, self.scale, self._labels)
        codes = self.scheme_.encode(sensitive_features, unseen="ignore")
        inputs.check_lengths(len(x), sensitive_features=codes)
        result = self._maps(x, codes)
        strange = codes < 0
        if strange.any() and isinstance(self._maps, Assignment):
            result[strange] = self._inherited(x[strange], sensitive_features, strange)
        return result

    def _of_known(self, scores: Any, codes: Codes) -> Floats:
        """Calibrated probabilities of people whose groups were seen and are coded already."""
        return np.asarray(self._maps(logits_of(scores, self.scale, self._labels), codes))

    def fit_transform(
        self, scores: Any, y: Any, sensitive_features: Any, sample_weight: Any = None
    ) -> Floats:
        """Fit, then calibrate the same rows; judge the result on others."""
        fitted = self.fit(scores, y, sensitive_features, sample_weight)
        return fitted.transform(scores, sensitive_features)

    def distill(
        self, X: Any, scores: Any, y: Any, sensitive_features: Any, **options: Any
    ) -> DistilledCalibrator:
        """Make a map of features and score that needs no attribute.

        See :func:`fairtrain.calibration.distill`.

        Parameters
        ----------
        X, scores, y, sensitive_features
            Rows; ``y`` and the attribute also make the report.
        **options
            ``estimator``, ``cv`` and ``random_state`` of that function.
        """
        from fairtrain.calibration.distillation import distill

        check_is_fitted(self)
        return distill(self, X, scores, y, sensitive_features, **options)

    def _inherited(self, x: Floats, sensitive_features: Any, rows: Mask) -> Floats:
        """Calibrate rows of groups never seen."""
        levels = []
        columns = match_columns(inputs.sensitive_columns(sensitive_features), self.scheme_.columns)
        for own, (column, scheme) in zip(columns, self.scheme_.marginals.items(), strict=True):
            codes = scheme.encode({column: own[rows]}, unseen="ignore")
            known = scheme.level_codes[:, 0]
            levels.append(np.where(codes >= 0, known[codes], -1))
            if (codes < 0).any():
                warn(
                    f"{column!r} has values that fit never saw in {int((codes < 0).sum())} rows; "
                    "they get the map of everyone, or what their other attributes say.",
                    UnseenGroupWarning,
                )
        shrunk = self._maps.hierarchical if isinstance(self._maps, Assignment) else None
        if shrunk is None or self.method != "hierarchical":
            return self._maps(x, np.full(len(x), -1))
        return shrunk.inherited(x, np.stack(levels, axis=1))

    def _methods(self, rows: Rows, rng: np.random.Generator) -> list[str]:
        named = dict(self.group_methods or {})
        methods = [named.get(name, self.method) for name in rows.groups.names]
        if "auto" not in methods:
            return methods
        chosen = choose_methods(rows, folds=self.cv, min_group_size=self.min_group_size, rng=rng)
        return [c if m == "auto" else m for m, c in zip(methods, chosen, strict=True)]

    def _warnings(self, counts: Codes, owner: list[str]) -> list[str]:
        leaning = {"shrunk": "; its map leans on what it shares with other groups"}
        return [
            ""
            if n >= self.min_group_size
            else f"only {n} rows: what was achieved here cannot be judged from them"
            + leaning.get(whose, "; its own map is mostly noise" if whose == "own" else "")
            for n, whose in zip(counts.tolist(), owner, strict=True)
        ]


def _seed(random_state: Any) -> Any:
    """Make a RandomState usable by a Generator."""
    if isinstance(random_state, np.random.RandomState):
        return random_state.randint(2**31)
    return random_state
