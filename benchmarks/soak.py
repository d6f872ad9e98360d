"""A thousand fits, saves, loads and predictions in one process: what is left behind.

``python benchmarks/soak.py --fits 1000`` writes ``benchmarks/results/soak.csv``, a line a
checkpoint: fits so far, resident memory, open files, threads. It ends with an error if memory
after the first fifth grows by more than 5 %, if a file stays open, or if eight threads that predict
with one model disagree with one thread.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from protocol import RESULTS
from sklearn.linear_model import LinearRegression, LogisticRegression

import fairtrain
from fairtrain.datasets import make_biased

GROWTH = 1.05
WARM = 0.2
"""Share of the fits after which caches, arenas and lazy imports are filled."""


def models() -> dict[str, Callable[[int], Any]]:
    """Every estimator, small, by its seed."""
    flat = LogisticRegression(solver="liblinear")
    limit = fairtrain.BoundedGroupLoss(upper_bound=9.0, loss="squared")
    return {
        "reductions": lambda s: fairtrain.ReductionsWrapper(flat, max_iter=5, random_state=s),
        "reductions, regression": lambda s: fairtrain.ReductionsRegressor(
            LinearRegression(), limit, max_iter=5, random_state=s
        ),
        "plug-in": lambda s: fairtrain.FairPlugInClassifier(flat, random_state=s),
        "boosting": lambda s: fairtrain.LagrangianBoostingClassifier(
            n_estimators=5, random_state=s
        ),
        "boosting, regression": lambda s: fairtrain.LagrangianBoostingRegressor(
            limit, n_estimators=5, random_state=s
        ),
        "calibrated": lambda s: fairtrain.CalibratedFairClassifier(flat),
        "lagrangian": lambda s: fairtrain.LagrangianFairnessTrainer(max_epochs=1, random_state=s),
        "penalty": lambda s: fairtrain.RegularizedFairnessTrainer(max_epochs=1, random_state=s),
        "adversarial": lambda s: fairtrain.AdversarialDebiasingTrainer(
            max_epochs=1, random_state=s
        ),
    }


def one_fit(name: str, make: Callable[[int], Any], seed: int, folder: Path) -> None:
    """Fit, save, load and predict; every tenth time under eight threads."""
    X, y, people = rows(seed)
    target = X[:, 0] if "regression" in name else y
    model = make(seed).fit(X, target, sensitive_features=people)
    fairtrain.save(model, folder / "model", overwrite=True)
    loaded = fairtrain.load(folder / "model")
    needs = {"sensitive_features": people} if name == "calibrated" else {}
    expected = loaded.predict(X, **needs)
    if seed % 10 == 0:
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda _: loaded.predict(X, **needs), range(16)))
        assert all(np.array_equal(expected, each) for each in found), f"{name}: threads disagree"


def rows(seed: int) -> tuple[Any, Any, Any]:
    """Four hundred people."""
    data = make_biased(400, random_state=seed)
    return np.asarray(data.X), np.asarray(data.y), data.sensitive_features


def measured(fits: int, start: float) -> dict[str, float]:
    """What the process holds now."""
    gc.collect()
    me = psutil.Process()
    return {
        "fits": fits,
        "seconds": round(time.perf_counter() - start, 1),
        "mib": round(me.memory_info().rss / 2**20, 1),
        "open_files": len(me.open_files()),
        "threads": me.num_threads(),
    }


def soak(fits: int) -> pd.DataFrame:
    """Fit so many models and look at the process twenty times."""
    lines, start = [], time.perf_counter()
    every = max(1, fits // 20)
    with tempfile.TemporaryDirectory() as folder:
        chosen = islice(cycle(models().items()), fits)
        for seed, (name, make) in enumerate(chosen):
            one_fit(name, make, seed, Path(folder))
            if (seed + 1) % every == 0:
                lines.append(measured(seed + 1, start))
                print(lines[-1], flush=True)
    return pd.DataFrame(lines)


def complaints(table: pd.DataFrame) -> list[str]:
    """What is not flat."""
    warm = table[table["fits"] > WARM * table["fits"].max()]
    first, last = warm["mib"].iloc[0], warm["mib"].iloc[-1]
    found = [f"memory grew from {first} to {last} MiB"] if last > GROWTH * first else []
    if warm["open_files"].iloc[-1] > warm["open_files"].iloc[0]:
        found.append(f"{warm['open_files'].iloc[-1]} files are open")
    return found


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fits", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=RESULTS / "soak.csv")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    table = soak(asked.fits)
    table.to_csv(asked.out, index=False)
    sys.exit("; ".join(complaints(table)) or 0)


if __name__ == "__main__":
    main()
