"""A run: split the rows, train a baseline and a fair model, judge both on untouched rows."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state

from fairtrain._commands.columns import Label, SensitiveColumns, check_groups
from fairtrain._commands.estimators import EstimatorName
from fairtrain._commands.features import TableFeatures, numeric_columns
from fairtrain._commands.methods import METHODS, MethodName, Settings, method_of
from fairtrain._splits import RowSplit, split_rows
from fairtrain._text import one_line
from fairtrain.constraints import Constraint
from fairtrain.exceptions import (
    InvalidDataError,
    InvalidParameterError,
    MissingDependencyError,
)
from fairtrain.groups import Groups
from fairtrain.report.summary import Judged, judged

__all__ = ["Plan", "Prepared", "Trained", "choose_features", "decide", "train", "train_all"]


@dataclass(frozen=True)
class Plan:
    """What to train.

    Attributes
    ----------
    constraint : Constraint
        What is asked.
    method : str
        How to train.
    estimator, eta, strength, epochs
        Options of single methods; None for their defaults.
    sensitive : SensitiveColumns
        Who.
    numeric, categorical : tuple of str
        Feature columns.
    use_sensitive : bool
        Whether the sensitive columns are features too.
    validation, certification : float
        Shares of the rows that steer and that certify.
    seed : int
        Source of all chance.
    """

    constraint: Constraint
    sensitive: SensitiveColumns
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    method: MethodName = "reductions"
    estimator: EstimatorName | None = None
    eta: float | None = None
    strength: float | None = None
    epochs: int | None = None
    use_sensitive: bool = False
    validation: float = 0.2
    certification: float = 0.3
    seed: int = 0

    def settings(self, label: Label) -> Settings:
        """What models are made of; they are handed the rows that do not certify."""
        return Settings(
            constraint=self.constraint,
            estimator=self.estimator,
            eta=self.eta,
            strength=self.strength,
            epochs=self.epochs,
            validation=self.validation / (1 - self.certification),
            common={
                "positive_label": label.positive,
                "missing": self.sensitive.missing,
                "random_state": self.seed,
            },
        )


@dataclass(frozen=True)
class Trained:
    """What a run leaves: the model (without any row), both judgements, counts and notes."""

    model: Pipeline
    models: tuple[Judged, ...]
    row_counts: dict[str, int]
    group_counts: dict[str, dict[str, int]]
    notes: tuple[str, ...]


def choose_features(
    frame: pd.DataFrame, *, without: Sequence[str], categorical: Sequence[str] = ()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Numeric and categorical columns among all but ``without``."""
    names = [name for name in frame.columns if name not in set(without)]
    numbers = numeric_columns(frame, [name for name in names if name not in set(categorical)])
    return numbers, tuple(name for name in names if name not in set(numbers))


def train(frame: pd.DataFrame, label: Label, plan: Plan, *, outcome: str) -> Trained:
    """Train baseline and fair model and judge them.

    Parameters
    ----------
    frame : DataFrame
        Features and sensitive columns.
    label : Label
        The decisions.
    plan : Plan
        What to train.
    outcome : str
        The favourable outcome in words.
    """
    method = method_of(plan.method, **_options_of(plan))
    rows = Prepared.of(frame, label, plan)
    settings = plan.settings(label)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        baseline = rows.fit(method.baseline(settings))
        fair = rows.fit(method.fair(settings))
    models = rows.judged_all({"baseline": baseline, "fair model": fair}, outcome)
    model = Pipeline([("features", rows.features), ("model", fair)])
    counts = rows.counts(fair)
    return Trained(model, models, _totals(counts), counts, _notes(caught))


def train_all(
    frame: pd.DataFrame, label: Label, plan: Plan, *, outcome: str
) -> tuple[Trained, dict[str, str]]:
    """Train every method whose packages are there, beside one ordinary model.

    Returns
    -------
    trained : Trained
        The reduction's model, and the judgements of all.
    absent : dict of str to str
        Methods that could not be trained, and why.
    """
    rows = Prepared.of(frame, label, plan)
    settings = plan.settings(label)
    absent: dict[str, str] = {}
    settings = replace(settings, eta=5.0)  # a price that shows, in a table of bounds
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        first = METHODS["reductions"]
        fair = rows.fit(first.fair(settings))
        fitted = {"baseline": rows.fit(first.baseline(settings)), first.title: fair}
        for name, method in METHODS.items():
            if name == "reductions":
                continue
            try:
                fitted[method.title] = rows.fit(method.fair(replace(settings, estimator=None)))
            except MissingDependencyError as error:
                absent[name] = str(error)
    models = rows.judged_all(fitted, outcome)
    model = Pipeline([("features", rows.features), ("model", fair)])
    counts = rows.counts(fair)
    return Trained(model, models, _totals(counts), counts, _notes(caught)), absent


