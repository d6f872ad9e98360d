"""How far a long command is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from fairtrain._text import one_line

__all__ = ["epochs_shown", "in_words", "progress", "status_line", "working"]

_EVERY = 5.0  # seconds between two plain lines


def status_line(done: float, total: float, seconds: float, unit: str) -> str:
    """Say how much is done, how fast, and how long the rest will take.

    Parameters
    ----------
    done, total : float
        Of what is counted.
    seconds : float
        Since the start.
    unit : str
        What is counted, in the plural.

    Examples
    --------
    >>> status_line(2_000_000, 5_000_000, 20, "rows")
    '2,000,000 of 5,000,000 rows (40 %), 100,000 rows/s, 30 s left'
    """
    share = done / total if total else 1.0
    said = f"{done:,.0f} of {total:,.0f} {unit} ({share:.0%})".replace("%)", " %)")
    speed = done / seconds if seconds > 0 else 0.0
    if not speed:
        return said
    shown = f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}"
    left = (total - done) / speed
    return f"{said}, {shown} {unit}/s, {in_words(left)} left"


def in_words(seconds: float) -> str:
    """Write a time: 40 s, 3 min 20 s, 1 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


@contextmanager
def progress(
    title: str, total: float, *, unit: str = "rows", quiet: bool = False
) -> Iterator[Callable[[float], None]]:
    """Show progress on standard error; yields a function to call with what was just done.

    Parameters
    ----------
    title : str
        What is going on.
    total : float
        Amount of work.
    unit : str, default="rows"
        What is counted, in the plural.
    quiet : bool, default=False
        Show nothing, because the results go to the same terminal.
    """
    console = Console(file=sys.stderr, markup=False, emoji=False, highlight=False)
    if quiet:
        yield lambda _: None
    elif console.is_terminal:
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), _Status(unit))
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(one_line(title), total=total)
            yield lambda amount: bar.advance(task, amount)
    else:
        yield _plain_lines(one_line(title), total, unit)


class _Status(ProgressColumn):
    """What :func:`status_line` says of a task."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Render the task's line."""
        return Text(status_line(task.completed, task.total or 0, task.elapsed or 0.0, self._unit))


def _plain_lines(title: str, total: float, unit: str) -> Callable[[float], None]:
    start = last = time.monotonic()
    done = 0.0

    def advance(amount: float) -> None:
        nonlocal done, last
        done += amount
        now = time.monotonic()
        if now - last >= _EVERY and done < total:
            sys.stderr.write(f"fairtrain: {title}: {status_line(done, total, now - start, unit)}\n")
            sys.stderr.flush()
            last = now

    return advance


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show on a terminal that something goes on; elsewhere say it, so that a log tells the stage.

    Parameters
    ----------
    what : str
        What is going on.
    """
    console = Console(file=sys.stderr, markup=False, emoji=False, highlight=False)
    if console.is_terminal:
        with console.status(Text(f"{one_line(what)} ...")):
            yield
    else:
        sys.stderr.write(f"fairtrain: {one_line(what)} ...\n")
        yield


class _Epochs:
    """A callback of the trainers; duck-typed, so that no command imports torch for it."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._open: Any = None
        self._advance: Callable[[float], None] | None = None

    def on_train_begin(self, trainer: Any) -> None:
        """Start the bar."""
        self._open = progress(self.what, int(trainer.loop_.max_epochs), unit="epochs")
        self._advance = self._open.__enter__()

    def on_epoch_end(self, trainer: Any, record: Mapping[str, Any]) -> None:
        """Move it on."""
        if self._advance is not None:
            self._advance(1)

    def close(self) -> None:
        """Take the bar away."""
        if self._open is not None:
            self._open.__exit__(None, None, None)
        self._open = self._advance = None

    def _nothing(self, *_: Any) -> None:
        """Other hooks."""

    on_train_end = on_epoch_begin = on_batch_begin = on_batch_end = load_state_dict = _nothing

    def state_dict(self) -> dict[str, Any]:
        """Nothing is kept."""
        return {}


@contextmanager
def epochs_shown(what: str) -> Iterator[Any]:
    """Give a callback that shows the epochs of a trainer."""
    callback = _Epochs(what)
    try:
        yield callback
    finally:
        callback.close()
