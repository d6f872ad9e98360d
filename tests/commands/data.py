"""A small table of applicants, and what every test of a command needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fairtrain.cli import main

BASE = ("--label", "approve", "--positive", "yes", "--sensitive", "race")


def applicants(n: int = 1200, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    race = rng.choice(["white", "black"], n, p=[0.7, 0.3])
    income = rng.normal(3, 1, n) + 0.7 * (race == "white")
    return pd.DataFrame(
        {
            "income": income.round(3),
            "job": rng.choice(["clerk", "nurse", "driver"], n),
            "age": rng.integers(18, 80, n),
            "race": race,
            "sex": rng.choice(["f", "m"], n),
            "approve": np.where(income + rng.normal(0, 1, n) > 3, "yes", "no"),
        }
    )


def write(folder: Path, frame: pd.DataFrame, name: str = "data.csv") -> str:
    path = folder / name
    frame.to_csv(path, index=False)
    return str(path)


def fails(capsys: pytest.CaptureFixture[str], *tokens: str) -> str:
    """The one line that a command says when it exits with 2."""
    capsys.readouterr()
    assert main(list(tokens)) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if not line.endswith(" ...")]
    assert len(said) == 1
    assert said[0].startswith("fairtrain: ")
    return said[0]
