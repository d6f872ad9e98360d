"""The operating point belongs to the person: a threshold, places, or what errors cost."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from tests.commands.data import BASE, applicants, fails, write

from fairtrain import load
from fairtrain._commands.operating import AtThreshold, OperatingPoint, read_point
from fairtrain._commands.options import Decide
from fairtrain.cli import main

LOGISTIC = ("--method", "plug-in", "--estimator", "logistic", "--bound", "0.2")


def train(table: Path, out: Path, *options: str) -> dict[str, Any]:
    assert main(["train", str(table), *BASE, *options, "--out", str(out)]) == 0
    numbers: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return numbers


def test_a_threshold_is_the_costs_that_it_suits(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From .8 on: a wrong favourable decision costs four times as much as a missed one."""
    out = tmp_path / "run"
    numbers = train(table, out, "--method", "reductions", "--threshold", "0.8")
    assert any("from a chance of 0.8 on" in line for line in numbers["method"])
    baseline, fair = numbers["models"]
    assert fair["objective"] == baseline["objective"] == "cost"
    assert max(baseline["selection_rate"], fair["selection_rate"]) < 0.4  # .57 have the label
    assert baseline["performance"] >= numbers["constant"]["performance"]
    assert fair["auc"] is None  # decisions by lot are no score
    assert baseline["auc"] > 0.6
    costly = train(table, tmp_path / "costly", "--method", "reductions", "--cost-fp", "4")
    for mine, theirs in zip(numbers["models"], costly["models"], strict=True):
        assert mine["selection_rate"] == pytest.approx(theirs["selection_rate"], abs=0.03)
        assert mine["performance"] == pytest.approx(theirs["performance"] / 5, abs=0.005)
    capsys.readouterr()
    assert main(["compare", str(out), str(tmp_path / "costly")]) == 0
    assert "at different operating points" in capsys.readouterr().err
    assert tomllib.loads((out / "config.toml").read_text())["train"]["threshold"] == 0.8
    assert main(["report", str(out), "--data", write(tmp_path, applicants(600, seed=5))]) == 0
    assert "<br>cost 0." in (out / "fresh.html").read_text()


def test_places_are_filled_and_no_more_than_filled(table: Path, tmp_path: Path) -> None:
    """240 of 1,200 rows: baseline, fair model and constant choose every fifth person."""
    out = tmp_path / "run"
    numbers = train(table, out, *LOGISTIC, "--select-top", "240")
    for model in numbers["models"]:
        assert model["selection_rate"] == pytest.approx(0.2, abs=0.05)
        assert [c["constraint"] for c in model["constraints"]] == ["demographic_parity"]
    assert numbers["constant"]["selection_rate"] == pytest.approx(0.2)
    assert not numbers["usefulness"]  # places that are filled by lot miss more who deserve one
    pipeline = load(out / "model")
    assert pipeline["model"].baseline_report_.objective == "cost"
    fresh = applicants(3000, seed=6)
    assert (
        main(["predict", str(out), write(tmp_path, fresh), "--out", str(tmp_path / "d.csv")]) == 0
    )
    decided = pd.read_csv(tmp_path / "d.csv")["decision"] == "yes"
    np.testing.assert_array_equal(pipeline.predict(fresh) == "yes", decided)
    assert decided.mean() == pytest.approx(0.2, abs=0.04)
    assert (fresh["approve"] == "yes")[decided].mean() > (fresh["approve"] == "yes").mean() + 0.2


def test_a_classifier_decides_from_its_threshold_on() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 1))
    words = np.where(X[:, 0] + rng.normal(size=200) > 0, "a", "b")
    plain = LogisticRegression().fit(X, words)
    model = AtThreshold(plain, "a", 0.8)
    np.testing.assert_array_equal(model.predict(X) == "a", plain.predict_proba(X)[:, 0] >= 0.8)


@pytest.mark.parametrize(
    ("options", "cut", "best"),
    [
        ({"threshold": 0.3}, 0.3, 0.0),
        ({"cost_fn": 4.0}, 0.2, 1.0),
        ({"cost_fp": 9.0}, 0.9, 0.0),
        ({"select_top": "25%"}, 0.0, 0.25),
        ({}, None, 0.0),
    ],
)
def test_all_of_them_are_costs(options: dict[str, Any], cut: float | None, best: float) -> None:
    y = np.r_[np.ones(2), np.zeros(6)]
    point = read_point(Decide(**options), None).among(8)
    assert point.cut(y) == (None if cut is None else pytest.approx(cut))
    np.testing.assert_allclose(point.constant(y), best)
    score = np.arange(8) / 8
    expected = score >= (0.75 if "select_top" in options else 0.5 if cut is None else cut)
    np.testing.assert_array_equal(point.decided(score), expected)


def test_who_ties_for_the_last_places_shares_them() -> None:
    score = np.array([0.2, 0.5, 0.9, 0.5, 0.5, 0.1])
    point = read_point(Decide(select_top="50%"), None)
    np.testing.assert_allclose(point.decided(score), [0, 2 / 3, 1, 2 / 3, 2 / 3, 0])


def test_other_objectives_leave_the_ordinary_model_alone() -> None:
    y = np.r_[np.ones(2), np.zeros(6)]
    assert OperatingPoint("f1").cut(y) is None
    assert OperatingPoint("balanced_accuracy").cut(y) == 0.25
    assert OperatingPoint("auc").constant(y).max() == 0


def test_an_audit_decides_by_scores_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    frame = applicants(400).assign(p=rng.permutation(400) / 400)
    data = write(tmp_path, frame)

    def share(*options: str) -> float:
        capsys.readouterr()
        assert main(["audit", data, *BASE, "--score", "p", "--json", *options]) == 0
        found: float = json.loads(capsys.readouterr().out)["decisions"]["selection_rate"]
        return found

    assert share("--select-top", "0.25") == share("--select-top", "100") == 0.25
    assert share("--cost-fp", "3") == 0.25
    assert share() == 0.5
    said = fails(capsys, "audit", data, *BASE, "--threshold", "0.3")
    assert "give --score" in said


def test_what_cannot_be_done_names_what_can(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*options: str) -> str:
        place = ("--out", str(tmp_path / "none"))
        return fails(capsys, "train", str(table), *BASE, *options, *place)

    assert "--select-top is for --method plug-in" in said(
        "--method", "reductions", "--select-top", "9"
    )
    refused = said("--method", "adversarial", "--threshold", "0.3")
    assert "plug-in, reductions, boosting, lagrangian, regularized" in refused
    assert "both say where" in said("--threshold", "0.3", "--cost-fp", "2")
    assert "both say where" in said("--objective", "f1", "--select-top", "20%")
    assert "between 0 and 1" in said("--threshold", "1.5")
    assert "a share such as 20%" in said("--select-top", "many")
    assert "a share such as 20%" in said("--select-top", "120%")
    assert "a place for each" in said("--select-top", "1200")
    assert "--cost-fn must be a number >= 0" in said("--cost-fn", "-1")
    assert "must cost something" in said("--cost-fn", "0", "--cost-fp", "0")
    assert "not for --select-top" in said("--certification", "cross", "--select-top", "9")
    out = "/proc/fairtrain"
    assert f"'{out}' cannot be written" in fails(
        capsys, "train", str(table), *BASE, "--method", "reductions", "--out", out
    )
