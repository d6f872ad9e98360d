from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests.commands.data import BASE, applicants, fails, write

from fairtrain import load
from fairtrain._commands import runs
from fairtrain.cli import main

REDUCTIONS = ("--method", "reductions")
METHODS = {
    "plug-in": ("--estimator", "logistic"),
    "reductions": ("--estimator", "tree"),
    "boosting": ("--estimator", "lightgbm"),
    "lagrangian": ("--epochs", "3"),
    "regularized": ("--epochs", "3", "--eta", "2"),
    "adversarial": ("--epochs", "3", "--strength", "1"),
}
NEEDS = {"boosting": "lightgbm", "plug-in": "sklearn", "reductions": "sklearn"}
SPLITTING = [method for method in METHODS if method != "plug-in"]


def test_run_folder(trained: Path) -> None:
    assert sorted(p.name for p in trained.iterdir()) == [
        "config.toml",
        "metrics.json",
        "model",
        "model_card.md",
        "report.html",
    ]
    assert [p.name for p in trained.parent.iterdir()] == ["x"]
    numbers = json.loads((trained / "metrics.json").read_text())
    assert [m["model"] for m in numbers["models"]] == ["baseline", "fair model"]
    baseline, fair = (m["constraints"][0]["achieved"] for m in numbers["models"])
    assert fair < baseline
    assert sum(numbers["rows"].values()) == 1200
    config = tomllib.loads((trained / "config.toml").read_text())
    assert config["train"]["sensitive"] == ["race"]
    assert len(config["made_with"]["data_sha256"]) == 64


def test_the_wrapper_split_as_the_command_did(trained: Path) -> None:
    numbers = json.loads((trained / "metrics.json").read_text())
    model = load(trained / "model")
    own = model["model"].reports_["certification"]
    assert own.n_rows == numbers["rows"]["certification"]
    assert own.results[0].achieved == pytest.approx(
        numbers["models"][1]["constraints"][0]["achieved"], abs=1e-12
    )


def test_options_from_a_run_give_the_same_run(trained: Path, tmp_path: Path) -> None:
    config = str(trained / "config.toml")
    again = tmp_path / "again"
    assert main(["train", "--config", config, "--out", str(again)]) == 0
    assert (again / "metrics.json").read_text() == (trained / "metrics.json").read_text()


def test_unknown_options_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "options.toml"
    file.write_text('label = "approve"\nspeed = 3\n')
    assert "speed" in fails(capsys, "train", "x.csv", "--config", str(file))
    file.write_text("label = ")
    assert "TOML" in fails(capsys, "train", "x.csv", "--config", str(file))


@pytest.mark.parametrize("estimator", ["xgboost", "lightgbm", "tree"])
def test_estimators(estimator: str, table: Path, tmp_path: Path) -> None:
    if estimator in ("xgboost", "lightgbm"):
        pytest.importorskip(estimator)
    out = str(tmp_path / "run")
    extra = [*REDUCTIONS, "--estimator", estimator, "--ratio", "0.8", "--drop", "age"]
    assert main(["train", str(table), *BASE, *extra, "--out", out]) == 0
    assert main(["predict", out, str(table), "--out", str(tmp_path / "p.parquet")]) == 0


def test_bins_missing_and_sensitive_features_are_repeated(tmp_path: Path) -> None:
    frame = applicants(800)
    frame.loc[::13, "race"] = None
    data, out = write(tmp_path, frame), str(tmp_path / "run")
    options = ["--sensitive", "race,age", "--bin", "age=40", "--missing", "group", "--over", "race"]
    label = ["--label", "approve", "--positive", "yes", *REDUCTIONS]
    assert main(["train", data, *label, *options, "--use-sensitive", "--out", out]) == 0
    model = load(Path(out) / "model")
    assert model["features"].levels_["age"] == ["40 and over", "under 40"]
    assert "(missing)" in model["features"].levels_["race"]
    assert main(["predict", out, data, "--out", str(tmp_path / "p.csv")]) == 0
    assert len(pd.read_csv(tmp_path / "p.csv")) == 800


