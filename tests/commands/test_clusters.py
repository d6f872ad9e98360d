"""``--cluster``: rows that belong together, in every command that splits and judges."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.commands.data import BASE, applicants, fails, write

from fairtrain._commands.data import _repeating
from fairtrain.cli import main


@pytest.fixture(scope="module")
def branches(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Applicants of 120 branches that decide alike."""
    frame = applicants(1200)
    rng = np.random.default_rng(1)
    strict = np.repeat(rng.normal(0, 2, 120), 10)
    frame["approve"] = np.where(frame["income"] + strict > 3, "yes", "no")
    frame["branch_id"] = np.repeat([f"B{i:03d}" for i in range(120)], 10)
    frame["score"] = (frame["approve"] == "yes").astype(float)
    return write(tmp_path_factory.mktemp("clusters"), frame)


def numbers(capsys: pytest.CaptureFixture[str], *tokens: str) -> dict[str, object]:
    capsys.readouterr()
    assert main([*tokens, "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_an_audit_allows_for_clusters_and_asks_about_a_column_that_looks_like_one(
    branches: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["audit", branches, *BASE, "--score", "score", "--plan"]
    alone = numbers(capsys, *command)
    assert main(command) == 0
    said = capsys.readouterr().err
    assert "'branch_id' has 120 values in 1,200 rows" in said
    assert "say --cluster branch_id" in said
    found = numbers(capsys, *command, "--cluster", "branch_id")
    one, other = (n["decisions"]["constraints"][0] for n in (alone, found))  # type: ignore[index]
    assert other["upper"] - other["lower"] > one["upper"] - one["lower"]
    assert other["clusters"] == {"black": 118, "white": 120} or other["clusters"]["white"] == 120
    few, many = (n["plans"][0]["rows_needed"][0]["rows"] for n in (alone, found))  # type: ignore[index]
    assert many > 1.5 * few
    assert "Rows come in clusters of 10" in found["plans"][0]["words"]  # type: ignore[index]
    assert main([*command, "--cluster", "branch_id"]) == 0
    assert "note" not in capsys.readouterr().err


def test_training_keeps_clusters_whole_and_takes_them_for_no_feature(
    branches: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    options = ["--method", "plug-in", "--estimator", "logistic", "--cluster", "branch_id"]
    assert main(["train", branches, *BASE, *options, "--drop", "score", "--out", str(out)]) == 0
    made = json.loads((out / "metrics.json").read_text())
    result = made["models"][-1]["constraints"][0]
    certified = made["rows"]["certification"]
    assert sum(result["clusters"].values()) >= certified / 10
    assert certified % 10 == 0
    assert "branch_id" not in json.dumps(made["models"])
    assert 'cluster = "branch_id"' in (out / "config.toml").read_text()


def test_a_cluster_column_is_checked(
    branches: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "'shop'" in fails(capsys, "audit", branches, *BASE, "--cluster", "shop")
    said = fails(capsys, "audit", branches, *BASE, "--cluster", "race")
    assert "is the label or a sensitive column" in said
    frame = pd.read_csv(branches)
    frame.loc[3, "branch_id"] = None
    path = write(tmp_path, frame)
    assert "has gaps" in fails(capsys, "audit", path, *BASE, "--cluster", "branch_id")


def test_rows_without_an_identifier_are_no_cluster() -> None:
    named = [f"c{i}" for i in range(300)]
    frame = pd.DataFrame({"case_number": [*named, *[None] * 300], "client_id": named * 2})
    assert _repeating(frame[["case_number"]], set()) == []
    assert _repeating(frame, set()) == ["client_id"]
