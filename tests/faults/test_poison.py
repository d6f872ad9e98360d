"""Every file that fairtrain reads, poisoned: whatever it says, no code of it runs."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import fairtrain
from fairtrain.cli import main
from fairtrain.exceptions import FairtrainError

pytestmark = pytest.mark.filterwarnings("ignore::fairtrain.exceptions.FairtrainWarning")

N = 240
RNG = np.random.default_rng(0)
WHO = RNG.choice(["a", "b"], N)
X = RNG.normal(size=(N, 2)) + 0.5 * (WHO == "a")[:, None]
Y = (X.sum(axis=1) + RNG.normal(size=N) > 0.5).astype(int)


class Evil:
    """Unpickled, it leaves a file behind."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def payloads(marker: Path, folder: Path) -> dict[str, bytes]:
    """The same harm in the formats of pickle, joblib, torch and NumPy."""
    evil = Evil(marker)
    joblib.dump(evil, folder / "joblib")
    torch.save(evil, folder / "torch")
    np.save(folder / "numpy.npy", np.array([evil], dtype=object), allow_pickle=True)
    files = {name: (folder / name).read_bytes() for name in ("joblib", "torch", "numpy.npy")}
    return {"pickle": pickle.dumps(evil), **files}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder, its table, a monitor and a checkpoint."""
    folder = tmp_path_factory.mktemp("poison")
    frame = pd.DataFrame(X, columns=["u", "v"]).assign(who=WHO, y=Y)
    frame.to_csv(folder / "table.csv", index=False)
    columns = ["--label", "y", "--positive", "1", "--sensitive", "who"]
    assert main(["train", str(folder / "table.csv"), *columns, "--method", "reductions",
                 "--out", str(folder / "run")]) == 0  # fmt: skip
    monitor = fairtrain.FairnessMonitor()
    monitor.update(Y, WHO)
    fairtrain.save(monitor, folder / "monitor")
    return folder


COLUMNS = ["--label", "y", "--positive", "1", "--sensitive", "who"]


def poison(folder: Path, content: bytes) -> None:
    """Put the payload in place of every file of a model folder, with hashes that fit."""
    listed = json.loads((folder / "manifest.json").read_text())
    for name in listed["files"]:
        (folder / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        listed["files"][name] = {"bytes": len(content), "sha256": digest}
    (folder / "manifest.json").write_text(json.dumps(listed))


def model_folder(place: Path, content: bytes) -> None:
    poison(place / "run" / "model", content)
    fairtrain.load(place / "run" / "model")


def one_part(place: Path, content: bytes) -> None:
    folder = place / "run" / "model"
    listed = json.loads((folder / "manifest.json").read_text())
    for name in listed["files"]:
        if name.endswith(".skops"):
            (folder / name).write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            listed["files"][name] = {"bytes": len(content), "sha256": digest}
    (folder / "manifest.json").write_text(json.dumps(listed))
    fairtrain.load(folder)


def manifest(place: Path, content: bytes) -> None:
    (place / "run" / "model" / "manifest.json").write_bytes(content)
    fairtrain.load(place / "run" / "model")


def monitor(place: Path, content: bytes) -> None:
    poison(place / "monitor", content)
    fairtrain.load(place / "monitor")


def checkpoint(place: Path, content: bytes) -> None:
    (place / "checkpoint.pt").write_bytes(content)
    trainer = fairtrain.RegularizedFairnessTrainer(max_epochs=1, random_state=0)
    trainer.fit(X, Y, sensitive_features=WHO, resume_from=place / "checkpoint.pt")


def swept(cache: Path) -> Any:
    return fairtrain.pareto_frontier(
        LogisticRegression(), X, Y, sensitive_features=WHO, param="C", values=[0.1, 1.0],
        cache=cache, random_state=0,
    )  # fmt: skip


def cache(place: Path, content: bytes) -> None:
    """With the digest that fits, as whoever can write the file can make it fit."""
    swept(place / "cache")
    for file in (place / "cache").iterdir():
        file.write_bytes(hashlib.sha256(content).digest() + content)
    assert len(swept(place / "cache").models) == 2
    raise FairtrainError("trained again")


def command(*tokens: str, where: tuple[str, ...] = ()) -> Callable[[Path, bytes], None]:
    def call(place: Path, content: bytes) -> None:
        for name in where:
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_bytes(content)
        given = [word.replace("PLACE", str(place)) for word in tokens]
        assert main(given) == 2
        raise FairtrainError("said in one line")

    return call


ENTRIES: dict[str, Callable[[Path, bytes], None]] = {
    "load": model_folder,
    "load, one part": one_part,
    "load, manifest": manifest,
    "load, monitor": monitor,
    "resume_from": checkpoint,
    "cache": cache,
    "predict, old model": command(
        "predict", "PLACE/old", "PLACE/table.csv", where=("old/model.joblib",)
    ),
    "predict, table": command("predict", "PLACE/run", "PLACE/t.csv", where=("t.csv",)),
    "audit, CSV": command("audit", "PLACE/t.csv", *COLUMNS, "--prediction", "y", where=("t.csv",)),
    "audit, Parquet": command(
        "audit", "PLACE/t.parquet", *COLUMNS, "--prediction", "y", where=("t.parquet",)
    ),
    "report": command("report", "PLACE/run", where=("run/metrics.json",)),
    "compare": command("compare", "PLACE/run", "PLACE/run", where=("run/metrics.json",)),
    "train, config": command(
        "train", "PLACE/table.csv", "--config", "PLACE/o.toml", where=("o.toml",)
    ),
    "train, rationale": command(
        "train", "PLACE/table.csv", *COLUMNS, "--rationale", "@PLACE/why", "--out", "PLACE/x",
        where=("why",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("entry", ENTRIES)
def test_no_file_that_is_read_runs_code(entry: str, run: Path, tmp_path: Path) -> None:
    marker = tmp_path / "it ran"
    made = tmp_path / "payloads"
    made.mkdir()
    for name, content in payloads(marker, made).items():
        place = tmp_path / name
        shutil.copytree(run, place)
        with pytest.raises(FairtrainError) as caught:
            ENTRIES[entry](place, content)
        assert "\n" not in str(caught.value)
        assert not marker.exists(), f"{entry} ran {name}"
    pickle.loads(pickle.dumps(Evil(marker)))
    assert marker.exists()  # the payload works where it is unpickled