def test_out_is_not_overwritten(
    trained: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", str(table), *BASE, "--out"]
    assert "exists" in fails(capsys, *command, str(trained))
    (tmp_path / "letters.txt").write_text("dear")
    said = fails(capsys, *command, str(tmp_path), "--force")
    assert "letters.txt" in said
    assert (tmp_path / "letters.txt").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_stopped_run_leaves_nothing(
    error: type[BaseException], table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> str:
        raise error

    monkeypatch.setattr(runs, "render_report", stop)
    command = ["train", str(table), *BASE, *REDUCTIONS, "--out", str(tmp_path / "run")]
    if error is KeyboardInterrupt:
        assert main(command) == 130
    else:
        with pytest.raises(RuntimeError):
            main(command)
    assert not list(tmp_path.iterdir())


def test_the_model_holds_no_row(tmp_path: Path) -> None:
    frame = applicants(600)
    frame["name"] = [f"canary-{i}" for i in range(600)]
    frame["income"] += 0.000123456
    data, out = write(tmp_path, frame), tmp_path / "run"
    assert main(["train", data, *BASE, "--out", str(out)]) == 0
    raw = b"".join(file.read_bytes() for file in sorted((out / "model").iterdir()))
    assert b"canary" not in raw
    values = frame["income"].to_numpy()
    assert sum(value.tobytes() in raw for value in values) <= 1  # a median may be a value
    for name in ("metrics.json", "config.toml", "report.html", "model_card.md"):
        assert "canary" not in (out / name).read_text()


def test_hostile_names_stay_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"white": "[/foo]<script>alert(1)</script>", "black": "=cmd\n\x1b[31m"}
    frame = applicants(500).replace({"race": names})
    frame = frame.rename(columns={"income": "[bold]=x", "approve": "<b>ok"})
    data, out = write(tmp_path, frame), tmp_path / "run"
    options = ["--label", "<b>ok", "--positive", "yes", "--sensitive", "race", *REDUCTIONS]
    options += ["--multiline", "--out", str(out)]
    assert main(["train", data, *options]) == 0
    shown = capsys.readouterr().out
    assert "[/foo]<script>" in shown
    assert "\x1b[31m" not in shown
    assert r"=cmd\n\x1b[31m" in shown
    page = (out / "report.html").read_text()
    assert "<script" not in page
    assert "<b>ok" not in page
    assert "&lt;script&gt;" in page
    assert main(["predict", str(out), data, "--multiline"]) == 0


@pytest.fixture(scope="module")
def by_method(table: Path) -> dict[str, Path]:
    found = {}
    for method, options in METHODS.items():
        pytest.importorskip(NEEDS.get(method, "torch"))
        out = table.parent / "methods" / method
        tokens = ["train", str(table), *BASE, "--method", method, *options, "--out", str(out)]
        assert main(tokens) == 0
        found[method] = out
    return found


@pytest.mark.parametrize("method", METHODS)
def test_every_method_writes_a_run_that_predicts(
    method: str, by_method: dict[str, Path], table: Path, tmp_path: Path
) -> None:
    out = by_method[method]
    assert main(["predict", str(out), str(table), "--out", str(tmp_path / "p.csv")]) == 0
    assert set(pd.read_csv(tmp_path / "p.csv")["decision"]) == {"yes", "no"}
    numbers = json.loads((out / "metrics.json").read_text())
    assert [m["model"] for m in numbers["models"]] == ["baseline", "fair model"]


@pytest.mark.parametrize("method", SPLITTING)
def test_every_method_splits_as_the_command_does(method: str, by_method: dict[str, Path]) -> None:
    model = load(by_method[method] / "model")["model"]
    numbers = json.loads((by_method[method] / "metrics.json").read_text())
    own, command = model.reports_["certification"], numbers["models"][1]
    # Judged by the estimator on its own certification rows, and by the command on its.
    assert own.n_rows == numbers["rows"]["certification"]
    assert own.results[0].achieved == pytest.approx(command["constraints"][0]["achieved"], abs=1e-9)
    assert own.accuracy == pytest.approx(list(command["accuracy"].values()), abs=1e-9)
    assert model.reports_["training"].n_rows == numbers["rows"]["training"]
    assert model.get_params()["random_state"] == 0


def test_all_methods_are_judged_on_the_same_rows(by_method: dict[str, Path]) -> None:
    configs = [tomllib.loads((out / "config.toml").read_text()) for out in by_method.values()]
    assert len({config["made_with"]["certified_on"] for config in configs}) == 1
    numbers = [json.loads((out / "metrics.json").read_text()) for out in by_method.values()]
    assert all(n["group_counts"] == numbers[0]["group_counts"] for n in numbers)


@pytest.mark.parametrize("method", METHODS)
def test_config_gives_every_run_again(
    method: str, by_method: dict[str, Path], tmp_path: Path
) -> None:
    config, again = str(by_method[method] / "config.toml"), tmp_path / "again"
    assert main(["train", "--config", config, "--out", str(again)]) == 0
    first = json.loads((by_method[method] / "metrics.json").read_text())
    assert json.loads((again / "metrics.json").read_text()) == first


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--eta", "1"), "--eta is read by regularized, not by --method auto"),
        ((*REDUCTIONS, "--eta", "1"), "--eta is read by regularized, not by --method reductions"),
        (("--method", "plug-in", "--no-group-inference"), "rules out; leave --method out"),
        (("--method", "boosting", "--epochs", "3"), "--epochs is read by lagrangian, regularized"),
        (
            ("--method", "lagrangian", "--estimator", "tree"),
            "is read by plug-in, reductions, boosting",
        ),
        (("--method", "boosting", "--estimator", "tree"), "xgboost or lightgbm"),
        (("--method", "regularized", "--eta", "-1"), "--eta must be a number >= 0"),
        (("--method", "adversarial", "--constraint", "error_rate_parity"), "takes --constraint"),
        (("--method", "regularized", "--sensitive", "sex", "--over", "sex"), "--sensitive sex"),
        (("--method", "lagrangian", "--epochs", "0"), "--epochs must be 1 or more"),
        (("--seed", "-1"), "--seed"),
        (("--validation", "0.6", "--certification", "0.6"), "leave no row"),
        (("--rationale", "@nowhere.txt"), "nowhere.txt"),
    ],
)
def test_options_that_do_not_belong(
    options: tuple[str, ...],
    expected: str,
    table: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = str(tmp_path / "run")
    assert expected in fails(capsys, "train", str(table), *BASE, *options, "--out", out)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("method", "package"), [("lagrangian", "torch"), ("boosting", "xgboost")])
