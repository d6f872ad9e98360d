from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from tests.commands.data import BASE, applicants, fails, write

from fairtrain import load
from fairtrain.cli import main

FAST = ("--method", "reductions", "--bounds", "0.02,0.1,0.3")


@pytest.fixture(scope="module")
def swept(table: Path) -> Path:
    out = table.parent / "sweeps" / "s"
    assert main(["sweep", str(table), *BASE, *FAST, "--max-gap", "0.15", "--out", str(out)]) == 0
    return out


def test_what_a_sweep_writes(swept: Path) -> None:
    assert sorted(p.name for p in swept.iterdir()) == [
        "config.toml", "frontier.csv", "frontier.json", "frontier.png", "metrics.json", "model",
        "model_card.md", "report.html",
    ]  # fmt: skip
    assert [p.name for p in swept.parent.iterdir()] == ["s"]  # nothing hidden is left
    assert pd.read_csv(swept / "frontier.csv")["difference_bound"].tolist() == [0.02, 0.1, 0.3]
    assert (swept / "frontier.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (swept / "report.html").read_text()


def test_the_choice_is_made_on_validation_rows_and_judged_on_others(swept: Path) -> None:
    points = pd.read_csv(swept / "frontier.csv")
    numbers = json.loads((swept / "metrics.json").read_text())
    under = points[points["gap"] <= 0.15]
    best = under.sort_values("performance").iloc[-1]
    assert f"bound = {best['difference_bound']:g}, seed {best['seed']:g}" in numbers["choice"][0]
    rows = numbers["rows"]
    frontier = json.loads((swept / "frontier.json").read_text())
    assert frontier["validation_rows"] == rows["steering"]
    judged = numbers["models"][1]
    assert judged["n_rows"] == rows["certification"]
    assert judged["rows"] == "certification"
    model = load(swept / "model")["model"]
    assert sum(r.n_rows for r in model.reports_.values()) == rows["training"]
    assert "certification" not in model.reports_


@pytest.mark.filterwarnings("ignore::fairtrain.exceptions.FairtrainWarning")
def test_points_are_compared_within_strata(tmp_path: Path) -> None:
    table, out = write(tmp_path, applicants(600)), tmp_path / "s"
    options = ["--method", "plug-in", "--estimator", "logistic", "--bounds", "0.05,0.5"]
    told = ["--given", "sex", "--max-gap", "0.3", "--out", str(out)]
    assert main(["sweep", table, *BASE, *options, *told]) == 0
    tight, loose = pd.read_csv(out / "frontier.csv")["gap"]
    assert tight < loose
    model = json.loads((out / "metrics.json").read_text())["models"][1]
    assert model["constraints"][0]["constraint"] == "demographic_parity given sex"


def test_where_no_point_is_under_the_gap_the_narrowest_is_taken(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--method", "reductions", "--bounds", "0.2,0.3", "--max-gap", "0.0001"]
    assert main(["sweep", str(table), *BASE, *options, "--out", str(tmp_path / "s"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["choice"][0]
    assert "no point has a gap of at most 0.0001" in said
    points = pd.read_csv(tmp_path / "s" / "frontier.csv")
    narrowest = points.sort_values("gap").iloc[0]
    assert f"bound = {narrowest['difference_bound']:g}" in said


def test_etas_and_seeds_of_a_network(table: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    out = tmp_path / "s"
    options = ["--etas", "0,5", "--seeds", "2", "--epochs", "2"]
    assert main(["sweep", str(table), *BASE, *options, "--out", str(out)]) == 0
    points = pd.read_csv(out / "frontier.csv")
    assert list(zip(points["eta"], points["seed"], strict=True)) == [(0, 0), (0, 1), (5, 0), (5, 1)]
    config, again = str(out / "config.toml"), tmp_path / "again"
    assert main(["sweep", "--config", config, "--out", str(again)]) == 0
    first, second = ((p / "metrics.json").read_text() for p in (out, again))
    assert drop_seconds(first) == drop_seconds(second)


def drop_seconds(text: str) -> object:
    return {k: v for k, v in json.loads(text).items() if k != "seconds"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--bounds", "0.1"), "has no bound to move"),
        (("--method", "boosting", "--etas", "1"), "give --bounds"),
        (("--etas", "1,x"), "'x' is not a number"),
        (("--etas", "1,1.0"), "twice"),
        (("--etas", "-1"), "out of range"),
        (("--seeds", "0"), "--seeds"),
        (("--etas", "1", "--bounds", "1"), "not both"),
    ],
)
def test_bad_values(
    options: tuple[str, ...],
    expected: str,
    table: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("torch")
    out = str(tmp_path / "s")
    assert expected in fails(capsys, "sweep", str(table), *BASE, *options, "--out", out)
    assert not list(tmp_path.iterdir())


def test_a_hidden_folder_that_others_can_write_to_is_not_read(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".s.sweep").mkdir()
    (tmp_path / ".s.sweep").chmod(0o777)
    said = fails(capsys, "sweep", str(table), *BASE, *FAST, "--out", str(tmp_path / "s"))
    assert "only you can write to" in said


def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, kept = tmp_path / "s", tmp_path / ".s.sweep"
    bounds = ",".join(str(i / 100) for i in range(1, 60))
    tokens = ["sweep", str(table), *BASE, "--method", "reductions", "--estimator", "tree",
              "--bounds", bounds, "--out", str(out)]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "fairtrain.cli", *tokens],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ},
    )
    until = time.monotonic() + 60
    while not list(kept.glob("*.point")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1].splitlines()[-1]
    assert process.returncode == 130, said
    done = len(list(kept.glob("*.point")))
    assert said == f"fairtrain: stopped; {done} of 59 models are kept; the same command goes on."
    assert sorted(p.name for p in tmp_path.iterdir()) == [".s.sweep"]
    before = {p.name: p.stat().st_mtime_ns for p in kept.iterdir()}
    few = tokens.copy()
    few[few.index(bounds)] = bounds[: bounds.index(",")]  # the first value is among those kept
    fitted = []
    from fairtrain.reductions import ReductionsWrapper

    original = ReductionsWrapper.fit

    def counted(self: ReductionsWrapper, *args: object, **options: object) -> object:
        fitted.append(self)
        return original(self, *args, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReductionsWrapper, "fit", counted)
        assert main(few) == 0
    assert before
    assert not fitted
    assert (out / "metrics.json").exists()
    assert not kept.exists()
