"""The plug-in from the command line: which rows it reads, what it says, what it falls back to."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.commands.data import BASE, applicants, fails, write

from fairtrain import load
from fairtrain.cli import main
from fairtrain.plugin import FairPlugInClassifier

PRIVACY = "The group of each person is estimated inside"


@pytest.fixture(scope="module")
def automatic(table: Path) -> Path:
    out = table.parent / "plug-in" / "auto"
    assert main(["train", str(table), *BASE, "--positive-name", "approved", "--out", str(out)]) == 0
    return out


def test_it_reads_all_rows_but_those_that_certify(automatic: Path, table: Path) -> None:
    numbers = json.loads((automatic / "metrics.json").read_text())
    model = load(automatic / "model")["model"]
    assert isinstance(model, FairPlugInClassifier)
    assert model.certification_fraction is None
    rows = numbers["rows"]
    assert list(model.reports_) == ["steering"]
    assert model.reports_["steering"].n_rows == rows["training"] + rows["steering"]
    assert all(m["rows"] == "certification" for m in numbers["models"])
    assert all(m["n_rows"] == rows["certification"] for m in numbers["models"])
    assert "certified_on" in numbers["made_with"]


def test_the_first_lines_say_what_was_chosen_why_and_what_is_inferred(
    automatic: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = json.loads((automatic / "metrics.json").read_text())
    chosen, privacy, rows = numbers["method"]
    assert "which auto chose because" in chosen
    assert "out-of-fold log loss" in chosen
    assert privacy.startswith(PRIVACY)
    assert "--no-group-inference" in privacy
    assert "models that never saw it" in rows
    page, card = ((automatic / f).read_text() for f in ("report.html", "model_card.md"))
    assert page.index(PRIVACY) < page.index("What was asked, and why")
    assert card.index(PRIVACY) < card.index("## What was asked")
    capsys.readouterr()
    assert main(["report", str(automatic)]) == 0
    assert (automatic / "report.html").read_text() == page


def test_the_baseline_is_the_same_scores_without_prices(automatic: Path, table: Path) -> None:
    numbers = json.loads((automatic / "metrics.json").read_text())
    baseline, fair = numbers["models"]
    assert baseline["constraints"][0]["achieved"] > fair["constraints"][0]["achieved"]
    pipeline = load(automatic / "model")
    X = pipeline["features"].transform(pd.read_csv(table))
    plain = pipeline["model"].outcome_proba(X)[:, 1] > 0.5
    assert abs(plain.mean() - baseline["selection_rate"]) < 0.06  # all rows, not the certifying
    assert fair["baseline"] == "baseline"
    constant = numbers["constant"]
    assert constant["constraints"][0]["achieved"] == 0
    assert constant["selection_rate"] in (0, 1)


def test_predictions_and_fresh_rows(
    automatic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path, applicants(400, seed=3))
    assert main(["predict", str(automatic), data, "--out", str(tmp_path / "d.csv")]) == 0
    decided = pd.read_csv(tmp_path / "d.csv")
    clear = (decided["probability"] - 0.5).abs() > 1e-9
    agree = (decided["decision"] == "yes") == (decided["probability"] > 0.5)
    assert agree[clear].mean() > 0.95  # where scores tie, a lot decides
    capsys.readouterr()
    page = str(tmp_path / "fresh.html")
    assert main(["report", str(automatic), "--data", data, "--out", page, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["models"][1]["n_rows"] == found["constant"]["n_rows"] == 400


@pytest.mark.parametrize(("installed", "expected"), [(True, "boosting"), (False, "reductions")])
def test_without_group_inference_a_method_in_training_is_taken(
    installed: bool,
    expected: str,
    table: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if installed:
        pytest.importorskip("xgboost")
    else:
        monkeypatch.setitem(sys.modules, "xgboost", None)
    out = tmp_path / "run"
    assert main(["train", str(table), *BASE, "--no-group-inference", "--out", str(out)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    (said,) = json.loads((out / "metrics.json").read_text())["method"]
    assert said.startswith(f"Trained by {expected}")
    assert ("XGBoost is not installed" in said) != installed
    assert said in shown
    assert PRIVACY not in (out / "report.html").read_text()
    own = load(out / "model")["model"].reports_
    assert set(own) == {"training", "steering", "certification"}


def test_a_sweep_without_group_inference_takes_what_training_takes(
    table: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ["sweep", str(table), *BASE, "--no-group-inference", "--out", "never"]
    assert "rules out" in fails(capsys, *own, "--method", "plug-in")
    monkeypatch.setitem(sys.modules, "xgboost", None)
    said = fails(capsys, *own, "--method", "auto", "--etas", "1")
    assert "--method reductions moves a bound" in said


def test_a_sweep_fits_once_and_prices_again(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = []
    original = FairPlugInClassifier.fit

    def counted(self: FairPlugInClassifier, *args: object, **options: object) -> object:
        fitted.append(self)
        return original(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(FairPlugInClassifier, "fit", counted)
    out = tmp_path / "s"
    options = ["--method", "plug-in", "--estimator", "logistic", "--bounds", "0.02,0.1,0.2"]
    assert main(["sweep", str(table), *BASE, *options, "--max-gap", "0.15", "--out", str(out)]) == 0
    assert len(fitted) == 1
    points = pd.read_csv(out / "frontier.csv")
    assert points["difference_bound"].tolist() == [0.02, 0.1, 0.2]
    assert points["gap"].is_monotonic_increasing
    assert points["performance"].is_monotonic_increasing
    numbers = json.loads((out / "metrics.json").read_text())
    rows = numbers["rows"]
    scored = json.loads((out / "frontier.json").read_text())["validation_rows"]
    assert scored == rows["training"] + rows["steering"]
    assert f"Chosen on {scored} rows, decided out of fold" in numbers["choice"][0]
    chosen = points[points["gap"] <= 0.15].sort_values("performance").iloc[-1]
    assert numbers["models"][1]["model"] == f"bound = {chosen['difference_bound']:g}, seed 0"
    model = load(out / "model")["model"]
    assert np.isclose(model.reports_["steering"].results[0].bound, chosen["difference_bound"])
