from __future__ import annotations

from pathlib import Path

import pytest
from tests.commands.data import BASE, applicants

from fairtrain.cli import main


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "applicants.csv"
    applicants().to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def trained(table: Path) -> Path:
    out = table.parent / "runs" / "x"
    options = ["--method", "reductions", "--positive-name", "approved"]
    assert main(["train", str(table), *BASE, *options, "--out", str(out)]) == 0
    return out
