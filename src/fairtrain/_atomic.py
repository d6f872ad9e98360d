"""Files and folders that appear whole or not at all, and replace an old one in one step."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import importlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from fairtrain._text import one_line
from fairtrain.exceptions import InvalidParameterError, PersistenceError

__all__ = [
    "check_private",
    "held",
    "new_file",
    "new_folder",
    "short_name",
    "sync",
    "umask",
    "writing",
]

_AT_FDCWD, _EXCHANGE = -100, 2
_LOCKS: Any = importlib.import_module("fcntl") if os.name == "posix" else None
_LONGEST, _DAY = 100, 86_400.0
_OURS: set[Path] = set()
"""Temporary files and folders that this process fills, and therefore holds."""
_REFUSALS = {
    getattr(errno, name)
    for name in ("EACCES", "EDQUOT", "EEXIST", "EFBIG", "EINVAL", "EIO", "EISDIR", "ENAMETOOLONG",
                 "ENOENT", "ENOSPC", "ENOTDIR", "ENOTEMPTY", "EPERM", "EROFS")
    if hasattr(errno, name)
}  # fmt: skip
"""What a system says that does not let a place be written."""


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

    Raises
    ------
    PersistenceError
        If the disk is full or the place may not be written to.
    """

    def make(prefix: str) -> Path:
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=path.parent)
        os.close(handle)
        return Path(name)

    with writing(path), _temporary(path, make) as work:
        work.chmod(mode)
        yield work
        sync(work)
        work.replace(path)


@contextmanager
def new_folder(path: Path, check: Callable[[], None]) -> Iterator[Path]:
    """Fill a temporary folder beside ``path`` and rename it when all is written.

    Whatever goes wrong, Ctrl-C included, the temporary folder is removed; that of a killed process
    is removed by the next one that writes there. A folder that is there already is exchanged with
    the new one in one step where the system can (Linux), so that a killed process leaves one of
    them whole; elsewhere it is first moved aside.

    Parameters
    ----------
    path : Path
        Where the folder shall be.
    check : callable
        Raises if it must not be written there; called before and after filling.

    Raises
    ------
    PersistenceError
        If the disk is full, the place may not be written to, or another process wrote there
        meanwhile.
    """
    path = path.absolute()

    def make(prefix: str) -> Path:
        return Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))

    with writing(path):
        check()
        path.parent.mkdir(parents=True, exist_ok=True)
        before = _identity(path)
        with _temporary(path, make) as work:
            work.chmod(0o777 & ~umask())
            yield work
            for inside in sorted(work.rglob("*")):
                sync(inside)
            sync(work)
            # Nobody writes between look and rename: in a temporary folder of our own nobody does.
            with nullcontext() if path.parent in _OURS else held(path.parent, wait=True):
                check()
                if _identity(path) != before:
                    raise PersistenceError(
                        f"'{one_line(path)}' was written by another process meanwhile; what it "
                        "wrote is kept, and this is not."
                    )
                _replace(work, path)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in one line where the system does not let a place be written."""
    try:
        yield
    except OSError as error:
        about = str(error.filename or path.parent)
        if error.errno not in _REFUSALS or not about.startswith(str(path.parent)):
            raise
        raise PersistenceError(
            f"'{one_line(path)}' cannot be written: {error.strerror}."
        ) from error


@contextmanager
def held(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Lock a file or folder until the end of the block, or of the process, however it ends.

    Yields
    ------
    bool
        Whether it is ours; False where another process has it.
    """
    if _LOCKS is None:
        yield True
        return
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        try:
            _LOCKS.flock(handle, _LOCKS.LOCK_EX | (0 if wait else _LOCKS.LOCK_NB))
            ours = True
        except OSError as error:  # some network drives have no locks
            ours = error.errno not in (errno.EAGAIN, errno.EACCES)
        yield ours
    finally:
        os.close(handle)


def short_name(path: Path) -> str:
    """Name of a path, cut so that a file system takes it with something added.

    Examples
    --------
    >>> short_name(Path("runs/first"))
    'first'
    >>> len(short_name(Path("x" * 250)))
    109
    """
    name = os.fsencode(path.name)
    if len(name) <= _LONGEST:
        return path.name
    return f"{name[:_LONGEST].decode(errors='ignore')}-{hashlib.sha256(name).hexdigest()[:8]}"


@contextmanager
def _temporary(path: Path, make: Callable[[str], Path]) -> Iterator[Path]:
    """Make something beside a path that is gone afterwards, and what was left by killed ones."""
    prefix = f".{short_name(path)}.fairtrain-"
    _sweep(path.parent, prefix)
    while True:
        work = make(prefix)
        with held(work) as ours:
            # Between making and locking it somebody may have swept it.
            if not ours or not work.exists():
                continue
            _OURS.add(work)
            try:
                yield work
            finally:
                _OURS.discard(work)
                _remove(work)
            return


def _sweep(folder: Path, prefix: str) -> None:
    """Remove what processes have left that are no more: nobody holds it."""
    names = [entry.name for entry in os.scandir(folder) if entry.name.startswith(prefix)]
    for work in (folder / name for name in names):
        with suppress(OSError), held(work) as ours:
            if ours and (_LOCKS is not None or time.time() - work.lstat().st_mtime > _DAY):
                _remove(work)


def _remove(work: Path) -> None:
    if work.is_dir() and not work.is_symlink():
        shutil.rmtree(work, ignore_errors=True)
    else:
        work.unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a folder from one that took its place."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def _replace(work: Path, path: Path) -> None:
    if not path.exists():
        work.rename(path)
    elif not _exchange(work, path):  # then `work` is the old folder, and is removed
        aside = Path(tempfile.mkdtemp(prefix=f".{short_name(path)}.fairtrain-", dir=path.parent))
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