def test_a_package_that_is_missing(
    method: str,
    package: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    said = fails(capsys, "train", "x.csv", *BASE, "--method", method, "--out", str(tmp_path / "r"))
    assert f"{package} is not installed: pip install" in said


def test_json_is_all_there_is_on_standard_output(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    capsys.readouterr()
    command = ["train", str(table), *BASE, *REDUCTIONS, "--rationale", "agreed in May"]
    command += ["--out", str(out)]
    assert main([*command, "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert numbers == json.loads((out / "metrics.json").read_text())
    assert numbers["rationale"] == "agreed in May"
    assert "agreed in May" in (out / "report.html").read_text()
    assert "agreed in May" in (out / "model_card.md").read_text()


@pytest.mark.parametrize(("bound", "code"), [("0.9", 0), ("0.01", 3)])
def test_require_met_has_an_exit_code(bound: str, code: int, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = [*REDUCTIONS, "--bound", bound, "--require-met", "--out", str(out)]
    command = ["train", str(table), *BASE, *options]
    assert main(command) == code
    verdict = json.loads((out / "metrics.json").read_text())["models"][1]["verdict"]
    assert (verdict == "met") == (code == 0)


def test_notes_tell_nothing_of_a_group_of_few_rows(tmp_path: Path) -> None:
    frame = applicants(600)
    frame.loc[:5, "race"] = "inuit"
    frame.loc[:5, "approve"] = "no"
    out, how = tmp_path / "run", ["--method", "plug-in", "--estimator", "logistic"]
    assert main(["train", write(tmp_path, frame), *BASE, *how, "--out", str(out)]) == 0
    broken, *others = json.loads((out / "metrics.json").read_text())["notes"]
    assert "rest on a group of fewer than 10 rows and are not shown" in broken
    assert not any("inuit" in note for note in [broken, *others])
