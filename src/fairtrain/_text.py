"""Names that come from data, made safe to show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["flatten", "listed", "no_formula", "one_line"]

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
    """Quote some names for a message."""
    shown = [f"'{one_line(name)}'" for name in names]
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


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
