"""All subgroups screened, on sums that add up over leaves."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from fairtrain.calibration.lattice import Family, families, subgroup_names
from fairtrain.calibration.significance import adjusted
from fairtrain.data.groups import group_sums
from fairtrain.data.rows import Rows

__all__ = ["Screen", "screen"]

Floats = NDArray[np.float64]

_SMALLEST_VARIANCE = 3.0
_OPEN = 0.05


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
    assert rows.score is not None
    assert rows.y is not None
    scores, groups = rows.score, rows.groups
    leaves = len(groups)
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, n_bins + 1)[1:-1]))
    at = groups.codes * n_bins + np.searchsorted(edges, scores, side="right")
    D, V = (
        group_sums(v, at, leaves * n_bins).reshape(leaves, n_bins)
        for v in (rows.y - scores, scores * (1 - scores))
    )
    own, own_df = _statistic(D, V)
    all_families = list(families(groups.scheme, depth))
    chosen, sampled = _affordable(all_families, max_subgroups, rng)
    open_leaves: dict[tuple[int, ...], NDArray[np.bool_]] = {(): np.ones(leaves, dtype=bool)}
    lines: list[pd.DataFrame] = []
    places: list[tuple[Family, int]] = []
    pruned = sum(len(f) for f in all_families) - sum(len(f) for f in chosen)
    for family in chosen:
        size = len(family)
        parents = [
            open_leaves[p]
            for p in combinations(family.columns, len(family.columns) - 1)
            if p in open_leaves
        ]
        reachable = np.any(parents, axis=0) if parents else np.ones(leaves, dtype=bool)
        counts = group_sums(groups.counts.astype(np.float64), family.of_leaf, size)
        tested = reachable[family.first] & (counts >= min_rows)
        pruned += int((~tested).sum())
        sums = [np.zeros((size, n_bins)) for _ in range(2)]
        for total, values in zip(sums, (D, V), strict=True):
            np.add.at(total, family.of_leaf, values)
        statistic, df = _statistic(*sums)
        p_value = np.asarray(stats.chi2.sf(statistic, np.maximum(df, 1)))
        leaf_df = np.maximum(group_sums(own_df, family.of_leaf, size), 1)
        inside = stats.chi2.sf(group_sums(own, family.of_leaf, size), leaf_df)
        found = tested & ((p_value < _OPEN) | (inside < _OPEN))
        open_leaves[family.columns] = found[family.of_leaf]
        names = subgroup_names(groups.scheme, family)
        kept = np.flatnonzero(tested & (df > 0))
        places += [(family, int(g)) for g in kept]
        lines.append(
            pd.DataFrame(
                {
                    "subgroup": [names[g] for g in kept],
                    "depth": len(family.columns),
                    "rows": counts[kept].astype(np.int64),
                    "statistic": statistic[kept],
                    "df": df[kept].astype(np.int64),
                    "p_value": p_value[kept],
                }
            )
        )
    table = pd.concat(lines, ignore_index=True)
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
    found: list[Family], most: int, rng: np.random.Generator
) -> tuple[list[Family], bool]:
    """Families whose subgroups fit the budget: whole depths first, then drawn ones."""
    if sum(len(f) for f in found) <= most:
        return found, False
    chosen: list[Family] = []
    left = most
    for d in range(1, max(len(f.columns) for f in found) + 1):
        here = [f for f in found if len(f.columns) == d]
        if sum(len(f) for f in here) > left:
            here = [here[i] for i in rng.permutation(len(here))]
        for family in here:
            if len(family) <= left:
                chosen.append(family)
                left -= len(family)
    return sorted(chosen, key=lambda f: (len(f.columns), f.columns)), True
