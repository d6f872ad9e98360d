"""Train an ordinary and a fair model on the same rows, and judge both on untouched ones."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from fairtrain._commands.asked import Ask, Features, Shares
from fairtrain._commands.columns import SensitiveColumns
from fairtrain._commands.data import Data, choose_features
from fairtrain._commands.deciding import decisions
from fairtrain._commands.features import TableFeatures
from fairtrain._commands.methods import Method, Rows, Settings
from fairtrain._commands.splitting import group_counts, row_counts, split
from fairtrain._commands.watching import epochs_shown, working
from fairtrain._text import flatten, one_line
from fairtrain.constraints import Constraint, as_constraints
from fairtrain.data.groups import Groups
from fairtrain.exceptions import InvalidParameterError
from fairtrain.report.judged import Judged, judged

__all__ = ["Prepared", "fit", "judge", "make_constraint", "notes_of", "prepare", "settings_for"]


@dataclass(frozen=True, eq=False)
class Prepared:
    """What all models of a run share.

    Attributes
    ----------
    data : Data
        The table.
    constraint : Constraint
        What is asked.
    shares : Shares
        Which rows do what.
    features : TableFeatures
        Fitted on the rows that train.
    rows : Rows
        Features, labels, groups and split.
    shown : Groups
        The groups that the constraint compares.
    """

    data: Data
    constraint: Constraint
    shares: Shares
    features: TableFeatures
    rows: Rows
    shown: Groups

    @property
    def counts(self) -> dict[str, Any]:
        """Rows of every part, and of every group in it: fields of a ``RunSummary``."""
        return {
            "row_counts": row_counts(self.rows.split),
            "group_counts": group_counts(self.shown, self.rows.split),
        }

    def pipeline(self, model: Any) -> Pipeline:
        """From a row of the table to a decision."""
        return Pipeline([("features", self.features), ("model", model)])


def make_constraint(ask: Ask, columns: tuple[str, ...]) -> Constraint:
    """One of fairtrain's constraints, over some of the sensitive columns.

    Raises
    ------
    InvalidParameterError
        If it cannot be asked of these columns.
    """
    over = flatten(ask.over)
    absent = [name for name in over if name not in columns]
    if absent:
        raise InvalidParameterError(
            f"--over '{one_line(absent[0])}' is not among the sensitive columns "
            f"{', '.join(columns)}."
        )
    if ask.bound is not None and ask.ratio is not None:
        raise InvalidParameterError("give --bound or --ratio, not both.")
    bound = 0.05 if ask.bound is None and ask.ratio is None else ask.bound
    constraint = as_constraints(ask.constraint, difference_bound=bound, ratio_bound=ask.ratio)[0]
    return replace(constraint, over=over) if over else constraint


def prepare(
    data: Data, features: Features, constraint: Constraint, shares: Shares, *, label: str
) -> Prepared:
    """Split the rows, and learn features from those that train."""
    found = split(data.groups, data.label, shares)
    numeric, categorical = choose_features(data, features, without=(label,))
    table = TableFeatures(
        numeric, categorical, sensitive=data.sensitive if features.use_sensitive else None
    ).fit(data.frame.iloc[found.training])
    rows = Rows(table.transform(data.frame), data.label, data.who, found)
    shown = data.groups.over(constraint.over)
    return Prepared(data, constraint, shares, table, rows, shown)


def settings_for(
    method: Method,
    options: Mapping[str, Any],
    constraint: Constraint,
    sensitive: SensitiveColumns,
    shares: Shares,
) -> Settings:
    """What a method reads; the favourable label is known when the table is.

    Raises
    ------
    InvalidParameterError
        If they are not for the method.
    """
    settings = Settings(
        constraint=constraint,
        validation=shares.validation,
        certification=shares.certification,
        seed=shares.seed,
        positive=None,
        missing=sensitive.missing,
        columns=sensitive.columns,
        options=options,
    )
    method.check(settings)
    return settings


def fit(method: Method, prepared: Prepared, settings: Settings, *, fair: bool, title: str) -> Any:
    """Train, and show how far it is."""
    train = method.fit_fair if fair else method.fit_plain
    settings = replace(settings, positive=prepared.data.label.positive)
    if "epochs" not in method.options:
        with working(f"training the {title}"):
            return train(prepared.rows, settings)
    with epochs_shown(f"training the {title}") as callback:
        model = train(prepared.rows, replace(settings, callbacks=(callback,)))
    return model.set_params(callbacks=())


def judge(
    title: str, model: Any, prepared: Prepared, against: NDArray[np.float64] | None = None
) -> tuple[Judged, NDArray[np.float64]]:
    """Judge a model on the certification rows; its decisions come too.

    Parameters
    ----------
    title : str
        Its name.
    model : estimator
        The model.
    prepared : Prepared
        The rows.
    against : ndarray, optional
        The baseline's decisions.
    """
    data, at = prepared.data, prepared.rows.split.certification
    decision, score = decisions(model, prepared.rows.X[at], data.label.positive)
    found = judged(
        title,
        (prepared.constraint,),
        data.label.target[at],
        decision,
        data.groups.take(at),
        outcome=data.outcome,
        score=score,
        over=prepared.constraint.over,
        against=against,
    )
    return found, decision


@contextmanager
def notes_of() -> Iterator[list[str]]:
    """Collect warnings as sentences; each once, and only when all is done."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield notes
    notes += _sentences(caught)


def _sentences(caught: Sequence[warnings.WarningMessage]) -> list[str]:
    return list(dict.fromkeys(one_line(str(w.message).partition("\n")[0]) for w in caught))
