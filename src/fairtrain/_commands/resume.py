"""What a stopped sweep leaves, in a hidden folder beside the run, so that it can go on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fairtrain._atomic import check_private, held, short_name, writing
from fairtrain._text import one_line
from fairtrain.exceptions import InvalidParameterError

__all__ = ["FinishedPoints"]


@dataclass(frozen=True)
class FinishedPoints:
    """The folder of finished points.

    What it holds becomes models that decide about people: it is made for its owner alone, and one
    that anybody else could have written into is refused.

    Attributes
    ----------
    folder : Path
        Beside the run.
    """

    folder: Path

    @classmethod
    def beside(cls, out: Path, *, resume: bool) -> FinishedPoints:
        """Find or make the folder of a run; without ``resume`` what it holds is forgotten.

        Raises
        ------
        InvalidParameterError
            If it belongs to somebody else.
        """
        path = out.absolute()
        points = cls(path.parent / f".{short_name(path)}.sweep")
        with writing(points.folder):
            check_private(points.folder, "")
            points.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with held(points.folder) as ours:
            points._only(ours)
            if not resume:
                for file in points.folder.glob("*.point"):
                    file.unlink()
        return points

    def _only(self, ours: bool) -> None:
        if not ours:
            raise InvalidParameterError(
                f"another sweep is at work in '{one_line(self.folder)}': wait for it, or choose "
                "another --out."
            )

    @contextmanager
    def going(self, total: int) -> Iterator[None]:
        """While a sweep goes on; says after Ctrl-C what is left of it.

        Parameters
        ----------
        total : int
            Models of the sweep.
        """
        with held(self.folder) as ours:
            self._only(ours)
            yield from self._going(total)

    def _going(self, total: int) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            done = min(self.count, total)
            if not done:
                self.forget()
            if not isinstance(error, KeyboardInterrupt):
                raise
            said = f"stopped; {done} of {total} models are kept; the same command goes on."
            none = "stopped before a model was finished; nothing was left behind."
            raise KeyboardInterrupt(said if done else none) from None
        self.forget()

    @property
    def count(self) -> int:
        """Models that are kept."""
        return sum(1 for _ in self.folder.glob("*.point"))

    def forget(self) -> None:
        """Remove it."""
        shutil.rmtree(self.folder, ignore_errors=True)
