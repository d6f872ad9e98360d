"""``FairEstimator``: the face that every method shares.

Read rows, let the method train on them, judge what it decides, say so. A method fills in how it
reads features, how it trains and what it decides; everything a person meets is here, once.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, is_regressor
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from fairtrain._parameters import (
    ANYTHING,
    COLUMNS,
    DIFFERENCE,
    MISSING,
    NONE,
    RATIO,
    SEED,
    SHARE,
    Table,
    Whole,
    check_parameters,
)
from fairtrain._warnings import warn
from fairtrain.constraints import Constraint, Objective, as_constraints, as_objective, strata_of
from fairtrain.data import inputs
from fairtrain.data.groups import Groups, GroupScheme
from fairtrain.data.labels import LabelCoding, scored
from fairtrain.data.rows import Role, Rows
from fairtrain.exceptions import (
    ConstraintNotMetWarning,
    NearConstantWarning,
    UselessModelWarning,
)
from fairtrain.metrics.disclosure import FEW_WORDS, rests_on_few
from fairtrain.metrics.ledger import Ledger, Look, spent_confidence
from fairtrain.metrics.outcomes import judge_of
from fairtrain.metrics.paired import narrowings
from fairtrain.metrics.power import rows_to_certify
from fairtrain.metrics.report import FairnessReport, with_objective
from fairtrain.metrics.verdicts import ConstraintResult, Usefulness, Verdict

__all__ = ["FairEstimator", "require_favourable"]

Floats = NDArray[np.float64]

_BROKEN = 1e-6  # of the bound, or of a rate: an excess below this is rounding


class FairEstimator(BaseEstimator):
    """Base of all estimators that train under constraints.

    Attributes
    ----------
    classes_ : ndarray of shape (C,)
        Labels, sorted; absent in regression.
    constraints_ : tuple of Constraint
        What was asked, bounds resolved.
    scheme_ : GroupScheme
        The groups seen in ``fit``: names and counts, no row.
    reports_ : dict of str to FairnessReport
        What was achieved on each of "training", "steering" and "certification" rows that exist.
    fairness_report_ : FairnessReport
        The last of them: on certification rows if there are any, else steering, else training.
    status_ : Verdict
        Verdict of ``fairness_report_``.
    ledger_ : Ledger
        How often which rows have certified it; without any row.
    usefulness_ : Usefulness
        Whether the model is worth having beside the best constant and, where the method knows it,
        the unconstrained model; on the rows that steered, else trained.
    """

    several_classes: ClassVar[bool] = False
    not_saved: ClassVar[tuple[str, ...]] = ()
    """Attributes that belong to training rows: left out of pickles and saved folders."""

    _advice: ClassVar[str] = "loosen the bound, or improve the estimator"
    """What helps where (almost) everybody gets the same decision."""

    _allowed: ClassVar[Table] = {
        "constraints": ANYTHING,
        "difference_bound": DIFFERENCE | NONE,
        "ratio_bound": RATIO | NONE,
        "validation_fraction": SHARE,
        "certification_fraction": SHARE,
        "sensitive_features": COLUMNS,
        "positive_label": ANYTHING,
        "missing": MISSING,
        "min_count": Whole(0),
        "random_state": SEED,
    }

    # Set by the subclasses' constructors.
    constraints: Any
    sensitive_features: str | Sequence[str] | None
    validation_fraction: float | None
    certification_fraction: float | None
    missing: Any
    min_count: int
    random_state: Any

    # Set by fit.
    classes_: NDArray[Any]
    constraints_: tuple[Constraint, ...]
    scheme_: GroupScheme
    reports_: dict[str, FairnessReport]
    fairness_report_: FairnessReport
    status_: Verdict
    ledger_: Ledger
    baseline_report_: FairnessReport | None = None  # the unconstrained model's, if it is known
    _coding: LabelCoding | None
    _notes: list[str]
    _even_so: Sequence[str] = ()
    _cluster_column: str | None

    @property
    def needs_sensitive_at_predict(self) -> bool:
        """Whether ``predict`` needs the sensitive features; decisions that read only X do not."""
        return False

    # What a method fills in ---------------------------------------------------------------------

    @abstractmethod
    def _train(self, rows: Rows, rng: np.random.RandomState, *args: Any, **more: Any) -> Rows:
        """Train on divided rows; return them, with decisions where they are known already."""

    @abstractmethod
    def _decision(self, X: Any) -> Floats:
        """Decide about prepared features: share of the favourable decision, (n,), or (n, C)."""

    def _fit_features(self, X: Any) -> Any:
        """Check the features of ``fit`` and bring them into the form that the method trains on."""
        inputs.check_features(self, X, reset=True)
        return X

    def _later_features(self, X: Any) -> Any:
        """Do the same for features that come after ``fit``."""
        inputs.check_features(self, X, reset=False)
        return X

    def _grouping(self, *, reset: bool) -> Callable[[Any], Groups] | None:
        """How ``fit`` (``reset``) and later calls make groups, where columns are no categories."""
        return None

    def _check_settings(self) -> None:
        """Raise where settings cannot be used, before anything is read."""

    def _read_constraints(self) -> tuple[Constraint, ...]:
        """Constraints with their bounds."""
        return as_constraints(
            self.constraints,
            difference_bound=getattr(self, "difference_bound", None),
            ratio_bound=getattr(self, "ratio_bound", None),
        )

    def _draw(self, rng: np.random.RandomState) -> None:
        """Draw what training needs of chance before rows are divided."""

    def _divide(self, rows: Rows, rng: np.random.RandomState) -> Rows:
        """Say which rows train, steer and certify."""
        by_folds = getattr(self, "cv", None) is not None  # then all that train steer as well
        return rows.divided(
            validation_fraction=None if by_folds else self.validation_fraction,
            certification_fraction=self.certification_fraction,
            random_state=rng,
            strata=self._strata(rows),
        )

    def _strata(self, rows: Rows) -> NDArray[Any]:
        """Small whole numbers that the split keeps in proportion beside groups."""
        inputs.require_two_classes(rows.outcomes)
        return rows.outcomes

    def _decided(self, rows: Rows) -> Rows:
        """Add what is decided about rows of prepared features."""
        return rows.decided(self._decision(rows.X))

    def _out_of_fold(self, rows: Rows, decided: Floats) -> Rows:
        """Rows whose training part steered, by what was decided about it out of fold."""
        split = rows.split
        assert split is not None
        decision = np.empty(len(rows))
        decision[split.training] = decided
        if len(split.certification):
            decision[split.certification] = self._decided(rows.part("certification")).decisions
        return replace(rows, split=split.out_of_fold).decided(decision)

    def _report(self, rows: Rows, role: Role, reading: int = 1) -> FairnessReport:
        """Judge decided rows, read for the how manieth time."""
        judge = judge_of(rows.labels)
        level = spent_confidence(self._report_confidence, reading)
        report = judge(rows, self.constraints_, rows=role, confidence=level)
        return replace(report, reading=reading)

    def _judged(self, rows: Rows, role: Role, reading: int = 1) -> FairnessReport:
        """Judge decided rows, and say what they are worth by the objective."""
        report = self._report(rows, role, reading)
        if rows.labels is None or len(rows.labels.labels) > 2:
            return report
        return with_objective(report, rows, self.constraints_, self._objective(rows.labels))

    def _objective(self, labels: LabelCoding | None) -> Objective:
        """What is optimised; raise where that depends on which label is favourable, unsaid."""
        objective = as_objective(getattr(self, "objective", "accuracy"), labels)
        if labels is not None and len(labels.labels) == 2 and not objective.symmetric:
            labels.require_named("objective")
        return objective

    def _warn_of_outcome(self) -> None:
        """Warn where the outcome calls for it; called by ``_fit``, which ``fit`` calls."""
        self._warn_of_broken_bounds()
        self._warn_of_uselessness()

    @property
    def _report_confidence(self) -> float:
        given = getattr(self, "confidence", None)
        return 0.95 if given is None else float(given)

    @property
    def _is_regression(self) -> bool:
        return False

    # The face -----------------------------------------------------------------------------------

    def _fit(
        self,
        X: Any,
        y: Any,
        sensitive_features: Any,
        sample_weight: Any,
        clusters: Any = None,
        **more: Any,
    ) -> Self:
        """Read, train, judge, say so; what ``fit`` takes besides goes to ``_train``."""
        check_parameters(self)
        rng = check_random_state(self.random_state)
        rows = self._begin(X, y, sensitive_features, sample_weight, rng, clusters)
        judged = self._train(rows, rng, **more)
        reports, self.ledger_ = {}, Ledger()
        for role in judged.roles:
            part = judged.part(role)
            self.ledger_.enter(role, part)
            decided = part if part.decision is not None else self._decided(part)
            reports[role] = self._judged(decided, role)
            if role == "certification":
                self._even_so = self._narrowed(reports[role], decided)
        self._keep_reports(reports)
        self._warn_of_outcome()
        return self

    def _begin(
        self,
        X: Any,
        y: Any,
        sensitive_features: Any,
        sample_weight: Any,
        rng: np.random.RandomState,
        clusters: Any = None,
    ) -> Rows:
        """Read and divide the rows of ``fit``; keep what is known before training."""
        self._forget()
        self._cluster_column = clusters if isinstance(clusters, str) else None
        self._check_settings()
        constraints = self._read_constraints()
        rows = self._read(X, y, sensitive_features, sample_weight, clusters)
        if rows.labels is not None:
            require_favourable(constraints, rows.labels)
            self.classes_ = rows.labels.classes
        self._coding, self._notes = rows.labels, []
        self.constraints_, self.scheme_ = constraints, rows.groups.scheme
        self._draw(rng)
        return self._divide(rows, rng)

    def _forget(self) -> None:
        """Let go of an earlier fit: one that fails leaves no half of two models."""
        self._cluster_column = None
        for kept in ("fairness_report_", "baseline_report_", "feature_names_in_", "_even_so"):
            self.__dict__.pop(kept, None)

    def _read(
        self, X: Any, y: Any, sensitive_features: Any, sample_weight: Any, clusters: Any = None
    ) -> Rows:
        """Rows of ``fit``."""
        return Rows.read(
            X,
            y,
            sensitive_features,
            sample_weight,
            clusters=clusters,
            columns=self.sensitive_features,
            features=self._fit_features,
            positive_label=getattr(self, "positive_label", None),
            several_classes=self.several_classes,
            regression=self._is_regression,
            missing=self.missing,
            min_count=self.min_count,
            group=self._grouping(reset=True),
            given=strata_of(self._read_constraints()),
        )

    def _read_later(
        self, X: Any, y: Any, sensitive_features: Any, sample_weight: Any, clusters: Any = None
    ) -> Rows:
        """Rows that come after ``fit``, coded by what it saw."""
        check_is_fitted(self)
        column = getattr(self, "_cluster_column", None)
        if clusters is None and column in getattr(X, "columns", ()):
            clusters = column  # what ``fit`` read is not read as a feature, and not left unread
        return Rows.read(
            X,
            y,
            sensitive_features,
            sample_weight,
            clusters=clusters,
            columns=self.sensitive_features,
            features=self._features,
            scheme=self.scheme_,
            group=self._grouping(reset=False),
            labels=self._coding,
            regression=self._is_regression,
        )

    def _unconstrained_on(self, rows: Rows) -> Rows | None:
        """The same rows as they are decided where nothing is asked; None where nobody knows."""
        return None

    def _narrowed(self, report: FairnessReport, decided: Rows) -> list[str]:
        """Say what is better than without constraints, where rows are too few for a verdict."""
        few = any(result.verdict is Verdict.TOO_FEW_ROWS for result in report.results)
        before = self._unconstrained_on(decided) if few else None
        if before is None:
            return []
        found = narrowings(self.constraints_, report.results, before, decided, report.confidence)
        each = zip(found, report.results, strict=True)
        return [n.words() for n, result in each if n is not None and not rests_on_few(result)]

    def _keep_reports(self, reports: Mapping[Role, FairnessReport]) -> None:
        self.reports_ = {str(role): report for role, report in reports.items()}
        self.fairness_report_ = self.reports_[list(self.reports_)[-1]]
        self.status_ = self.fairness_report_.verdict

    def _warn_of_broken_bounds(self) -> None:
        """Warn of every bound that the rows which steered, or else trained, do not keep."""
        steered = self._steered
        for result in steered.results:
            if result.excess > _BROKEN * max(1.0, abs(result.bound)):
                # Warnings end in logs and on pages, where few people must not be told apart.
                said = FEW_WORDS if rests_on_few(result) else result.words()
                warn(
                    f"{result.constraint} on {steered.rows} rows: {said}",
                    ConstraintNotMetWarning,
                )

    def _warn_of_uselessness(self) -> None:
        """Warn where a constant, or the unconstrained model, would do as well."""
        report = self._steered
        if report.near_constant:
            warn(
                "(almost) everybody gets the same decision, so any bound is kept and worth "
                f"nothing: {self._advice}.",
                NearConstantWarning,
            )
        elif (worth := self.usefulness_) is not Usefulness.USEFUL:
            warn(
                f"on {report.rows} rows: {self._said_of(worth)} To be useful, {self._advice}.",
                UselessModelWarning,
            )

    def _said_of(self, worth: Usefulness) -> str:
        """Say what would be better than this model."""
        report = self._steered
        if worth is Usefulness.BEATEN_BY_BASELINE:
            assert self.baseline_report_ is not None
            accurate = report.objective == "accuracy"
            better = "more accurate" if accurate else f"better by {report.objective}"
            return (
                f"the unconstrained model is {better} ({self.baseline_report_.worth_said:.3f} "
                f"against {report.worth_said:.3f}) and nearer to every bound."
            )
        return (
            f"deciding alike for everybody has {report.objective} "
            f"{report.constant_worth_said:.3f}, this model {report.worth_said:.3f}."
        )

    @property
    def _steered(self) -> FairnessReport:
        """On the rows that chose the model: what was achieved where it could be."""
        reports = self.reports_
        return reports.get("steering") or reports.get("training") or reports["certification"]

    @property
    def usefulness_(self) -> Usefulness:
        """Whether the best constant or the unconstrained model would do as well."""
        check_is_fitted(self)
        report = self._steered
        if report.no_better_than_constant:
            return Usefulness.NO_BETTER_THAN_CONSTANT
        if self.baseline_report_ is not None and report.is_beaten_by(self.baseline_report_):
            return Usefulness.BEATEN_BY_BASELINE
        return Usefulness.USEFUL

    def _features(self, X: Any) -> Any:
        """Features that a person passes after ``fit``, without the sensitive columns."""
        check_is_fitted(self)
        return self._bare_features(X)

    def _bare_features(self, X: Any) -> Any:
        X = inputs.as_features(X)
        if self.sensitive_features is not None:
            X = inputs.drop_if_present(X, self.sensitive_features)
        if (column := getattr(self, "_cluster_column", None)) is not None:
            X = inputs.drop_if_present(X, column)
        return self._later_features(X)

    def decision_proba(self, X: Any) -> Floats:
        """Chance of each decision: 0 or 1, or in between where the decision is drawn by lot.

        Returns
        -------
        ndarray of shape (n, C)
            In the order of ``classes_``. Not the probability of the label: see ``predict_proba``.
        """
        features = self._features(X)
        if self._coding is None:
            raise AttributeError("decision_proba belongs to classification.")
        return self._coding.columns(self._decision(features))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy; R^2 for values.

        Parameters
        ----------
        X, y, sample_weight
            As in ``fit``.
        """
        return scored(X, y, self.predict(X), sample_weight, values=is_regressor(self))

    def evaluate(
        self,
        X: Any,
        y: Any,
        *,
        sensitive_features: Any = None,
        sample_weight: Any = None,
        clusters: Any = None,
    ) -> FairnessReport:
        """Judge the constraints on rows that took no part in training or choosing.

        Parameters
        ----------
        X, y, sensitive_features, sample_weight, clusters
            As in ``fit``; groups keep their codes, a group that fit never saw raises. Nobody can
            see whether clusters had other rows in ``fit``: they must not.

        Returns
        -------
        FairnessReport
            ``reading`` says how often these rows have certified this model, or one of the same
            scores, so far: certification rows of ``fit`` or of an earlier call are known again, and
            judged at a stricter level (:mod:`fairtrain.metrics.ledger`). Rows that trained or
            steered are known again too, where they are a good part of these: ``rows`` says so, and
            they cannot say ``met``. A saved model keeps count of what was read before it was saved.
        """
        rows = self._read_later(X, y, sensitive_features, sample_weight, clusters)
        return self._judged(self._decided(rows), *self._enter(rows))

    def note_reading(
        self, X: Any, y: Any, *, sensitive_features: Any = None, sample_weight: Any = None
    ) -> Look:
        """Enter in the ledger that something else certifies this model on these rows.

        Parameters
        ----------
        X, y, sensitive_features, sample_weight
            As in :meth:`evaluate`, which does this by itself.

        Returns
        -------
        Look
            ``role``, ``"certification"`` unless they are known to have trained or steered, and
            ``reading``, how often they have certified it now; 1: they are fresh. From 2 on the
            level to judge at is :func:`~fairtrain.metrics.ledger.spent_confidence`.
        """
        return self._enter(self._read_later(X, y, sensitive_features, sample_weight))

    def _enter(self, rows: Rows) -> Look:
        return self._kept_ledger.look(rows)

    @property
    def _kept_ledger(self) -> Ledger:
        self.ledger_ = getattr(self, "ledger_", None) or Ledger()  # older folders have none
        return self.ledger_

    def explain(self) -> str:
        """Say in plain words what was achieved, on which rows, and how training went."""
        check_is_fitted(self)
        worth = self.usefulness_
        known = worth is Usefulness.USEFUL or self.fairness_report_.no_better_than_constant
        first = [] if known else [f"{worth}: {self._said_of(worth)}"]
        said = [*first, self.fairness_report_.explain()]
        if self.fairness_report_.rows == "certification":
            said += self._even_so
        return "\n".join([*said, *self._notes, *self._beyond_reach()])

    def _beyond_reach(self) -> list[str]:
        """Say where the rows that steered were too few for what ``confidence`` asks."""
        level, report = getattr(self, "confidence", None), self.reports_.get("steering")
        if level is None or report is None or self._is_regression:
            return []
        said = []
        for result in report.results:
            floor = result.larger_is_fairer
            limit = result.lower if floor else result.upper
            beyond = limit < result.bound if floor else limit > result.bound
            if result.excess <= 0 and beyond and not rests_on_few(result):
                said.append(
                    f"{result.constraint}: confidence={level:g} asks that the limit on the rows "
                    f"that steer, {limit:.3f}, keep {result.bound:g}, and they are too few to show "
                    f"it{_would_do(result, report)}: bring more, or expect the bound to be kept "
                    "less often on new ones."
                )
        return said

    def _html_repr(self) -> str:
        """scikit-learn's diagram, and after ``fit`` what was found."""
        diagram: str = super()._html_repr()
        if not self.__sklearn_is_fitted__():
            return diagram
        return f"{diagram}{self.fairness_report_._repr_html_()}"

    def __getstate__(self) -> dict[str, Any]:
        """All but what belongs to training rows."""
        state = dict(super().__getstate__())
        return {name: value for name, value in state.items() if name not in self.not_saved}

    def __sklearn_is_fitted__(self) -> bool:
        """Whether ``fit`` has finished."""
        return hasattr(self, "fairness_report_")


