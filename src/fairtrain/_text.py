"""Names that come from data, made safe to show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["flatten", "listed", "no_formula", "one_line"]

_LONGEST = 80
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def one_line(text: object) -> str:
    r"""Write control characters, line ends and direction marks as escapes.

    Examples
    --------
    >>> print(one_line("a\nb\x1b[31m"))
    a\nb\x1b[31m
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text)
    )


def listed(names: Iterable[object], most: int = 6) -> str:
    """Quote some names for a message, the beginnings of long ones.

    Examples
    --------
    >>> print(listed(["a", "b" * 10**6], most=1))
    'a' and 1 more
    >>> len(listed(["b" * 10**6]))
    108
    """
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(_quoted(str(name)) for name in every[:most]) + more


def _quoted(name: str) -> str:
    if len(name) <= _LONGEST:
        return f"'{one_line(name)}'"
    return f"'{one_line(name[:_LONGEST])}...' ({len(name):,} characters)"


def no_formula(value: Any) -> Any:
    """Put an apostrophe before text that a spreadsheet would take for a formula.

    Examples
    --------
    >>> no_formula("=1+1"), no_formula(-1.0)
    ("'=1+1", -1.0)
    """
    # str() also of NumPy's words; a spreadsheet skips blanks, and what cannot be seen.
    text = str(value).lstrip(" \ufeff\u200b") if isinstance(value, str) else ""
    return f"'{value}" if text.startswith(_FORMULA) else value


def flatten(items: Sequence[str], known: Iterable[str] = ()) -> tuple[str, ...]:
    """Split ``"a,b"`` at commas, unless a column has that very name; each name once.

    Examples
    --------
    >>> flatten(["race, sex", "age"])
    ('race', 'sex', 'age')
    """
    whole = set(known)
    parts = [
        part
        for item in items
        for part in ([item] if item in whole else [p.strip() for p in item.split(",")])
    ]
    return tuple(dict.fromkeys(part for part in parts if part))