@dataclass(frozen=True)
class Prepared:
    """A table split and turned into numbers: what every model of a run shares.

    Attributes
    ----------
    plan, label
        As they came.
    who : DataFrame
        Sensitive columns.
    groups : Groups
        Of all rows.
    split : RowSplit
        Nominal parts; a model steers by a part of its own of those that do not certify.
    features : TableFeatures
        Fitted on the training rows.
    X : ndarray of shape (n, d)
        Features of all rows.
    """

    plan: Plan
    label: Label
    who: pd.DataFrame
    groups: Groups
    split: RowSplit
    features: TableFeatures
    X: NDArray[np.float64]

    @classmethod
    def of(cls, frame: pd.DataFrame, label: Label, plan: Plan) -> Prepared:
        """Check, split and transform a table."""
        for name, share in (("validation", plan.validation), ("certification", plan.certification)):
            if not 0 < share < 1:
                raise InvalidParameterError(f"--{name} must lie between 0 and 1, got {share:g}.")
        if not plan.numeric and not plan.categorical and not plan.use_sensitive:
            raise InvalidDataError("no feature column is left.")
        who = plan.sensitive.read(frame)
        groups = Groups.from_sensitive(who, missing=plan.sensitive.missing)
        check_groups(groups.over(plan.constraint.over))
        split = split_rows(
            groups.codes,
            label.target,
            validation_fraction=plan.validation,
            certification_fraction=plan.certification,
            random_state=check_random_state(plan.seed),
        )
        _check_parts(split, label)
        features = TableFeatures(
            plan.numeric,
            plan.categorical,
            sensitive=plan.sensitive if plan.use_sensitive else None,
        ).fit(frame.iloc[split.training])
        return cls(plan, label, who, groups, split, features, features.transform(frame))

    @property
    def rest(self) -> NDArray[np.int64]:
        """Rows that train and steer."""
        return np.sort(np.concatenate([self.split.training, self.split.steering]))

    def fit(self, model: Any) -> Any:
        """Fit a model on the rows that do not certify."""
        at = self.rest
        takes_groups = "sensitive_features" in inspect.signature(model.fit).parameters
        more = {"sensitive_features": self.who.iloc[at]} if takes_groups else {}
        # Boosters and networks want numbers of their own; an ordinary estimator gets 0 and 1.
        y = self.label.values[at] if takes_groups else self.label.target[at]
        fitted = model.fit(self.X[at], y, **more)
        _hide_small_cells(fitted)
        return fitted

    def judged_all(self, models: Mapping[str, Any], outcome: str) -> tuple[Judged, ...]:
        """Judge models on the certification rows; the first is the one that others cost against."""
        at, plan = self.split.certification, self.plan
        found: list[Judged] = []
        ordinary: NDArray[np.float64] | None = None
        for title, model in models.items():
            decision, score = decide(model, self.X[at], self.label)
            found.append(
                judged(
                    title,
                    (plan.constraint,),
                    self.label.target[at],
                    decision,
                    self.groups.take(at),
                    outcome=outcome,
                    score=score,
                    over=plan.constraint.over,
                    against=ordinary,
                )
            )
            ordinary = decision if ordinary is None else ordinary
        return tuple(found)

    def counts(self, model: Any) -> dict[str, dict[str, int]]:
        """Rows of every group that train, steer and certify a model."""
        shown = self.groups.over(self.plan.constraint.over)
        nominal = _group_counts(shown, self.split)
        reports = getattr(model, "reports_", {})
        if self.plan.constraint.over is None and {"training", "steering"} <= set(reports):
            for role in ("training", "steering"):
                rates = reports[role].group_rates
                own = rates[rates["metric"] == "selection_rate"]
                for name, count in zip(own["group"], own["count"], strict=True):
                    nominal[name][role] = int(count)
        return nominal


def decide(
    model: Any, X: NDArray[np.float64], label: Label
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Favourable decisions, or their probabilities where a lot decides, and scores.

    Returns
    -------
    decision : ndarray of shape (n,)
    score : ndarray of shape (n,) or None
        Probability of the favourable label; None where the model's probabilities are those of
        decisions.
    """
    classes = list(model.classes_)
    own = hasattr(model, "constraints_")
    column = classes.index(label.positive if own else 1)
    scores = np.asarray(model.predict_proba(X), dtype=np.float64)[:, column]
    shares = getattr(model, "_decision_shares", None)
    if shares is not None:
        decision = np.asarray(shares(X)[:, column], dtype=np.float64)
        lot = bool(((decision > 0) & (decision < 1)).any())
        return decision, None if lot else scores
    favourable = classes[column]
    return (np.asarray(model.predict(X)) == favourable).astype(np.float64), scores


def _options_of(plan: Plan) -> dict[str, Any]:
    return {name: getattr(plan, name) for name in ("estimator", "eta", "strength", "epochs")}


def _totals(counts: dict[str, dict[str, int]]) -> dict[str, int]:
    parts = ("training", "steering", "certification")
    return {part: sum(group[part] for group in counts.values()) for part in parts}


def _check_parts(split: RowSplit, label: Label) -> None:
    for name, rows in (
        ("train", split.training),
        ("steer", split.steering),
        ("certify", split.certification),
    ):
        if len(np.unique(label.target[rows])) < 2:
            raise InvalidDataError(
                f"the {len(rows)} rows that {name} have one label only; more rows are needed."
            )


def _hide_small_cells(model: Any) -> None:
    """Leave no rate over a few rows in the model that is saved."""
    for report in getattr(model, "reports_", {}).values():
        rates = report.group_rates
        few = (rates["count"] > 0) & (rates["count"] < 10)
        rates.loc[few, ["rate", "lower", "upper"]] = np.nan


def _group_counts(groups: Groups, split: RowSplit) -> dict[str, dict[str, int]]:
    parts = {
        "all": groups.counts,
        "training": groups.take(split.training).counts,
        "steering": groups.take(split.steering).counts,
        "certification": groups.take(split.certification).counts,
    }
    return {
        name: {part: int(counts[g]) for part, counts in parts.items()}
        for g, name in enumerate(groups.names)
    }


def _notes(caught: Sequence[warnings.WarningMessage]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one_line(str(w.message).partition("\n")[0]) for w in caught))
