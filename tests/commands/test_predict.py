"""Streamed decisions: the same whatever the chunk, whole or not at all, in bounded memory."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from fairtrain._commands import predict as predict_module
from fairtrain._commands.predict import decide, load_model, predict
from fairtrain._commands.sinks import CsvSink
from fairtrain._commands.tables import read_table
from fairtrain.cli import main
from fairtrain.exceptions import InvalidDataError, InvalidParameterError


def people(n: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    income = rng.normal(3, 1, n).round(3)
    return pd.DataFrame(
        {
            "id": np.arange(n),
            "income": np.where(rng.uniform(size=n) < 0.05, np.nan, income),
            "job": rng.choice(["clerk", "nurse", "$driver$", "?", "01"], n),
            "age": rng.integers(18, 80, n),
            "rooms": rng.integers(1, 4, n),
            "sex": rng.choice(["f", "m"], n),
            "approve": np.where(income + rng.normal(0, 1, n) > 3, "yes", "no"),
        }
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    people(1500).to_csv(folder / "t.csv", index=False)
    options = ["--label", "approve", "--positive", "yes", "--sensitive", "sex,rooms"]
    more = ["--use-sensitive", "--drop", "id", "--categorical", "job", "--method", "reductions"]
    more += ["--out", str(folder / "run")]
    assert main(["train", str(folder / "t.csv"), *options, *more]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "people.csv"
    frame = people(300, seed=1).drop(columns="approve")
    frame["rooms"] = frame["rooms"].astype(float)
    frame["note"] = ["=1+1", "a,b"] * 150
    frame["code"] = pd.array([2**53 + 1, None, *range(298)], dtype="Int64")
    frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_chunks_change_nothing(model: Path, table: Path, tmp_path: Path, suffix: str) -> None:
    data, frame = tmp_path / f"people{suffix}", pd.read_csv(table, dtype={"code": "Int64"})[:100]
    if suffix == ".parquet":
        frame.to_parquet(data, row_group_size=27)
    else:
        frame.to_csv(data, index=False)
    expected = decide(load_model(model), read_table(data))
    read = pd.read_csv if suffix == ".csv" else pd.read_parquet
    written = set()
    for rows in (1, 7, 10**6):
        out = tmp_path / f"{rows}{suffix}"
        predict(model, data, out=out, keep=("note", "id", "code"), chunk_rows=rows)
        found = read(out)
        assert list(found) == ["note", "id", "code", "decision", "probability"]
        assert found["decision"].tolist() == expected["decision"].tolist()
        np.testing.assert_allclose(found["probability"], expected["probability"], atol=1e-12)
        assert found["id"].tolist() == list(range(100))
        guard = "'" if suffix == ".csv" else ""
        assert found["note"].tolist() == [f"{guard}=1+1", "a,b"] * 50
        if suffix == ".csv":
            rest = pd.read_csv(out, dtype=str)["code"]
            assert rest[:2].tolist() == ["9007199254740993", rest[1]]
            assert rest.isna().tolist() == [False, True, *[False] * 98]
        written.add(tuple(found.dtypes.astype(str)))
    assert len(written) == 1


def test_standard_output_is_one_table(
    model: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(model), str(table), "--chunk-rows", "90", "--keep", "id"]) == 0
    found = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert found["id"].tolist() == list(range(300))
    assert set(found["decision"]) <= {"yes", "no"}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, InvalidDataError("bad row")])
def test_a_stopped_run_leaves_nothing(
    model: Path,
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    error: BaseException | type[BaseException],
) -> None:
    calls = []

    def stop_later(*_: object) -> pd.DataFrame:
        calls.append(1)
        if len(calls) > 2:
            raise error
        return decide(*_)  # type: ignore[arg-type]

    monkeypatch.setattr(predict_module, "decide", stop_later)
    out = tmp_path / f"o{suffix}"
    code = main(["predict", str(model), str(table), "--out", str(out), "--chunk-rows", "90"])
    assert code == (130 if error is KeyboardInterrupt else 2)
    assert len(calls) == 3
    assert not list(tmp_path.iterdir())


def test_errors_say_which_rows(model: Path, table: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    frame = pd.read_csv(table)
    frame["income"] = frame["income"].astype(object)
    frame.loc[250, "income"] = "lots"
    frame.to_csv(path, index=False)
    with pytest.raises(InvalidDataError, match=r"rows 201 to 300: column 'income'.*'lots'"):
        predict(model, path, out=tmp_path / "o.csv", chunk_rows=100)
    with pytest.raises(InvalidDataError, match=r"^column 'income'.*'lots'"):
        predict(model, path, out=tmp_path / "o.csv")
    with pytest.raises(InvalidDataError, match="column 'none' not found"):
        predict(model, table, out=None, keep=("none",))
    frame.drop(columns="income").to_csv(path, index=False)
    with pytest.raises(InvalidDataError, match="lacks 'income'"):
        predict(model, path, out=tmp_path / "o.csv", chunk_rows=9)
    assert not (tmp_path / "o.csv").exists()


def test_a_column_named_like_the_decision_is_not_kept(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    people(20).assign(decision="x").to_csv(path, index=False)
    with pytest.raises(InvalidParameterError, match="--keep 'decision'"):
        predict(model, path, out=None, keep=("decision",))


@pytest.mark.parametrize("rows", [10, 300])
def test_a_continuous_sensitive_column_is_found_in_any_chunk(
    model: Path, table: Path, tmp_path: Path, rows: int
) -> None:
    path = tmp_path / "t.csv"
    pd.read_csv(table).assign(rooms=np.arange(300) / 10).to_csv(path, index=False)
    with pytest.raises(InvalidDataError, match="'rooms' is continuous"):
        predict(model, path, out=tmp_path / "o.csv", chunk_rows=rows)


def test_csv_guards_names_and_values() -> None:
    stream = io.StringIO()
    sink = CsvSink(stream, ["=x", "n", "d"])
    rows = pa.table({"=x": ["@a", None], "n": [1, None], "d": [True, None]})
    sink.write(rows, pd.DataFrame({"decision": ["-1", "b"]}))
    sink.write(rows.slice(1), pd.DataFrame({"decision": [0]}))
    assert stream.getvalue() == "'=x,n,d,decision\n'@a,1,True,'-1\n,,,b\n,,,0\n"


_MEASURE = """
import re, sys
from pathlib import Path
from fairtrain._commands import csv_types
from fairtrain._commands.predict import predict
csv_types._BLOCK = 1 << 16  # what is read ahead is a number of blocks
model, *files = map(Path, sys.argv[1:])
for data, out in zip(files[::2], files[1::2]):
    predict(model, data, out=out, keep=("id",), chunk_rows=4000)
    # Not ru_maxrss, which starts from the peak of the process that starts this one.
    print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_memory_does_not_grow_with_the_file(model: Path, tmp_path: Path, suffix: str) -> None:
    files, rows = [], []
    for copies in (4, 30):  # the peak only rises, so the longer file comes last
        frame = pd.concat([people(5000)] * copies, ignore_index=True)
        frame["words"] = [f"word {i} of a column that nobody asked for" for i in range(len(frame))]
        data, out = tmp_path / f"{copies}{suffix}", tmp_path / f"out{copies}{suffix}"
        files += [data, out]
        rows.append(len(frame))
        if suffix == ".csv":
            frame.to_csv(data, index=False)
        else:
            frame.to_parquet(data)
    found = subprocess.run(
        [sys.executable, "-c", _MEASURE, model, *files], capture_output=True, text=True, check=True
    )
    peaks = [int(line) for line in found.stdout.splitlines()]
    read = pd.read_csv if suffix == ".csv" else pd.read_parquet
    assert [len(read(out)) for out in files[1::2]] == rows
    assert peaks[1] < peaks[0] + 25, peaks  # MiB
