"""Names and tables that were made to harm: they stay text, in a terminal, a CSV and a model."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

import fairtrain
from fairtrain._commands.options import Features, read_options
from fairtrain._commands.plan import plan_columns
from fairtrain.cli import main
from fairtrain.exceptions import FairtrainError, InvalidParameterError

pytestmark = pytest.mark.filterwarnings("ignore::fairtrain.exceptions.FairtrainWarning")

NAMES = (
    "__class__",
    "__dict__",
    "constructor",
    "=HYPERLINK(1)",
    "\ufeff=1+1",
    "@SUM(A1)",
    "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "\u202egnp.exe",
    "a\u200bb",
    "ab",
    "$\\frac{$",
    "[/foo]",
    "../../etc",
)
N = 40 * len(NAMES)
RNG = np.random.default_rng(0)
WHO = np.repeat(NAMES, 40)
X = RNG.normal(size=(N, 2))
Y = (X[:, 0] + RNG.normal(size=N) > 0).astype(int)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("names") / "table.csv"
    frame = pd.DataFrame(X, columns=["u", "=v"]).assign(__class__=WHO, y=Y, p=1 - Y)
    frame.to_csv(path, index=False)
    return path


def test_a_terminal_shows_them_as_text(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--label", "y", "--positive", "1", "--sensitive", "__class__", "--prediction", "p"]
    assert main(["audit", str(table), *given]) == 0
    said = "".join(capsys.readouterr())
    assert not set(said) & set("\x1b\x07\u202e\u200b\ufeff")
    assert r"\u202egnp.exe" in said
    assert r"a\u200bb" in said


def test_a_model_with_them_comes_back(table: Path, tmp_path: Path) -> None:
    model = fairtrain.ReductionsWrapper(LogisticRegression(), difference_bound=0.9)
    frame = pd.DataFrame(X, columns=["__class__", "__dict__"])
    words = np.where(Y, "__class__", "=no")
    model.set_params(positive_label="__class__").fit(frame, words, sensitive_features=WHO)
    fairtrain.save(model, tmp_path / "model")
    again = fairtrain.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(frame), model.predict(frame))
    shown = again.explain() + str(again.fairness_report_)
    assert not set(shown) & set("\x1b\x07\u202e\u200b\ufeff")


def test_every_csv_is_free_of_formulas(table: Path, tmp_path: Path) -> None:
    given = ["--label", "y", "--positive", "1", "--sensitive", "__class__"]
    out = tmp_path / "run"
    fast = ["--method", "reductions", "--bounds", "0.5,0.9"]
    assert main(["sweep", str(table), *given, *fast, "--out", str(out)]) == 0
    decided = tmp_path / "decided.csv"
    given = [str(out), str(table), "--keep", "__class__", "--out", str(decided)]
    assert main(["predict", *given]) == 0
    frontier = fairtrain.pareto_frontier(
        LogisticRegression(), X, Y, sensitive_features=WHO, param="class_weight",
        values=["balanced", None], random_state=0,
    )  # fmt: skip
    words = ["=cmd|' /C calc'!A0", "@x"]
    for dtype in (object, "str"):
        frontier.points["class_weight"] = pd.Series(words, dtype=dtype)
        frontier.to_csv(tmp_path / f"words-{np.dtype(dtype).kind}.csv")
    files = [*tmp_path.rglob("*.csv")]
    assert len(files) == 4
    for file in files:
        for row in csv.reader(file.read_text().splitlines()):
            for cell in row:
                try:
                    float(cell)
                except ValueError:
                    assert not cell.lstrip(" \ufeff\u200b").startswith(tuple("=+-@"))


def test_more_groups_than_can_be_compared_are_one_line() -> None:
    n = 6_000
    model = fairtrain.ReductionsWrapper(LogisticRegression())
    with pytest.raises(FairtrainError, match="join values to fewer groups") as caught:
        model.fit(np.zeros((n, 1)), np.arange(n) % 2, sensitive_features=np.arange(n).astype(str))
    assert "\n" not in str(caught.value)


BOMBS = {
    "deep arrays": "train = " + "[" * 5000 + "]" * 5000,
    "a large number": "[train]\nbound = " + "9" * 10**5,
    "many keys": "[train]\n" + "\n".join(f"k{i} = 1" for i in range(10**5)) + "\nk1 = 2",
    "a cell of a megabyte": "[train]\nl = [[" + "1," * 10**6 + "]]",
    "no end": '[train]\nl = """' + "x" * 10**6,
    "a binary": "\x00\x01",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_of_toml_is_one_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "options.toml"
    path.write_text(BOMBS[kind], encoding="utf-8")
    start = time.process_time()
    with pytest.raises(InvalidParameterError) as caught:
        read_options(path, "train")
    assert time.process_time() - start < 5
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


RUNS = ("[" * 10**5, '{"models": [' + "[" * 10**5, '{"models": 7}', '{"models": {"a": 1}}', "{}",
        "7", '{"models": [1]}')  # fmt: skip


@pytest.mark.parametrize("content", RUNS, ids=range(len(RUNS)))
def test_a_run_that_is_none_is_one_line(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "metrics.json").write_text(content)
    assert main(["report", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "Traceback" not in said
    assert json.dumps(said)


BIG = 2**20
PEOPLE = ["--label", "y", "--positive", "1", "--sensitive", "who"]


def spoiled(folder: Path, place: str) -> Path:
    """A table with a megabyte in one cell, or as many values as it has rows."""
    frame = pd.DataFrame({"u": X[:200, 0], "job": "x", "who": "a", "y": Y[:200], "p": 1 - Y[:200]})
    frame.loc[::2, "who"] = "b"
    frame = frame.astype(object)
    if place == "header":
        frame = frame.rename(columns={"job": "j" * BIG})
    elif place == "categories":
        frame = pd.concat([frame] * 500, ignore_index=True)
        frame["who"] = np.arange(len(frame)).astype(str)
    else:
        frame.loc[3, place] = "j" * BIG
    frame.to_csv(folder / "wide.csv", index=False)
    return folder / "wide.csv"


@pytest.mark.parametrize("place", ["header", "who", "y", "p", "categories"])
def test_a_megabyte_in_a_cell_and_too_many_values_are_one_short_line(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["audit", str(spoiled(tmp_path, place)), *PEOPLE, "--prediction", "p"])
    said = capsys.readouterr()
    assert code == 2
    assert not said.out
    assert len(said.err.splitlines()) == 1
    assert len(said.err) < 600


def test_a_megabyte_among_many_values_takes_no_time() -> None:
    words = pd.Series([f"{i % 30} May 2024" for i in range(1, 600)] + ["j" * BIG], name="w")
    start = time.process_time()
    doubts = plan_columns(words.to_frame(), np.arange(600) % 2, Features(), without=()).columns
    assert time.process_time() - start < 5
    assert len(str(doubts)) < 1000
