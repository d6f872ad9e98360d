"""``--objective``: what is sought trains, chooses, and says of what use a model is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.commands.data import BASE, fails

from fairtrain import load
from fairtrain.cli import main

NEEDS = {"boosting": "lightgbm"}
SOUGHT = {"plug-in": "f1", "reductions": "false_negative=4", "boosting": "balanced_accuracy"}
HOW = {"plug-in": ["--estimator", "logistic"], "boosting": ["--estimator", "lightgbm"]}


@pytest.mark.filterwarnings("ignore:.*on (steering|training) rows")
@pytest.mark.parametrize("method", SOUGHT)
def test_train_seeks_what_it_was_asked_for(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    pytest.importorskip(NEEDS.get(method, "sklearn"))
    out, text = tmp_path / "run", SOUGHT[method]
    options = ["--method", method, *HOW.get(method, []), "--objective", text, "--bound", "0.3"]
    assert main(["train", str(table), *BASE, *options, "--out", str(out)]) == 0
    name = "cost" if "=" in text else text
    assert f"\n {name.replace('_', ' ')} " in capsys.readouterr().out.replace("│", "")
    numbers = json.loads((out / "metrics.json").read_text())
    for model in (*numbers["models"], numbers["constant"]):
        assert model["objective"] == name
        assert model["performance"] <= 1
    # Better by the objective than any constant, which the baseline, made for accuracy, may not be.
    assert not any("fair model" in line for line in numbers["usefulness"])
    fair = load(out / "model")["model"].fairness_report_
    assert fair.objective == name
    if method != "plug-in":  # whose own report is of decisions out of fold
        assert fair.worth == pytest.approx(numbers["models"][1]["performance"], abs=1e-9)
    if method == "reductions":
        assert main(["report", str(out), "--data", str(table)]) == 0
        assert "<br>cost 0." in (out / "fresh.html").read_text()


def test_use_is_judged_by_what_was_sought(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a missed favourable label costs so much more, the best decision is one for all."""
    options = ["--method", "reductions", "--objective", "false_negative=5000", "--bound", "0.3"]
    main(["train", str(table), *BASE, *options, "--out", str(tmp_path / "run"), "--json"])
    numbers = json.loads(capsys.readouterr().out)
    (said, *_) = numbers["usefulness"]
    assert "no better by cost than the same decision for everybody (0." in said
    assert not any("accurate" in line for line in numbers["usefulness"])


@pytest.mark.filterwarnings("ignore:.*on (steering|training) rows")
def test_sweep_chooses_by_what_was_sought(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ["--method", "plug-in", *HOW["plug-in"], "--objective", "f1", "--bounds", "0.2,0.4"]
    options += ["--max-gap", "0.3"]
    assert main(["sweep", str(table), *BASE, *options, "--out", str(out)]) == 0
    numbers = json.loads((out / "metrics.json").read_text())
    assert "best f1" in numbers["choice"][0]
    assert numbers["models"][1]["objective"] == "f1"


def test_what_cannot_be_sought_is_said_in_one_line(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*options: str) -> str:
        place = ("--out", str(tmp_path / "none"))
        return fails(capsys, "train", str(table), *BASE, *options, *place)

    assert "objective must be" in said("--objective", "speed")
    assert "'five' is not a number" in said("--objective", "false_negative=five")
    assert "FairPlugInClassifier" in said("--method", "reductions", "--objective", "f1")
    assert "not by --method adversarial" in said("--method", "adversarial", "--objective", "f1")
    assert "LagrangianBoostingClassifier" in said("--method", "plug-in", "--objective", "auc")
