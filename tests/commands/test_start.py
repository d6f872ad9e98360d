from __future__ import annotations

import resource
import subprocess
import sys

import pytest
from tests.commands.data import BASE, fails

from fairtrain.cli import main

HEAVY = ("torch", "fairlearn", "xgboost", "sklearn", "matplotlib", "pandas", "numpy")


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
        if min(spent) < 0.5:
            break
    assert done.stdout.rstrip().endswith("[]")
    assert "audit" in done.stdout
    assert min(spent) < 0.5  # about 0.25 s on an idle core; busy ones take longer


def test_usage_errors_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("audit", "train", "sweep"):
        assert "--label and --sensitive must be given" in fails(capsys, command, "x.csv")
    assert "--out must be given" in fails(capsys, "train", "x.csv", *BASE)
    assert "--sensitive" in fails(capsys, "train", "x.csv", "--label", "approve")
    assert "logistic" in fails(capsys, "train", "x.csv", *BASE, "--estimator", "oracle")
    fails(capsys, "nonsense")


COMMANDS = ("audit", "train", "sweep", "calibrate", "predict", "report", "compare", "demo")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_its_options(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"fairtrain {command}" in shown
    assert "()" not in shown


def test_exit_codes_are_documented(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "0 done; 2 bad input" in shown
    assert "130 after Ctrl-C" in shown
    assert all(f" {command} " in shown for command in COMMANDS)


def test_a_closed_pipe_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("fairtrain._commands.predict.predict", closed)
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    assert main(["predict", "model", "data.csv"]) == 0
