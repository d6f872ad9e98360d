"""Processes killed at random moments and begun again: what was lost, what differs, what is left.

Each task is run once undisturbed, in a process of its own. Then it is begun so many times in an
empty folder, killed with ``SIGKILL`` at a moment drawn uniformly from that duration, looked at, and
begun again until it ends. What it leaves must be what the undisturbed run left, byte for byte
(clock times aside), with no file more; and of the finished epochs or points at most one may be done
twice. ``benchmarks/results/kills.csv`` has a line a task, written after every ten kills, and a
second start goes on from there.

    PYTHONPATH=. python benchmarks/kills.py --kills 200 [--tasks save,train] [--out FILE]

A process that has imported everything forks those that are killed, so that a kill costs tenths of a
second. It computes nothing itself: threads that it had started would be missing in its children.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin starve others

import argparse
import hashlib
import importlib
import json
import mmap
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pandas as pd
import torch
from benchmarks.protocol import RESULTS
from sklearn.linear_model import LogisticRegression

import fairtrain
from fairtrain.cli import main as command
from fairtrain.tradeoff.cache import PointCache
from fairtrain.training import Callback, Checkpoint
from fairtrain.training.loop.callbacks import read_checkpoint

Tell = Callable[[], None]
"""Counts a unit of work, in memory that outlives the process."""
N, EPOCHS = 1200, 5
LOST = 1
"""Units that a kill may cost: the one under way."""


# What is killed -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """Something that is begun in a folder, and begun again after it was killed there.

    Attributes
    ----------
    run : callable
        Takes the folder and :data:`Tell`.
    whole : callable
        Looks at what a killed run left, and raises where half of something can be seen.
    prepare : callable
        Fills the folder before the first start.
    """

    run: Callable[[Path, Tell], None]
    whole: Callable[[Path], object] = lambda folder: None
    prepare: Callable[[Path], object] = lambda folder: None


def rows() -> tuple[Any, Any, Any]:
    """Features that tell the group, labels, and the groups."""
    rng = np.random.default_rng(0)
    who = np.array(["a", "b"])[rng.integers(0, 2, N)]
    X = rng.normal(size=(N, 6)).astype(np.float32)
    X[:, 0] += who == "a"
    return X, (X[:, 0] + X[:, 1] + rng.normal(size=N) > 0.8).astype(int), who


class Told(Callback):
    """Counts the epochs that have ended."""

    def __init__(self, tell: Tell) -> None:
        self.tell = tell

    def on_epoch_end(self, trainer: Any, record: Mapping[str, Any]) -> None:
        """Count."""
        self.tell()


def training(make: Callable[..., Any], threads: int, folder: Path, tell: Tell) -> None:
    """Train, from the checkpoint if there is one, and write down what was learned."""
    torch.set_num_threads(threads)
    kept = folder / "last.pt"
    trainer = make(
        max_epochs=EPOCHS, batch_size=512, random_state=0, callbacks=[Told(tell), Checkpoint(kept)]
    )
    X, y, who = rows()
    trainer.fit(X, y, sensitive_features=who, resume_from=kept if kept.exists() else None)
    digest = hashlib.sha256()
    for each in trainer.module_.state_dict().values():
        digest.update(each.numpy().tobytes())
    history = trainer.history_.drop(columns="seconds").to_csv(index=False)
    (folder / "learned").write_text(f"{digest.hexdigest()}\n{trainer.explain()}\n{history}")


def checkpoint_is_whole(folder: Path) -> None:
    """Read it."""
    if (folder / "last.pt").exists():
        state = read_checkpoint(folder / "last.pt")
        assert state["epoch"] == len(state["history"])


def fitted(seed: int) -> Any:
    """A model to be saved."""
    X, y, who = rows()
    model = fairtrain.LagrangianFairnessTrainer(max_epochs=1, random_state=seed)
    return model.fit(X, y, sensitive_features=who)


def saving(folder: Path, tell: Tell) -> None:
    """Save the other model over what is there."""
    model = fairtrain.load(folder / "given" / "new")
    fairtrain.save(model, folder / "model", overwrite=True)


def two_models(old: bool, folder: Path) -> None:
    """Lay two models ready, one of them in the place that the other shall take."""
    for name, seed in (("new", 1), ("old", 2)):
        fairtrain.save(fitted(seed), folder / "given" / name)
    if old:
        shutil.copytree(folder / "given" / "old", folder / "model")


def model_is_whole(folder: Path) -> None:
    """The old one, the new one, or none."""
    if (folder / "model").exists():
        fairtrain.load(folder / "model")
        found = (folder / "model" / "manifest.json").read_bytes()
        given = [(folder / "given" / k / "manifest.json").read_bytes() for k in ("new", "old")]
        assert found in given


def sweeping(folder: Path, tell: Tell) -> None:
    """A sweep that keeps its points."""
    X, y, who = rows()
    with telling_points(tell):
        found = fairtrain.pareto_frontier(
            LogisticRegression(), X, y, sensitive_features=who, param="C",
            values=[0.001, 0.003, 0.01, 0.03, 0.1], cache=folder / "points", random_state=0,
        )  # fmt: skip
    found.points.drop(columns="seconds").to_csv(folder / "found.csv")


def telling_points(tell: Tell) -> Any:
    """Count the points that are trained, while they are kept."""
    write = PointCache.write

    def told(*given: Any) -> Any:
        tell()
        return write(*given)

    return mock.patch.object(PointCache, "write", staticmethod(told))


def table(folder: Path) -> None:
    """Applicants."""
    X, y, who = rows()
    frame = pd.DataFrame(X, columns=list("uvwxyz")).round(3)
    score = (1 / (1 + np.exp(-X[:, 0]))).round(3)
    frame.assign(who=who, score=score, y=y).to_csv(folder / "table.csv", index=False)


def with_a_run(folder: Path) -> None:
    """Applicants, and a model for them."""
    table(folder)
    commanded(("train", "--method", "reductions", "--out", "run"), folder, lambda: None)


COLUMNS = ("--label", "y", "--positive", "1", "--sensitive", "who")


def commanded(words: tuple[str, ...], folder: Path, tell: Tell) -> None:
    """Run a command in the folder."""
    os.chdir(folder)
    name, *more = words
    given = ["run", "table.csv"] if name == "predict" else ["table.csv", *COLUMNS]
    with telling_points(tell):
        code = command([name, *given, *more])
    assert code == 0, f"exit code {code}"


def run_is_whole(folder: Path) -> None:
    """There is none, or one with everything."""
    run = folder / "run"
    if run.exists():
        json.loads((run / "metrics.json").read_text())
        fairtrain.load(run / "model")


def decisions_are_whole(folder: Path) -> None:
    """There are none, or one for every row."""
    for file in folder.glob("decided.*"):
        read = pd.read_csv if file.suffix == ".csv" else pd.read_parquet
        assert len(read(file)) == N


def trainers() -> dict[str, Callable[..., Any]]:
    """Those that take callbacks."""
    return {
        "lagrangian": fairtrain.LagrangianFairnessTrainer,
        "lagrangian, mixture": partial(fairtrain.LagrangianFairnessTrainer, mixture=True, ema=0.9),
        "regularized": fairtrain.RegularizedFairnessTrainer,
        "adversarial": fairtrain.AdversarialDebiasingTrainer,
    }


def tasks() -> dict[str, Task]:
    """All that promises to survive."""
    trained = {
        f"{name}, {threads} thread{'s' * (threads > 1)}": Task(
            partial(training, make, threads), checkpoint_is_whole
        )
        for name, make in trainers().items()
        for threads in (1, 2)
    }
    fast = ("--method", "reductions", "--out", "run")
    bounds = ("--bounds", "0.02,0.05,0.1,0.2,0.3", "--resume")
    chunks = ("--keep", "who", "--chunk-rows", "100")
    return {
        **trained,
        "save": Task(saving, model_is_whole, partial(two_models, False)),
        "save, over a model": Task(saving, model_is_whole, partial(two_models, True)),
        "sweep with cache": Task(sweeping),
        "fairtrain train": Task(
            partial(commanded, ("train", *fast, "--force")), run_is_whole, table
        ),
        "fairtrain sweep": Task(
            partial(commanded, ("sweep", *fast, *bounds, "--force")), run_is_whole, table
        ),
        "fairtrain calibrate": Task(
            partial(commanded, ("calibrate", "--score", "score", "--out", "run", "--force")),
            run_is_whole,
            table,
        ),
        **{
            f"fairtrain predict, {kind}": Task(
                partial(commanded, ("predict", "--out", f"decided.{kind}", "--force", *chunks)),
                decisions_are_whole,
                with_a_run,
            )
            for kind in ("csv", "parquet")
        },
    }


# Processes ------------------------------------------------------------------------------------


class Counter:
    """A number that parent and children share."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)

    def tell(self) -> None:
        """Add one."""
        self._memory[:8] = (self.value + 1).to_bytes(8, "little")

    @property
    def value(self) -> int:
        """So many were told of."""
        return int.from_bytes(self._memory[:8], "little")


