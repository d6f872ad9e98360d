"""Files and folders that appear whole or not at all, and replace an old one in one step."""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fairtrain._text import one_line
from fairtrain.exceptions import InvalidParameterError

__all__ = ["check_private", "new_file", "new_folder", "sync", "umask"]

_AT_FDCWD, _EXCHANGE = -100, 2


@contextmanager
def new_file(path: Path, *, mode: int = 0o600, suffix: str = "") -> Iterator[Path]:
    """Write a temporary file beside ``path`` and rename it when it is complete.

    Parameters
    ----------
    path : Path
        Where the file shall be; its folder must exist.
    mode : int, default=0o600
        Permissions.
    suffix : str, default=""
        End of the temporary name, for writers that look at it.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:80]}.", suffix=suffix, dir=path.parent)
    os.close(handle)
    work = Path(name)
    try:
        work.chmod(mode)
        yield work
        sync(work)
        work.replace(path)
    finally:
        work.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path, check: Callable[[], None]) -> Iterator[Path]:
    """Fill a temporary folder beside ``path`` and rename it when all is written.

    Whatever goes wrong, Ctrl-C included, the temporary folder is removed. A folder that is there
    already is exchanged with the new one in one step where the system can (Linux), so that a killed
    process leaves one of them whole; elsewhere it is first moved aside.

    Parameters
    ----------
    path : Path
        Where the folder shall be.
    check : callable
        Raises if it must not be written there; called before and after filling.
    """
    path = path.absolute()
    check()
    path.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{path.name[:80]}.", dir=path.parent))
    try:
        work.chmod(0o777 & ~umask())
        yield work
        for inside in sorted(work.rglob("*")):
            sync(inside)
        sync(work)
        check()
        _replace(work, path)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _replace(work: Path, path: Path) -> None:
    if not path.exists():
        work.rename(path)
    elif not _exchange(work, path):  # then `work` is the old folder, and is removed
        aside = Path(tempfile.mkdtemp(prefix=f".{path.name[:80]}.old.", dir=path.parent))
        path.rename(aside)
        try:
            work.rename(path)
        except BaseException:
            aside.rename(path)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    sync(path.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    names = os.fsencode(one), os.fsencode(other)
    return int(rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _EXCHANGE)) == 0


def check_private(folder: Path, name: str) -> None:
    """Raise if somebody else could write into a folder that is there.

    Raises
    ------
    InvalidParameterError
        If it belongs to another user, or its group or everybody can write to it.
    """
    try:
        status = folder.lstat()
    except OSError:
        return
    private = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o022
    owner = getattr(os, "getuid", lambda: status.st_uid)()
    if os.name == "posix" and not (private and status.st_uid == owner):
        raise InvalidParameterError(
            f"{name}'{one_line(folder)}' is not a folder that only you can write to, so what is in "
            "it is not read; take another one, or chmod go-w this one if you trust what it holds."
        )


def sync(path: Path) -> None:
    """Have a file or folder written to the disk, where the file system can."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def umask() -> int:
    """Permissions that new files of this process lack."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
