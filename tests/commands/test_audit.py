from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.commands.data import BASE, applicants, fails, write

from fairtrain import certification_plan
from fairtrain.cli import main
from fairtrain.metrics.disclosure import MIN_CELL


def test_audit_counts_and_verdicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = applicants()
    frame["p"] = (frame["income"] / 10).clip(0, 1)
    frame["said"] = np.where(frame["race"] == "white", "yes", "no")
    data = write(tmp_path, frame)
    assert main(["audit", data, "--label", "approve", "--positive", "yes", "--sensitive",
                 "race,sex"]) == 0  # fmt: skip
    shown = capsys.readouterr().out
    assert "black/f" in shown
    assert f"{(frame['race'] == 'black').sum():,}" in shown
    assert main(["audit", data, *BASE, "--score", "p", "--threshold", "0.3"]) == 0
    assert "mean score" in capsys.readouterr().out
    assert main(["audit", data, *BASE, "--prediction", "said"]) == 0
    shown = capsys.readouterr().out
    assert "demographic_parity: not_met" in shown
    assert "1.000" in shown


def test_audit_within_strata(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = applicants()
    frame["said"] = np.where(frame["race"] == "white", "yes", "no")
    asked = ["--label", "approve", "--positive", "yes", "--sensitive", "race"]
    data = [write(tmp_path, frame), *asked, "--prediction", "said"]
    assert main(["audit", *data, "--given", "sex", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["decisions"]
    (first, _) = found["constraints"]
    assert first["constraint"] == "demographic_parity given sex"
    assert first["highest"].startswith("white/")
    assert first["lowest"].split("/")[1] == first["highest"].split("/")[1]  # within one stratum
    assert main(["audit", *data, "--given", "sex", "--pooled"]) == 0
    assert "demographic_parity given sex, pooled" in capsys.readouterr().out
    assert "no groups to compare" in fails(capsys, "audit", *data, "--given", "race")
    assert "say which with --given" in fails(capsys, "audit", *data, "--pooled")


def test_audit_hides_small_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = applicants()
    frame.loc[:4, "race"] = "inuit"
    assert main(["audit", write(tmp_path, frame), *BASE]) == 0
    shown = capsys.readouterr().out
    assert f"Hidden: rates over fewer than {MIN_CELL} rows, and those from which" in shown
    line = next(x for x in shown.splitlines() if "inuit" in x)
    assert f"under {MIN_CELL}" in line
    assert "hidden" in line


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda f: f.assign(approve="yes"), "one value only"),
        (lambda f: f.assign(approve=["yes", "no", "?x"] * 400), "not binary"),
        (lambda f: f.assign(race=["one", *["two"] * 1199]), "one row only"),
        (lambda f: f.assign(race="all"), "one group only"),
        (lambda f: f.assign(race=np.arange(1200) / 7), "--bin race="),
        (lambda f: f.assign(race=["?", *["a", "b"] * 599, "a"]), "--missing group"),
        (lambda f: f.assign(approve=["?", *f["approve"][1:]]), "missing in 1 rows"),
        (lambda f: f.drop(columns="race"), "'race' not found"),
        (lambda f: f.drop(columns="approve"), "'approve' not found"),
        (lambda f: f.head(0), "no rows"),
    ],
)
def test_bad_tables(
    change: Any, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path, change(applicants()))
    assert expected in fails(capsys, "audit", data, *BASE)
    assert expected in fails(capsys, "train", data, *BASE, "--out", str(tmp_path / "run"))
    assert [p.name for p in tmp_path.iterdir()] == ["data.csv"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", b"", "is empty"),
        ("b.csv", "race,approve\nblÃ¤ck,yes\n".encode("latin-1") + b"\xe4,no\n", "not UTF-8"),
        ("c.csv", b"race,approve\nblack,yes\nwhite\n", "number of columns"),
        ("d.csv", b"race,approve\nblack,yes\nwhite,no,3\n", "number of columns"),
        ("e.parquet", b"PAR1 nonsense", "cannot be read"),
        ("f.csv", b"race,race,approve\na,b,yes\n", "same name"),
    ],
)
def test_bad_files(
    name: str, content: bytes, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    assert expected in fails(capsys, "audit", str(tmp_path / name), *BASE)


def test_missing_file_and_options(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "does not exist" in fails(capsys, "audit", "nowhere.csv", *BASE)
    unnamed = ["audit", str(table), "--label", "approve", "--sensitive", "race"]
    assert "--positive is missing" in fails(capsys, *unnamed)
    assert "no value of" in fails(capsys, *unnamed, "--positive", "ja").replace("not a", "no")
    out = ["--out", "never"]
    assert "--certification" in fails(
        capsys, "train", str(table), *BASE, *out, "--certification", "0"
    )
    assert "--over 'sex'" in fails(capsys, "train", str(table), *BASE, *out, "--over", "sex")
    assert "not both" in fails(
        capsys, "train", str(table), *BASE, *out, "--bound", "0.1", "--ratio", "0.8"
    )
    assert not Path("never").exists()


def test_what_cannot_be_audited(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    itself = ["--label", "approve", "--positive", "yes", "--sensitive", "race,approve"]
    assert "is the label" in fails(capsys, "audit", str(table), *itself)
    scored = [*BASE, "--score", "income", "--threshold", "nan"]
    assert "--threshold must be a number" in fails(capsys, "audit", str(table), *scored)


def test_a_plan_says_before_training_what_the_rows_can_show(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.read_csv(table)
    asked = ["--constraint", "demographic_parity", "--bound", "0.1", "--plan"]
    who = ["--label", "approve", "--positive", "yes", "--sensitive", "race,sex"]
    assert main(["audit", str(table), *who, *asked, "--json"]) == 0
    plans = json.loads(capsys.readouterr().out)["plans"]
    assert [plan["over"] for plan in plans] == ["race", "sex", "race x sex"]
    expected = certification_plan(
        frame[["race"]],
        difference_bound=0.1,
        y=frame["approve"],
        positive_label="yes",
        certification_fraction=0.3,  # as in train
    )
    assert plans[0]["words"] == expected.explain()
    assert plans[0]["chance"] == expected.chance
    assert [each["rows"] for each in plans[0]["rows_needed"]] == list(expected.rows_needed.values())
    assert main(["audit", str(table), *who, *asked, "--certification", "0.5"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "race x sex: what the rows can show, before training" in shown
    assert "chance of met with 50% of the rows as certification rows" in shown


def test_what_a_plan_refuses(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    share = ["--certification", "0.2"]
    assert "--plan only" in fails(capsys, "audit", str(table), *BASE, *share)
    none = ["--plan", "--certification", "0"]
    assert "--certification must lie" in fails(capsys, "audit", str(table), *BASE, *none)


def test_a_plan_without_groups_of_ten_gives_no_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = applicants()
    frame.loc[:4, "race"] = "inuit"
    data = write(tmp_path, frame)
    assert main(["audit", data, *BASE, "--plan", "--bound", "0"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"'inuit' has fewest rows to compare: under {MIN_CELL} in all" in shown
    assert "no number of rows gives a chance of 80%" in shown


def test_audit_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = applicants()
    frame["said"] = np.where(frame["race"] == "white", "yes", "no")
    frame.loc[:4, "race"] = "inuit"
    data = write(tmp_path, frame)
    assert main(["audit", data, *BASE, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    cells = {cell["group"]: cell for cell in found["base_rates"][0]["groups"]}
    assert cells["inuit"] == {
        "group": "inuit", "count": f"under {MIN_CELL}", "rate": None, "lower": None, "upper": None
    }  # fmt: skip
    white = frame[frame["race"] == "white"]
    assert cells["white"]["count"] == len(white)
    assert cells["white"]["rate"] == pytest.approx((white["approve"] == "yes").mean())
    assert found["decisions"] is None
    assert main(["audit", data, *BASE, "--prediction", "said", "--json", "--require-met"]) == 3
    assert json.loads(capsys.readouterr().out)["decisions"]["verdict"] == "not_met"
    assert "--require-met needs" in fails(capsys, "audit", data, *BASE, "--require-met")
