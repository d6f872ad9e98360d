"""The report on a list of constraints: what was achieved, on which rows, and what can be said."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from fairtrain._parameters import (
    CONFIDENCE,
    DIFFERENCE,
    LABEL,
    LEAST_ROWS,
    MISSING,
    NONE,
    RATIO,
    Choice,
    Where,
    checks,
)
from fairtrain.constraints import (
    Constraint,
    ConstraintSpec,
    MomentConstraint,
    Objective,
    as_constraints,
    strata_of,
)
from fairtrain.constraints.families import RateFamily, families_of
from fairtrain.constraints.objectives import as_said
from fairtrain.constraints.rates import Rate
from fairtrain.data.groups import Missing
from fairtrain.data.inputs import as_vector, is_number
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.metrics.cells import cell_means
from fairtrain.metrics.disclosure import (
    MIN_CELL,
    cell_dicts,
    plain_value,
    rests_on_few,
    result_dict,
)
from fairtrain.metrics.joint import JointStatement, jointly
from fairtrain.metrics.measures import USUAL, family_cells, rates_frame
from fairtrain.metrics.shown import as_html, rate_of, shown_rates
from fairtrain.metrics.verdicts import ConstraintResult, RowsRole, Verdict, judge

__all__ = [
    "FairnessReport",
    "constant_accuracy",
    "fairness_report",
    "report_on",
    "with_objective",
]

NEAR_CONSTANT = 0.01
"""Near constant: one of the two decisions goes to no more than this share of the rows."""

_SEVERITY = (
    Verdict.NOT_MET,
    Verdict.TOO_FEW_ROWS,
    Verdict.NOT_CERTIFIED,
    Verdict.MET,
)


@dataclass(frozen=True)
class FairnessReport:
    """What was achieved on one set of rows.

    Attributes
    ----------
    results : tuple of ConstraintResult
        One for each constraint.
    rows : {"certification", "steering", "training"}
        What the rows were used for before: nothing, choosing, or training.
    n_rows : int
        How many there are.
    accuracy : tuple of three floats
        Estimate and confidence limits.
    selection_rate : float
        Share of favourable decisions.
    near_constant : bool
        Whether (almost) everybody gets the same decision: any bound is then kept, and worthless.
    favourable : label
        The favourable outcome.
    group_rates : DataFrame
        Rates of every group; see :func:`fairtrain.metrics.group_rates`.
    confidence : float
        Level of all intervals.
    constant_accuracy : float
        Accuracy, on these rows, of deciding alike for everybody in the better way that keeps every
        cap and floor; NaN where none does, and where there are no decisions.
    reading : int
        How often these rows have certified this model so far; from 2 on ``confidence`` is
        stricter than was asked for, see :mod:`fairtrain.metrics.ledger`.
    objective : str, default="accuracy"
        What the model was to be best at; see :func:`fairtrain.constraints.as_objective`.
    performance, constant_performance : float
        Where that is not accuracy: its value, and that of the better constant; larger is better.
    joint : JointStatement or None
        What holds of several constraints at once; on certification rows.
    """

    results: tuple[ConstraintResult, ...]
    rows: RowsRole
    n_rows: int
    accuracy: tuple[float, float, float]
    selection_rate: float
    near_constant: bool
    favourable: Any
    group_rates: pd.DataFrame
    confidence: float
    constant_accuracy: float = np.nan
    reading: int = 1
    objective: str = "accuracy"
    performance: float = np.nan
    constant_performance: float = np.nan
    joint: JointStatement | None = None

    @property
    def no_better_than_constant(self) -> bool:
        """Whether deciding alike for everybody is as good, and keeps every bound besides."""
        return bool(self.worth <= self.constant_worth + 1e-9)

    @property
    def worth(self) -> float:
        """Value of the objective."""
        return self.accuracy[0] if self.objective == "accuracy" else self.performance

    @property
    def constant_worth(self) -> float:
        """The same of the better constant that keeps every cap and floor."""
        accurate = self.objective == "accuracy"
        return self.constant_accuracy if accurate else self.constant_performance

    @property
    def worth_said(self) -> float:
        """:attr:`worth` as people name it: costs and losses above 0."""
        return as_said(self.objective, self.worth)

    @property
    def constant_worth_said(self) -> float:
        """:attr:`constant_worth`, likewise."""
        return as_said(self.objective, self.constant_worth)

    @property
    def verdict(self) -> Verdict:
        """The least favourable verdict among the constraints."""
        return min((r.verdict for r in self.results), key=_SEVERITY.index)

    def is_beaten_by(self, other: FairnessReport) -> bool:
        """Whether another model is better on the same rows and nearer to every bound."""
        pairs = zip(self.results, other.results, strict=True)
        nearer = all(theirs.excess < ours.excess for ours, theirs in pairs)
        return nearer and self.worth < other.worth

    def frame(self) -> pd.DataFrame:
        """One row a constraint."""
        columns = (
            "constraint",
            "kind",
            "bound",
            "rate",
            "achieved",
            "lower",
            "upper",
            "pairwise",
            "highest",
            "lowest",
            "verdict",
        )
        table = pd.DataFrame([{c: getattr(r, c) for c in columns} for r in self.results])
        table["verdict"] = [str(v) for v in table["verdict"]]
        table["rows_needed"] = [max(r.rows_needed.values(), default=np.nan) for r in self.results]
        return table

    def explain(self) -> str:
        """Say in plain words what was achieved and what can be concluded."""
        favourable = plain_value(self.favourable)
        outcome = repr(favourable) if isinstance(favourable, str) else favourable
        used = {
            "certification": "rows that took no part in training or choosing",
            "steering": "rows that took part in choosing the model, so they certify nothing",
            "training": "rows that trained the model, so they say nothing about new people",
        }[self.rows]
        said = f"{self.n_rows:,} {used}"
        if np.isfinite(self.accuracy[0]):
            said += "; accuracy {:.3f} ({:.3f} to {:.3f})".format(*self.accuracy)
        if np.isfinite(self.performance):
            said += f"; {self.objective} {as_said(self.objective, self.performance):.3f}"
        if self.favourable is not None:
            said += f"; favourable outcome {outcome} for {self.selection_rate:.1%}"
        lines = [f"{said}."]
        if self.no_better_than_constant:
            lines.insert(
                0,
                f"no_better_than_constant: deciding alike for everybody has {self.objective} "
                f"{self.constant_worth_said:.3f} here, this model {self.worth_said:.3f}.",
            )
        lines += self.reading_words()
        lines += [f"{r.verdict}: {r.constraint}: {r.words(self.confidence)}" for r in self.results]
        lines += self.joint_words()
        if self.near_constant:
            lines.append("near_constant: (almost) everybody gets the same decision.")
        return "\n".join(lines)

    def reading_words(self) -> list[str]:
        """Say that these rows were read before, if they were, and what follows."""
        if self.reading < 2:
            return []
        return [
            f"These rows have certified this model before; this is reading {self.reading}. All "
            "readings after the first share the error of one, so the limits are "
            f"{100 * self.confidence:.4g}% ones: only fresh rows have their full level."
        ]

    def joint_words(self, *, shown: bool = False) -> list[str]:
        """Say what holds of all constraints at once; ``shown`` leaves out what few rows tell."""
        if self.joint is None:
            return []
        joint = self.joint
        if shown:
            joint = joint.without([rests_on_few(r) for r in self.results])
        return joint.words(_told_apart(self.results))

    def __str__(self) -> str:
        return self.explain()

    def _repr_html_(self) -> str:
        """Show it in a notebook, with small cells left out."""
        return as_html(self)

    def plot(self, metric: str | None = None, ax: Any = None, **options: Any) -> Any:
        """Draw a rate of every group with its interval, and the room that a bound leaves.

        Parameters
        ----------
        metric : str, optional
            One of ``group_rates``; by default what the constraint with the least favourable
            verdict limits, else the selection rate.
        ax : Axes, optional
            Where to draw; a new figure by default.
        **options
            As :func:`fairtrain.plotting.plot_group_rates` takes them, such as ``most``.

        Returns
        -------
        Axes
            Cells of few rows, and what would tell of them, are left out.
        """
        # By name: a report has to know of no picture before somebody wants to see one.
        draw = importlib.import_module("fairtrain.plotting.groups").plot_group_rates
        decisive = next(r for r in self.results if r.verdict is self.verdict)
        limited = rate_of(decisive)
        metric = metric or limited or "selection_rate"
        if metric == limited and decisive.kind == "difference":
            options.setdefault("bound", decisive.bound)
        return draw(shown_rates(self), metric, ax=ax, **options)

    def to_dict(
        self, *, min_cell: int = MIN_CELL, hidden: Collection[tuple[str, str]] | None = None
    ) -> dict[str, Any]:
        """Make a plain structure for JSON, with small cells left out.

        Parameters
        ----------
        min_cell : int, default=10
            Rates over fewer rows are replaced by None, because a rate over one row discloses a
            person's label, and so is whatever they could be worked out from: gaps and limits that
            rest on such a cell, a group's other rates on labels, and, where only a few rows are
            hidden, the rates of the next smallest group, which would give them away as the
            difference to all rows.
        hidden : collection of (metric, group), optional
            Cells to leave out instead, where other numbers of these rows are published beside
            them: see :func:`fairtrain.metrics.disclosure.hidden_cells`.
        """
        if not is_number(min_cell) or min_cell < 0:
            raise InvalidParameterError(
                f"min_cell must be a number of rows from 0 on, got {min_cell!r}."
            )
        return {
            "rows": self.rows,
            "n_rows": self.n_rows,
            "confidence": self.confidence,
            "reading": self.reading,
            "favourable": plain_value(self.favourable),
            "verdict": str(self.verdict),
            "near_constant": self.near_constant,
            "constant_accuracy": plain_value(self.constant_accuracy),
            **self._sought(),
            "accuracy": {
                name: plain_value(value)
                for name, value in zip(("estimate", "lower", "upper"), self.accuracy, strict=True)
            },
            "selection_rate": plain_value(self.selection_rate),
            "constraints": [result_dict(r, min_cell) for r in self.results],
            "joint": None
            if self.joint is None
            else self.joint.without([rests_on_few(r, min_cell) for r in self.results]).to_dict(),
            "group_rates": cell_dicts(self.group_rates, min_cell, self.results, hidden),
        }

    def _sought(self) -> dict[str, Any]:
        """What the model was to be best at, where that is not accuracy."""
        if self.objective == "accuracy":
            return {}
        names = ("objective", "performance", "constant_performance")
        return {name: plain_value(getattr(self, name)) for name in names}


@checks(
    difference_bound=DIFFERENCE | NONE,
    ratio_bound=RATIO | NONE,
    positive_label=LABEL,
    missing=MISSING,
    min_count=LEAST_ROWS,
    rows=Where(
        "be 'certification', 'steering' or 'training'",
        Choice("certification", "steering", "training").accepts,
    ),
    confidence=CONFIDENCE,
)
def fairness_report(
    y_true: Any,
    y_pred: Any,
    sensitive_features: Any,
    constraints: ConstraintSpec = "demographic_parity",
    *,
    difference_bound: float | None = None,
    ratio_bound: float | None = None,
    positive_label: Any = None,
    sample_weight: Any = None,
    clusters: Any = None,
    missing: Missing = "error",
    min_count: int = 30,
    rows: RowsRole = "certification",
    confidence: float = 0.95,
) -> FairnessReport:
    """Judge decisions against a list of constraints.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Labels.
    y_pred : array-like of shape (n,)
        Decisions as labels, or probabilities of a favourable randomised decision.
    sensitive_features : frame, series, mapping, array, list or Groups
        The sensitive features: which group each person belongs to.
    constraints : Constraint, str, fairlearn moment or list of these
        The notions and bounds to judge.
    difference_bound, ratio_bound : float, optional
        Replace the bounds in ``constraints``.
    positive_label : label, optional
        The favourable outcome; may be left out for {0, 1}, {-1, 1} and booleans, and where no
        constraint depends on it.
    sample_weight : array-like of shape (n,), optional
        Row weights.
    clusters : array-like of shape (n,), optional
        Which rows belong together and are not independent: those of one customer, branch or judge.
        Limits then rest on how much clusters differ; a group in fewer than ten certifies nothing.
    missing : {"error", "group"}, default="error"
        What to do with missing sensitive values.
    min_count : int, default=30
        Groups with fewer rows are never judged fair on steering rows.
    rows : {"certification", "steering", "training"}, default="certification"
        What the rows were used for before. Only rows that steered nothing can say ``met``.
    confidence : float, default=0.95
        Level of the intervals and of the verdict.

    Returns
    -------
    FairnessReport

    Notes
    -----
    A constraint is ``met`` when the confidence limit of its gap lies within the bound on
    certification rows, ``not_met`` when the other limit lies outside it, or when the gap does
    although the rows would have sufficed to show a fair model fair; otherwise there are
    ``too_few_rows`` and ``rows_needed`` says how many would do.

    Examples
    --------
    >>> y = [0, 1] * 2000
    >>> report = fairness_report(y, y, ["a"] * 2000 + ["b"] * 2000, difference_bound=0.05)
    >>> str(report.verdict)
    'met'
    """
    if y_true is None:
        raise InvalidDataError("y_true is missing: a report needs labels; gap() does without.")
    requested = as_constraints(
        constraints, difference_bound=difference_bound, ratio_bound=ratio_bound, moments=True
    )
    if not len(as_vector(y_pred, "y_pred")):
        raise InvalidDataError("y_pred has no rows.")
    data = Rows.read_decided(
        y_true,
        y_pred,
        sensitive_features,
        positive_label=positive_label,
        sample_weight=sample_weight,
        clusters=clusters,
        missing=missing,
        min_count=min_count,
        name_required=any(c.depends_on_positive for c in requested),
        given=strata_of(requested),
    )
    return report_on(data, requested, rows=rows, confidence=confidence)


def report_on(
    data: Rows, constraints: Any, *, rows: RowsRole, confidence: float = 0.95
) -> FairnessReport:
    """Judge rows that are numbers already; the body of :func:`fairness_report`."""
    everyone = np.zeros(len(data.decisions), dtype=np.int64)
    right = 1 - np.abs(data.outcomes - data.decisions)
    accuracy = cell_means(right, everyone, 1, data.weight, clusters=data.clusters)
    accuracy = accuracy.inflated(data.design_effect)
    lower, upper = accuracy.limits(confidence)
    selected = float(cell_means(data.decisions, everyone, 1, data.weight).mean[0])
    decided = [rate for c in constraints for rate in _rates_of(c) if rate.among is not None]
    names = tuple(dict.fromkeys([*USUAL, *(rate.name for rate in decided)]))
    results = tuple(judge(c, data, rows, confidence) for c in constraints)
    return FairnessReport(
        results=results,
        rows=rows,
        n_rows=len(data.decisions),
        accuracy=(float(accuracy.mean[0]), float(lower[0]), float(upper[0])),
        selection_rate=selected,
        near_constant=min(selected, 1 - selected) <= NEAR_CONSTANT + 1e-9,
        favourable=data.favourable,
        group_rates=rates_frame(data, names, data.groups, confidence),
        confidence=confidence,
        constant_accuracy=constant_accuracy(
            constraints, [{None: data.decided(np.full(len(data), d))} for d in (0.0, 1.0)]
        ),
        joint=jointly([(c, data) for c in constraints], results, rows, confidence),
    )


def _told_apart(results: Sequence[ConstraintResult]) -> list[str]:
    """Names of constraints, with their bounds where a notion is asked for twice."""
    names = [r.constraint for r in results]
    return [
        r.constraint if names.count(r.constraint) == 1 else f"{r.constraint} ({r.kind} {r.bound:g})"
        for r in results
    ]


def _rates_of(constraint: Constraint) -> tuple[Rate, ...]:
    return () if isinstance(constraint, MomentConstraint) else constraint.rates


def constant_accuracy(
    constraints: Sequence[Constraint], constants: Sequence[Mapping[Any, Rows]]
) -> float:
    """Accuracy of the best way to decide alike for everybody that keeps every cap and floor.

    Parameters
    ----------
    constraints : sequence of Constraint
        Parities among them are kept by every constant.
    constants : sequence of mapping of outcome to Rows
        The rows as each constant decides them; where there are several classes for each of them,
        and for the true class under None.

    Returns
    -------
    float
        NaN where no constant keeps them.
    """
    accuracies = [
        float(np.average(1 - np.abs(one.outcomes - one.decisions), weights=one.weight))
        for one in _kept_constants(constraints, constants)
    ]
    return max(accuracies, default=float("nan"))


def with_objective(
    report: FairnessReport, data: Rows, constraints: Sequence[Constraint], objective: Objective
) -> FairnessReport:
    """Add to a report what its rows are worth by an objective that is not accuracy.

    Parameters
    ----------
    report : FairnessReport
        On decisions between two classes.
    data : Rows
        The rows; an objective of scores is not known where they have none.
    constraints : sequence of Constraint
        What was asked.
    objective : Objective
        What the model was to be best at.
    """
    if objective.is_accuracy:
        return report
    y, weight = data.outcomes, data.weight
    known = not objective.scored or data.score is not None
    constants = [{None: data.decided(np.full(len(data), d))} for d in (0.0, 1.0)]
    kept = [float(rows.decisions[0]) for rows in _kept_constants(constraints, constants)]
    return replace(
        report,
        constant_accuracy=np.nan,  # of no use as a standard here
        objective=objective.name,
        performance=objective(y, data.decisions, data.score, weight) if known else np.nan,
        constant_performance=objective.best_constant(y, weight, kept),
    )


def _kept_constants(
    constraints: Sequence[Constraint], constants: Sequence[Mapping[Any, Rows]]
) -> Iterator[Rows]:
    """The constants that keep every cap and floor."""
    limits = [constraint for constraint in constraints if constraint.absolute]
    moments = [c for c in limits if isinstance(c, MomentConstraint)]
    rated = [c for c in limits if c not in moments]
    outcomes = [outcome for outcome in constants[0] if outcome is not None]
    for decided in constants:
        one = decided[None]
        families = families_of(rated, one.groups.scheme, outcomes or None)
        kept = all(_keeps(family, decided[family.outcome]) for family in families)
        if kept and all(judge(c, one, "training", 0.95).excess <= 0 for c in moments):
            yield one


def _keeps(family: RateFamily, decided: Rows) -> bool:
    rates = family_cells(decided, family).mean
    return not family.bounds.excess(rates) > 0  # NaN: there is nothing to break it
