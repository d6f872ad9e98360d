"""What groups are compared within: columns that divide people into strata, numbers cut at edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairtrain._parameters import Real
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

__all__ = ["Given", "GivenSpec", "cut", "edge_names", "read_given", "require_few_levels"]

Edges = tuple[float, ...]
Given = tuple[tuple[str, Edges], ...]
"""Columns, each with the edges at which its numbers are cut; no edges where it has categories."""
GivenSpec = str | Sequence[str] | Mapping[str, Sequence[float]] | Given | None

_MOST_LEVELS = 20
"""Distinct numbers up to which a column without edges is taken as categories."""

_FORM = "given must name columns, or map them to edges such as {'age': [30, 45]}"


def read_given(given: Any) -> Given:
    """Freeze what a person wrote: names, or a mapping of names to edges, or its frozen form.

    Parameters
    ----------
    given : str, sequence of str, mapping of str to sequence of float, or None
        Edges are the cuts between strata, each belonging to the stratum above it. A column of
        categories has none: an empty list, or None.

    Returns
    -------
    tuple of (str, tuple of float)

    Examples
    --------
    >>> read_given("income_band"), read_given({"age": [30, 45]})
    ((('income_band', ()),), (('age', (30.0, 45.0)),))
    """
    if given is None:
        return ()
    if isinstance(given, str):
        given = (given,)
    if not isinstance(given, Mapping | Sequence):
        raise InvalidParameterError(f"{_FORM}, got {given!r}.")
    items = given.items() if isinstance(given, Mapping) else given
    pairs = tuple(_pair(item) for item in items)
    names = [name for name, _ in pairs]
    if not names:
        raise InvalidParameterError("given is empty; leave it out to compare without strata.")
    if len(set(names)) < len(names):
        raise InvalidParameterError(f"given names a column twice: {names}.")
    return pairs


def _pair(item: Any) -> tuple[str, Edges]:
    name, edges = (item, ()) if isinstance(item, str) else _two(item)
    edges = () if edges is None else edges
    numbers = isinstance(edges, Sequence | np.ndarray) and not isinstance(edges, str)
    if not isinstance(name, str) or not numbers or not all(Real().accepts(edge) for edge in edges):
        raise InvalidParameterError(f"{_FORM}, got {item!r}.")
    if any(a >= b for a, b in pairwise(edges)):
        raise InvalidParameterError(f"given: the edges of {name!r} must rise, got {list(edges)}.")
    return name, tuple(float(edge) for edge in edges)


def _two(item: Any) -> tuple[Any, Any]:
    if not isinstance(item, Sequence) or len(item) != 2:
        raise InvalidParameterError(f"{_FORM}, got {item!r}.")
    return item[0], item[1]


def edge_names(edges: Edges) -> list[str]:
    """Names of the strata between edges.

    Examples
    --------
    >>> edge_names((30.0, 45.0))
    ['below 30', '30 to 45', '45 and above']
    """
    shown = [f"{edge:.12g}" for edge in edges]
    between = [f"{low} to {high}" for low, high in pairwise(shown)]
    return [f"below {shown[0]}", *between, f"{shown[-1]} and above"]


def cut(name: str, column: NDArray[Any], edges: Edges) -> NDArray[Any]:
    """Name of each number's stratum, None where the number is missing.

    An edge belongs to the stratum above it: 30 is "30 to 45". A column of such names stays.

    Raises
    ------
    InvalidDataError
        If the column holds anything but numbers.
    """
    missing = np.asarray(pd.isna(column), dtype=bool)
    if column.dtype.kind in "OUS" and set(column[~missing]) <= set(edge_names(edges)):
        return column
    try:
        numbers = np.where(missing, np.nan, column).astype(np.float64)
    except (TypeError, ValueError):
        raise InvalidDataError(
            f"given: {name!r} has edges, so it must hold numbers; leave the edges out for "
            "categories."
        ) from None
    named = np.array(edge_names(edges), dtype=object)
    named = named[np.minimum(np.searchsorted(edges, numbers, "right"), len(edges))]
    named[missing] = None
    return named


def require_few_levels(name: str, levels: Sequence[Any]) -> None:
    """Raise for a column of strata that holds many numbers and has no edges."""
    numbers = [v for v in levels if isinstance(v, int | float) and not isinstance(v, bool)]
    many = len(numbers) > _MOST_LEVELS or (
        len(levels) > 2 and any(isinstance(v, float) for v in numbers)
    )
    if many:
        middle = sorted(numbers)[len(numbers) // 2]
        raise InvalidDataError(
            f"given: {name!r} holds {len(numbers)} different numbers; say where to cut them, as "
            f"given={{{name!r}: [{middle:g}]}}."
        )
