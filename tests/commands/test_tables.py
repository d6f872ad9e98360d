from __future__ import annotations

from pathlib import Path

from fairtrain._commands.tables import read_table


def test_tables_keep_types(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\ufeffa, b,c\n1, x,?\n2, ?,\n", encoding="utf-8")
    frame = read_table(path)
    assert frame.iloc[:, 1].tolist() == ["x", None]
    assert frame["a"].tolist() == [1, 2]
    assert frame["c"].isna().all()
