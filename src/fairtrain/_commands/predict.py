"""``fairtrain predict``: decisions of a saved model for a table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fairtrain._commands.features import TableFeatures
from fairtrain._commands.folder import new_file
from fairtrain._commands.tables import read_table, require_columns
from fairtrain._text import one_line
from fairtrain.exceptions import InvalidDataError
from fairtrain.persistence import load

__all__ = ["decide", "load_model", "predict"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def load_model(path: Path) -> Any:
    """Load the model of a run folder, or a model folder. Nothing in it is run.

    Raises
    ------
    PersistenceError, InvalidDataError
        If there is no model, or it is something else.
    """
    folder = path / "model" if (path / "model").is_dir() else path
    name = f"'{one_line(folder)}'"
    if not folder.is_dir():
        raise InvalidDataError(f"{name} does not exist; MODEL is a run folder or its model folder.")
    model = load(folder)
    steps = getattr(model, "named_steps", {})
    if not isinstance(steps.get("features"), TableFeatures) or "model" not in steps:
        raise InvalidDataError(f"{name} is not a model that the command trained.")
    return model


def decide(model: Any, frame: pd.DataFrame) -> pd.DataFrame:
    """Decisions as labels, and the probability that a decision is the favourable one."""
    features, fair = model.named_steps["features"], model.named_steps["model"]
    X = features.transform(frame)
    classes = fair.classes_.tolist()
    favourable = fair.positive_label
    column = classes.index(favourable)
    return pd.DataFrame(
        {"decision": fair.predict(X), "probability": fair.predict_proba(X)[:, column]}
    )


def predict(
    model: Path, data: Path, *, out: Path | None, keep: tuple[str, ...] = (), force: bool = False
) -> None:
    """Write decisions to a CSV or Parquet file, or to standard output."""
    loaded = load_model(model)
    frame = read_table(data)
    require_columns(frame, keep, what="column")
    decisions = decide(loaded, frame)
    table = pd.concat([frame[list(keep)].reset_index(drop=True), decisions], axis=1)
    if out is None:
        _without_formulas(table).to_csv(sys.stdout, index=False)
        return
    with new_file(out, force=force) as work:
        if out.suffix.lower() in (".parquet", ".pq"):
            table.to_parquet(work, index=False)
        else:
            _without_formulas(table).to_csv(work, index=False, encoding="utf-8")


def _without_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """Put an apostrophe before text that a spreadsheet would take for a formula."""
    shown = {
        _safe(name): column
        if pd.api.types.is_numeric_dtype(column)
        else pd.Series([_safe(value) for value in column], dtype=object)
        for name, column in table.items()
    }
    return pd.DataFrame(shown)


def _safe(value: Any) -> Any:
    if isinstance(value, str | np.str_) and value.lstrip(" ").startswith(_FORMULA):
        return f"'{value}"
    return value
