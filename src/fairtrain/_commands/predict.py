"""``fairtrain predict``: decisions of a saved model for a table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd

from fairtrain._commands.chunks import ChunkedTable, read_chunks
from fairtrain._commands.columns import MOST_LEVELS, SensitiveColumns
from fairtrain._commands.features import TableFeatures
from fairtrain._commands.folder import new_file
from fairtrain._commands.progress import progress
from fairtrain._commands.sinks import CsvSink, Sink, open_sink
from fairtrain._commands.tables import require_columns
from fairtrain._text import listed, one_line
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.persistence import load

__all__ = ["CHUNK_ROWS", "decide", "load_model", "predict"]

CHUNK_ROWS = 100_000
"""Rows that are decided at a time."""

_WRITTEN = ("decision", "probability")


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
    model: Path,
    data: Path,
    *,
    out: Path | None,
    keep: tuple[str, ...] = (),
    force: bool = False,
    chunk_rows: int = CHUNK_ROWS,
) -> None:
    """Write decisions to a CSV or Parquet file, or to standard output, a chunk at a time.

    Parameters
    ----------
    model : Path
        A run folder or its model.
    data : Path
        CSV or Parquet file; it may be larger than memory.
    out : Path or None
        CSV or Parquet file, which appears when it is complete; None is standard output.
    keep : tuple of str
        Columns to copy.
    force : bool, default=False
        Replace an existing ``out``.
    chunk_rows : int, default=100000
        Rows in memory at a time; decisions do not depend on it.

    Raises
    ------
    InvalidDataError
        If the model or a row cannot be used.
    """
    loaded = load_model(model)
    features: TableFeatures = loaded.named_steps["features"]
    table = read_chunks(data, rows=chunk_rows, columns=(*features.columns, *keep))
    require_columns(table.names, keep, what="column")
    if both := [name for name in keep if name in _WRITTEN]:
        raise InvalidParameterError(
            f"--keep {listed(both)} has the name of a column that is written; rename it in the "
            "data."
        )
    if out is None:
        _decide_all(loaded, table, CsvSink(sys.stdout, keep), quiet=sys.stdout.isatty())
        return
    with new_file(out, force=force) as work, open_sink(work, keep) as sink:
        _decide_all(loaded, table, sink)


def _decide_all(model: Any, table: ChunkedTable, sink: Sink, *, quiet: bool = False) -> None:
    levels = _Levels(model.named_steps["features"].sensitive)
    done = 0
    with progress("predict", table.n_rows, quiet=quiet) as advance:
        for chunk in table:
            rows = len(chunk.frame)
            try:
                levels.check(chunk.frame)
                decisions = decide(model, chunk.frame)
            except InvalidDataError as error:
                if rows == table.n_rows:
                    raise
                where = f"rows {done + 1:,} to {done + rows:,}"
                raise InvalidDataError(f"{where}: {error}") from None
            sink.write(chunk.table, decisions)
            done += rows
            advance(rows)


class _Levels:
    """Distinct numbers of sensitive columns over all chunks: too many are no groups."""

    def __init__(self, sensitive: SensitiveColumns | None) -> None:
        cut = {name for name, _ in sensitive.bins} if sensitive else set()
        self.seen: dict[str, set[Any]] = (
            {name: set() for name in sensitive.columns if name not in cut} if sensitive else {}
        )

    def check(self, frame: pd.DataFrame) -> None:
        """Count a chunk's numbers; a column that turns out continuous raises, as it would whole."""
        for name, seen in self.seen.items():
            if name in frame and pd.api.types.is_numeric_dtype(frame[name]):
                seen |= set(frame[name].dropna().unique().tolist())
                if len(seen) > MOST_LEVELS:
                    SensitiveColumns((name,)).read(pd.DataFrame({name: sorted(seen)}))
