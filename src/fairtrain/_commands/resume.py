"""What a stopped sweep leaves, in a hidden folder beside the run, so that it can go on."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fairtrain._text import one_line
from fairtrain.exceptions import InvalidParameterError

__all__ = ["Kept"]


@dataclass(frozen=True)
class Kept:
    """The folder of finished points.

    Its files are pickles, which run code when they are read: it is made for its owner alone, and
    one that anybody else could have written into is refused.

    Attributes
    ----------
    folder : Path
        Beside the run.
    """

    folder: Path

    @classmethod
    def beside(cls, out: Path, *, resume: bool) -> Kept:
        """Find or make the folder of a run; without ``resume`` what it holds is forgotten.

        Raises
        ------
        InvalidParameterError
            If it belongs to somebody else.
        """
        path = out.absolute()
        kept = cls(path.parent / f".{path.name[:80]}.sweep")
        if kept.folder.is_symlink() or kept.folder.exists():
            kept._check()
            if not resume:
                kept.forget()
        kept.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return kept

    def _check(self) -> None:
        found = self.folder.lstat()
        private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o022
        owner = getattr(os, "getuid", lambda: found.st_uid)()
        if not private or found.st_uid != owner:
            raise InvalidParameterError(
                f"'{one_line(self.folder)}' is not a folder that only you can write to, so the "
                "points in it are not read; remove it."
            )

    @contextmanager
    def going(self, total: int) -> Iterator[None]:
        """While a sweep goes on; says after Ctrl-C what is left of it.

        Parameters
        ----------
        total : int
            Models of the sweep.
        """
        try:
            yield
        except KeyboardInterrupt:
            done = self.count
            self._forget_if_empty()
            said = (
                f"stopped; {min(done, total)} of {total} models are kept; the same command goes on."
            )
            none = "stopped before a model was finished; nothing was left behind."
            raise KeyboardInterrupt(said if done else none) from None
        except BaseException:
            self._forget_if_empty()
            raise
        self.forget()

    @property
    def count(self) -> int:
        """Models that are kept."""
        return sum(1 for _ in self.folder.glob("*.point"))

    def forget(self) -> None:
        """Remove it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _forget_if_empty(self) -> None:
        if not self.count:
            self.forget()
