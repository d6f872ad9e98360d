"""Columns are looked at before they are used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.commands.data import BASE, applicants, fails, write

from fairtrain._commands.features import TableFeatures
from fairtrain._commands.options import Features
from fairtrain._commands.plan import ColumnPlan, as_dates, plan_columns
from fairtrain.cli import main
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

N = 400
RNG = np.random.default_rng(0)
Y = RNG.integers(0, 2, N).astype(float)
COLUMNS = {
    "income": RNG.normal(size=N),
    "job": RNG.choice(["clerk", "nurse"], N),
    "joined": pd.date_range("2020-01-01", periods=N).strftime("%d.%m.%Y"),
    "day": pd.date_range("2020-01-01", periods=N),
    "customer_id": RNG.permutation(10**6)[:N],
    "row": np.arange(N) + 7,
    "email": [f"p{i}@example.org" for i in range(N)],
    "country": ["NL"] * N,
    "empty": [None] * N,
    "sometimes": ["yes"] * (N // 2) + [None] * (N // 2),
    "repaid": np.where(Y == 1, "in full", "not"),
    "outcome_score": Y + RNG.normal(0, 0.1, N),
    "zip_code": RNG.integers(10000, 10050, N),
    "tenure": [str(i % 90) for i in range(N - 2)] + ["n/a", "unknown"],
    "married": ["Married"] * (N // 2) + ["married"] * (N // 4) + ["no"] * (N // 4),
    "seen": pd.date_range("2020-01-01", periods=N).strftime("%m/%d/%Y").repeat(2)[:N],
}
FRAME = pd.DataFrame(COLUMNS)


def look(**more: object) -> ColumnPlan:
    return plan_columns(FRAME, Y, Features(**more), without=())  # type: ignore[arg-type]


USES = {
    "income": "number", "job": "category", "joined": "date", "day": "date",
    "customer_id": "drop", "row": "drop", "email": "drop", "country": "drop", "empty": "drop",
    "sometimes": "category", "repaid": "drop", "outcome_score": "drop", "zip_code": "number",
    "tenure": "category", "married": "category", "seen": "category",
}  # fmt: skip
SAID = {
    "customer_id": "numbers or names the rows",
    "country": "the same in every row",
    "empty": "holds no value",
    "repaid": "tells the outcome by itself",
    "outcome_score": "tells the outcome by itself",
    "zip_code": "looks like a code; add --categorical zip_code",
    "tenure": "holds numbers beside 'n/a', 'unknown'",
    "married": "such as 'Married', 'married'",
    "seen": "dates in a form with several meanings",
}


def test_what_columns_are_used_as() -> None:
    plan = look()
    assert {column.name: column.use for column in plan.columns} == USES
    for name, words in SAID.items():
        assert any(f"'{name}'" in line and words in line for line in plan.sentences()), name
    quiet = {c.name for c in plan.columns if not (c.why or c.doubt)}
    assert quiet == {"income", "job", "joined", "day", "sometimes"}


def test_small_tables_and_rare_events_are_no_leak() -> None:
    rare = np.zeros(N)
    rare[:2] = 1
    frame = pd.DataFrame({"job": COLUMNS["job"], "town": [f"t{i % 150}" for i in range(N)]})
    plan = plan_columns(frame, rare, Features(), without=())
    assert plan.of("category") == ("job", "town")
    few = plan_columns(FRAME[:15], Y[:15], Features(), without=())
    assert "customer_id" in few.of("number")


def test_the_person_decides(tmp_path: Path) -> None:
    path = tmp_path / "columns.toml"
    path.write_text('tenure = "number"\nrepaid = "category"\nincome = "drop"\n')
    plan = look(columns=path, categorical=("zip_code",), drop=("email",))
    uses = {column.name: column.use for column in plan.columns}
    assert (uses["tenure"], uses["repaid"], uses["income"]) == ("number", "category", "drop")
    assert uses["zip_code"] == "category"
    assert "email" not in uses
    assert plan.lenient == ("tenure",)
    path.write_text('tenure = "numeric"\n')
    with pytest.raises(InvalidParameterError, match=r"'tenure' must be 'number', 'category'"):
        look(columns=path)
    path.write_text('tenures = "number"\n')
    with pytest.raises(InvalidDataError, match="did you mean 'tenure'"):
        look(columns=path)
    with pytest.raises(InvalidDataError, match=r"no feature column is left\. Column 'country'"):
        plan_columns(FRAME[["country"]], Y, Features(), without=())


def test_dates_become_their_parts_and_words_among_numbers_are_missing() -> None:
    features = TableFeatures(["tenure"], dates=["joined", "day"], lenient=["tenure"]).fit(FRAME)
    found = features.transform(FRAME)
    assert found.shape == (N, 9)
    np.testing.assert_allclose(found[:, 1:5], found[:, 5:])
    one = pd.DataFrame({"tenure": ["soon"], "joined": ["24.12.2021"], "day": [pd.NaT]})
    assert np.isfinite(features.transform(one)).all()
    with pytest.raises(InvalidDataError, match="must hold dates"):
        features.transform(one.assign(joined="Christmas"))
    assert as_dates(pd.Series(["2024/02/30"])) is None
    assert as_dates(pd.Series([1, 2])) is None


def test_a_run_says_what_it_did_with_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = applicants().assign(number=range(1200), since=["2024-05-01", "2023-01-31"] * 600)
    data = write(tmp_path, frame)
    out = tmp_path / "run"
    assert main(["train", data, *BASE, "--method", "reductions", "--out", str(out)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Column 'number' is left out: it numbers or names the rows" in shown
    assert "as date: 'since'" in shown
    assert "'number' is left out" in (out / "model_card.md").read_text()
    assert "is left out" in (out / "report.html").read_text()
    assert json.loads((out / "metrics.json").read_text())["columns"]
    assert main(["predict", str(out), data, "--out", str(tmp_path / "d.csv")]) == 0
    path = tmp_path / "columns.toml"
    path.write_text("income = 1\n")
    said = fails(capsys, "train", data, *BASE, "--columns", str(path), "--out", str(tmp_path / "n"))
    assert "'income' must be" in said
