from __future__ import annotations

from pathlib import Path

import pytest
from tests.commands.data import BASE, applicants, fails, write

from fairtrain._commands.options import read_options, to_toml


def test_toml_round_trip(tmp_path: Path) -> None:
    values = {"a b": 'quote " \\ \n \x7f é 😀', "n": 3, "f": 0.05, "t": True, "l": ["x", "=y"]}
    path = tmp_path / "t.toml"
    path.write_text(to_toml({"train": values}), encoding="utf-8")
    assert read_options(path, "train") == values


@pytest.mark.parametrize(
    "content",
    [
        '[train.people]\nlabel = "approve"\n',
        "[train]\nsensitive = [['race']]\n",
        "[train]\nlabel = 2024-01-05\n",
        "[[train]]\nbound = 0.1\n",
    ],
)
def test_nested_options_are_one_line(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "options.toml"
    file.write_text(content)
    assert "must be a word, a number" in fails(capsys, "train", "x.csv", "--config", str(file))


def test_what_is_mistyped_is_answered_in_the_words_of_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, out = write(tmp_path, applicants(200)), str(tmp_path / "run")
    start = ("train", table, *BASE, "--out", out)
    said = fails(capsys, *start, "--objective", "acuracy")
    assert "--objective must be accuracy, " in said
    assert "function" not in said
    assert "--given column 'rase' not found; did you mean 'race'" in fails(
        capsys, *start, "--given", "rase"
    )
    uses = tmp_path / "columns.toml"
    uses.write_text('[columns]\nincome = "number"\n')
    assert "leave the heading [columns] out" in fails(capsys, *start, "--columns", str(uses))
