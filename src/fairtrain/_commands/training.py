"""What ``train``, ``sweep`` and ``demo`` share: rows, features, a fair and an ordinary model."""

from __future__ import annotations

import hashlib
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from fairtrain._commands.data import Data, sensitive_of
from fairtrain._commands.duration import about
from fairtrain._commands.features import TableFeatures
from fairtrain._commands.methods import (
    Method,
    Settings,
    as_passed,
    check_certification,
    check_point,
    read_method,
    several,
)
from fairtrain._commands.operating import OperatingPoint, read_point
from fairtrain._commands.options import Ask, How, People, SweepOptions, TrainingOptions
from fairtrain._commands.output import notes_of
from fairtrain._commands.plan import plan_columns
from fairtrain._commands.progress import epochs_shown, working
from fairtrain._commands.proxies import proxies_of, telling
from fairtrain._commands.scores import decides_at_half
from fairtrain._text import flatten, one_line
from fairtrain._versions import versions
from fairtrain.constraints import AtLeast, AtMost, Constraint, as_constraints
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidParameterError
from fairtrain.report import Judged, judged

__all__ = [
    "Prepared",
    "choose_method",
    "choose_methods",
    "decisions",
    "fit",
    "judge",
    "make_constraint",
    "prepare",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Prepared:
    """What all models of a run share.

    Attributes
    ----------
    data : Data
        The table, divided.
    constraint : Constraint
        The constraints that decisions are to keep.
    features : TableFeatures
        Fitted on the rows that train.
    rows : Rows
        The same people; with features that a model reads once it is known which (:meth:`read_by`).
    columns : tuple of str
        What was found in the columns, in sentences.
    point : OperatingPoint
        Where decisions are made.
    proxies : tuple of dict
        Which columns reveal the group and go with the gap of the labels that train.
    """

    data: Data
    constraint: Constraint
    features: TableFeatures
    rows: Rows
    columns: tuple[str, ...]
    point: OperatingPoint
    proxies: tuple[dict[str, Any], ...]

    def read_by(self, method: Method, settings: Settings) -> Prepared:
        """The same rows, with features as a method takes them."""
        return self.as_categories if method.reads_categories(settings) else self.as_numbers

    @cached_property
    def as_numbers(self) -> Prepared:
        """With a column for every level of a category."""
        return self._read(one_hot=True)

    @cached_property
    def as_categories(self) -> Prepared:
        """With the categories themselves."""
        return self._read(one_hot=False)

    def _read(self, *, one_hot: bool) -> Prepared:
        table = copy(self.features).set_params(one_hot=one_hot)
        rows = replace(self.data.rows, X=table.transform(self.data.rows.X))
        return replace(self, features=table, rows=rows)

    @property
    def facts(self) -> dict[str, Any]:
        """What a ``RunSummary`` says of the rows: counts of every part, a digest, the constant."""
        split, shown = (
            self.rows.split,
            self.rows.groups.over(self.constraint.columns(self.rows.groups.scheme)),
        )
        parts = {role: getattr(split, role) for role in ("training", "steering", "certification")}
        counts = {"all": shown.counts, **{r: shown.take(at).counts for r, at in parts.items()}}
        digest = self.data.digest
        certified = np.ascontiguousarray(parts["certification"], dtype="<i8").tobytes()
        return {
            "data": self.data.name,
            "outcome": self.data.outcome,
            "constraint": _in_words(self.constraint, self.data.sensitive.columns),
            "row_counts": {role: len(at) for role, at in parts.items()},
            "group_counts": {
                name: {part: int(rows[g]) for part, rows in counts.items()}
                for g, name in enumerate(shown.names)
            },
            "columns": self.columns,
            "proxies": self.proxies,
            "constant": self.judged(
                "constant", self.point.constant(self.rows.part("certification").outcomes)
            ),
            "made_with": {
                **versions(),
                "data_sha256": digest,
                # Runs that were judged on the very same rows can be compared.
                "certified_on": hashlib.sha256(digest.encode() + certified).hexdigest(),
            },
        }

    def judged(self, title: str, decision: Floats, **more: Any) -> Judged:
        """Judge what was decided about the certification rows."""
        rows = self.rows.part("certification")
        return judged(
            title,
            (self.constraint,),
            rows.outcomes,
            decision,
            rows.groups,
            clusters=rows.clusters,
            outcome=self.data.outcome,
            over=self.constraint.columns(rows.groups.scheme),
            objective=self.point.sought,
            **more,
        )

    def pipeline(self, model: Any) -> Pipeline:
        """From a row of the table to a decision; its ledger knows the rows that certified it."""
        if getattr(model, "held_out_", None) is None:
            X, y, who = as_passed(self.rows.part("certification"))
            model.note_reading(X, y, sensitive_features=who)
        return Pipeline([("features", self.features), ("model", model)])


def make_constraint(ask: Ask, people: People) -> Constraint:
    """One of fairtrain's constraints, over some of the sensitive columns.

    Raises
    ------
    InvalidParameterError
        If it cannot be asked of these columns.
    """
    over, columns, given = flatten(ask.over), flatten(people.sensitive), flatten(people.given)
    absent = [name for name in over if name not in columns]
    if absent:
        raise InvalidParameterError(
            f"--over '{one_line(absent[0])}' is not among the sensitive columns "
            f"{', '.join(columns)}."
        )
    if ask.bound is not None and ask.ratio is not None:
        raise InvalidParameterError("give --bound or --ratio, not both.")
    bound = 0.05 if ask.bound is None and ask.ratio is None else ask.bound
    constraint = _limit(ask)
    if constraint is None:
        constraint = as_constraints(ask.constraint, difference_bound=bound, ratio_bound=ask.ratio)[
            0
        ]
    if people.pooled and not given:
        raise InvalidParameterError("--pooled averages over strata: say which with --given.")
    return replace(constraint, over=over or None, given=given or None, pooled=people.pooled)


def _limit(ask: Ask) -> Constraint | None:
    """A floor or a cap, where one is asked for."""
    options = {"--at-least": (ask.at_least, AtLeast), "--at-most": (ask.at_most, AtMost)}
    given = {name: (said, kind) for name, (said, kind) in options.items() if said is not None}
    if not given:
        return None
    if len(given) > 1 or ask.bound is not None or ask.ratio is not None:
        raise InvalidParameterError(
            "--at-least and --at-most are each all that is asked: give one of them, and neither "
            "--bound nor --ratio. Several constraints are for fairtrain in Python."
        )
    if ask.constraint != Ask().constraint:
        raise InvalidParameterError(
            f"{next(iter(given))} and --constraint {ask.constraint} both say what to ask for; give "
            "one of them. Several constraints are for fairtrain in Python."
        )
    ((option, (said, kind)),) = given.items()
    rate, _, number = said.partition("=")
    try:
        value = float(number)
    except ValueError:
        raise InvalidParameterError(
            f"{option} takes a rate and a number, as in {option} precision=0.7, got "
            f"'{one_line(said)}'."
        ) from None
    try:
        return kind(rate.strip(), value)
    except InvalidParameterError as error:
        raise InvalidParameterError(f"{option}: {error}") from None


def choose_method(options: TrainingOptions | SweepOptions) -> tuple[Method, Settings]:
    """The method, and what it reads; the favourable label is known when the table is.

    Raises
    ------
    InvalidParameterError
        If options are not for the method, or a constraint not for the columns.
    """
    method, own = read_method(options.how)
    sensitive = sensitive_of(options.people)
    constraint = make_constraint(options.ask, options.people)
    point = read_point(options.decide, options.how.objective)
    check_point(method, point)
    settings = Settings(constraint, options.shares, sensitive, own, point)
    if settings.shares.cross and isinstance(options, SweepOptions):
        raise InvalidParameterError(
            "--certification cross is not for sweep: to choose among bounds by their gaps and to "
            "certify on the same rows does not hold; give the share of the rows that only judge."
        )
    check_certification(method, settings)
    method.check(settings)
    return method, settings


def choose_methods(options: TrainingOptions) -> list[tuple[How, Method, Settings]]:
    """Every method that is named, with what it reads."""
    each = several(options.how)
    return [(how, *choose_method(replace(options, how=how))) for how in each]


def prepare(
    data: Data, options: TrainingOptions | SweepOptions, constraint: Constraint
) -> Prepared:
    """Split the rows, and learn from those that train how features are read."""
    shares, features = options.shares, options.features
    if shares.cross:
        data = data.undivided(seed=shares.seed)
    else:
        data = data.divided(
            validation=shares.validation, certification=shares.share, seed=shares.seed
        )
    training = data.rows.part("training")
    plan = plan_columns(
        training.X,
        training.outcomes,
        features,
        without=_taken(options.people, data.sensitive.columns),
    )
    table = TableFeatures(
        plan.of("number"),
        plan.of("category"),
        dates=plan.of("date"),
        lenient=plan.lenient,
        sensitive=data.sensitive if features.use_sensitive else None,
    ).fit(training.X)
    point = read_point(options.decide, options.how.objective).among(len(data.rows))
    groups = training.groups.over(constraint.columns(training.groups.scheme))
    proxies = proxies_of(training.X, plan, training.outcomes, groups, training.clusters)
    said = (*plan.sentences(), *telling(proxies))
    return Prepared(data, constraint, table, data.rows, said, point, proxies)


def _taken(people: People, sensitive: tuple[str, ...]) -> tuple[str, ...]:
    """Columns that are no features whoever trains."""
    cluster = () if people.cluster is None else (people.cluster,)
    return (people.label, *sensitive, *cluster)


def fit(
    method: Method,
    prepared: Prepared,
    settings: Settings,
    title: str,
    notes: list[str],
    *,
    fair: Any = None,
) -> Any:
    """Train, and show how far it is.

    Parameters
    ----------
    method, prepared, settings
        How, on what.
    title : str
        What it is called while it trains, and in its warnings.
    notes : list of str
        Takes its warnings.
    fair : estimator, optional
        The fair model whose ordinary counterpart is trained; by default the fair one itself is.
    """

    def train(settings: Settings) -> Any:
        if fair is None:
            return method.fit_fair(prepared.rows, settings)
        return method.fit_plain(prepared.rows, settings, fair)

    settings = replace(settings, positive=prepared.data.favourable, point=prepared.point)
    with notes_of(notes, f"{title}: "):
        if "epochs" not in method.options:
            known = "" if fair is not None else about(method, prepared.rows, settings)
            with working(f"training the {title}{known}"):
                return train(settings)
        with epochs_shown(f"training the {title}") as callback:
            model = train(replace(settings, callbacks=(callback,)))
        return model.set_params(callbacks=())


def decisions(model: Any, X: Any, favourable: Any) -> tuple[Floats, Floats | None]:
    """Decide about rows.

    Parameters
    ----------
    model : estimator
        A fitted classifier.
    X : ndarray of shape (n, d)
        Features.
    favourable : label
        The favourable outcome.

    Returns
    -------
    decision : ndarray of shape (n,)
        1 for the favourable decision, or its probability where decisions are drawn.
    score : ndarray of shape (n,) or None
        Probability of the favourable label; None where the model knows that of its decisions only.
    """
    column = np.asarray(model.classes_).tolist().index(favourable)
    if decides_at_half(model):
        score = np.asarray(model.predict_proba(X), dtype=np.float64)[:, column]
        return (score > 0.5).astype(np.float64), score
    shares = getattr(model, "decision_proba", None)
    if shares is None:
        decision = (np.asarray(model.predict(X)) == favourable).astype(np.float64)
    else:
        decision = np.asarray(shares(X))[:, column]
    score = np.asarray(model.predict_proba(X), dtype=np.float64)[:, column]
    return decision, None if np.array_equal(score, decision) else score


def judge(
    title: str,
    model: Any,
    prepared: Prepared,
    against: Floats | None = None,
    baseline: str = "baseline",
) -> tuple[Judged, Floats]:
    """Judge a model on the certification rows; its decisions come too.

    Parameters
    ----------
    title : str
        Its name.
    model : estimator
        The model.
    prepared : Prepared
        The rows.
    against, baseline : ndarray and str, optional
        Decisions and name of the baseline.
    """
    X, favourable = prepared.rows.part("certification").X, prepared.data.favourable
    decision, score = decisions(model, X, favourable)
    more = {"score": score, "against": against, "baseline": baseline}
    return prepared.judged(title, decision, **more), decision


def judge_held_out(model: Any, prepared: Prepared) -> tuple[Judged, Judged]:
    """Judge scores without prices, and with them, each row by what never saw it."""
    held, free = model.held_out_, model.free_held_out_
    effect = {"design_effect": held.design_effect}
    baseline = prepared.judged("baseline", free.decisions, score=free.scores, **effect)
    fair = prepared.judged(
        "fair model", held.decisions, score=held.scores, against=free.decisions, **effect
    )
    return baseline, fair


def _in_words(constraint: Constraint, columns: tuple[str, ...]) -> str:
    """Say what is asked, of which groups."""
    strata = constraint.given_columns
    groups = constraint.over or tuple(name for name in columns if name not in strata)
    name, who = constraint.notion.replace("_", " "), " x ".join(groups)
    if strata:
        who += f" {'averaged over' if constraint.pooled else 'within each'} {' x '.join(strata)}"
    if constraint.absolute:
        return f"{constraint.name}, in every group by {who}"
    if constraint.kind == "ratio":
        return f"{name}: the lowest rate at least {constraint.bound:g} times the highest, by {who}"
    return f"{name}: any two groups by {who} at most {constraint.bound:g} apart"
