"""A run: split the rows, train a baseline and a fair model, judge both on untouched rows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state

from fairtrain._commands.columns import Label, SensitiveColumns, check_groups
from fairtrain._commands.estimators import EstimatorName, make_estimator
from fairtrain._commands.features import TableFeatures, numeric_columns
from fairtrain._splits import RowSplit, split_rows
from fairtrain._text import one_line
from fairtrain.constraints import Constraint
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.groups import Groups
from fairtrain.reductions import ReductionsWrapper
from fairtrain.report.summary import Judged, judged

__all__ = ["Plan", "Trained", "choose_features", "train"]


@dataclass(frozen=True)
class Plan:
    """What to train.

    Attributes
    ----------
    constraint : Constraint
        What is asked.
    estimator : str
        Name of the base estimator.
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
    estimator: EstimatorName
    sensitive: SensitiveColumns
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    use_sensitive: bool = False
    validation: float = 0.2
    certification: float = 0.3
    seed: int = 0


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
    for name, share in (("validation", plan.validation), ("certification", plan.certification)):
        if not 0 < share < 1:
            raise InvalidParameterError(f"--{name} must lie between 0 and 1, got {share:g}.")
    if not plan.numeric and not plan.categorical and not plan.use_sensitive:
        raise InvalidDataError("no feature column is left.")
    who = plan.sensitive.read(frame)
    groups = Groups.from_sensitive(who, missing=plan.sensitive.missing)
    shown = groups.over(plan.constraint.over)
    check_groups(shown)
    split = split_rows(
        groups.codes,
        label.target,
        validation_fraction=plan.validation,
        certification_fraction=plan.certification,
        random_state=check_random_state(plan.seed),
    )
    _check_parts(split, label)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model, baseline_score = _fit(frame, label, who, plan, split)
        rows = split.certification
        fair = model.predict_proba(frame.iloc[rows])
    column = list(model[-1].classes_).index(label.positive)
    target, certified = label.target[rows], groups.take(rows)
    models = tuple(
        judged(
            title,
            (plan.constraint,),
            target,
            decision,
            certified,
            outcome=outcome,
            score=score,
            over=plan.constraint.over,
        )
        for title, decision, score in (
            ("baseline", (baseline_score > 0.5).astype(np.int64), baseline_score),
            ("fair model", fair[:, column], None),
        )
    )
    _hide_small_cells(model[-1])
    return Trained(model, models, _row_counts(split), _group_counts(shown, split), _notes(caught))


def _fit(
    frame: pd.DataFrame, label: Label, who: pd.DataFrame, plan: Plan, split: RowSplit
) -> tuple[Pipeline, NDArray[np.float64]]:
    """Fit both models; the baseline's score is that of the certification rows."""
    features = TableFeatures(
        plan.numeric,
        plan.categorical,
        sensitive=plan.sensitive if plan.use_sensitive else None,
    ).fit(frame.iloc[split.training])
    X = features.transform(frame)
    baseline = make_estimator(plan.estimator, plan.seed)
    baseline.fit(X[split.training], label.target[split.training])
    fair = ReductionsWrapper(
        make_estimator(plan.estimator, plan.seed),
        plan.constraint,
        # The same seed, shares, groups and labels make the same split as above.
        validation_fraction=plan.validation,
        certification_fraction=plan.certification,
        positive_label=label.positive,
        missing=plan.sensitive.missing,
        random_state=plan.seed,
    ).fit(X, label.values, sensitive_features=who)
    model = Pipeline([("features", features), ("model", fair)])
    return model, baseline.predict_proba(X[split.certification])[:, 1]


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
    for report in model.reports_.values():
        rates = report.group_rates
        few = (rates["count"] > 0) & (rates["count"] < 10)
        rates.loc[few, ["rate", "lower", "upper"]] = np.nan


def _row_counts(split: RowSplit) -> dict[str, int]:
    return {
        "training": len(split.training),
        "steering": len(split.steering),
        "certification": len(split.certification),
    }


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
