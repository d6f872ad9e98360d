from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from tests.commands.data import BASE, fails

from fairtrain.cli import main


@pytest.fixture(scope="module")
def other(table: Path) -> Path:
    out = table.parent / "others" / "=tree"
    command = ["train", str(table), *BASE, "--positive-name", "approved"]
    options = ["--method", "reductions", "--estimator", "tree", "--out", str(out)]
    assert main([*command, *options]) == 0
    return out


def test_runs_on_the_same_rows(
    trained: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, sheet = tmp_path / "c.html", tmp_path / "c.csv"
    runs = [str(trained), str(other)]
    capsys.readouterr()
    assert main(["compare", *runs, "--out", str(page), "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert not found["warnings"]
    for run, model in zip((trained, other), found["models"], strict=True):
        own = json.loads((run / "metrics.json").read_text())["models"][1]
        assert model["accuracy"][0] == own["accuracy"]["estimate"]
        assert model["gap"][0] == own["constraints"][0]["achieved"]
        assert model["verdict"] == own["verdict"]
    assert [m["method"] for m in found["models"]] == ["reductions", "reductions (tree)"]
    assert main(["compare", *runs, "--out", str(sheet)]) == 0
    assert "reductions (tree)" in capsys.readouterr().out
    assert "<script" not in page.read_text()
    assert pd.read_csv(sheet)["run"].tolist() == ["x", "'=tree"]


def test_runs_that_cannot_be_compared(
    trained: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "other")
    options = ["--method", "reductions", "--seed", "1", "--bound", "0.2"]
    assert main(["train", str(table), *BASE, *options, "--out", out]) == 0
    capsys.readouterr()
    assert main(["compare", str(trained), out]) == 0
    shown, said = capsys.readouterr()
    assert "No run is recommended: the runs were asked for different things" in shown
    assert "different things" in said
    assert "different rows of the same data" in said


def test_what_is_no_run(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "two runs" in fails(capsys, "compare", str(trained))
    assert "no metrics.json" in fails(capsys, "compare", str(trained), str(tmp_path))
    (tmp_path / "metrics.json").write_text("{")
    assert "cannot be read" in fails(capsys, "compare", str(trained), str(tmp_path))
    both = [str(trained), str(trained)]
    assert ".html or .csv" in fails(capsys, "compare", *both, "--out", str(tmp_path / "x.pdf"))
