"""What may watch or steer training, under the hook names that skorch's users know; checkpoints."""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from fairtrain._archives import are_stored
from fairtrain._atomic import new_file, writing
from fairtrain._parameters import FLAG, Of, Real, Table, Where, Whole, checked
from fairtrain._text import one_line
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

__all__ = [
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "LogMetrics",
    "ProgressBar",
    "plain_state",
    "read_checkpoint",
    "restored_state",
    "write_checkpoint",
]

FORMAT = 2

_ARRAY = "__ndarray__"


class Callback:
    """Base of all callbacks: every hook does nothing.

    Hooks get the trainer first. While training, ``trainer.loop_`` is the running loop, with
    ``epoch``, ``history`` and ``stop``.
    """

    def on_train_begin(self, trainer: Any) -> None:
        """Before the first epoch."""

    def on_train_end(self, trainer: Any) -> None:
        """After the last epoch."""

    def on_epoch_begin(self, trainer: Any) -> None:
        """Before an epoch."""

    def on_epoch_end(self, trainer: Any, record: Mapping[str, Any]) -> None:
        """After an epoch, with its row of ``history_``."""

    def on_batch_begin(self, trainer: Any, batch: Any) -> None:
        """Before a step."""

    def on_batch_end(self, trainer: Any, batch: Any, report: Any) -> None:
        """After a step, with its :class:`~fairtrain.training.loop.steps.StepReport`."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint has to keep."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""


class EarlyStopping(Callback):
    """Stop once bounds are kept and nothing improves any more.

    Parameters
    ----------
    patience : int, default=10
        Epochs without improvement after which training stops.
    monitor : str, default="held_accuracy"
        Column of ``history_`` that should rise (``lower_is_better=True``: fall).
    min_delta : float, default=1e-4
        Smallest change that counts.
    lower_is_better : bool, default=False
        Direction of ``monitor``.
    when_feasible : bool, default=True
        Count only epochs whose iterate keeps every bound, and never stop before one does.

    Notes
    -----
    With a learning rate that decays over ``max_epochs``, the last epochs are the best ones: choose
    ``max_epochs`` rather than a short patience.
    """

    _allowed: ClassVar[Table] = {
        "patience": Whole(1),
        "monitor": Of("be a column's name", str),
        "min_delta": Real(0),
        "lower_is_better": FLAG,
        "when_feasible": FLAG,
    }

    @checked
    def __init__(
        self,
        patience: int = 10,
        *,
        monitor: str = "held_accuracy",
        min_delta: float = 1e-4,
        lower_is_better: bool = False,
        when_feasible: bool = True,
    ) -> None:
        self.patience = patience
        self.monitor = monitor
        self.min_delta = min_delta
        self.lower_is_better = lower_is_better
        self.when_feasible = when_feasible
        self._best = -math.inf
        self._waited = 0

    def on_train_begin(self, trainer: Any) -> None:
        """Forget the last training, unless this one goes on with it, and may be over already."""
        if not trainer.loop_.history:
            self._best, self._waited = -math.inf, 0
        elif self._waited >= self.patience:
            trainer.loop_.stop = True

    def on_epoch_end(self, trainer: Any, record: Mapping[str, Any]) -> None:
        """Count epochs without improvement."""
        if self.monitor not in record:
            raise InvalidParameterError(
                f"EarlyStopping: monitor={self.monitor!r} is no column of history_: {list(record)}."
            )
        if self.when_feasible and not record.get("feasible", True):
            return
        value = float(record[self.monitor]) * (-1 if self.lower_is_better else 1)
        if value > self._best + self.min_delta:
            self._best, self._waited = value, 0
        else:
            self._waited += 1
            trainer.loop_.stop = trainer.loop_.stop or self._waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and the epochs waited."""
        return {"best": self._best, "waited": self._waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        self._best, self._waited = float(state["best"]), int(state["waited"])


class Checkpoint(Callback):
    """Write everything that is needed to go on, at the end of every ``every``-th epoch.

    The file is written beside its place and moved there, so that whenever the process dies a
    whole file is left. ``fit(..., resume_from=path)`` goes on, on one process bit for bit.

    Parameters
    ----------
    path : str or Path
        The file.
    every : int, default=1
        Epochs between two writes; the last epoch is always written.
    """

    _allowed: ClassVar[Table] = {"path": Of("be a path", str, Path), "every": Whole(1)}

    @checked
    def __init__(self, path: str | Path, *, every: int = 1) -> None:
        self.path = Path(path)
        self.every = every

    def on_epoch_end(self, trainer: Any, record: Mapping[str, Any]) -> None:
        """Write."""
        loop = trainer.loop_
        last = loop.stop or loop.epoch == loop.max_epochs
        if loop.epoch % self.every == 0 or last:
            state = trainer.checkpoint_state()  # on every process: it may communicate
            if trainer.is_main_process:
                write_checkpoint(state, self.path)


class ProgressBar(Callback):
    """A bar over the epochs, with the loss and the widest gap; plain lines off a terminal."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None

    def on_train_begin(self, trainer: Any) -> None:
        """Draw the bar."""
        if not trainer.is_main_process:
            return
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("epoch {task.completed:.0f}/{task.total:.0f}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[said]}", markup=False),
            TimeRemainingColumn(),
        )
        self._task = self._bar.add_task(
            "", total=trainer.loop_.max_epochs, completed=trainer.loop_.epoch, said=""
        )
        self._bar.start()

    def on_epoch_end(self, trainer: Any, record: Mapping[str, Any]) -> None:
        """Move it on."""
        if self._bar is None:
            return
        said = f"loss {record['loss']:.4f}"
        if (excess := record.get("worst_excess")) is not None and math.isfinite(excess):
            said += f"  over the bound by {max(excess, 0.0):.4f}"
        self._bar.update(self._task, completed=trainer.loop_.epoch, said=said)
        if not self._bar.console.is_terminal:
            self._bar.console.print(
                f"epoch {trainer.loop_.epoch}/{trainer.loop_.max_epochs}  {said}", markup=False
            )

    def on_train_end(self, trainer: Any) -> None:
        """Leave it as it stands."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_bar": None, "_task": None}


