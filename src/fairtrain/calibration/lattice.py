"""All subgroups of several attributes: families of disjoint ones, a screen, what to hide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from fairtrain.calibration.cells import Codes, Floats, Mask
from fairtrain.calibration.significance import adjusted
from fairtrain.data.groups import GroupScheme, group_sums
from fairtrain.data.partition import compress
from fairtrain.data.rows import Rows

__all__ = ["Family", "Screen", "families", "hidden_subgroups", "screen", "subgroup_names"]


_SMALLEST_VARIANCE = 3.0
_OPEN = 0.05
_SOLVED = 1e-8  # a system of zeros and ones is solved exactly, or not nearly


@dataclass(frozen=True)
class Family:
    """Subgroups that the levels of some attributes make.

    Attributes
    ----------
    columns : tuple of int
        Attributes.
    of_leaf : ndarray of int64, shape (L,)
        Subgroup of every leaf (intersection of all attributes).
    first : ndarray of int64, shape (G,)
        A leaf of every subgroup.
    """

    columns: tuple[int, ...]
    of_leaf: Codes
    first: Codes

    def __len__(self) -> int:
        return len(self.first)

    def sums(self, values: NDArray[Any]) -> Floats:
        """Sums over the leaves of every subgroup: (L, ...) to (G, ...)."""
        result = np.zeros((len(self), *values.shape[1:]))
        np.add.at(result, self.of_leaf, values)
        return result


def families(scheme: GroupScheme, depth: int) -> Iterator[Family]:
    """Go through the combinations of up to ``depth`` attributes, the coarsest first."""
    sizes = [len(levels) for levels in scheme.levels]
    for d in range(1, depth + 1):
        for columns in combinations(range(len(sizes)), d):
            keys = np.zeros(len(scheme), dtype=np.int64)
            for j in columns:
                keys = keys * sizes[j] + scheme.level_codes[:, j]
                # Kept dense, so that many attributes do not overflow.
                keys = compress(keys)[1]
            _, first = np.unique(keys, return_index=True)
            yield Family(columns, keys, first)


def subgroup_names(scheme: GroupScheme, family: Family) -> list[str]:
    """Names such as ``race=black & sex=female``; attributes are named, for any may be absent."""
    return [
        " & ".join(
            f"{scheme.columns[j]}={scheme.levels[j][scheme.level_codes[leaf, j]]}"
            for j in family.columns
        )
        for leaf in family.first.tolist()
    ]


@dataclass(frozen=True)
class Screen:
    """What the screen found.

    Attributes
    ----------
    table : DataFrame
        A line a tested subgroup: ``subgroup``, ``depth``, ``rows``, ``statistic``, ``df``,
        ``p_value`` and ``p_adjusted`` (Benjamini-Hochberg), worst first.
    pruned : int
        Subgroups passed over because nothing within their parents was found, or for few rows.
    sampled : bool
        Whether there were more families than could be looked at, so that some were drawn.
    places : list of (Family, int)
        Where each line's subgroup is.
    """

    table: pd.DataFrame
    pruned: int
    sampled: bool
    places: list[tuple[Family, int]]


def screen(
    rows: Rows,
    *,
    depth: int,
    n_bins: int,
    min_rows: int,
    max_subgroups: int,
    rng: np.random.Generator,
) -> Screen:
    r"""Test subgroups from coarse to fine; do not look into those within which nothing shows.

    The statistic of a subgroup is :math:`\sum_b D_b^2 / V_b` with D the sum of y - s and V that of
    s (1 - s) in bins of the score, bins with V < 3 joined. Both are sums over the subgroup's
    leaves, so rows are read once. A subgroup is looked into if it, or the sum of the statistics of
    its leaves, is significant at 5 %: errors of its parts may cancel in a whole.

    Parameters
    ----------
    rows : Rows
        ``score`` holds probabilities, ``y`` outcomes; the groups are leaves.
    depth : int
        Most attributes at once.
    n_bins : int
        Bins of the score, of equally many rows over all.
    min_rows : int
        Smallest subgroup to test.
    max_subgroups : int
        Most subgroups to test; beyond, families are drawn by chance, coarse ones first.
    rng : Generator
        Draws them.
    """
    scores, groups = rows.scores, rows.groups
    leaves = len(groups)
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, n_bins + 1)[1:-1]))
    at = groups.codes * n_bins + np.searchsorted(edges, scores, side="right")
    # Weights in a unit in which they sum to the effective number of rows.
    w = rows.weights * (rows.weights.sum() / (rows.weights**2).sum())
    D, V = (
        group_sums(v, at, leaves * n_bins).reshape(leaves, n_bins)
        for v in (w * (rows.outcomes - scores), w**2 * scores * (1 - scores))
    )
    own, own_df = _statistic(D, V)
    all_families = list(families(groups.scheme, depth))
    chosen, sampled = _affordable(all_families, max_subgroups, rng)
    open_leaves: dict[tuple[int, ...], Mask] = {(): np.ones(leaves, dtype=bool)}
    tables: list[pd.DataFrame] = []
    places: list[tuple[Family, int]] = []
    pruned = sum(len(f) for f in all_families) - sum(len(f) for f in chosen)
    for family in chosen:
        coarser = combinations(family.columns, len(family.columns) - 1)
        parents = [open_leaves[columns] for columns in coarser if columns in open_leaves]
        reachable = np.any(parents, axis=0) if parents else np.ones(leaves, dtype=bool)
        counts = family.sums(groups.counts)
        tested = reachable[family.first] & (counts >= min_rows)
        pruned += int((~tested).sum())
        statistic, df = _statistic(family.sums(D), family.sums(V))
        p_value = np.asarray(stats.chi2.sf(statistic, np.maximum(df, 1)))
        inside = stats.chi2.sf(family.sums(own), np.maximum(family.sums(own_df), 1))
        suspect = tested & ((p_value < _OPEN) | (inside < _OPEN))
        open_leaves[family.columns] = suspect[family.of_leaf]
        names = subgroup_names(groups.scheme, family)
        shown = np.flatnonzero(tested & (df > 0))
        places += [(family, int(g)) for g in shown]
        tables.append(
            pd.DataFrame(
                {
                    "subgroup": [names[g] for g in shown],
                    "depth": len(family.columns),
                    "rows": counts[shown].astype(np.int64),
                    "statistic": statistic[shown],
                    "df": df[shown].astype(np.int64),
                    "p_value": p_value[shown],
                }
            )
        )
    table = pd.concat(tables, ignore_index=True)
    table["p_adjusted"] = adjusted(table["p_value"].to_numpy(dtype=np.float64))
    excess = (table["statistic"] - table["df"]) / np.sqrt(2 * table["df"])
    order = np.lexsort((-excess, table["p_adjusted"]))
    table = table.iloc[order].reset_index(drop=True)
    return Screen(table, pruned, sampled, [places[i] for i in order])


def _statistic(D: Floats, V: Floats) -> tuple[Floats, Floats]:
    """Chi-squared statistic of rows of bins, and degrees of freedom; thin bins joined."""
    thin = V < _SMALLEST_VARIANCE
    rest_D, rest_V = np.where(thin, D, 0.0).sum(1), np.where(thin, V, 0.0).sum(1)
    thick = np.divide(D**2, V, out=np.zeros_like(D), where=~thin).sum(1)
    enough = rest_V >= _SMALLEST_VARIANCE
    rest = np.divide(rest_D**2, rest_V, out=np.zeros_like(rest_V), where=enough)
    return thick + rest, (~thin).sum(1) + enough.astype(np.float64)


def _affordable(
    every: list[Family], most: int, rng: np.random.Generator
) -> tuple[list[Family], bool]:
    """Families whose subgroups fit the budget: whole depths first, then drawn ones."""
    if sum(len(f) for f in every) <= most:
        return every, False
    chosen: list[Family] = []
    left = most
    for d in range(1, max(len(f.columns) for f in every) + 1):
        here = [f for f in every if len(f.columns) == d]
        if sum(len(f) for f in here) > left:
            here = [here[i] for i in rng.permutation(len(here))]
        for family in here:
            if len(family) <= left:
                chosen.append(family)
                left -= len(family)
    return sorted(chosen, key=lambda f: (len(f.columns), f.columns)), True


def hidden_subgroups(members: Mask, over: Sequence[str], leaf_rows: Codes, min_cell: int) -> Mask:
    """Which lines of a table must not show their numbers, where everybody's are shown too.

    Those of fewer than ``min_cell`` rows; and, smallest first, as few others as keep it impossible
    to work a small one out. That is possible where its leaves are a sum of multiples of the lines
    shown, such as a marginal less all its other intersections; and where such a remainder,
    though it is no line of its own, holds fewer than ``min_cell`` rows.

    Parameters
    ----------
    members : ndarray of bool, shape (G, L)
        Leaves that make each line's subgroup.
    over : sequence of str, length G
        Family of each line; subgroups of one family are disjoint.
    leaf_rows : ndarray of shape (L,)
        Rows of every leaf.
    min_cell : int
        Fewest rows whose numbers may be shown.

    Returns
    -------
    ndarray of bool, shape (G,)
    """
    lines = np.vstack([members, np.ones(members.shape[1])])  # the last one is everybody
    counts = lines @ leaf_rows
    small = (counts > 0) & (counts < min_cell)
    small[-1] = False
    of_family = np.array([[o == name for o in [*over, None]] for name in dict.fromkeys(over)])
    inside = lines @ lines.T == lines.sum(axis=1)[:, None]  # [g, p]: g is part of p

    def disclosing(hidden: Mask) -> Mask:
        """Lines that together give a small number away; none if nothing does."""
        rest = counts - (of_family * (counts * ~hidden)) @ inside
        for f, p in np.argwhere((rest > 0) & (rest < min_cell) & ~hidden):
            using: Mask = np.asarray(of_family[f] & inside[:, p] & ~hidden)
            using[p] = p < len(members)
            if using.any():
                return using
        shown = lines[~hidden].T
        solved = np.linalg.lstsq(shown, lines[small].T)[0]
        exact = np.abs(shown @ solved - lines[small].T).max(axis=0, initial=0.0) < _SOLVED
        for target in np.flatnonzero(exact):
            using = np.zeros(len(lines), dtype=bool)
            using[~hidden] = np.abs(solved[:, target]) > _SOLVED
            using[-1] = False
            if using.any():
                return using
        return np.zeros(len(lines), dtype=bool)

    hidden = small.copy()
    while (using := disclosing(hidden)).any():
        hidden[min(np.flatnonzero(using), key=counts.__getitem__)] = True
    for g in sorted(np.flatnonzero(hidden & ~small), key=counts.__getitem__, reverse=True):
        hidden[g] = False  # hidden for a reason that another line has taken over since?
        hidden[g] = disclosing(hidden).any()
    return np.asarray(hidden[:-1])
