"""Tables as people have them: separators, encodings, sheets, parts; no row is lost in silence."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import pytest

from fairtrain._commands.chunks import read_chunks
from fairtrain._commands.formats import TextForm, text_form
from fairtrain._commands.tables import file_hash, read_table, require_columns
from fairtrain.exceptions import InvalidDataError

PEOPLE = pd.DataFrame(
    {
        "age": [31, 45, 27, 62] * 5,
        "income": [1.5, 2.25, -0.75, 12.0] * 5,
        "town": ["Köln", "Łódź", "Brno; north", None] * 5,
    }
)


def test_tables_keep_types(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\ufeffa, b,c\n1, x,?\n2, ?,\n", encoding="utf-8")
    frame = read_table(path)
    assert frame.iloc[:, 1].tolist() == ["x", None]
    assert frame["a"].tolist() == [1, 2]
    assert frame["c"].isna().all()


def write(kind: str, folder: Path) -> Path:
    """Write the people in one of the ways in which such files come."""
    path = folder / f"people.{kind}"
    if kind == "parts":
        (path / "year=2024").mkdir(parents=True)
        (path / "year=2025").mkdir()
        PEOPLE[:8].to_parquet(path / "year=2024" / "a.parquet")
        PEOPLE[8:].to_parquet(path / "year=2025" / "b.parquet")
    elif kind == "xlsx":
        PEOPLE.to_excel(path, index=False)
    elif kind == "feather":
        PEOPLE.to_feather(path)
    elif kind == "parquet":
        PEOPLE.to_parquet(path)
    else:
        text = {
            "csv": PEOPLE.to_csv(index=False),
            "csv.gz": PEOPLE.to_csv(index=False),
            "semicolons.csv": PEOPLE.to_csv(index=False, sep=";", decimal=","),
            "tsv": PEOPLE.to_csv(index=False, sep="\t"),
            "utf16.csv": PEOPLE.to_csv(index=False, sep=";"),
        }[kind]
        content = text.encode("utf-16" if kind == "utf16.csv" else "utf-8")
        path.write_bytes(gzip.compress(content) if kind == "csv.gz" else content)
    return path


KINDS = [
    "csv",
    "csv.gz",
    "semicolons.csv",
    "tsv",
    "utf16.csv",
    "xlsx",
    "feather",
    "parquet",
    "parts",
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_same_table(kind: str, tmp_path: Path) -> None:
    if kind == "xlsx":
        pytest.importorskip("openpyxl")
    path = write(kind, tmp_path)
    whole = read_table(path)
    pd.testing.assert_frame_equal(whole[PEOPLE.columns], read_table(write("csv", tmp_path)))
    names = list(whole.columns)
    assert ("year" in names) == (kind == "parts")
    table = read_chunks(path, rows=7, columns=names)
    assert table.n_rows == 20
    parts = pd.concat([chunk.frame for chunk in table], ignore_index=True)
    pd.testing.assert_frame_equal(parts, whole)
    assert len(file_hash(path)) == 64


@pytest.mark.parametrize(
    ("text", "expected", "words"),
    [
        ("a,b\n1,2\n", TextForm(), ""),
        ("a\n1\n", TextForm(), ""),
        ("a;b\n1,5;x\n", TextForm(";", ","), "separated by semicolons, decimal commas"),
        ("a;b\n1,5;2.5\n", TextForm(";"), "separated by semicolons"),
        ("a;b\nred, blue;x\n", TextForm(";"), "separated by semicolons"),
        ('a,b\n"x;y;z",1\n', TextForm(), ""),
        ("a\tb\n1\t2\n", TextForm("\t"), "separated by tabs"),
        ("a|b\n1|2\n", TextForm("|"), "separated by bars"),
        ("a,b\n1,2\n3\n", TextForm(), ""),  # ragged: the reader says so
    ],
)
def test_how_text_is_written(tmp_path: Path, text: str, expected: TextForm, words: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    assert text_form(path) == expected
    assert str(text_form(path)) == words


@pytest.mark.parametrize("read", [read_table, lambda p: read_chunks(p, rows=9, columns=["a"])])
def test_a_quote_that_nobody_closed_is_named(tmp_path: Path, read) -> None:
    path = tmp_path / "t.csv"
    lines = [f"{i},{chr(34) + 'x' if i in (200, 800) else 'x'}" for i in range(1, 801)]
    path.write_text("a,b\n" + "\n".join(lines) + '"\n')
    with pytest.raises(InvalidDataError, match=r"line 201 opens a quote.*800 lines make only 200"):
        read(path)
    path.write_text('a,b\n1,"x\ny"\n2,z\n')
    with pytest.raises(InvalidDataError, match="--multiline"):
        read(path)
    assert read_table(path, multiline=True)["b"].tolist() == ["x\ny", "z"]
    path.write_bytes(b"a,b\n1,x\n2,y\0\n")
    with pytest.raises(InvalidDataError, match="line 3 holds a NUL character"):
        read(path)


def test_blank_lines_and_quotes_inside_a_line_are_no_loss(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('a,b\n\n1,"say ""no"""\n\n2,z\n\n')
    assert read_table(path)["b"].tolist() == ['say "no"', "z"]


def test_parts_must_belong_together(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    with pytest.raises(InvalidDataError, match="is a folder, not a CSV or Parquet file"):
        read_table(folder)
    PEOPLE.to_parquet(folder / "a.parquet")
    PEOPLE.drop(columns="age").to_parquet(folder / "b.parquet")
    with pytest.raises(InvalidDataError, match=r"do not have the same columns: 'age'"):
        read_table(folder)


def test_a_workbook_of_several_sheets_is_not_guessed_at(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    path = tmp_path / "book.xlsx"
    with pd.ExcelWriter(path) as book:
        PEOPLE.to_excel(book, sheet_name="all", index=False)
        PEOPLE.to_excel(book, sheet_name="again", index=False)
    with pytest.raises(InvalidDataError, match="2 sheets with rows, expected 1: 'all', 'again'"):
        read_table(path)


def test_a_near_miss_of_a_name_is_guessed() -> None:
    columns = ["Outcome", "race", "income"]
    with pytest.raises(InvalidDataError, match="did you mean 'Outcome'"):
        require_columns(columns, ["outcome"], what="--label")
    with pytest.raises(InvalidDataError, match="did you mean 'income'"):
        require_columns(columns, ["incom"], what="column")
    with pytest.raises(InvalidDataError, match="not found; the columns are"):
        require_columns(columns, ["zip"], what="column")
