"""Time and memory over rows, groups and features: how they grow, and what 10^7 rows take.

One of the three is moved at a time, the others stay at 10^5 rows, 4 groups and 20 features. Every
cell is a process of its own, forked from one that has imported everything and computed nothing; a
line says its processor seconds (on one thread), its wall seconds and its peak memory beyond what it
held before, data included. ``benchmarks/results/scale.csv`` gets a line a cell as it ends, and a
second start goes on from there. At the end an exponent is printed for every method and axis: the
slope of log time (and memory) over the cells that took long enough to be measured.

    PYTHONPATH=. OMP_NUM_THREADS=1 python benchmarks/scale.py --most-rows 1e5
    PYTHONPATH=. OMP_NUM_THREADS=1 python benchmarks/scale.py --most-rows 1e7 --limit 3600
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import resource
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import torch
import xgboost
from benchmarks.protocol import RESULTS
from sklearn.linear_model import LogisticRegression

import fairtrain

LOADED = (lightgbm, torch, xgboost)
"""Imported before the processes fork."""
AXES = {
    "rows": (10_000, 30_000, 100_000, 1_000_000, 10_000_000),
    "groups": (2, 10, 30, 100, 300, 1000),
    "features": (10, 20, 50, 100, 200, 500),
}
SHORT = 0.05
"""Seconds under which a time says more about calls than about rows."""


@dataclass(frozen=True)
class Cell:
    """What is measured.

    Attributes
    ----------
    method : str
        One of :data:`METHODS`.
    axis : str
        What is moved.
    rows, groups, features : int
        The data.
    """

    method: str
    axis: str
    rows: int = 100_000
    groups: int = 4
    features: int = 20


@dataclass(frozen=True)
class Data:
    """Rows whose group shows in the features; scores that are a little off in every group."""

    X: Any
    y: Any
    who: Any
    score: Any

    @classmethod
    def made(cls, cell: Cell) -> Data:
        """Draw it."""
        rng = np.random.default_rng(0)
        X = rng.standard_normal((cell.rows, cell.features), dtype=np.float32)
        who = rng.integers(0, cell.groups, cell.rows)
        logit = X[:, 0] + X[:, 1] + 0.5 * (who % 2)
        chance = 1 / (1 + np.exp(-logit))
        y = (rng.random(cell.rows) < chance).astype(np.int64)
        score = 0.05 + 0.9 * chance.astype(np.float64)
        return cls(X, y, who, score)


METHODS: dict[str, Callable[[Data], Any]] = {
    "metrics": lambda d: fairtrain.gap(
        d.y, (d.score > 0.5).astype(int), d.who, "true_positive_rate"
    ),
    "report": lambda d: fairtrain.fairness_report(d.y, (d.score > 0.5).astype(int), d.who),
    "audit": lambda d: fairtrain.calibration_audit(d.score, d.y, d.who, random_state=0),
    "calibrator": lambda d: fairtrain.GroupFairnessCalibrator(random_state=0).fit(
        d.score, d.y, d.who
    ),
    "plug-in": lambda d: fairtrain.FairPlugInClassifier(LogisticRegression(), random_state=0).fit(
        d.X, d.y, sensitive_features=d.who
    ),
    "boosting": lambda d: fairtrain.LagrangianBoostingClassifier(
        n_estimators=20, random_state=0
    ).fit(d.X, d.y, sensitive_features=d.who),
    "one epoch": lambda d: fairtrain.LagrangianFairnessTrainer(max_epochs=1, random_state=0).fit(
        d.X, d.y, sensitive_features=d.who
    ),
    "reductions": lambda d: fairtrain.ReductionsWrapper(LogisticRegression(), random_state=0).fit(
        d.X, d.y, sensitive_features=d.who
    ),
}


@dataclass(frozen=True)
class Measured:
    """What a cell took.

    Attributes
    ----------
    cpu_seconds, wall_seconds : float
        Of the call alone.
    data_mib, peak_mib : float
        What the rows hold; what the process held at most, the rows included and what it held
        before they were drawn left out.
    said : str
        The first line of an error.
    """

    cpu_seconds: float = np.nan
    wall_seconds: float = np.nan
    data_mib: float = np.nan
    peak_mib: float = np.nan
    said: str = ""


def cells(most_rows: int) -> Iterator[Cell]:
    """Every cell once, small ones first."""
    for rank in range(max(map(len, AXES.values()))):
        for axis, values in AXES.items():
            for method in METHODS:
                if rank < len(values):
                    cell = replace(Cell(method, axis), **{axis: values[rank]})
                    if cell.rows <= most_rows:
                        yield cell


def taken(cell: Cell) -> Measured:
    """Measure it, in this process."""
    before = _resident()
    data = Data.made(cell)
    held = sum(each.nbytes for each in vars(data).values()) / 2**20
    wall, cpu = time.perf_counter(), time.process_time()
    METHODS[cell.method](data)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    return Measured(round(cpu, 4), round(wall, 4), round(held, 1), round(peak, 1))


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measured(cell: Cell, limit: float) -> Measured:
    """Measure it in a process of its own, that may take so many seconds."""
    read, write = os.pipe()
    process = os.fork()
    if not process:
        _answer(cell, write)
    os.close(write)
    with os.fdopen(read) as answer:
        if not select.select([answer], [], [], limit)[0]:
            os.kill(process, signal.SIGKILL)
        text = answer.read()
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return Measured(**json.loads(text)) if text else Measured(said=f"ended with {code}")


def _answer(cell: Cell, write: int) -> None:
    warnings.simplefilter("ignore")
    try:
        found = taken(cell)
    except Exception as error:  # noqa: BLE001 - it is an answer, too
        found = Measured(said=f"{type(error).__name__}: {error}".splitlines()[0][:200])
    with os.fdopen(write, "w") as answer:
        answer.write(json.dumps(asdict(found)))
    os._exit(0)


def exponents(table: pd.DataFrame) -> pd.DataFrame:
    """Slopes of log time and log memory, from the cells that took long enough."""
    found = []
    for (method, axis), part in table[table["said"] == ""].groupby(["method", "axis"], sort=False):
        slow = part[part["cpu_seconds"] > SHORT]
        if len(slow) < 2:
            continue
        x = np.log(slow[axis].to_numpy(dtype=float))
        slopes = [np.polyfit(x, np.log(slow[c].to_numpy()), 1)[0]
                  for c in ("cpu_seconds", "peak_mib")]  # fmt: skip
        last = x[-2:], np.log(slow["cpu_seconds"].to_numpy())[-2:]
        found.append({"method": method, "axis": axis, "cells": len(slow), "time": slopes[0],
                      "time, last two": np.diff(last[1])[0] / np.diff(last[0])[0],
                      "memory": slopes[1]})  # fmt: skip
    return pd.DataFrame(found).round(2)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most-rows", type=float, default=1e5)
    parser.add_argument("--limit", type=float, default=900.0, help="seconds a cell may take")
    parser.add_argument("--methods", help="comma-separated; all by default")
    parser.add_argument("--out", type=Path, default=RESULTS / "scale.csv")
    asked = parser.parse_args()
    lines = []
    if asked.out.exists():
        lines = pd.read_csv(asked.out, keep_default_na=False, na_values=["nan"]).to_dict("records")
    known = {tuple(line[name] for name in Cell.__annotations__) for line in lines}
    chosen = asked.methods.split(",") if asked.methods else list(METHODS)
    for cell in cells(int(asked.most_rows)):
        if cell.method not in chosen or tuple(vars(cell).values()) in known:
            continue
        lines.append({**asdict(cell), **asdict(measured(cell, asked.limit))})
        print(lines[-1], flush=True)
        pd.DataFrame(lines).to_csv(asked.out, index=False, na_rep="nan")
    print(exponents(pd.DataFrame(lines)).to_string(index=False))


if __name__ == "__main__":
    sys.exit(main())
