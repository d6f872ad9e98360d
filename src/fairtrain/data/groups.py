"""Who is compared: the partition of rows that sensitive columns make."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fairtrain.data.inputs import Columns, factorize, sensitive_columns
from fairtrain.data.partition import (
    MISSING,
    MISSING_NAME,
    compress,
    group_names,
    level_name,
    mixed_radix,
    split_radix,
)
from fairtrain.data.strata import Given, cut, edge_names, require_few_levels
from fairtrain.exceptions import InvalidDataError, InvalidParameterError, UnseenGroupError

__all__ = ["EVERYBODY", "GroupScheme", "Groups", "group_sums", "match_columns", "merge_members"]


Missing = Literal["error", "group"]
Unseen = Literal["error", "ignore"]

EVERYBODY = "everybody"
"""Name of the one group of all people."""


@dataclass(frozen=True, eq=False)
class GroupScheme:
    """The groups that ``fit`` saw, without any row: what a model keeps.

    Group codes are fixed here. Rows that come later, a batch or a test set that lacks a group, are
    coded by :meth:`encode` and leave every other code in place.

    Attributes
    ----------
    columns : tuple of str
        The k sensitive columns.
    levels : tuple of tuples
        Levels of each column, sorted; None stands for missing values.
    level_codes : ndarray of int64, shape (G, k)
        Each group's level in every column.
    names : tuple of str
        Group names: levels joined by ``/``, such as ``"black/female"``.
    counts : ndarray of int64, shape (G,)
        Rows of each group when the scheme was made.
    min_count : int
        Groups with fewer rows count as small.
    missing : {"error", "group"}
        What to do with missing values.
    given : tuple of (str, tuple of float)
        Columns that only divide people into strata, each with the edges at which its numbers are
        cut. Groups of other columns are compared within them; the scheme then has every group in
        every stratum, with rows or without.
    """

    columns: tuple[str, ...]
    levels: tuple[tuple[Hashable, ...], ...]
    level_codes: NDArray[np.int64]
    names: tuple[str, ...]
    counts: NDArray[np.int64]
    min_count: int = 30
    missing: Missing = "error"
    given: Given = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def people(self) -> tuple[str, ...]:
        """The columns that make groups of people, not strata."""
        strata = dict(self.given)
        return tuple(name for name in self.columns if name not in strata)

    @property
    def small(self) -> NDArray[np.bool_]:
        """Groups with fewer than ``min_count`` rows, shape (G,)."""
        return np.asarray(self.counts < self.min_count)

    def require_given(self, given: Given) -> None:
        """Raise where a column of strata is no column here, or was not cut at its edges."""
        cuts = dict(self.given)
        for name, edges in given:
            if name not in self.columns:
                raise InvalidDataError(
                    f"given={name!r} is no column of these groups; there are {list(self.columns)}."
                )
            if edges and cuts.get(name) != edges:
                raise InvalidDataError(
                    f"given: {name!r} was not cut at {list(edges)} when these groups were made; "
                    "pass the columns themselves as sensitive_features."
                )

    def encode(
        self, sensitive_features: Any, *, unseen: Unseen = "error", like: Any = None
    ) -> NDArray[np.int64]:
        """Code rows by the groups of this scheme.

        Parameters
        ----------
        sensitive_features : frame, series, mapping, array or list
            The same columns as at fit, found by name in a frame, by position in an array.
        unseen : {"error", "ignore"}, default="error"
            A value or combination never seen: raise, or give the row code -1.
        like : optional
            Rows (usually X): where both carry a pandas index it must be the same.

        Returns
        -------
        ndarray of int64, shape (n,)

        Raises
        ------
        UnseenGroupError
            If a row belongs to no group of the scheme and ``unseen="error"``.
        InvalidDataError
            If a column is missing, or values are while ``missing="error"``.
        """
        if unseen not in ("error", "ignore"):
            raise InvalidParameterError(f"unseen must be 'error' or 'ignore', got {unseen!r}.")
        found = sensitive_columns(sensitive_features, like=like)
        columns = self._matched(found)
        level_codes = [self._encode_column(i, column, unseen) for i, column in enumerate(columns)]
        return self._combine(level_codes, unseen)

    def _matched(self, found: Columns) -> list[NDArray[Any]]:
        """Columns in the scheme's order, numbers cut; strata go by name."""
        strata = {name: found[name] for name, _ in self.given if name in found}
        others = {name: column for name, column in found.items() if name not in strata}
        wanted = [name for name in self.columns if name not in strata]
        known = dict(zip(wanted, match_columns(others, wanted), strict=True)) | strata
        edges = dict(self.given)
        return [
            cut(name, known[name], edges[name]) if edges.get(name) else known[name]
            for name in self.columns
        ]

    def _encode_column(self, i: int, column: NDArray[Any], unseen: Unseen) -> NDArray[np.int64]:
        values, codes = factorize(column)
        known = {level: code for code, level in enumerate(self.levels[i])}
        lookup = np.array([known.get(value, -1) for value in values] + [-1], dtype=np.int64)
        if (codes < 0).any():
            if self.missing == "error":
                raise InvalidDataError(_missing_message(self.columns[i], int((codes < 0).sum())))
            lookup[-1] = known.get(MISSING, -1)
        coded = lookup[codes]
        if unseen == "error" and (coded < 0).any():
            row = int(np.argmax(coded < 0))
            value = values[codes[row]] if codes[row] >= 0 else MISSING_NAME
            raise UnseenGroupError(
                f"{self.columns[i]!r} has the value {value!r} in {int((coded < 0).sum())} rows, "
                f"which fit never saw; known: {[level_name(v) for v in self.levels[i]][:12]}. "
                "encode(..., unseen='ignore') gives such rows code -1."
            )
        return coded

    def _combine(self, level_codes: list[NDArray[np.int64]], unseen: Unseen) -> NDArray[np.int64]:
        sizes = [len(levels) for levels in self.levels]
        keys, outside = mixed_radix(level_codes, sizes)
        own, _ = mixed_radix(list(self.level_codes.T), sizes)
        order = np.argsort(own)
        place = np.minimum(np.searchsorted(own, keys, sorter=order), len(own) - 1)
        codes = order[place]
        strange = outside | (own[codes] != keys)
        if unseen == "error" and strange.any():
            row = int(np.argmax(strange))
            parts = [level_name(self.levels[i][c[row]]) for i, c in enumerate(level_codes)]
            raise UnseenGroupError(
                f"the combination {'/'.join(parts)!r} ({int(strange.sum())} rows in all) was never "
                "seen in fit. encode(..., unseen='ignore') gives such rows code -1."
            )
        codes[strange] = -1
        return codes

    def possible(self, known: Columns) -> NDArray[np.bool_]:
        """Groups that rows can belong to by some of the columns, shape (n, G).

        A value that was never seen rules out nothing.
        """
        edges = dict(self.given)
        possible = np.ones((1, len(self)), dtype=bool)
        for name, column in known.items():
            i = self.columns.index(name)
            values = cut(name, column, edges[name]) if edges.get(name) else column
            codes = self._encode_column(i, values, "ignore")[:, None]
            possible = possible & ((codes == self.level_codes[:, i]) | (codes < 0))
        return possible

    def decode(self, codes: NDArray[np.int64]) -> Columns:
        """Values of every column for rows of these groups: what :meth:`encode` reads back."""
        found = {}
        for name, levels, own in zip(self.columns, self.levels, self.level_codes.T, strict=True):
            alike = len({type(level) for level in levels}) == 1
            values = np.array(levels, dtype=None if alike else object)
            found[name] = values[own[codes]]
        return found

    def coarsen(self, columns: str | Sequence[str]) -> tuple[GroupScheme, NDArray[np.int64]]:
        """Merge groups that agree on some of the columns.

        Parameters
        ----------
        columns : str or sequence of str
            The columns that still count.

        Returns
        -------
        coarse : GroupScheme
            The groups made by those columns.
        parent : ndarray of int64, shape (G,)
            The coarse group of every group of this scheme.
        """
        wanted = (columns,) if isinstance(columns, str) else tuple(dict.fromkeys(columns))
        if not wanted:
            raise InvalidParameterError("over=() names no column; leave it out to use all.")
        for name in wanted:
            if name not in self.columns:
                raise InvalidParameterError(
                    f"over={name!r} is not a sensitive column; there are {list(self.columns)}."
                )
        if wanted == self.columns:
            return self, np.arange(len(self))
        kept = [self.columns.index(name) for name in wanted]
        level_codes, parent = np.unique(self.level_codes[:, kept], axis=0, return_inverse=True)
        parent = parent.reshape(-1)
        levels = tuple(self.levels[i] for i in kept)
        coarse = GroupScheme(
            columns=wanted,
            levels=levels,
            level_codes=level_codes,
            names=group_names(levels, level_codes),
            counts=np.bincount(parent, weights=self.counts, minlength=len(level_codes)).astype(
                np.int64
            ),
            min_count=self.min_count,
            missing=self.missing,
            given=tuple(pair for pair in self.given if pair[0] in wanted),
        )
        return coarse, parent

    @property
    def everybody(self) -> tuple[GroupScheme, NDArray[np.int64]]:
        """One group of all people, and the parent code of every group here: as :meth:`coarsen`."""
        scheme = GroupScheme(
            columns=(),
            levels=(),
            level_codes=np.zeros((1, 0), dtype=np.int64),
            names=(EVERYBODY,),
            counts=np.array([self.counts.sum()]),
            min_count=self.min_count,
            missing=self.missing,
        )
        return scheme, np.zeros(len(self), dtype=np.int64)

    @property
    def marginals(self) -> dict[str, GroupScheme]:
        """The groups of each column alone."""
        return {name: self.coarsen(name)[0] for name in self.columns}

    @property
    def parents(self) -> dict[tuple[str, ...], tuple[GroupScheme, NDArray[np.int64]]]:
        """Next coarser partitions: one column left out at a time.

        Returns
        -------
        dict
            Remaining columns -> (scheme, parent code of every group here). Empty for one column.
        """
        width = len(self.columns) - 1
        return {c: self.coarsen(c) for c in combinations(self.columns, width)} if width > 0 else {}


