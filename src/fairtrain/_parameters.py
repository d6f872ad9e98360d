"""What values a setting may take: declared once a class, checked in one line.

A class says so in ``_allowed``, a table name -> :class:`Allowed` that its subclasses add to::

    _allowed: ClassVar[Table] = {"eps": Real(0, ends="()"), "max_iter": Whole(1)}

Estimators check when ``fit`` begins (:func:`check_parameters`), everything else when it is made
(:func:`checked`, or the former in ``__post_init__``), and functions when they are called
(:func:`checks`).
"""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from fairtrain._text import one_line
from fairtrain.exceptions import InvalidParameterError

__all__ = [
    "ANYTHING",
    "COLUMNS",
    "CONFIDENCE",
    "DIFFERENCE",
    "FLAG",
    "FUNCTION",
    "GENERATOR",
    "LABEL",
    "LEAST_ROWS",
    "MAPPING",
    "MISSING",
    "MOST_GROUPS",
    "NAMES",
    "NONE",
    "NUMBER_OF_GROUPS",
    "RATIO",
    "SEED",
    "SHARE",
    "SPLITTER",
    "Allowed",
    "Choice",
    "Of",
    "Real",
    "Several",
    "Table",
    "Where",
    "Whole",
    "check_parameters",
    "checked",
    "checks",
    "declared",
]

_LARGEST = 2**31 - 1  # what compiled code takes for a whole number
_LONGEST = 80  # characters of a value in a message


class Allowed:
    """Some values; ``words`` says which, after "must"."""

    words: str

    def accepts(self, value: Any) -> bool:
        """Whether a value is one of them."""
        raise NotImplementedError

    def __or__(self, other: Allowed) -> Allowed:
        return _Either(self, other)


Table = Mapping[str, Allowed]


@dataclass(frozen=True)
class Real(Allowed):
    """A finite number between two limits, which belong to it where ``ends`` has square brackets.

    Examples
    --------
    >>> [Real(0, 1, "[)").accepts(value) for value in (0, 0.5, 1, float("nan"), True, "0.5")]
    [True, True, False, False, False, False]
    >>> Real(0, 1, "[)").words, Real(0, ends="()").words
    ('lie in [0, 1)', 'be a number above 0')
    """

    low: float = -math.inf
    high: float = math.inf
    ends: str = "[]"

    @property
    def words(self) -> str:  # type: ignore[override]
        """What is allowed."""
        if self.high < math.inf:
            return f"lie in {self.ends[0]}{self.low:g}, {self.high:g}{self.ends[1]}"
        if self.low == -math.inf:
            return "be a finite number"
        return f"be a number {'>=' if self.ends[0] == '[' else 'above'} {self.low:g}"

    def accepts(self, value: Any) -> bool:
        """Whether a value is such a number."""
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            return False
        try:
            number = float(value)
        except OverflowError:
            return False
        above = number >= self.low if self.ends[0] == "[" else number > self.low
        below = number <= self.high if self.ends[1] == "]" else number < self.high
        return above and below and math.isfinite(number)


@dataclass(frozen=True)
class Whole(Allowed):
    """A whole number from ``low`` to ``high``.

    Examples
    --------
    >>> [Whole(1).accepts(value) for value in (1, 0, 1.0, True, 2**40)]
    [True, False, False, False, False]
    """

    low: int
    high: int = _LARGEST

    @property
    def words(self) -> str:  # type: ignore[override]
        """What is allowed."""
        if self.high == _LARGEST:
            return f"be a whole number >= {self.low}"
        return f"be a whole number in [{self.low}, {self.high}]"

    def accepts(self, value: Any) -> bool:
        """Whether a value is such a number."""
        whole = not isinstance(value, bool) and isinstance(value, numbers.Integral)
        return whole and self.low <= int(value) <= self.high


class Choice(Allowed):
    """One of some words."""

    def __init__(self, *options: str) -> None:
        self.options = options
        quoted = [repr(option) for option in options]
        most = ", ".join(quoted)
        self.words = f"be one of {most}" if len(quoted) > 2 else f"be {' or '.join(quoted)}"

    def accepts(self, value: Any) -> bool:
        """Whether a value is one of them."""
        return isinstance(value, str) and value in self.options


class Where(Allowed):
    """What a function says yes to."""

    def __init__(self, words: str, test: Callable[[Any], bool]) -> None:
        self.words = words
        self.test = test

    def accepts(self, value: Any) -> bool:
        """Whether the function says yes to a value."""
        return bool(self.test(value))


class Of(Where):
    """An object of some types."""

    def __init__(self, words: str, *types: type) -> None:
        super().__init__(words, lambda value: isinstance(value, types))


