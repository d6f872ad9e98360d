from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from tests.commands.data import applicants, fails, write

from fairtrain.cli import main


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_the_page_is_made_again(run: Path) -> None:
    before = {name: (run / name).read_text() for name in ("report.html", "model_card.md")}
    for name in before:
        (run / name).unlink()
    assert main(["report", str(run)]) == 0
    assert {name: (run / name).read_text() for name in before} == before


def test_a_rationale_stays(run: Path, tmp_path: Path) -> None:
    (tmp_path / "why.txt").write_text("agreed with <b>stakeholders</b>\n")
    assert main(["report", str(run), "--rationale", f"@{tmp_path / 'why.txt'}"]) == 0
    assert json.loads((run / "metrics.json").read_text())["rationale"].startswith("agreed")
    assert "<b>stakeholders" not in (run / "report.html").read_text()
    assert main(["report", str(run)]) == 0
    assert "agreed with &lt;b&gt;" in (run / "report.html").read_text()


def test_use_and_sign_off_stay(run: Path) -> None:
    said = ["--intended-use", "Loans under 5,000.", "--signed", "R. Roe, risk, 3 May 2026."]
    assert main(["report", str(run), *said]) == 0
    assert main(["report", str(run)]) == 0
    for name in ("report.html", "model_card.md"):
        text = (run / name).read_text()
        assert "Loans under 5,000." in text
        assert "R. Roe, risk, 3 May 2026." in text


def test_fresh_rows(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = applicants(900, seed=5)
    data, page = write(tmp_path, frame), tmp_path / "fresh.html"
    capsys.readouterr()
    assert main(["report", str(run), "--data", data, "--out", str(page), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    fresh = found["models"][1]
    assert fresh["n_rows"] == 900
    assert fresh["rows"] == "certification"
    decided = tmp_path / "d.csv"
    assert main(["predict", str(run), data, "--out", str(decided)]) == 0
    share = pd.read_csv(decided)["probability"]
    right = share.where(frame["approve"] == "yes", 1 - share).mean()
    assert fresh["accuracy"]["estimate"] == pytest.approx(right, abs=1e-9)
    assert "fresh" not in json.loads((run / "metrics.json").read_text())["data"]
    assert page.read_text().startswith("<!DOCTYPE html>")


def test_the_page_of_fresh_rows_says_which_rows_judged_which_model(
    run: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = applicants(900, seed=5)
    capsys.readouterr()
    assert main(["report", str(run), "--data", write(tmp_path, frame)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    page = (run / "fresh.html").read_text()
    certified = json.loads((run / "metrics.json").read_text())["rows"]["certification"]
    for text in (shown, page):
        assert "both models were judged" not in text
        assert "for the baseline" not in text
        assert "on 900 fresh rows" in text
        assert f"on the {certified} rows set aside when it was made" in text
    assert "none of the fresh rows trained or chose the model" in shown
    assert f"│ {(frame['race'] == 'black').sum()} │" in shown
    assert main(["report", str(run), "--data", str(table)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "it is judged on 1,200 rows of the table that it was made from" in shown
    page = (run / "fresh.html").read_text()
    assert "on 1,200 rows of the table that it was made from" in page
    assert "trained and steered nothing" not in page


def test_rows_that_made_the_model_certify_nothing(
    run: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["report", str(run), "--data", str(table), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["models"][1]["rows"] == "training"
    assert (run / "fresh.html").exists()
    assert main(["report", str(run), "--data", str(table), "--require-met"]) == 3


def test_a_group_that_training_never_saw(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = applicants(300)
    frame.loc[:50, "race"] = "martian"
    assert "martian" in fails(capsys, "report", str(run), "--data", write(tmp_path, frame))
    assert "no metrics.json" in fails(capsys, "report", str(tmp_path))