@dataclass(frozen=True, eq=False)
class Groups:
    """Rows and the groups they belong to.

    Parameters
    ----------
    scheme : GroupScheme
        The groups.
    codes : ndarray of int64, shape (n,)
        Group of each row, the likeliest where memberships are known; -1 for rows that belong to
        none.
    membership : ndarray of shape (n, G), optional
        Probability that each row belongs to each group. Codes are the special case of zeros and
        ones.

    Examples
    --------
    >>> groups = Groups.from_sensitive({"race": ["w", "b", "b"], "sex": ["f", "f", "m"]})
    >>> groups.names
    ('b/f', 'b/m', 'w/f')
    >>> groups.over("race").counts
    array([2, 1])
    """

    scheme: GroupScheme
    codes: NDArray[np.int64]
    membership: NDArray[np.float64] | None = None

    @classmethod
    def from_sensitive(
        cls,
        sensitive_features: Any,
        columns: str | Sequence[str] | None = None,
        *,
        missing: Missing = "error",
        min_count: int = 30,
        like: Any = None,
        given: Given = (),
    ) -> Groups:
        """Make the groups of sensitive columns: all combinations that occur.

        Parameters
        ----------
        sensitive_features : frame, series, mapping, array of shape (n,) or (n, k), or list
            Values or integer codes, one row a person.
        columns : str or sequence of str, optional
            The columns to use, of a frame that has more.
        missing : {"error", "group"}, default="error"
            Missing values raise, or form a level of their own.
        min_count : int, default=30
            Groups with fewer rows count as small.
        like : optional
            Rows (usually X): where both carry a pandas index it must be the same.
        given : tuple of (str, tuple of float), default=()
            Columns that divide people into strata, as :attr:`GroupScheme.given` has them.

        Returns
        -------
        Groups

        Raises
        ------
        InvalidDataError
            If there are no rows, values are missing, or a column is continuous.
        """
        if missing not in ("error", "group"):
            raise InvalidParameterError(f"missing must be 'error' or 'group', got {missing!r}.")
        found = sensitive_columns(sensitive_features, like=like)
        if columns is not None:
            found = _select(found, (columns,) if isinstance(columns, str) else tuple(columns))
        if not found:
            raise InvalidDataError("sensitive_features has no column.")
        edges = dict(given)
        _select(found, tuple(edges))
        levels, level_codes = zip(
            *(
                _read_stratum(name, column, edges[name], missing)
                if name in edges
                else _read_column(name, column, missing)
                for name, column in found.items()
            ),
            strict=True,
        )
        occurring, codes = _combinations(level_codes, [len(values) for values in levels])
        if given:
            strata = np.array([name in edges for name in found])
            occurring, codes = _crossed(occurring, codes, strata)
        scheme = GroupScheme(
            columns=tuple(found),
            levels=levels,
            level_codes=occurring,
            names=group_names(levels, occurring),
            counts=np.bincount(codes, minlength=len(occurring)),
            min_count=min_count,
            missing=missing,
            given=given,
        )
        return cls(scheme, codes)

    def with_given(self, given: Given) -> Groups:
        """Let some columns divide people into strata only.

        Raises
        ------
        InvalidDataError
            If one is no column here, or was not cut at these edges.
        """
        self.scheme.require_given(given)
        cuts = dict(self.scheme.given)
        more = tuple(pair for pair in given if pair[0] not in cuts)
        if not more:
            return self
        return replace(self, scheme=replace(self.scheme, given=self.scheme.given + more))

    def __len__(self) -> int:
        return len(self.scheme)

    @property
    def columns(self) -> tuple[str, ...]:
        """The sensitive columns."""
        return self.scheme.columns

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the G groups."""
        return self.scheme.names

    @property
    def level_codes(self) -> NDArray[np.int64]:
        """Each group's level in every column, shape (G, k)."""
        return self.scheme.level_codes

    @property
    def counts(self) -> NDArray[np.int64]:
        """Rows of each group among these rows, shape (G,)."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self))

    @property
    def small(self) -> NDArray[np.bool_]:
        """Groups with fewer than ``min_count`` of these rows, shape (G,)."""
        return np.asarray(self.counts < self.scheme.min_count)

    def encode(
        self, sensitive_features: Any, *, unseen: Unseen = "error", like: Any = None
    ) -> NDArray[np.int64]:
        """Code later rows by the same groups; see :meth:`GroupScheme.encode`."""
        return self.scheme.encode(sensitive_features, unseen=unseen, like=like)

    def over(self, columns: str | Sequence[str] | None) -> Groups:
        """Merge to the groups of some columns; None keeps all."""
        if columns is None:
            return self
        return self.merged(*self.scheme.coarsen(columns))

    def merged(self, coarse: GroupScheme, parent: NDArray[np.int64]) -> Groups:
        """Merge to coarser groups, given the one of every group."""
        if coarse is self.scheme:
            return self
        merged = merge_members(self.members, parent, len(coarse))
        if self.membership is None:
            return Groups(coarse, merged)
        return Groups(coarse, np.where(self.codes >= 0, merged.argmax(axis=1), -1), merged)

    @property
    def marginals(self) -> dict[str, Groups]:
        """The groups of each column alone."""
        return {name: self.over(name) for name in self.columns}

    @property
    def intersections(self) -> Groups:
        """The finest groups: all columns together."""
        return self

    @property
    def parents(self) -> dict[tuple[str, ...], tuple[GroupScheme, NDArray[np.int64]]]:
        """Next coarser partitions; see :attr:`GroupScheme.parents`."""
        return self.scheme.parents

    @property
    def members(self) -> NDArray[Any]:
        """What rates are taken over: codes (n,), or memberships (n, G) where they are known."""
        return self.codes if self.membership is None else self.membership

    def with_members(self, members: NDArray[Any]) -> Groups:
        """The same groups with other memberships, where these are memberships."""
        return self if members.ndim == 1 else replace(self, membership=members)

    def take(self, rows: NDArray[Any]) -> Groups:
        """Keep only some rows; groups and codes stay as they are."""
        membership = None if self.membership is None else self.membership[rows]
        return Groups(self.scheme, self.codes[rows], membership)


def group_sums(values: NDArray[Any], members: NDArray[Any], num_groups: int) -> NDArray[np.float64]:
    """Sum of ``values`` in every group, shape (G,).

    Parameters
    ----------
    values : ndarray of shape (n,)
        One value a row.
    members : ndarray of int64, shape (n,), or of shape (n, G)
        Groups, none of them negative; or memberships.
    num_groups : int
        Number of groups G.
    """
    if members.ndim == 2:
        return np.asarray(values @ members, dtype=np.float64)
    sums = np.bincount(members, weights=values, minlength=num_groups)
    return sums.astype(np.float64, copy=False)


def merge_members(
    members: NDArray[Any], parent: NDArray[np.int64], num_groups: int
) -> NDArray[Any]:
    """Codes or memberships in coarser groups, given that of every group, -1 for none."""
    if members.ndim == 2:
        return np.asarray(members @ (parent[:, None] == np.arange(num_groups)))
    return np.where(members >= 0, parent[members], -1)


_MOST_CELLS = 100_000  # tables of cells are dense
_UNNAMED = re.compile(r"group(_\d+)?")  # as sensitive_columns calls columns without a name


def _select(columns: Columns, wanted: Sequence[str]) -> Columns:
    for name in wanted:
        if name not in columns:
            raise InvalidDataError(
                f"sensitive_features has no column {name!r}; it has {list(columns)}."
            )
    return {name: columns[name] for name in wanted}


def match_columns(columns: Columns, names: Sequence[str]) -> list[NDArray[Any]]:
    """Find the columns that ``fit`` saw: by name, or by position where one side has no names."""
    if all(name in columns for name in names):
        return [columns[name] for name in names]
    by_position = _unnamed(columns) or _unnamed(names)
    if by_position and len(columns) == len(names):
        return list(columns.values())
    absent = next(name for name in names if name not in columns)
    raise InvalidDataError(
        f"sensitive_features lacks the column {absent!r}; it has {list(columns)}."
    )


def _unnamed(columns: Iterable[str]) -> bool:
    return all(_UNNAMED.fullmatch(name) for name in columns)


def _combinations(
    level_codes: Sequence[NDArray[np.int64]], sizes: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Combinations of levels that occur, (G, k), and each row's."""
    keys, _ = mixed_radix(level_codes, sizes)
    distinct, codes = compress(keys)
    return split_radix(distinct, sizes), codes


