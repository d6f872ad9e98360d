from __future__ import annotations

from pathlib import Path

from fairtrain._commands.options import read_options, to_toml


def test_toml_round_trip(tmp_path: Path) -> None:
    values = {"a b": 'quote " \\ \n \x7f é 😀', "n": 3, "f": 0.05, "t": True, "l": ["x", "=y"]}
    path = tmp_path / "t.toml"
    path.write_text(to_toml({"train": values}), encoding="utf-8")
    assert read_options(path, "train") == values
