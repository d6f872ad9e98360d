"""Train an ordinary and a fair model on the same rows, and judge both on untouched ones."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from fairtrain._commands.columns import SensitiveColumns
from fairtrain._commands.data import Data
from fairtrain._commands.features import TableFeatures, choose_features
from fairtrain._commands.methods import Method, Settings
from fairtrain._commands.options import Ask, Features, Shares
from fairtrain._commands.progress import epochs_shown, working
from fairtrain._text import flatten, one_line
from fairtrain._versions import versions
from fairtrain.constraints import Constraint, as_constraints
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidParameterError
from fairtrain.report.judged import Judged, judged

__all__ = [
    "Prepared",
    "decisions",
    "fit",
    "judge",
    "make_constraint",
    "notes_of",
    "prepare",
    "settings_for",
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
        What is asked.
    shares : Shares
        Which rows do what.
    features : TableFeatures
        Fitted on the rows that train.
    rows : Rows
        The same people with features that a model reads.
    """

    data: Data
    constraint: Constraint
    shares: Shares
    features: TableFeatures
    rows: Rows

    @property
    def facts(self) -> dict[str, Any]:
        """What a ``RunSummary`` says of the rows: counts of every part and group, a digest."""
        split, shown = self.rows.split, self.rows.groups.over(self.constraint.over)
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
            "made_with": {
                **versions(),
                "data_sha256": digest,
                # Runs that were judged on the very same rows can be compared.
                "certified_on": hashlib.sha256(digest.encode() + certified).hexdigest(),
            },
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
    data = data.divided(
        validation=shares.validation, certification=shares.certification, seed=shares.seed
    )
    numeric, categorical = choose_features(
        data.rows.X, features, without=(label, *data.sensitive.columns)
    )
    table = TableFeatures(
        numeric, categorical, sensitive=data.sensitive if features.use_sensitive else None
    ).fit(data.rows.part("training").X)
    rows = replace(data.rows, X=table.transform(data.rows.X))
    return Prepared(data, constraint, shares, table, rows)


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
    settings = replace(settings, positive=prepared.data.favourable)
    if "epochs" not in method.options:
        with working(f"training the {title}"):
            return train(prepared.rows, settings)
    with epochs_shown(f"training the {title}") as callback:
        model = train(prepared.rows, replace(settings, callbacks=(callback,)))
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
    shares = getattr(model, "decision_proba", None)
    if shares is None:
        decision = (np.asarray(model.predict(X)) == favourable).astype(np.float64)
    else:
        decision = np.asarray(shares(X))[:, column]
    score = np.asarray(model.predict_proba(X), dtype=np.float64)[:, column]
    return decision, None if np.array_equal(score, decision) else score


def judge(
    title: str, model: Any, prepared: Prepared, against: Floats | None = None
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
    against : ndarray, optional
        The baseline's decisions.
    """
    rows = prepared.rows.part("certification")
    assert rows.y is not None
    decision, score = decisions(model, rows.X, prepared.data.favourable)
    found = judged(
        title,
        (prepared.constraint,),
        rows.y,
        decision,
        rows.groups,
        outcome=prepared.data.outcome,
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


def _in_words(constraint: Constraint, columns: tuple[str, ...]) -> str:
    """Say what is asked, of which groups."""
    over = constraint.over or columns
    over = (over,) if isinstance(over, str) else tuple(over)
    name, who = constraint.notion.replace("_", " "), " x ".join(over)
    if constraint.kind == "ratio":
        return f"{name}: the lowest rate at least {constraint.bound:g} times the highest, by {who}"
    return f"{name}: any two groups by {who} at most {constraint.bound:g} apart"
