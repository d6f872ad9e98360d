"""What is written appears whole or not at all, whoever else writes, and nothing is left behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairtrain import _atomic
from fairtrain.exceptions import InvalidParameterError, PersistenceError


def write(path: Path, text: str = "new", *, force: bool = True) -> None:
    def check() -> None:
        if path.exists() and not force:
            raise InvalidParameterError("exists")

    with _atomic.new_folder(path, check) as work:
        (work / "file").write_text(text)


def killed_while_writing(path: Path, kind: str) -> None:
    """Leave what a killed process leaves."""
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from fairtrain import _atomic

        path = Path(sys.argv[1])
        make = {"file": _atomic.new_file, "folder": lambda p: _atomic.new_folder(p, lambda: None)}
        with make[sys.argv[2]](path) as work:
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    done = subprocess.run([sys.executable, "-c", script, str(path), kind], check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_is_swept_by_the_next(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "name with spaces.x"
    killed_while_writing(path, kind)
    assert len(list(tmp_path.iterdir())) == 1
    (tmp_path / ".name with spaces.x.mine").touch()  # not ours
    (tmp_path / "other").touch()
    if kind == "folder":
        write(path)
    else:
        with _atomic.new_file(path) as work:
            work.write_text("new")
    left = sorted(entry.name for entry in tmp_path.iterdir())
    assert left == [".name with spaces.x.mine", "name with spaces.x", "other"]


def test_what_somebody_is_writing_is_not_swept(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with _atomic.new_file(path) as first:
        first.write_text("first")
        with _atomic.new_file(path) as second:
            assert first.exists()
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_within_one_that_is_being_filled(tmp_path: Path) -> None:
    with _atomic.new_folder(tmp_path / "run", lambda: None) as work:
        write(work / "model")
    assert (tmp_path / "run" / "model" / "file").read_text() == "new"


@pytest.mark.parametrize("there", [False, True])
def test_of_two_writers_one_wins_whole_and_the_other_says_so(there: bool, tmp_path: Path) -> None:
    path = tmp_path / "model"
    if there:
        write(path, "old")

    def slow() -> None:
        with _atomic.new_folder(path, lambda: None) as work:
            (work / "file").write_text("slow")
            write(path, "fast")

    with pytest.raises(PersistenceError, match="written by another process meanwhile"):
        slow()
    assert (path / "file").read_text() == "fast"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_of_200_letters(tmp_path: Path) -> None:
    for name in ("x" * 250, "\N{GRINNING FACE}" * 60, "two  spaces ", "con", "a:b"):
        write(tmp_path / name)
        assert (tmp_path / name / "file").read_text() == "new"
        with _atomic.new_file(tmp_path / f"{name[:-1]}y") as work:
            work.write_text("new")
    with pytest.raises(PersistenceError, match="cannot be written: File name too long"):
        write(tmp_path / ("x" * 300))
    assert _atomic.short_name(Path("x" * 200)) != _atomic.short_name(Path("x" * 201))


def test_a_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PersistenceError, match="cannot be written") as caught:
        write(tmp_path / "file" / "model")
    assert "\n" not in str(caught.value)


@pytest.fixture(params=["size=64k", "ro"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A small disk, or one that is read only."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", request.param, "tmpfs", str(place)]
    if os.name != "posix" or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        yield place, "No space left" if request.param == "size=64k" else "Read-only"
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_takes_nothing(disk: tuple[Path, str]) -> None:
    place, says = disk
    with pytest.raises(PersistenceError, match=says) as caught:
        write(place / "model", "x" * 200_000)
    assert "\n" not in str(caught.value)
    assert ".fairtrain-" not in str(caught.value)
    with pytest.raises(PersistenceError, match=says), _atomic.new_file(place / "file") as work:
        work.write_bytes(b"x" * 200_000)
    assert not list(place.iterdir())


def test_errors_about_other_places_stay_what_they_are(tmp_path: Path) -> None:
    error = PermissionError(errno.EACCES, "Permission denied", "/somewhere/else")
    with pytest.raises(PermissionError), _atomic.writing(tmp_path / "here"):
        raise error


def test_a_private_folder(tmp_path: Path) -> None:
    _atomic.check_private(tmp_path / "none", "cache=")
    _atomic.check_private(tmp_path, "cache=")
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(InvalidParameterError, match="only you can write to"):
        _atomic.check_private(tmp_path / "link", "cache=")
    tmp_path.chmod(0o770)
    with pytest.raises(InvalidParameterError, match="only you can write to"):
        _atomic.check_private(tmp_path, "cache=")


def test_a_place_is_held_by_one(tmp_path: Path) -> None:
    with _atomic.held(tmp_path) as first, _atomic.held(tmp_path) as second:
        assert first
        assert not second
    with _atomic.held(tmp_path) as again:
        assert again