def _crossed(
    occurring: NDArray[np.int64], codes: NDArray[np.int64], strata: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every group in every stratum: a cell that has no row must be seen to have none."""
    people, group = np.unique(occurring[:, ~strata], axis=0, return_inverse=True)
    within, stratum = np.unique(occurring[:, strata], axis=0, return_inverse=True)
    if len(people) * len(within) > _MOST_CELLS:
        raise InvalidDataError(
            f"{len(people)} groups in {len(within)} strata are too many cells; give fewer columns "
            "or cut them at fewer edges."
        )
    cells = np.empty((len(people) * len(within), len(strata)), dtype=np.int64)
    cells[:, ~strata] = np.repeat(people, len(within), axis=0)
    cells[:, strata] = np.tile(within, (len(people), 1))
    order = np.lexsort(cells.T[::-1])
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    own = place[group.reshape(-1) * len(within) + stratum.reshape(-1)]
    return cells[order], own[codes]


def _read_stratum(
    name: str, column: NDArray[Any], edges: tuple[float, ...], missing: Missing
) -> tuple[tuple[Hashable, ...], NDArray[np.int64]]:
    """Levels of a column of strata, those between edges in their order, and codes."""
    if not edges:
        require_few_levels(name, factorize(column)[0])
        return _read_column(name, column, missing)
    levels, codes = _read_column(name, cut(name, column, edges), missing)
    known: list[Hashable] = [v for v in (*edge_names(edges), MISSING) if v in levels]
    place = np.array([known.index(level) for level in levels])
    return tuple(known), place[codes]


def _read_column(
    name: str, column: NDArray[Any], missing: Missing
) -> tuple[tuple[Hashable, ...], NDArray[np.int64]]:
    levels, codes = factorize(column)
    if not len(codes):
        raise InvalidDataError("sensitive_features has no rows.")
    fractions = [level for level in levels if isinstance(level, float)]
    if len(levels) > 2 and fractions:
        shares = all(isinstance(v, int | float) and 0 <= v <= 1 for v in levels)
        raise InvalidDataError(
            f"sensitive column {name!r} is continuous ({len(levels)} values such as "
            f"{fractions[0]!r}{', like probabilities of belonging to a group' if shares else ''}); "
            "cut it into groups first, for example with pandas.cut; numbers as they are go to "
            "AdversarialDebiasingTrainer(continuous=...)."
        )
    if len(fractions) == 2 and min(fractions) > 0 and math.isclose(sum(fractions), 1, rel_tol=1e-6):
        raise InvalidDataError(
            f"sensitive column {name!r} holds two fractions that sum to 1 ({fractions[0]!r} and "
            f"{fractions[1]!r}), like probabilities of belonging to a group; give each row's group "
            "as text or a whole number."
        )
    absent = codes < 0
    if absent.any():
        if missing == "error":
            raise InvalidDataError(_missing_message(name, int(absent.sum())))
        codes = np.where(absent, len(levels), codes)
        levels = [*levels, MISSING]
    return tuple(levels), codes


def _missing_message(name: str, rows: int) -> str:
    return (
        f"sensitive column {name!r} has {rows} missing values; drop those rows or make them a "
        "group of their own with missing='group'."
    )
