"""``fairtrain audit``: how decisions that were made treat the groups."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairtrain._commands.columns import as_words
from fairtrain._commands.data import Data, read_data
from fairtrain._commands.options import People, Show
from fairtrain._commands.output import finish, print_json, print_rates, print_standings, say
from fairtrain._commands.scores import read_score
from fairtrain._commands.tables import require_columns
from fairtrain._text import listed, one_line
from fairtrain.constraints import as_constraints
from fairtrain.data.groups import Groups
from fairtrain.data.labels import LabelCoding
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.metrics import gap, group_rates
from fairtrain.metrics.disclosure import MIN_CELL, hidden_cells, small_cells
from fairtrain.metrics.verdicts import RowsRole
from fairtrain.report.judged import Judged, judged

__all__ = ["Audit", "audit"]


@dataclass(frozen=True)
class Audit:
    """What to audit; see ``fairtrain audit --help``."""

    data: Path
    people: People
    show: Show
    score: str | None = None
    prediction: str | None = None
    threshold: float = 0.5
    constraints: tuple[str, ...] = ("demographic_parity", "equalized_odds")
    bound: float | None = 0.05
    ratio: float | None = None
    rows: RowsRole = "certification"


def audit(asked: Audit) -> int:
    """Show group counts and base rates and, with a score or prediction, rates and verdicts."""
    if asked.score is not None and asked.prediction is not None:
        raise InvalidParameterError("give --score or --prediction, not both.")
    if math.isnan(asked.threshold):
        raise InvalidParameterError("--threshold must be a number, got nan.")
    decided = asked.score is not None or asked.prediction is not None
    if asked.show.require_met and not decided:
        raise InvalidParameterError("--require-met needs decisions: give --score or --prediction.")
    data = read_data(asked.data, asked.people)
    found = _judged(asked, data) if decided else None
    if asked.show.json:
        print_json(_to_dict(asked, data, found))
    else:
        _show_base_rates(data)
        if found is not None:
            _show(found, data.outcome, asked)
    return finish(asked.show, None if found is None else found.report.verdict)


def _judged(asked: Audit, data: Data) -> Judged:
    rows = data.rows
    assert rows.y is not None
    assert rows.labels is not None
    if asked.score is not None:
        score = read_score(rows.X, asked.score)
        decision = (score >= asked.threshold).astype(np.int64)
    else:
        assert asked.prediction is not None
        score, decision = None, _read_prediction(rows.X, asked.prediction, rows.labels)
    constraints = as_constraints(
        list(asked.constraints),
        difference_bound=None if asked.ratio is not None else asked.bound,
        ratio_bound=asked.ratio,
    )
    return judged(
        "audit",
        constraints,
        rows.y,
        decision,
        rows.groups,
        outcome=data.outcome,
        score=score,
        rows=asked.rows,
    )


def _families(groups: Groups) -> list[tuple[str, Groups]]:
    """Each sensitive column by itself, and all of them together."""
    parts = groups.marginals if len(groups.columns) > 1 else {}
    return [*parts.items(), (" x ".join(groups.columns), groups)]


def _base_rates(data: Data, part: Groups) -> pd.DataFrame:
    return group_rates(None, data.rows.y, part, metrics="selection_rate", positive_label=1)


def _show_base_rates(data: Data) -> None:
    for name, part in _families(data.rows.groups):
        rates = _base_rates(data, part)
        heading = {"selection_rate": f"share {data.outcome} [95 %]"}
        print_rates(f"{name}: labels", rates, heading)
        if len(part) < 2:
            continue
        widest = gap(None, data.rows.y, part, positive_label=1)
        if not {widest.highest, widest.lowest} & small_cells(rates, "selection_rate"):
            say(
                f"Base rates of '{widest.highest}' and '{widest.lowest}' differ by "
                f"{widest.value:.3f} (95 % interval {widest.lower:.3f} to {widest.upper:.3f}).",
                "",
            )


def _to_dict(asked: Audit, data: Data, found: Judged | None) -> dict[str, Any]:
    families = [
        {"over": name, "groups": _cells(_base_rates(data, part))}
        for name, part in _families(data.rows.groups)
    ]
    report = None
    if found is not None:
        report = replace(found.report, group_rates=found.rates).to_dict(min_cell=MIN_CELL)
        report["auc"] = found.auc if asked.score is not None and np.isfinite(found.auc) else None
    return {
        "data": data.name,
        "data_sha256": data.digest,
        "outcome": data.outcome,
        "base_rates": families,
        "decisions": report,
    }


def _cells(rates: pd.DataFrame) -> list[dict[str, Any]]:
    hidden = {group for _, group in hidden_cells(rates, MIN_CELL)}
    return [_cell(row, row["group"] in hidden) for row in rates.to_dict("records")]


def _cell(row: Mapping[Any, Any], hidden: bool) -> dict[str, Any]:
    count = int(row["count"])
    numbers = {
        name: None if hidden or not np.isfinite(row[name]) else float(row[name])
        for name in ("rate", "lower", "upper")
    }
    shown = f"under {MIN_CELL}" if 0 < count < MIN_CELL else count
    return {"group": str(row["group"]), "count": shown, **numbers}


def _show(found: Judged, outcome: str, asked: Audit) -> None:
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


def _read_prediction(frame: pd.DataFrame, name: str, labels: LabelCoding) -> NDArray[np.int64]:
    require_columns(frame, (name,), what="prediction column")
    words = as_words(frame[name])
    negative, positive = (str(label) for label in labels.labels)
    known: dict[Any, int] = {positive: 1, negative: 0}
    strange = [w for w in pd.unique(words) if w not in known]
    if strange:
        raise InvalidDataError(
            f"prediction column '{one_line(name)}' holds {listed(strange)}, which are no values "
            f"of the label ({listed(known)})."
        )
    return words.map(known).to_numpy(dtype=np.int64)
