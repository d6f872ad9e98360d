"""``fairtrain predict``: decisions of a saved model for a table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fairtrain._commands.chunks import ChunkedTable, read_chunks
from fairtrain._commands.columns import MOST_LEVELS, SensitiveColumns
from fairtrain._commands.features import TableFeatures
from fairtrain._commands.output import note, notes_of
from fairtrain._commands.progress import progress
from fairtrain._commands.runs import load_model, new_file
from fairtrain._commands.scores import TableCalibrator, decides_at_half
from fairtrain._commands.sinks import CsvSink, Sink, open_sink
from fairtrain._commands.tables import require_columns
from fairtrain._text import listed
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

__all__ = ["CHUNK_ROWS", "decide", "predict"]

CHUNK_ROWS = 100_000
"""Rows that are decided at a time."""

_WRITTEN = ("decision", "probability", "calibrated")


def decide(model: Any, frame: pd.DataFrame) -> pd.DataFrame:
    """Decisions as labels, and the probability of the favourable one; or calibrated scores."""
    if isinstance(model, TableCalibrator):
        return pd.DataFrame({"calibrated": model.transform(frame)})
    features, fair = model.named_steps["features"], model.named_steps["model"]
    X = features.transform(frame)
    column = fair.classes_.tolist().index(fair.positive_label)
    chance = fair.predict_proba(X)[:, column]
    if decides_at_half(fair):
        decision = fair.classes_[np.where(chance > 0.5, column, 1 - column)]
    else:
        decision = fair.predict(X)
    return pd.DataFrame({"decision": decision, "probability": chance})


def _reader(model: Any) -> TableFeatures | TableCalibrator:
    """The part of a model that reads columns.

    Raises
    ------
    InvalidDataError
        If the command made no such model.
    """
    part = getattr(model, "named_steps", {}).get("features", model)
    if not isinstance(part, TableFeatures | TableCalibrator):
        raise InvalidDataError(
            f"the model is a {type(model).__name__}, which reads no table: use it in Python."
        )
    return part


def predict(
    model: Path,
    data: Path,
    *,
    out: Path | None,
    keep: tuple[str, ...] = (),
    force: bool = False,
    chunk_rows: int = CHUNK_ROWS,
    multiline: bool = False,
) -> None:
    """Write decisions to a CSV or Parquet file, or to standard output, a chunk at a time.

    Parameters
    ----------
    model : Path
        A run folder or its model.
    data : Path
        A table, as :func:`fairtrain._commands.tables.read_table` takes it; it may be larger than
        memory.
    out : Path or None
        CSV or Parquet file, which appears when it is complete; None is standard output.
    keep : tuple of str
        Columns to copy.
    force : bool, default=False
        Replace an existing ``out``.
    chunk_rows : int, default=100000
        Rows in memory at a time; decisions do not depend on it.
    multiline : bool, default=False
        Let fields in quotes of a text file hold line breaks.

    Raises
    ------
    InvalidDataError
        If the model or a row cannot be used.
    """
    notes: list[str] = []
    with notes_of(notes):
        loaded = load_model(model)
    note(*notes)
    reader = _reader(loaded)
    table = read_chunks(
        data, rows=chunk_rows, columns=(*reader.columns, *keep), multiline=multiline
    )
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
    levels = _Levels(_reader(model).sensitive)
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
