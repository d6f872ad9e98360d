from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from tests.commands.data import fails, write

from fairtrain.cli import main


def test_predict_needs_features_only(trained: Path, table: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(table).drop(columns=["approve", "race"])
    frame["id"] = "=1+1"
    out = tmp_path / "decisions.csv"
    data = write(tmp_path, frame)
    assert main(["predict", str(trained), data, "--out", str(out), "--keep", "id"]) == 0
    found = pd.read_csv(out)
    assert list(found) == ["id", "decision", "probability"]
    assert set(found["decision"]) == {"yes", "no"}
    assert found["probability"].between(0, 1).all()
    assert (found["id"] == "'=1+1").all()
    likely = found.loc[found["probability"] > 0.99, "decision"]
    assert (likely == "yes").mean() > 0.9


def test_predict_says_what_is_missing(
    trained: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.read_csv(table)
    lacking = write(tmp_path, frame.drop(columns=["income", "job"]))
    said = fails(capsys, "predict", str(trained), lacking)
    assert "'income', 'job'" in said
    worded = write(tmp_path, frame.assign(income="lots"))
    assert "'lots'" in fails(capsys, "predict", str(trained), worded)
    fake = tmp_path / "fake"
    fake.mkdir()
    assert "not a model folder" in fails(capsys, "predict", str(fake), lacking)
    assert "does not exist" in fails(capsys, "predict", str(tmp_path / "none"), lacking)