def child(what: Callable[[], object], folder: Path) -> int:
    """Start it in a process of its own, whose words and temporary files are in the folder."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        log = os.open(folder.parent / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        tempfile.tempdir = str(folder / "tmp")
        Path(tempfile.tempdir).mkdir(exist_ok=True)
        warnings.simplefilter("ignore")
        # Keys of ledgers are secret, and archives hold the hour: the same in all, to be compared.
        then = time.gmtime(10**9)
        with (
            mock.patch("secrets.randbits", return_value=1),
            mock.patch("time.localtime", return_value=then),
        ):
            what()
        code = 0
    except BaseException:  # noqa: BLE001 - a child never comes back
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def ended(process: int) -> int:
    """Its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def done(what: Callable[[], object], folder: Path) -> None:
    """Run to its end, in a process of its own."""
    if ended(child(what, folder)):
        log = (folder.parent / "log").read_text()
        raise RuntimeError(f"a run that nobody killed failed:\n{log[-3000:]}")


def done_before(what: Callable[[], object], folder: Path) -> None:
    """Run to its end, and import here what was imported there, for all children to come."""
    names = folder.parent / "modules"

    def listed() -> None:
        what()
        names.write_text("\n".join(sys.modules))

    done(listed, folder)
    for name in names.read_text().splitlines():
        with suppress(Exception):
            importlib.import_module(name)


