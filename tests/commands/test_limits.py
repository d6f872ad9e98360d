"""``--at-least`` and ``--at-most``: a floor or a cap instead of a parity."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.commands.data import BASE, fails

from fairtrain.cli import main

PLUG_IN = ["--method", "plug-in", "--estimator", "logistic"]


@pytest.mark.filterwarnings("ignore::fairtrain.exceptions.FairtrainWarning")
def test_a_floor_is_all_that_is_asked(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = [*PLUG_IN, "--at-least", "precision=0.55"]
    assert main(["train", str(table), *BASE, *options, "--out", str(out)]) == 0
    numbers = json.loads((out / "metrics.json").read_text())
    for model in numbers["models"]:
        (result,) = model["constraints"]
        assert result["constraint"] == "positive_predictive_value at least 0.55"
        assert (result["kind"], result["bound"]) == ("lower", 0.55)
    page = (out / "report.html").read_text()
    assert "The positive predictive value of no group may be smaller than 0.55." in page
    assert main(["report", str(out), "--data", str(table)]) == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--at-least", "precision"], "takes a rate and a number, as in --at-least precision=0.7"),
        (["--at-most", "luck=0.1"], "rate must be one of"),
        (["--at-most", "recall=0.1", "--bound", "0.1"], "neither --bound nor --ratio"),
        (["--at-most", "recall=0.9", "--at-least", "recall=0.1"], "give one of them"),
        (["--at-least", "recall=0.9", "--constraint", "equalized_odds"], "give one of them"),
        (["--at-least", "precison=0.7"], "--at-least: rate must be one of"),
        (
            ["--at-least", "recall=0.1", "--method", "regularized"],
            "--at-most are not for --method regularized",
        ),
        (
            ["--constraint", "precision_parity", "--method", "reductions"],
            "precision_parity is not for --method reductions",
        ),
    ],
)
def test_what_is_no_limit(
    options: list[str],
    says: str,
    table: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = str(tmp_path / "run")
    assert says in fails(capsys, "train", str(table), *BASE, *options, "--out", out)
