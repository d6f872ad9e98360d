"""Several methods, of which steering rows choose; how long that takes; which run to take."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.commands.data import BASE, applicants, fails, write

from fairtrain import load
from fairtrain._commands import duration
from fairtrain._commands.advice import advised
from fairtrain._commands.methods import METHODS, Settings
from fairtrain._commands.options import Shares
from fairtrain._commands.selection import best_of
from fairtrain.cli import main
from fairtrain.constraints import DemographicParity
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidDataError
from fairtrain.metrics import Usefulness


@pytest.mark.filterwarnings("ignore:.*on (steering|training) rows")
def test_an_hour_from_a_raw_file_to_a_choice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Audit, several methods at a capacity of one's own, decisions, a fresh year, a comparison."""
    frame = applicants().assign(postcode=lambda f: np.where(f["race"] == "white", "A1", "B2"))
    data = tmp_path / "raw.csv"
    frame.to_csv(data, index=False, sep=";", decimal=",")
    assert main(["audit", str(data), *BASE]) == 0
    assert "postcode" in capsys.readouterr().out
    both, one = tmp_path / "both", tmp_path / "one"
    asked = ["train", str(data), *BASE, "--drop", "postcode", "--estimator", "logistic"]
    asked += ["--bound", "0.2", "--cost-fn", "2", "--out"]
    assert main([*asked, str(both), "--method", "reductions,plug-in"]) == 0
    numbers = json.loads((both / "metrics.json").read_text())
    rule, *each, once = numbers["choice"]
    assert rule.startswith("Chosen among reductions, plug-in: ")
    assert [line.partition(":")[0] for line in each] == ["reductions", "plug-in"]
    assert "alone, once" in once
    taken = rule.partition(": ")[2].partition(".")[0]
    model = load(both / "model")["model"]
    assert METHODS[taken].name == ("plug-in" if hasattr(model, "prices_") else "reductions")
    assert len(numbers["models"]) == 2
    assert main(["predict", str(both), str(data), "--out", str(tmp_path / "d.csv")]) == 0
    assert len(pd.read_csv(tmp_path / "d.csv")) == len(frame)
    fresh = write(tmp_path, applicants(500, seed=9))
    assert main(["report", str(both), "--data", fresh]) == 0
    assert main([*asked, str(one), "--method", "reductions"]) == 0
    capsys.readouterr()
    assert main(["compare", str(both), str(one), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "The rule:" in found["advice"][0]
    constants = [m for m in found["references"] if m["method"] == "constant"]
    assert [m["run"] for m in constants] == ["both, one"]  # judged on the same rows: once


def test_what_several_methods_refuse(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ("train", str(table), *BASE, "--out", str(tmp_path / "none"))
    assert "--method must be auto" in fails(capsys, *own, "--method", "plugin")
    assert "twice" in fails(capsys, *own, "--method", "auto,plug-in")
    said = fails(capsys, *own, "--method", "plug-in,reductions", "--eta", "2")
    assert "--eta is read by none of" in said


def model(kept: bool, useful: str, worth: float) -> Any:
    report = SimpleNamespace(
        results=[SimpleNamespace(excess=0.0 if kept else 0.1)],
        worth=worth,
        objective="accuracy",
        n_rows=100,
    )
    return SimpleNamespace(reports_={"steering": report}, usefulness_=Usefulness(useful))


def test_the_rule_is_feasible_then_useful_then_accurate() -> None:
    models = [
        model(False, "useful", 0.9),
        model(True, "no_better_than_constant", 0.8),
        model(True, "useful", 0.6),
        model(True, "useful", 0.7),
    ]
    best, said = best_of(list("abcd"), models)
    assert best == 3
    assert "a: does not keep it there, useful, accuracy 0.900 on 100 rows." in said
    assert best_of(["a"], models[:1]) == (0, ())


RUN = {
    "model": "fair model", "verdict": "met", "gap": [0.02, 0, 0.04], "bound": 0.05, "useful": True,
    "accuracy": [0.8, 0.79, 0.81], "performance": 0.8, "objective": "accuracy",
    "smallest_bound": None, "larger_is_fairer": False,
}  # fmt: skip


def run(name: str, accuracy: float = 0.8, **other: Any) -> dict[str, Any]:
    limits = [accuracy, accuracy - 0.01, accuracy + 0.01]
    return {**RUN, "run": name, "accuracy": limits, "performance": accuracy, **other}


def test_advice_names_the_run_and_why() -> None:
    useless = run("idle", 0.95, useful=False)
    broken = run("broken", 0.99, verdict="not_met")
    said = advised([broken, useless, run("good"), run("near", 0.795, gap=[0.01, 0, 0.03])])
    assert said[0].startswith("Take run 'good': it is met and useful")
    assert "Within noise of it: run 'near' (0.795)" in said[1]
    assert said[1].endswith("has run 'near'.")
    assert "fairtrain report good --data" in said[2]
    placed = advised([run("good", folder="my runs/good"), run("near", 0.7)])[-1]
    assert "fairtrain report 'my runs/good' --data" in placed
    free, dear = (run(n, objective="cost", performance=-c) for n, c in (("free", 0.0), ("dear", 1)))
    assert advised([dear, free])[0].startswith("Take run 'free'")
    assert advised([broken, run("good")])[0].startswith("Take run 'good': it alone is met")
    assert advised([useless, broken])[0].startswith("Take none of them yet: run 'idle'")


def test_advice_where_nothing_is_met_says_what_to_do() -> None:
    few = run("few", verdict="too_few_rows", smallest_bound=0.12)
    far = run("far", 0.9, verdict="too_few_rows", gap=[0.2, 0, 0.4])
    said = advised([far, few])
    assert said[0].startswith("No run is shown to keep its bound. Run 'few' comes nearest")
    assert said[-1].startswith("These rows can show 0.12 at best.")
    hidden = run("hidden", gap=None, verdict="not_met", performance=None)
    assert "stricter --bound" in advised([hidden, hidden | {"run": "b"}])[-1]
    ratio = run("r", gap=[0.9, 0.8, 1.0], bound=0.8, larger_is_fairer=True, verdict="too_few_rows")
    assert "'r' comes nearest" in advised([ratio | {"run": "few", "gap": [0.7, 0, 1]}, ratio])[0]


def test_time_is_a_line_through_two_smaller_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(duration.time, "perf_counter", lambda: clock[0])

    def fit_fair(rows: Rows, settings: Settings) -> None:
        clock[0] += 2 + len(rows) / 1000

    frame = applicants(51_200)
    y = (frame["approve"] == "yes").to_numpy(dtype=np.float64)
    rows = Rows.read(np.zeros((51_200, 1)), y, frame["race"])
    settings = Settings(DemographicParity(), Shares(), None)  # type: ignore[arg-type]
    method: Any = SimpleNamespace(name="reductions", options={}, fit_fair=fit_fair)
    assert duration.seconds_needed(method, rows, settings, (1000, 4000)) == pytest.approx(53.2)
    words = ", roughly 53 s, or a third to three times that, by what 1,000 and 4,000 of the "
    words += "51,200 rows take"
    assert duration.about(method, rows, settings) == words
    assert duration.about(replace(METHODS["regularized"]), rows, settings) == ""
    assert duration.about(method, rows.take(np.arange(900)), settings) == ""

    def fails_on_few(rows: Rows, settings: Settings) -> None:
        raise InvalidDataError("a group is missing.")

    method.fit_fair = fails_on_few
    assert duration.about(method, rows, settings) == ""
