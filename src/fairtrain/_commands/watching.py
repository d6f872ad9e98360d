"""Progress of what has no rows to count: the epochs of a network, or work of unknown length."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fairtrain._commands.progress import progress
from fairtrain._text import one_line

__all__ = ["epochs_shown", "working"]


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show on a terminal that something goes on; elsewhere say it, so that a log tells the stage.

    Parameters
    ----------
    what : str
        What is going on.
    """
    from rich.console import Console
    from rich.text import Text

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
