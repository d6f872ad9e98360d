"""Finished points of a sweep on disk: an interrupted sweep goes on where it was."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairtrain._atomic import new_file
from fairtrain.exceptions import InvalidParameterError

__all__ = ["PointCache"]

_DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True)
class PointCache:
    """A folder with one file a trained model.

    A file is a SHA-256 digest and the pickled model. It is written under another name and renamed,
    so that a killed process leaves no half of one, and a damaged one is trained again. Like any
    pickle it runs code when it is read: keep such a folder to yourself.

    Parameters
    ----------
    folder : Path
        Made when the first point is kept.
    """

    folder: Path

    def __post_init__(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise InvalidParameterError(f"cache='{self.folder}' is a file, not a folder.")

    def read(self, key: str) -> Any:
        """Return the kept value, or None."""
        import cloudpickle

        try:
            content = self._path(key).read_bytes()
        except OSError:
            return None
        digest, body = content[:_DIGEST], content[_DIGEST:]
        if hashlib.sha256(body).digest() != digest:
            return None
        with suppress(Exception):  # whole, but of other versions of the libraries it needs
            return cloudpickle.loads(body)
        return None

    def write(self, key: str, value: Any) -> None:
        """Keep a value."""
        import cloudpickle

        body = cloudpickle.dumps(value)
        self.folder.mkdir(parents=True, exist_ok=True)
        with new_file(self._path(key)) as work:
            work.write_bytes(hashlib.sha256(body).digest() + body)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.point"
