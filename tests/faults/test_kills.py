"""What ``benchmarks/kills.py`` measures at length, a few times: a killed process loses nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
TASKS = ("lagrangian, 1 thread", "save, over a model")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_a_killed_process_goes_on_to_the_same_result(tmp_path: Path) -> None:
    out = tmp_path / "kills.csv"
    words = ["--kills", "1", "--tasks", ";".join(TASKS), "--out", str(out)]
    command = [sys.executable, str(ROOT / "benchmarks" / "kills.py"), *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = pd.read_csv(out)
    assert lines["task"].tolist() == list(TASKS)
    assert (lines["kills"] == 1).all()
    assert not lines[["broken", "different", "left_behind"]].any(axis=None)
    assert (lines["redone_at_most"] <= 1).all()
