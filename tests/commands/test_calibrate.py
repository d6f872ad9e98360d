from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.commands.data import fails, write

from fairtrain.cli import main
from fairtrain.datasets import make_miscalibrated

ASKED = ("--score", "p", "--label", "y", "--sensitive", "race,sex")


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = make_miscalibrated(4000, levels={"race": 3, "sex": 2}, random_state=0)
    frame = pd.DataFrame(data.sensitive_features).assign(p=np.asarray(data.scores), y=data.y)
    path = tmp_path_factory.mktemp("scores") / "scored.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def run(scored: Path) -> Path:
    out = scored.parent / "run"
    assert main(["calibrate", str(scored), *ASKED, "--out", str(out)]) == 0
    return out


def test_a_run_is_audited_on_rows_that_the_map_never_saw(run: Path) -> None:
    numbers = json.loads((run / "metrics.json").read_text())
    assert numbers["rows"] == {"training": 2800, "certification": 1200}
    assert numbers["before"]["rows"] == numbers["after"]["rows"] == 1200
    errors = [
        sum(g["ece"] * g["rows"] for g in numbers[part]["groups"] if g["ece"] is not None)
        for part in ("before", "after")
    ]
    assert errors[1] < 0.5 * errors[0]
    assert not numbers["notes"]  # no warning that rows of the fit are audited
    table = pd.read_csv(run / "calibration.csv")
    assert table["calibration"].value_counts().to_dict() == {"before": 11, "after": 11}
    assert (run / "reliability.png").read_bytes().startswith(b"\x89PNG")


def test_predict_takes_the_run(run: Path, scored: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(scored).drop(columns="y")
    data = write(tmp_path, frame)
    for rows in ("100000", "700"):
        out = tmp_path / f"{rows}.csv"
        tokens = ["predict", str(run), data, "--keep", "p", "--chunk-rows", rows]
        assert main([*tokens, "--out", str(out)]) == 0
    whole, parts = (pd.read_csv(tmp_path / f"{rows}.csv") for rows in ("100000", "700"))
    assert list(whole) == ["p", "calibrated"]
    pd.testing.assert_frame_equal(whole, parts)
    assert (whole["p"] == frame["p"]).all()
    assert whole["calibrated"].between(0, 1).all()
    assert (whole["calibrated"] - whole["p"]).abs().mean() > 0.01


@pytest.mark.parametrize("method", ["auto", "isotonic", "beta"])
def test_methods_and_config(
    method: str, scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, again = tmp_path / "run", tmp_path / "again"
    few = write(tmp_path, pd.read_csv(scored).head(1000))
    tokens = ["calibrate", few, *ASKED, "--method", method, "--json"]
    assert main([*tokens, "--out", str(out)]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((out / "metrics.json").read_text())
    config = str(out / "config.toml")
    assert main(["calibrate", "--config", config, "--out", str(again)]) == 0
    assert (out / "metrics.json").read_text() == (again / "metrics.json").read_text()
    assert main(["predict", str(again), few, "--out", str(tmp_path / "p.csv")]) == 0


def test_small_groups_are_hidden(
    scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.read_csv(scored).head(1000)
    frame["race"] = frame["race"].astype(str)
    frame.loc[:11, "race"] = "=few"
    out = tmp_path / "run"
    assert main(["calibrate", write(tmp_path, frame), *ASKED, "--out", str(out)]) == 0
    shown = [line for line in capsys.readouterr().out.splitlines() if "race==few" in line]
    assert all("under 10" in line for line in shown)
    rows = [r for r in (out / "calibration.csv").read_text().splitlines() if "race==few" in r]
    assert rows
    assert all(not row.partition("under 10")[2].strip(",") for row in rows)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--score", "q"), "'q' not found"),
        (("--score", "race"), "must hold a number"),
        (("--certification", "1"), "--certification"),
        (("--method", "magic"), "hierarchical"),
    ],
)
def test_bad_options(
    options: tuple[str, ...],
    expected: str,
    scored: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    frame = pd.read_csv(scored)
    frame["race"] = "r" + frame["race"].astype(str)
    data = write(tmp_path, frame)
    out = str(tmp_path / "run")
    asked = [t for pair in zip(ASKED[::2], ASKED[1::2], strict=True) for t in pair
             if pair[0] != options[0]]  # fmt: skip
    assert expected in fails(capsys, "calibrate", data, *asked, *options, "--out", out)
    assert not Path(out).exists()
