"""Universal Binary JSON, as far as XGBoost writes it, read with limits on depth and size."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["read_ubjson"]

_DEPTH = 16
_NUMBERS = {
    b"i": ">i1", b"U": ">u1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8",
}  # fmt: skip
_WORDS = {b"Z": None, b"T": True, b"F": False}


def read_ubjson(content: bytes) -> Any:
    """Read one value: objects as dicts, typed arrays as NumPy arrays.

    Nothing is made that is larger than the bytes that stand for it.

    Raises
    ------
    ValueError
        If it is anything else, or nested deeper than 16.
    """
    reader = _Reader(content)
    found = reader.value(reader.take(1), 0)
    if reader.at != len(content):
        raise ValueError("something follows the model")
    return found


class _Reader:
    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def take(self, n: int) -> bytes:
        if n < 0 or self.at + n > len(self.content):
            raise ValueError("it is cut short")
        self.at += n
        return self.content[self.at - n : self.at]

    def number(self, mark: bytes) -> Any:
        dtype = np.dtype(_NUMBERS[mark])
        return np.frombuffer(self.take(dtype.itemsize), dtype)[0].item()

    def size(self) -> int:
        if (mark := self.take(1)) not in (b"i", b"U", b"I", b"l", b"L"):
            raise ValueError("a length is no whole number")
        return int(self.number(mark))

    def text(self) -> str:
        return self.take(self.size()).decode()

    def value(self, mark: bytes, depth: int) -> Any:
        if depth > _DEPTH:
            raise ValueError(f"it is nested deeper than {_DEPTH}")
        if mark == b"{":
            return self.object(depth)
        if mark == b"[":
            return self.array(depth)
        if mark in (b"S", b"C"):
            return self.text() if mark == b"S" else self.take(1).decode("latin-1")
        if mark in _WORDS:
            return _WORDS[mark]
        if mark in _NUMBERS:
            return self.number(mark)
        raise ValueError(f"it holds a value of unknown kind {mark!r}")

    def object(self, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        while self.content[self.at : self.at + 1] != b"}":
            name = self.text()
            if name in made:
                raise ValueError(f"it names {name!r} twice")
            made[name] = self.value(self.take(1), depth + 1)
        self.at += 1
        return made

    def array(self, depth: int) -> Any:
        mark = self.take(1)
        if mark == b"$":
            kind = self.take(1)
            if kind not in _NUMBERS or self.take(1) != b"#":
                raise ValueError("a typed array is not one of numbers")
            dtype, n = np.dtype(_NUMBERS[kind]), self.size()
            return np.frombuffer(self.take(n * dtype.itemsize), dtype)
        if mark == b"#":
            n = self.size()
            if n > len(self.content) - self.at:
                raise ValueError("it is cut short")
            return [self.value(self.take(1), depth + 1) for _ in range(n)]
        made = []
        while mark != b"]":
            made.append(self.value(mark, depth + 1))
            mark = self.take(1)
        return made
