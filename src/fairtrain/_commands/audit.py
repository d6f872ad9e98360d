"""``fairtrain audit``: how decisions that were made treat the groups."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairtrain._commands.columns import (
    Label,
    SensitiveColumns,
    as_words,
    check_groups,
    read_label,
)
from fairtrain._commands.tables import read_table, require_columns
from fairtrain._commands.terminal import print_rates, print_standings, say
from fairtrain._text import listed, one_line
from fairtrain.constraints import as_constraints
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.groups import Groups
from fairtrain.metrics import gap, group_rates
from fairtrain.metrics.verdicts import RowsRole
from fairtrain.report.summary import Judged, judged, small_cells

__all__ = ["Audit", "audit"]


@dataclass(frozen=True)
class Audit:
    """What to audit; see ``fairtrain audit --help``."""

    data: Path
    label: str
    positive: str | None
    sensitive: SensitiveColumns
    score: str | None = None
    prediction: str | None = None
    threshold: float = 0.5
    constraints: tuple[str, ...] = ("demographic_parity", "equalized_odds")
    bound: float | None = 0.05
    ratio: float | None = None
    rows: RowsRole = "certification"
    outcome: str | None = None


def audit(asked: Audit) -> Judged | None:
    """Print group counts and base rates and, with a score or prediction, rates and verdicts."""
    if asked.score is not None and asked.prediction is not None:
        raise InvalidParameterError("give --score or --prediction, not both.")
    frame = read_table(asked.data)
    label = read_label(frame, asked.label, asked.positive)
    who = asked.sensitive.read(frame)
    groups = Groups.from_sensitive(who, missing=asked.sensitive.missing)
    check_groups(groups)
    outcome = asked.outcome or f"{asked.label} = {label.positive}"
    _base_rates(groups, label, outcome)
    if asked.score is None and asked.prediction is None:
        return None
    score = None if asked.score is None else _read_score(frame, asked.score)
    if score is None:
        assert asked.prediction is not None
        decision = _read_prediction(frame, asked.prediction, label)
    else:
        decision = (score >= asked.threshold).astype(np.int64)
    constraints = as_constraints(
        list(asked.constraints),
        difference_bound=None if asked.ratio is not None else asked.bound,
        ratio_bound=asked.ratio,
    )
    found = judged(
        "audit",
        constraints,
        label.target,
        decision,
        groups,
        outcome=outcome,
        score=score,
        rows=asked.rows,
    )
    _print(found, outcome, asked)
    return found


def _base_rates(groups: Groups, label: Label, outcome: str) -> None:
    parts = groups.marginals if len(groups.columns) > 1 else {}
    for name, part in [*parts.items(), (" x ".join(groups.columns), groups)]:
        rates = group_rates(None, label.target, part, metrics="selection_rate", positive_label=1)
        print_rates(f"{name}: labels", rates, {"selection_rate": f"share {outcome} [95 %]"})
        if len(part) < 2:
            continue
        widest = gap(None, label.target, part, positive_label=1)
        if not {widest.highest, widest.lowest} & small_cells(rates, "selection_rate"):
            say(
                f"Base rates of '{widest.highest}' and '{widest.lowest}' differ by "
                f"{widest.value:.3f} (95 % interval {widest.lower:.3f} to {widest.upper:.3f}).",
                "",
            )


def _print(found: Judged, outcome: str, asked: Audit) -> None:
    names = {
        "selection_rate": f"share {outcome}",
        "true_positive_rate": "true positive rate",
        "false_positive_rate": "false positive rate",
        "accuracy": "accuracy",
    }
    if "mean_score" in set(found.rates["metric"]):
        names["mean_score"] = "mean score"
    print_rates("Decisions", found.rates, names, found.hidden)
    print_standings([found])
    accuracy, low, high = found.report.accuracy
    auc = "" if np.isnan(found.auc) or asked.score is None else f", AUC {found.auc:.3f}"
    say(f"Accuracy {accuracy:.3f} ({low:.3f} to {high:.3f}){auc}.")
    for result in found.report.results:
        say(f"{result.constraint}: {result.verdict}. {found.words(result, outcome)}")
    if asked.rows == "certification":
        say(
            "These verdicts take it that none of the rows trained or tuned the model; if they "
            "did, say so with --rows training."
        )


def _read_score(frame: pd.DataFrame, name: str) -> NDArray[np.float64]:
    require_columns(frame, (name,), what="score column")
    column = frame[name]
    if not pd.api.types.is_numeric_dtype(column) or column.isna().any():
        raise InvalidDataError(f"score column '{one_line(name)}' must hold a number in every row.")
    score = column.to_numpy(dtype=np.float64)
    if score.min() < 0 or score.max() > 1:
        raise InvalidDataError(
            f"score column '{one_line(name)}' must hold probabilities of the favourable label, "
            f"from 0 to 1, but ranges from {score.min():g} to {score.max():g}."
        )
    return score


def _read_prediction(frame: pd.DataFrame, name: str, label: Label) -> NDArray[np.int64]:
    require_columns(frame, (name,), what="prediction column")
    words = as_words(frame[name])
    known: dict[Any, int] = {str(label.positive): 1, str(label.negative): 0}
    strange = [w for w in pd.unique(words) if w not in known]
    if strange:
        raise InvalidDataError(
            f"prediction column '{one_line(name)}' holds {listed(strange)}, which are no values "
            f"of the label ({listed(known)})."
        )
    return words.map(known).to_numpy(dtype=np.int64)
