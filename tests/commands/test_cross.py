"""``--certification cross``: all rows train, steer and judge, and everything says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.commands.data import BASE, applicants, fails, write

from fairtrain import load
from fairtrain.cli import main

CROSS = ("--certification", "cross")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("cross")
    table = write(folder, applicants(1500))
    assert main(["train", table, *BASE, *CROSS, "--out", str(folder / "run")]) == 0
    return folder / "run", table


def test_every_row_judges_and_the_report_is_the_model_s_own(run: tuple[Path, str]) -> None:
    folder, _ = run
    numbers = json.loads((folder / "metrics.json").read_text())
    model = load(folder / "model")["model"]
    assert numbers["crossed"]
    assert set(numbers["rows"].values()) == {1500}
    own, baseline = model.fairness_report_, model.baseline_report_
    for told, report in zip(numbers["models"], (baseline, own), strict=True):
        assert told["rows"] == "certification"
        assert told["n_rows"] == 1500
        assert told["constraints"][0]["achieved"] == pytest.approx(report.results[0].achieved)
        assert told["constraints"][0]["upper"] == pytest.approx(report.results[0].upper)
        assert told["accuracy"]["lower"] == pytest.approx(report.accuracy[1])
    assert numbers["models"][1]["cost"] is not None
    assert model.usefulness_ in ("useful", "no_better_than_constant", "beaten_by_baseline")
    assert model.held_out_ is None  # it holds rows, which no folder does
    assert model.ledger_.summary()["readings"] == [1]


@pytest.mark.parametrize("file", ["report.html", "model_card.md", "metrics.json"])
def test_page_card_and_numbers_say_what_met_speaks_of(run: tuple[Path, str], file: str) -> None:
    said = (run[0] / file).read_text()
    words = ["lottery", "They disagree about", "Training took 5 times as long"]
    words += ["without their labels", "says little about how good the fit is"]
    if file != "metrics.json":
        words += ["Met speaks of this lottery among the members", "no average of them"]
        assert "did neither" not in said
    for word in words:
        assert word in said.replace("\n", " "), word


def test_the_page_is_made_again_and_fresh_rows_are_counted(
    run: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = run
    page = (folder / "report.html").read_text()
    assert main(["report", str(folder)]) == 0
    assert (folder / "report.html").read_text() == page
    fresh = write(tmp_path, applicants(900, seed=5), "fresh.csv")
    found: list[Any] = []
    for _ in range(2):
        capsys.readouterr()
        assert main(["report", str(folder), "--data", fresh, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out)["models"][-1])
    assert [(m["reading"], round(m["confidence"], 4)) for m in found] == [(1, 0.95), (2, 0.975)]
    widths = [m["constraints"][0]["upper"] - m["constraints"][0]["achieved"] for m in found]
    assert widths[1] > widths[0]
    page = (folder / "fresh.html").read_text()
    assert "this is reading 2" in page
    assert "fresh rows judge it" not in page


def test_a_run_with_a_share_enters_its_certification_rows(tmp_path: Path) -> None:
    table = write(tmp_path, applicants(1500))
    assert main(["train", table, *BASE, "--out", str(tmp_path / "run")]) == 0
    model = load(tmp_path / "run" / "model")
    assert model["model"].ledger_.summary()["readings"] == [1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--method", "reductions"), "not shown to hold for --method reductions"),
        (("--no-group-inference",), "not shown to hold for --method"),
        (("--estimator", "tree"), "leave --estimator tree out"),
        (("--seed", "-1"), "--seed must lie in"),
    ],
)
def test_what_it_does_not_hold_for_is_refused(
    run: tuple[Path, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    words: str,
) -> None:
    said = fails(capsys, "train", run[1], *BASE, *CROSS, *options, "--out", str(tmp_path / "run"))
    assert words in said


def test_sweeps_choose_and_cannot_certify_on_the_same_rows(
    run: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = fails(
        capsys, "sweep", run[1], *BASE, *CROSS, "--method", "plug-in", "--out", str(tmp_path / "s")
    )
    assert "to choose among bounds" in said