def require_favourable(constraints: Sequence[Constraint], labels: LabelCoding) -> None:
    """Raise where a constraint depends on which of two labels is favourable and nobody said so."""
    dependent = [c.name for c in constraints if c.depends_on_positive]
    if dependent and len(labels.labels) == 2:
        labels.require_named(dependent[0])


def _would_do(result: ConstraintResult, report: FairnessReport) -> str:
    """Say which group has fewest rows for a parity, and how many would be enough."""
    if result.kind not in ("difference", "ratio") or len(result.counts) < 2:
        return ""
    rates = report.group_rates
    seen = rates.loc[rates["metric"] == result.rate, "rate"].mean()
    half = (1 + result.bound) / 2 if result.kind == "ratio" else result.bound / 2
    needed = rows_to_certify(
        result.bound,
        half,
        rate=float(np.clip(np.nan_to_num(seen, nan=0.5), 0.01, 0.99)),
        kind=result.kind,
        confidence=report.confidence,
        n_groups=len(result.counts),
    )
    fewest = min(result.counts, key=result.counts.__getitem__)
    few = f" ({fewest!r} has {result.counts[fewest]:,}"
    if not np.isfinite(needed):
        return f"{few}, and no number would do)"
    return f"{few}; about {needed:,.0f} a group would do in 80 % of cases, were it truly {half:g})"
