r"""Scorers for scikit-learn's own searches: performance and gaps, pooled over the folds.

A fold is too small to say how wide a gap is: the largest of noisy rates less the smallest is wider
than the truth, the more so the fewer rows there are. So a scorer gives *counts* beside its numbers,
how many people of every group with either label got either decision; what a candidate does to
groups is read from their sums over all folds, in which every row was decided once, by a model that
never saw it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.metadata_routing import MetadataRequest

from fairtrain._parameters import (
    COLUMNS,
    CONFIDENCE,
    DIFFERENCE,
    LABEL,
    NONE,
    RATIO,
    Choice,
    Real,
    checks,
)
from fairtrain._warnings import warn
from fairtrain.constraints import ConstraintSpec, as_constraints, as_objective, strata_of
from fairtrain.data import inputs
from fairtrain.data.groups import Groups
from fairtrain.data.labels import LabelCoding
from fairtrain.data.partition import level_name
from fairtrain.data.rows import Rows, take_sensitive, with_strata
from fairtrain.data.strata import Given
from fairtrain.exceptions import (
    ConstraintNotMetWarning,
    InvalidDataError,
    InvalidParameterError,
    UselessModelWarning,
)
from fairtrain.metrics.comparisons import gap
from fairtrain.metrics.report import FairnessReport, report_on, with_objective
from fairtrain.metrics.verdicts import ConstraintResult

__all__ = ["FairScorer", "best_feasible", "fair_scorer", "gap_score"]

Floats = NDArray[np.float64]

_CELL = "rows "
"""First letters of the names of counts; what follows is JSON: levels by column, label, decision."""


_COLUMNS = (
    "params", "performance", "gap", "lower", "upper", "excess", "excess_upper", "near_constant",
    "no_better_than_constant",
)  # fmt: skip


class _Scores(dict[str, float]):
    """Scores of one fold; cells that it lacks hold nobody."""

    def __missing__(self, name: str) -> float:
        if name.startswith(_CELL):
            return 0.0
        raise KeyError(name)


class FairScorer:
    """A scorer of estimators; made by :func:`fair_scorer`, which says what it does.

    With metadata routing it asks for ``sensitive_features`` by itself.
    """

    def __init__(
        self,
        constraints: ConstraintSpec,
        performance: Any,
        sensitive_features: Any,
        groups: Any,
        positive_label: Any,
        penalty: float | None,
        confidence: float,
    ) -> None:
        self.constraints = as_constraints(constraints)
        self.performance = performance
        self.sensitive_features = sensitive_features
        self.groups = None if groups is None else _cells_of(Groups.from_sensitive(groups))
        self.positive_label = positive_label
        self.penalty = penalty
        self.confidence = confidence

    def __call__(
        self,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        sensitive_features: Any = None,
        sample_weight: Any = None,
    ) -> Any:
        """Score one fitted estimator on rows that it never saw.

        Returns
        -------
        dict of str to float, or float
            ``score`` (the performance), ``gap`` (of the widest constraint; for caps and floors the
            rate nearest to its limit) and counts; with ``penalty`` one number.
        """
        rows = self._decided(estimator, X, y, sensitive_features, sample_weight)
        report = self._report(rows)
        if self.penalty is not None:
            return report.worth - self.penalty * max(0.0, *_excesses(report))
        gap = max(report.results, key=lambda result: result.excess).achieved
        counts = self._counts(rows)
        return _Scores(score=report.worth, gap=gap, n_rows=sum(counts.values()), **counts)

    def get_metadata_routing(self) -> MetadataRequest:
        """Say what it asks for: the groups, where no columns of ``X`` were named."""
        request = MetadataRequest(owner=self)
        if self.sensitive_features is None:
            request.score.add_request(param="sensitive_features", alias=True)
        request.score.add_request(param="sample_weight", alias=False)
        return request

    def table(self, results: Mapping[str, Any]) -> pd.DataFrame:
        """One row a candidate of a search, its folds pooled.

        Parameters
        ----------
        results : mapping
            ``cv_results_`` of a search, or what ``cross_validate`` gives.

        Returns
        -------
        DataFrame
            ``params``, ``performance``, ``gap``, ``lower`` and ``upper`` (its limits), ``excess``
            (of the worst bound; 0 or less is kept), ``excess_upper`` (the same of the limits),
            ``near_constant``, ``no_better_than_constant``.
        """
        reports = self._pooled(results)
        params = results.get("params", [{}] * len(reports))
        rows: list[dict[str, Any]] = []
        for report, given in zip(reports, params, strict=True):
            if report is None:
                rows.append({"params": given})
                continue
            worst = max(report.results, key=lambda result: result.excess)
            far = [_far_excess(result) for result in report.results]
            rows.append(
                {
                    "params": given,
                    "performance": report.worth,
                    "gap": worst.achieved,
                    "lower": worst.lower,
                    "upper": worst.upper,
                    "excess": worst.excess,
                    "excess_upper": max(far),
                    "near_constant": report.near_constant,
                    "no_better_than_constant": report.no_better_than_constant,
                }
            )
        table = pd.DataFrame(rows, columns=list(_COLUMNS))
        return table.astype(dict.fromkeys(_COLUMNS[-2:], bool))

    def report(self, results: Mapping[str, Any]) -> FairnessReport:
        """Judge one model on all its folds, from what ``cross_validate`` gives.

        Returns
        -------
        FairnessReport
            With limits, on "steering" rows: models of folds choose and certify nothing.
        """
        (report,) = self._pooled(results)
        if report is None:
            raise InvalidDataError("a fold could not be scored; see error_score=.")
        return report

    def _decided(self, estimator: Any, X: Any, y: Any, who: Any, weight: Any) -> Rows:
        columns = self.sensitive_features
        if columns is None and who is None:
            columns = getattr(estimator, "sensitive_features", None)
        if who is None:
            if columns is None:
                raise InvalidParameterError(
                    "fair_scorer got no groups: name columns of X as fair_scorer("
                    "sensitive_features=...), or turn metadata routing on "
                    "(sklearn.set_config(enable_metadata_routing=True)) and pass "
                    "sensitive_features to fit or cross_validate."
                )
            who = take_sensitive(inputs.as_features(X), columns, None)[1]
        known = {}
        if getattr(estimator, "needs_sensitive_at_predict", False) and (
            getattr(estimator, "sensitive_features", None) is None
        ):
            known = {"sensitive_features": who}
        objective, score = as_objective(self.performance), None
        given = strata_of(self.constraints)
        positive = self.positive_label
        if positive is None:
            positive = getattr(estimator, "positive_label", None)
        if objective.scored:
            chances = estimator.predict_proba(X, **known)
            classes = LabelCoding.read(estimator.classes_, positive)[1]
            score = np.asarray(chances)[:, classes.column]
        return Rows.read_decided(
            y,
            estimator.predict(X, **known),
            with_strata(inputs.as_features(X), who, given),
            y_score=score,
            positive_label=positive,
            sample_weight=weight,
            given=given,
        )

    def _report(self, rows: Rows) -> FairnessReport:
        report = report_on(rows, self.constraints, rows="steering", confidence=self.confidence)
        return with_objective(report, rows, self.constraints, as_objective(self.performance))

    def _counts(self, rows: Rows) -> dict[str, float]:
        cells = _cells_of(rows.groups)
        slots = (rows.groups.codes * 2 + rows.outcomes.astype(np.int64)) * 2
        slots += (rows.decisions > 0.5).astype(np.int64)
        weight = rows.weight
        if weight is not None:  # so that they sum to the rows that they are worth (Kish, 1965)
            weight = weight * (weight.sum() / (weight @ weight))
        counted = np.bincount(slots, weight, minlength=4 * len(cells)).reshape(-1, 2, 2)
        found: dict[str, Any] = dict(zip(cells, counted.tolist(), strict=True))
        if self.groups is not None:
            if foreign := [cell for cell in cells if cell not in self.groups]:
                raise InvalidDataError(f"fair_scorer's groups= lack {foreign[0]}.")
            found = {cell: found.get(cell, np.zeros((2, 2)).tolist()) for cell in self.groups}
        return {
            f"{_CELL}{cell} {label} {decision}": count
            for cell, by_label in found.items()
            for label, by_decision in enumerate(by_label)
            for decision, count in enumerate(by_decision)
        }

    def _pooled(self, results: Mapping[str, Any]) -> list[FairnessReport | None]:
        """A report on all folds for every candidate; None where a fold could not be scored."""
        counts = _sums(results, _CELL)
        if not counts:
            raise InvalidParameterError(
                "these results hold no counts: pass scoring=fair_scorer(...), without penalty=."
            )
        totals, seen = sum(counts.values()), _sums(results, "n_rows")["n_rows"]
        if not np.allclose(totals, seen, equal_nan=True):
            raise InvalidDataError(
                "the first fold lacks a group that another one has, whose people were not "
                "counted: pass all groups, as fair_scorer(groups=sensitive_features)."
            )
        means = _sums(results, "score", np.mean)["score"]
        reports: list[FairnessReport | None] = []
        for i, known in enumerate(np.isfinite(seen)):
            if not known:
                reports.append(None)
                continue
            rows = _rows_of({n: c[i] for n, c in counts.items()}, strata_of(self.constraints))
            report = self._report(rows)
            if as_objective(
                self.performance
            ).scored:  # scores are not counted: a mean over the folds
                report = replace(report, performance=float(means[i]))
            reports.append(report)
        return reports


@checks(
    difference_bound=DIFFERENCE | NONE,
    ratio_bound=RATIO | NONE,
    sensitive_features=COLUMNS,
    positive_label=LABEL,
    penalty=Real(0) | NONE,
    confidence=CONFIDENCE,
)
def fair_scorer(
    constraints: ConstraintSpec = "demographic_parity",
    performance: Any = "accuracy",
    *,
    difference_bound: float | None = None,
    ratio_bound: float | None = None,
    sensitive_features: str | Sequence[str] | None = None,
    groups: Any = None,
    positive_label: Any = None,
    penalty: float | None = None,
    confidence: float = 0.95,
) -> FairScorer:
    """Make a scorer of performance and gaps for ``GridSearchCV`` and its kin.

    As ``scoring=`` it gives several numbers, of which :func:`best_feasible` chooses (``refit=``)
    and :meth:`FairScorer.table` makes a table, both with the folds pooled.

    Parameters
    ----------
    constraints : Constraint, str, fairlearn moment, or a list of these
        What is asked of decisions, at the bounds that a choice has to keep. Groups are compared as
        ``sensitive_features`` makes them.
    performance : str, dict, ErrorCosts, matrix, fairlearn's ``ErrorRate`` or callable
        Larger is better; see :func:`~fairtrain.constraints.as_objective`. A matrix is of
        (unfavourable, favourable), and costs are named by error, as no model's labels are known.
    difference_bound, ratio_bound : float, optional
        Replace the bounds of ``constraints``.
    sensitive_features : str or list of str, optional
        Columns of ``X`` that hold the groups. Left out, the estimator's own constructor argument of
        that name, or what metadata routing hands over.
    groups : frame, series, array or Groups, optional
        The sensitive features of all rows, or of one row a group: needed where a fold may lack one.
    positive_label : label, optional
        The favourable outcome; may be left out for {0, 1}, {-1, 1} and booleans.
    penalty : float, optional
        Give one number instead, performance less so much for every unit of excess over a bound in
        the fold: for tools that take one (``HalvingGridSearchCV``, Optuna). Gaps of small folds are
        too wide, so prefer few folds then.
    confidence : float, default=0.95
        Level of limits.

    Returns
    -------
    FairScorer

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import GridSearchCV
    >>> from fairtrain import ReductionsWrapper
    >>> from fairtrain.metrics import best_feasible, fair_scorer
    >>> rng = np.random.default_rng(0)
    >>> X = pd.DataFrame(rng.normal(size=(2000, 2)), columns=["a", "b"])
    >>> X["group"] = rng.integers(0, 2, 2000)
    >>> X["a"] += X["group"]
    >>> y = (X["a"] + X["b"] + rng.normal(size=2000) > 1).astype(int)
    >>> scorer = fair_scorer(difference_bound=0.1)
    >>> search = GridSearchCV(
    ...     ReductionsWrapper(LogisticRegression(), sensitive_features="group", max_iter=10,
    ...                       random_state=0),
    ...     {"difference_bound": [0.02, 0.3]}, scoring=scorer, refit=best_feasible(scorer), cv=3,
    ... ).fit(X, y)
    >>> search.best_params_
    {'difference_bound': 0.02}
    """
    read = as_constraints(constraints, difference_bound=difference_bound, ratio_bound=ratio_bound)
    if any(edges for _, edges in strata_of(read)):
        raise InvalidParameterError(
            "fair_scorer pools counts and cuts no numbers: cut the columns of given= beforehand."
        )
    as_objective(performance)
    return FairScorer(
        list(read), performance, sensitive_features, groups, positive_label, penalty, confidence
    )


@checks(by=Choice("gap", "upper"))
def best_feasible(scorer: FairScorer, *, by: str = "gap") -> Callable[[Mapping[str, Any]], int]:
    """Make what ``refit=`` takes: the best candidate of a search that keeps the bounds.

    Candidates that keep every bound on the pooled folds come first, among them those that tell
    people apart and beat deciding alike for everybody, then performance decides. Where none keeps
    the bounds, the least excess does.

    Parameters
    ----------
    scorer : FairScorer
        The ``scoring=`` of the same search.
    by : {"gap", "upper"}, default="gap"
        What has to keep the bounds: gaps as counted, or their confidence limits, for which even
        pooled folds are often too few.

    Returns
    -------
    callable
        ``cv_results_`` -> place of the candidate.

    Warns
    -----
    ConstraintNotMetWarning
        If no candidate keeps the bounds.
    UselessModelWarning
        If the one that is chosen is no better than deciding alike for everybody.
    """

    def choose(results: Mapping[str, Any]) -> int:
        table = scorer.table(results)
        over = table["excess" if by == "gap" else "excess_upper"].clip(lower=0).fillna(np.inf)
        useless = table["near_constant"] | table["no_better_than_constant"]
        if not np.isfinite(over).any():
            raise InvalidDataError("no candidate of the search could be scored; see error_score=.")
        order = pd.DataFrame(
            {"over": over, "useless": useless & (over <= 0), "worse": -table["performance"]}
        )
        best = int(order.sort_values(["over", "useless", "worse"], kind="stable").index[0])
        if over[best] > 0:
            warn(
                f"no candidate keeps the bounds on the pooled folds; the nearest one is off by "
                f"{over[best]:.3g}.",
                ConstraintNotMetWarning,
            )
        elif useless[best]:
            warn(
                "every candidate that keeps the bounds is no better than deciding alike for "
                "everybody: loosen the bounds, or search elsewhere.",
                UselessModelWarning,
            )
        return best

    return choose


def gap_score(
    y_true: Any,
    y_pred: Any,
    *,
    sensitive_features: Any,
    metric: str = "selection_rate",
    over: str | Sequence[str] | None = None,
    positive_label: Any = None,
    sample_weight: Any = None,
) -> float:
    """Largest difference of a metric between two groups, as one number for ``make_scorer``.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,)
        Labels and decisions.
    sensitive_features, metric, over, positive_label, sample_weight
        As in :func:`fairtrain.gap`.

    Returns
    -------
    float
        In [0, 1]; smaller is fairer.

    Examples
    --------
    >>> from sklearn.metrics import make_scorer
    >>> scorer = make_scorer(gap_score, greater_is_better=False)  # with metadata routing on:
    >>> # scorer.set_score_request(sensitive_features=True)
    >>> gap_score([1, 0, 1, 0], [1, 0, 1, 1], sensitive_features=["a", "a", "b", "b"])
    0.5
    """
    return gap(
        y_true,
        y_pred,
        sensitive_features,
        metric,
        over=over,
        positive_label=positive_label,
        sample_weight=sample_weight,
    ).value


def _excesses(report: FairnessReport) -> list[float]:
    return [result.excess for result in report.results]


def _far_excess(result: ConstraintResult) -> float:
    """Excess of the limit that is farther from being fair."""
    if result.larger_is_fairer:
        return result.bound - result.lower
    return result.upper - result.bound


def _cells_of(groups: Groups) -> list[str]:
    """Every group by its levels, as JSON."""
    scheme = groups.scheme
    return [
        json.dumps(
            {
                str(column): level_name(levels[code])
                for column, levels, code in zip(scheme.columns, scheme.levels, own, strict=True)
            }
        )
        for own in scheme.level_codes.tolist()
    ]


def _sums(
    results: Mapping[str, Any], prefix: str, of: Callable[..., Any] = np.sum
) -> dict[str, Floats]:
    """Sums over folds of every score whose name begins so, one number a candidate."""
    single = {
        name.removeprefix("test_"): [[value] for value in values]
        for name, values in results.items()
        if name.startswith(f"test_{prefix}")
    }
    splits: dict[str, list[Any]] = {}
    for name, values in results.items():
        fold, found, score = name.partition("_test_")
        if found and fold.startswith("split") and score.startswith(prefix):
            splits.setdefault(score, []).append(values)
    return {
        name: np.asarray(of(np.asarray(values, dtype=np.float64), axis=0))
        for name, values in (splits or single).items()
    }


def _rows_of(counts: Mapping[str, float], given: Given) -> Rows:
    """Rows that have these counts; the weight of a cell is shared out among whole rows."""
    used = {name: count for name, count in counts.items() if count > 0}
    parts = [name.removeprefix(_CELL).rsplit(" ", 2) for name in used]
    mass = np.array(list(used.values()))
    times = np.maximum(np.rint(mass), 1).astype(np.int64)
    people = pd.DataFrame([json.loads(levels) for levels, _, _ in parts])
    label, decision = (np.array([float(part[i]) for part in parts]) for i in (1, 2))
    groups = Groups.from_sensitive(people.loc[people.index.repeat(times)], given=given)
    weight = np.repeat(mass / times, times)
    return Rows.judged(
        np.repeat(label, times),
        np.repeat(decision, times),
        groups,
        None if (mass == times).all() else weight,
        favourable=1,
    )
