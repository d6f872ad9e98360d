"""A sweep that was interrupted goes on, and trains nothing twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from tests.tradeoff.data import make_rows
from torch import nn

from fairtrain import pareto_frontier
from fairtrain._commands.resume import FinishedPoints
from fairtrain.exceptions import InvalidParameterError
from fairtrain.tradeoff.cache import PointCache, fingerprint

FITS: list[float] = []


class Counting(ClassifierMixin, BaseEstimator):
    """Logistic regression that tells how often it was fitted."""

    def __init__(self, level: float = 1.0) -> None:
        self.level = level

    def fit(self, X: Any, y: Any) -> Counting:
        FITS.append(self.level)
        self.model_ = LogisticRegression(C=self.level).fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def predict(self, X: Any) -> np.ndarray:
        return self.model_.predict(X)


def sweep(folder: Path, values: list[float], seed: int = 0, **options: Any) -> Any:
    rows = make_rows(300, seed)
    return pareto_frontier(
        Counting(), *rows[:2], sensitive_features=rows.who, param="level", values=values,
        cache=folder, random_state=0, **options,
    )  # fmt: skip


def test_a_point_is_trained_once(tmp_path: Path) -> None:
    FITS.clear()
    first = sweep(tmp_path, [0.1, 1.0])
    assert FITS == [0.1, 1.0]
    again = sweep(tmp_path, [0.1, 1.0, 10.0])
    assert FITS == [0.1, 1.0, 10.0]
    assert (
        again.points.iloc[:2]
        .drop(columns="dominated")
        .equals(first.points.drop(columns="dominated"))
    )
    sweep(tmp_path, [0.1], performance="balanced_accuracy")  # scored anew, not trained
    assert len(FITS) == 3
    sweep(tmp_path, [0.1], seed=1)  # other rows
    assert len(FITS) == 4


def test_a_damaged_entry_is_trained_again(tmp_path: Path) -> None:
    FITS.clear()
    good = sweep(tmp_path, [0.1, 1.0])
    for change in (lambda b: b[:-1], lambda b: b[:40] + bytes([b[40] ^ 1]) + b[41:], lambda b: b""):
        file = min(tmp_path.glob("*.point"))
        file.write_bytes(change(file.read_bytes()))
        FITS.clear()
        again = sweep(tmp_path, [0.1, 1.0])
        assert len(FITS) == 1
        assert again.points["gap"].tolist() == good.points["gap"].tolist()


def test_no_training_row_is_kept(tmp_path: Path) -> None:
    rows = make_rows(300)
    X = rows.X.copy()
    X.iloc[7, 1] = 0.123456789123
    pareto_frontier(
        None, X, rows.y, sensitive_features=rows.who, etas=[0, 1], max_epochs=1, cache=tmp_path,
        random_state=0,
    )  # fmt: skip
    canary = np.float64(0.123456789123).tobytes()
    kept = b"".join(file.read_bytes() for file in tmp_path.glob("*.point"))
    assert len(kept) > 1000
    assert canary not in kept
    assert np.float32(0.123456789123).tobytes() not in kept


def test_a_killed_sweep_goes_on(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        import numpy as np
        from sklearn.linear_model import LogisticRegression
        from fairtrain import pareto_frontier

        class Slow(LogisticRegression):
            def fit(self, X, y):
                if self.C > 0.5 and sys.argv[2] == "hang":
                    Path(sys.argv[1], "third").touch()
                    time.sleep(60)
                Path(sys.argv[1], f"fit-{self.C}-{time.time_ns()}").touch()
                return super().fit(X, y)

        rng = np.random.default_rng(0)
        X, who = rng.normal(size=(300, 2)), rng.integers(0, 2, 300)
        y = (X[:, 0] + who > 0.5).astype(int)
        found = pareto_frontier(
            Slow(), X, y, sensitive_features=who, param="C", values=[0.1, 0.2, 1.0],
            cache=Path(sys.argv[1], "kept"), random_state=0,
        )
        print(len(found.points))
        """
    )
    (tmp_path / "sweep.py").write_text(script)
    command = [sys.executable, str(tmp_path / "sweep.py"), str(tmp_path)]
    process = subprocess.Popen([*command, "hang"])
    try:
        for _ in range(600):
            if (tmp_path / "third").exists():
                break
            time.sleep(0.05)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert len(list((tmp_path / "kept").glob("*.point"))) == 2
    done = subprocess.run([*command, "go"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "3"
    fits = sorted(path.name.split("-")[1] for path in tmp_path.glob("fit-*"))
    assert fits == ["0.1", "0.2", "1.0"]


def test_two_sweeps_at_once_leave_every_point_whole(tmp_path: Path) -> None:
    values = [0.1, 1.0]
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(lambda _: sweep(tmp_path, values), range(2))
    assert one.points["gap"].tolist() == two.points["gap"].tolist()
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".point"] * 2
    FITS.clear()
    sweep(tmp_path, values)
    assert not FITS


def test_of_two_sweeps_into_one_run_the_second_says_so(tmp_path: Path) -> None:
    first = FinishedPoints.beside(tmp_path / "run", resume=False)
    with first.going(2):
        kept = first.folder / "a.point"
        kept.touch()
        with pytest.raises(InvalidParameterError, match="another sweep is at work"):
            FinishedPoints.beside(tmp_path / "run", resume=False)
        assert kept.exists()
    assert not list(tmp_path.iterdir())


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(InvalidParameterError, match="is a file"):
        PointCache(file)


def test_fingerprints_tell_settings_and_rows_apart() -> None:
    net = nn.Linear(2, 1)
    same = nn.Linear(2, 1)
    same.load_state_dict(net.state_dict())
    assert fingerprint(net) == fingerprint(same)
    with torch.no_grad():
        same.weight[0, 0] += 1
    assert fingerprint(net) != fingerprint(same)

    def maker(width: int) -> Any:
        return lambda d, o: nn.Linear(d + width, o)

    assert fingerprint(maker(1)) == fingerprint(maker(1))
    assert fingerprint(maker(1)) != fingerprint(maker(2))
    assert fingerprint([1, 2]) != fingerprint([12])
    assert fingerprint(LogisticRegression(C=1)) != fingerprint(LogisticRegression(C=2))
    rows = make_rows(50)
    assert fingerprint(rows.X) == fingerprint(rows.X.copy())
    assert fingerprint(rows.X) != fingerprint(rows.X + 1e-9)
    loop: list[Any] = []
    loop.append(loop)
    assert fingerprint(loop) == fingerprint(loop)


class Opaque(Counting):
    """An estimator whose fit finds something that is code."""

    def fit(self, X: Any, y: Any) -> Opaque:
        super().fit(X, y)
        self.rule_ = lambda x: x
        return self


def test_what_cannot_be_kept_without_code_is_said_and_trained_again(tmp_path: Path) -> None:
    rows = make_rows(300)
    for _ in range(2):
        FITS.clear()
        found = pareto_frontier(
            Opaque(), *rows[:2], sensitive_features=rows.who, param="level", values=[0.1, 1.0],
            cache=tmp_path, random_state=0,
        )  # fmt: skip
        assert FITS == [0.1, 1.0]
        assert "is not kept in the cache" in " ".join(found.notes)
    assert not list(tmp_path.glob("*.point"))


def test_settings_that_are_code_come_from_whoever_asks(tmp_path: Path) -> None:
    def own(parameters: Any) -> Any:
        return torch.optim.SGD(parameters, lr=0.1)

    rows = make_rows(200)
    found = [
        pareto_frontier(
            None, *rows[:2], sensitive_features=rows.who, etas=[0, 1], max_epochs=1, cache=tmp_path,
            optimizer=own, random_state=0,
        )
        for _ in range(2)
    ]  # fmt: skip
    assert len(list(tmp_path.glob("*.point"))) == 2
    assert found[1].points.equals(found[0].points)  # the seconds too: nothing was trained again
    for first, again in zip(found[0].models, found[1].models, strict=True):
        assert again.optimizer is own
        assert first.explain() == again.explain()
        np.testing.assert_array_equal(first.predict_proba(rows.X), again.predict_proba(rows.X))


def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(InvalidParameterError, match="only you can write to"):
        sweep(shared, [0.1])
    made = tmp_path / "made"
    sweep(made, [0.1])
    assert made.stat().st_mode & 0o777 == 0o700