class LogMetrics(Callback):
    """Hand the numbers of every epoch to a logger.

    Parameters
    ----------
    logger : object
        Anything with ``log_metrics(dict, step)``: Lightning's loggers (TensorBoard, MLflow,
        Weights & Biases, CSV) or a small object of one's own.
    """

    _allowed: ClassVar[Table] = {
        "logger": Where(
            "have log_metrics(dict, step)",
            lambda logger: callable(getattr(logger, "log_metrics", None)),
        )
    }

    @checked
    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def on_epoch_end(self, trainer: Any, record: Mapping[str, Any]) -> None:
        """Log every number of the record."""
        if not trainer.is_main_process:
            return
        numbers = {
            name: float(value)
            for name, value in record.items()
            if isinstance(value, int | float) and name != "epoch" and math.isfinite(value)
        }
        self.logger.log_metrics(numbers, step=int(record["epoch"]))


def write_checkpoint(state: Mapping[str, Any], path: Path) -> None:
    """Write a state beside its place, flush it to disk, and move it there.

    Parameters
    ----------
    state : mapping
        Numbers, strings, tensors, arrays, and lists and mappings of these.
    path : Path
        The file; its folder is made.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as work:
        content = io.BytesIO()  # where the disk is full, Python says so more clearly
        torch.save({"format": FORMAT, "state": plain_state(state)}, content)
        work.write_bytes(content.getbuffer())


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read what :func:`write_checkpoint` wrote; nothing in it is run.

    Raises
    ------
    InvalidDataError
        If the file is missing, cut short, or no checkpoint.
    """
    name = f"'{one_line(path)}'"
    try:
        with zipfile.ZipFile(path) as archive:
            stored = are_stored(archive.infolist(), Path(path).stat().st_size)
        if not stored:
            raise ValueError("compressed")
        with warnings.catch_warnings(action="ignore"):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InvalidDataError(f"there is no checkpoint {name}.") from None
    except Exception as error:  # noqa: BLE001 - torch raises errors of all kinds
        raise InvalidDataError(
            f"{name} is no whole checkpoint ({type(error).__name__}); train from the start."
        ) from None
    state = found.get("state") if isinstance(found, dict) else None
    if not isinstance(state, dict) or found.get("format") != FORMAT:
        raise InvalidDataError(
            f"{name} is no checkpoint of this version of fairtrain; train from the start."
        )
    return {key: restored_state(part) for key, part in state.items()}


def plain_state(value: Any) -> Any:
    """Only what can be read back without running code."""
    if isinstance(value, np.ndarray):
        return {_ARRAY: torch.from_numpy(value.copy())}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: plain_state(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain_state(part) for part in value]
    return value


def restored_state(value: Any) -> Any:
    """Undo :func:`plain_state`, but for tuples, which come back as lists."""
    if isinstance(value, dict):
        if set(value) == {_ARRAY}:
            return value[_ARRAY].numpy()
        return {key: restored_state(part) for key, part in value.items()}
    return [restored_state(part) for part in value] if isinstance(value, list) else value
