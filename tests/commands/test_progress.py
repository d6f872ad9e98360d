"""Progress: words that add up, lines where there is no terminal, a bar where there is one."""

from __future__ import annotations

import pytest
from rich.console import Console

from fairtrain._commands import progress as progress_module
from fairtrain._commands.progress import progress, status_line


def test_words() -> None:
    assert status_line(0, 10, 0, "rows") == "0 of 10 rows (0 %)"
    assert status_line(5, 10, 20, "epochs") == "5 of 10 epochs (50 %), 0.25 epochs/s, 20 s left"
    assert status_line(10, 1000, 1, "rows").endswith("1 min 39 s left")
    assert status_line(1, 7201, 1, "rows").endswith("2 h 00 min left")
    assert status_line(0, 0, 1, "rows") == "0 of 0 rows (100 %)"


def test_plain_lines_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 1.0, 6.0, 7.0, 20.0])
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: next(clock))
    with progress("pre\ndict", 100) as advance:
        for _ in range(4):
            advance(25)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "fairtrain: pre\\ndict: 50 of 100 rows (50 %), 8.3 rows/s, 6 s left\n"


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("x", 3, quiet=True) as advance:
        advance(3)
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def terminal(**settings: object) -> Console:
        return Console(force_terminal=True, width=100, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(progress_module, "Console", terminal)
    with progress("[red]x[/y]", 40, unit="epochs") as advance:
        advance(10)
    said = capsys.readouterr().err
    assert "[red]x[/y]" in said
    assert "of 40 epochs" in said