# What is left ---------------------------------------------------------------------------------

_ADDRESS = re.compile(rb'"__id__": \d+|\d+\.npy')
_SKOPS = re.compile(rb'"[^"]*\.skops": \{[^}]*\}')
_CLOCK = re.compile(rb'("?(?:seconds|created|made|date|written)"?\s*[:=]\s*)("[^"]*"|[\d.e+-]+)')


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file by its path, clock times left out; folders too."""
    return {str(path.relative_to(folder)): _digest(path) for path in sorted(folder.rglob("*"))}


def _digest(path: Path) -> str:
    if path.is_dir():
        return "folder"
    content = path.read_bytes()
    if path.name == "frontier.csv":
        table = pd.read_csv(path)
        content = table.drop(columns="seconds").to_csv(index=False).encode()
    if path.suffix in (".json", ".html", ".toml", ".md"):
        content = _CLOCK.sub(rb"\1", content)
    if path.name == "manifest.json":
        content = _SKOPS.sub(b"", content)
    if path.suffix == ".skops":
        content = _without_addresses(path)
    if path.suffix in (".point", ".pt"):
        content = b"it holds seconds"
    return hashlib.sha256(content).hexdigest()


def _without_addresses(path: Path) -> bytes:
    """What a file of skops holds: it names its parts by where they lay in memory."""
    with zipfile.ZipFile(path) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
    return _ADDRESS.sub(b"", content)


# The experiment -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """What came of a task.

    Attributes
    ----------
    kills : int
        Processes that were killed while they were at work.
    too_late : int
        Those that had ended before.
    finished_units, redone_at_most : int
        Epochs or points that killed runs had finished in all; most of a run that were done twice.
    broken : int
        Kills after which half of something could be seen.
    different, left_behind : int
        Runs whose result was another one; after which something more was there.
    seconds : float
        Of the undisturbed run.
    """

    task: str
    kills: int = 0
    too_late: int = 0
    finished_units: int = 0
    redone_at_most: int = 0
    broken: int = 0
    different: int = 0
    left_behind: int = 0
    seconds: float = 0.0

    @property
    def bad(self) -> bool:
        """Whether anything was lost, broken or left."""
        lost = self.redone_at_most > LOST
        return bool(lost or self.broken or self.different or self.left_behind)


@dataclass(frozen=True)
class Undisturbed:
    """How it should be."""

    contents: dict[str, str]
    units: int
    seconds: float


class Experiment:
    """A task in a folder of its own."""

    def __init__(self, task: Task, place: Path) -> None:
        self.task, self.place = task, place
        self.start = place / "start"
        self.start.mkdir()
        done_before(lambda: task.prepare(self.start), self.start)
        shutil.rmtree(self.start / "tmp")
        folder, counter = self.begin()
        done_before(lambda: task.run(folder, counter.tell), folder)

    def begin(self) -> tuple[Path, Counter]:
        """Make an empty folder."""
        folder = self.place / "work"
        shutil.rmtree(folder, ignore_errors=True)
        return Path(shutil.copytree(self.start, folder)), Counter()

    def undisturbed(self) -> Undisturbed:
        """Run it twice, so that what differs by itself is noticed; the longer time counts."""
        found = []
        for _ in range(2):
            folder, counter = self.begin()
            start = time.perf_counter()
            done(lambda f=folder, c=counter: self.task.run(f, c.tell), folder)
            seconds = time.perf_counter() - start
            found.append(Undisturbed(contents(folder), counter.value, seconds))
        one, two = (each.contents for each in found)
        assert one == two, f"differ by themselves: {[k for k in one if one[k] != two.get(k)]}"
        return replace(found[0], seconds=max(each.seconds for each in found))

    def killed(self, moment: float, good: Undisturbed, line: Line) -> Line:
        """Begin, kill, look, and begin again."""
        folder, counter = self.begin()
        process = child(lambda: self.task.run(folder, counter.tell), folder)
        time.sleep(moment)
        os.kill(process, signal.SIGKILL)
        if ended(process) != -signal.SIGKILL:
            return replace(line, too_late=line.too_late + 1)
        finished = counter.value
        broken = ended(child(lambda: self.task.whole(folder), folder))
        done(lambda: self.task.run(folder, counter.tell), folder)
        found = contents(folder)
        more = found.keys() - good.contents.keys()
        different = any(found.get(name) != each for name, each in good.contents.items())
        if broken or more or different:
            other = [name for name, each in good.contents.items() if found.get(name) != each]
            print(f"{line.task}: killed at {moment:.3f} s:", broken, sorted(more), other)
        return replace(
            line,
            kills=line.kills + 1,
            finished_units=line.finished_units + finished,
            redone_at_most=max(line.redone_at_most, counter.value - good.units),
            broken=line.broken + bool(broken),
            different=line.different + different,
            left_behind=line.left_behind + bool(more),
        )


def measured(name: str, task: Task, line: Line, kills: int, keep: Callable[[Line], None]) -> Line:
    """Kill it until it was killed so many times."""
    with tempfile.TemporaryDirectory() as place:
        experiment = Experiment(task, Path(place))
        good = experiment.undisturbed()
        line = replace(line, seconds=round(good.seconds, 2))
        while line.kills < kills:
            tried = line.kills + line.too_late
            moment = np.random.default_rng([tried, *name.encode()]).uniform(0, good.seconds)
            line = experiment.killed(moment, good, line)
            if line.kills % 10 == 0 or line.kills == kills:
                keep(line)
    return line


def read_lines(path: Path) -> dict[str, Line]:
    """What is known already."""
    if not path.exists():
        return {}
    return {each["task"]: Line(**each) for each in pd.read_csv(path).to_dict("records")}


def main() -> int:
    """Kill."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--tasks", help="names with commas in them: separate by semicolons")
    parser.add_argument("--out", type=Path, default=RESULTS / "kills.csv")
    asked = parser.parse_args()
    known = tasks()
    chosen = asked.tasks.split(";") if asked.tasks else list(known)
    lines = read_lines(asked.out)

    def keep(line: Line) -> None:
        lines[line.task] = line
        ordered = [lines[name] for name in known if name in lines]
        pd.DataFrame(map(asdict, ordered)).to_csv(asked.out, index=False)

    for name in chosen:
        line = lines.get(name, Line(name))
        if line.kills < asked.kills:
            line = measured(name, known[name], line, asked.kills, keep)
        print(line, flush=True)
    return int(any(line.bad for line in lines.values()))


if __name__ == "__main__":
    sys.exit(main())