class Several(Allowed):
    """A collection of values of one sort; a mapping counts by its values."""

    def __init__(self, each: Allowed, words: str) -> None:
        self.each, self.words = each, words

    def accepts(self, value: Any) -> bool:
        """Whether a value is such a collection."""
        if not isinstance(value, Collection) or isinstance(value, str | bytes):
            return False
        items = list(value.values() if isinstance(value, Mapping) else value)
        return all(map(self.each.accepts, items))


class _Either(Allowed):
    def __init__(self, *sorts: Allowed) -> None:
        self.sorts = sorts
        first, *others = (sort.words for sort in sorts)
        self.words = " or ".join([first, *(words.removeprefix("be ") for words in others)])

    def accepts(self, value: Any) -> bool:
        return any(sort.accepts(value) for sort in self.sorts)


ANYTHING = Where("be anything", lambda _: True)
"""Of what is read, and judged, elsewhere: constraints, estimators, modules, labels."""
NONE = Where("be None", lambda value: value is None)
FLAG = Of("be True or False", bool, np.bool_)
MAPPING = Of("be a mapping", Mapping)
FUNCTION = Where("be a function", callable)
NAMES = Of("be a name", str) | Several(Of("", str), "be a list of names")
COLUMNS = NAMES | NONE
MISSING = Choice("error", "group")
SEED = Whole(0, 2**32 - 1) | Of("be a numpy RandomState", np.random.RandomState) | NONE
GENERATOR = Of("be a numpy Generator", np.random.Generator)
SPLITTER = Where(
    "be a splitter",
    lambda value: (
        hasattr(value, "split") or (isinstance(value, Iterable) and not isinstance(value, str))
    ),
)
SHARE = Real(0, 1, "[)") | NONE
DIFFERENCE = Where("lie in [0, 1] (write 5 % as 0.05)", Real(0, 1).accepts)
RATIO = Where("lie in (0, 1] (the 80 % rule is 0.8)", Real(0, 1, "(]").accepts)
CONFIDENCE = Where("lie strictly between 0 and 1", Real(0, 1, "()").accepts)
LEAST_ROWS = Where("be a number of rows from 0 on", Real(0).accepts)
LABEL = Where(
    "be a label: text, a number, or None",
    lambda value: np.ndim(value) == 0 and not isinstance(value, Mapping | set) and _is_short(value),
)
MOST_GROUPS = 10**6
NUMBER_OF_GROUPS = (
    Whole(1, MOST_GROUPS) | Several(Whole(1, MOST_GROUPS), "be one such number a column") | NONE
)
"""Tables of groups are dense: a million of them is a mistake, not a population."""


def _is_short(value: Any) -> bool:
    return not isinstance(value, int) or value.bit_length() < 1024


def declared(owner: type) -> dict[str, Allowed]:
    """Return what a class and its bases allow, by parameter."""
    table: dict[str, Allowed] = {}
    for base in reversed(owner.__mro__):
        table |= vars(base).get("_allowed", {})
    return table


def check_parameters(owner: object, given: Mapping[str, Any] | None = None) -> None:
    """Raise in one line if a parameter has a value that its class does not allow.

    Parameters
    ----------
    owner : object
        Whose class declares ``_allowed``.
    given : mapping, optional
        Values by parameter; by default the attributes of ``owner``.

    Raises
    ------
    InvalidParameterError
        It says what is allowed and what came.
    """
    table = declared(type(owner))
    if given is None:
        given = {name: getattr(owner, name) for name in table if hasattr(owner, name)}
    _check(table, given)


def _check(table: Table, given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if name in table and not table[name].accepts(value):
            raise InvalidParameterError(f"{name} must {table[name].words}, got {_shown(value)}.")


Function = TypeVar("Function", bound=Callable[..., Any])


def checked(init: Function) -> Function:
    """Let a constructor check its own arguments first; those of its bases are theirs to check."""
    signature = inspect.signature(init)

    @wraps(init)
    def run(self: Any, *args: Any, **kwargs: Any) -> None:
        check_parameters(self, _bound(signature, self, *args, **kwargs))
        init(self, *args, **kwargs)

    return run  # type: ignore[return-value]


def checks(**table: Allowed) -> Callable[[Function], Function]:
    """Let a function check its arguments first, by a table that it carries as ``allowed``."""

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            _check(table, _bound(signature, *args, **kwargs))
            return function(*args, **kwargs)

        run.allowed = table  # type: ignore[attr-defined]
        return run  # type: ignore[return-value]

    return decorate


def _bound(signature: inspect.Signature, *args: Any, **kwargs: Any) -> Mapping[str, Any]:
    try:
        return signature.bind(*args, **kwargs).arguments
    except TypeError:  # Python words it better, when it is called
        return {}


def _shown(value: Any) -> str:
    try:
        text = one_line(" ".join(repr(value).split()))
    except ValueError:  # a whole number of thousands of digits
        return f"{type(value).__name__} too long to show"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
