"""Which features tell the group, and which go with the gap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from fairtrain._parameters import LABEL, MISSING, SEED, Whole, checks
from fairtrain.data import inputs
from fairtrain.data.groups import Missing
from fairtrain.data.rows import Rows
from fairtrain.data.splits import stratified_folds
from fairtrain.exceptions import InvalidDataError

__all__ = ["LEAST_ROWS", "feature_proxies"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

LEAST_ROWS = 30
"""Rows of a group below which nothing is said of it here."""

_BINS = 32  # of a number: enough for any smooth dependence
_ROWS_IN_BIN = 50  # at least, as means of few rows are drawn to that of everybody
_RARE = 10  # rows below which levels are merged
_ALPHA = 0.05
_PRIOR = 2.0  # rows of everybody that are added to each level, so that few rows tell little


@checks(positive_label=LABEL, missing=MISSING, cv=Whole(2), random_state=SEED)
def feature_proxies(
    X: Any,
    y_pred: Any,
    sensitive_features: Any,
    *,
    positive_label: Any = None,
    clusters: Any = None,
    missing: Missing = "error",
    cv: int = 5,
    random_state: Any = 0,
) -> pd.DataFrame:
    r"""Of each feature by itself, how well it tells the group, and what of the gap goes with it.

    *Reveals*: area under the ROC curve of P(g | feature), estimated on the other folds, for the
    group that is told best from all others. *Carries*: with m the mean decision among people of
    one value, whatever their group, the gap of the two groups that are farthest apart is

    .. math:: r_a - r_b = \underbrace{E_a[m(x)] - E_b[m(x)]}_{\text{carried}} +
       \underbrace{E_a[d - m(x)] - E_b[d - m(x)]}_{\text{without}}

    the part that goes with groups having other values, and what is left among people who are
    alike in that feature (Kitagawa, 1955). Nothing is trained but these means: it can be asked of
    labels, of anybody's decisions, and of scores.

    Parameters
    ----------
    X : frame, array or sparse matrix of shape (n, d)
        Features. Numbers are cut at up to 31 quantiles; anything else is taken as levels, of which
        those of fewer than ten rows count as one; what is missing is a level.
    y_pred : array-like of shape (n,)
        Labels or decisions, two of them, or probabilities of the favourable one.
    sensitive_features : frame, series, mapping, array, list or Groups
        The sensitive features: which group each person belongs to.
    positive_label : label, optional
        The favourable one; may be left out for {0, 1}, {-1, 1} and booleans.
    clusters : array-like of shape (n,), optional
        Which rows belong together: no fold tears them apart.
    missing : {"error", "group"}, default="error"
        Missing sensitive values raise, or form a group of their own.
    cv : int, default=5
        Folds.
    random_state : int, RandomState or None, default=0
        Makes the folds.

    Returns
    -------
    DataFrame
        A row a feature, those that carry most first: ``feature``; ``auc`` in [0, 1], .5 for one
        that tells nothing, and the ``group`` it tells; ``highest``, ``lowest`` and their ``gap``;
        ``carried``; ``without``, the gap that is left; ``auc_lower`` and ``auc_upper``, 95 % limits
        of the largest area of all groups (DeLong, DeLong and Clarke-Pearson, 1988, in each fold;
        groups share the 5 %; the lower one no higher than as many disjoint pairs can show), NaN
        where rows come in clusters. Groups of fewer than 30 rows are
        left out; there is no row where fewer than two remain.

    Raises
    ------
    InvalidDataError
        If lengths differ, or values cannot be used.

    Notes
    -----
    Features are looked at one by one. Two that say the same each carry all of it, so that the parts
    do not add up; dropping one changes little. A model may do otherwise with a feature than the
    means say: what its gap is without one, only training without it tells. A feature may also carry
    less than nothing, where the group above has the values that are decided against.

    Examples
    --------
    >>> import numpy as np
    >>> group = np.repeat(["a", "b"], 1000)
    >>> rich = np.r_[np.arange(1000) < 800, np.arange(1000) < 300]  # 80 % of a, 30 % of b
    >>> table = feature_proxies(rich[:, None], rich.astype(int), group)
    >>> table.round(2)[["auc", "gap", "carried", "without"]].values.tolist()
    [[0.75, 0.5, 0.5, 0.0]]
    """
    rows = Rows.read_decided(
        None,
        y_pred,
        sensitive_features,
        positive_label=positive_label,
        missing=missing,
        clusters=clusters,
    )
    inputs.check_lengths(len(rows), X=np.empty(inputs.number_of_rows(X)))
    X = inputs.as_features(X)
    if getattr(X, "ndim", 2) != 2:
        raise InvalidDataError("X must have rows and columns, got one column; pass X[:, None].")
    known = _Decided.among(rows, cv, random_state)
    limits = ["auc_lower", "auc_upper"]
    lines = [] if known is None else [known.line(name, codes) for name, codes in _levels(X)]
    columns = ["feature", "auc", "group", "highest", "lowest", "gap", "carried", "without", *limits]
    table = pd.DataFrame(lines, columns=columns)
    if rows.clusters is not None:
        table[limits] = np.nan
    order = (-table["carried"].abs()).argsort(kind="stable")
    return table.iloc[order].reset_index(drop=True)


@dataclass(frozen=True, eq=False)
class _Decided:
    """Decisions about people, their groups and folds.

    Attributes
    ----------
    codes, fold : ndarray of int64, shape (n,)
        Group and fold of every row.
    decision : ndarray of shape (n,)
        What was decided.
    names : tuple of str
        Names of the groups.
    enough : ndarray of int64
        Groups with rows enough.
    cv : int
        Folds.
    """

    codes: Codes
    fold: Codes
    decision: Floats
    names: tuple[str, ...]
    enough: Codes
    cv: int

    @classmethod
    def among(cls, rows: Rows, cv: int, random_state: Any) -> _Decided | None:
        """Divide rows into folds; None where fewer than two groups have rows enough."""
        codes = rows.groups.codes
        enough = np.flatnonzero(np.bincount(codes, minlength=len(rows.groups)) >= LEAST_ROWS)
        if len(enough) < 2:
            return None
        rng = np.random.RandomState(random_state) if isinstance(random_state, int) else random_state
        folds = stratified_folds((codes,), cv, rng or np.random.RandomState(), rows.clusters)
        fold = np.empty(len(rows), dtype=np.int64)
        for i, (_, held) in enumerate(folds):
            fold[held] = i
        return cls(codes, fold, rows.decisions, rows.groups.names, enough, cv)

    def line(self, name: str, levels: Codes) -> tuple[Any, ...]:
        """What is said of one feature."""
        size, n_groups = int(levels.max()) + 1, len(self.names)
        at = (self.fold * size + levels) * n_groups + self.codes
        shape = (self.cv, size, n_groups)
        length = self.cv * size * n_groups
        rows = np.bincount(at, minlength=length).reshape(shape).astype(np.float64)
        yes = np.bincount(at, self.decision, minlength=length).reshape(shape)
        auc, told, limits = self._reveals(rows)
        rates = yes.sum(axis=(0, 1))[self.enough] / rows.sum(axis=(0, 1))[self.enough]
        high, low = self.enough[rates.argmax()], self.enough[rates.argmin()]
        gap = float(np.ptp(rates))
        share = rows / rows.sum(axis=(0, 1)).clip(min=1.0)
        means = _elsewhere(yes.sum(axis=2), rows.sum(axis=2), float(self.decision.mean()))
        carried = float(((share[:, :, high] - share[:, :, low]) * means).sum())
        names = (self.names[i] for i in (told, high, low))
        return (name, auc, *names, gap, carried, gap - carried, *limits)

    def _reveals(self, rows: Floats) -> tuple[float, int, tuple[float, float]]:
        """The best of the areas, one group against all others, that group, and limits."""
        of_all, whole = rows.sum(axis=2), rows.sum()
        areas, errors = np.zeros((2, len(self.names)))
        for g in self.enough:
            own = rows[:, :, g]
            chance = _elsewhere(own, of_all, float(own.sum() / whole))
            areas[g], errors[g] = _area(own, of_all - own, chance)
        sides = len(self.enough) if len(self.enough) > 2 else 1  # two groups are one question
        level = _ALPHA / (2 * sides)
        best, away = int(areas.argmax()), norm.isf(level) * errors
        # As many pairs as the smaller side has rows share none: all of them in order show no more.
        own = rows.sum(axis=(0, 1))
        pairs = np.maximum(np.minimum(own, whole - own), 1)
        low, high = np.minimum(areas - away, level ** (1 / pairs)).max(), (areas + away).max()
        return float(areas[best]), best, (float(max(low, 0.0)), float(min(high, 1.0)))


def _elsewhere(part: Floats, whole: Floats, mean: float) -> Floats:
    """Mean at every level over all other folds, drawn to the mean of everybody, (cv, levels)."""
    there, of = part.sum(axis=0) - part, whole.sum(axis=0) - whole
    return np.asarray((there + _PRIOR * mean) / (of + _PRIOR))


def _area(own: Floats, others: Floats, chance: Floats) -> tuple[float, float]:
    """Mean area over folds, weighted by the pairs in them, and its standard error.

    Within a fold: pooled, folds of which fewer were in the group elsewhere would be told apart.
    """
    pairs = own.sum(axis=1) * others.sum(axis=1)
    there = pairs > 0
    share = pairs[there] / pairs[there].sum()
    folds = zip(own[there], others[there], chance[there], strict=True)
    areas, variances = np.array([_placed(*fold) for fold in folds]).T
    return float(share @ areas), float(np.sqrt(share**2 @ variances))


def _placed(own: Floats, others: Floats, chance: Floats) -> tuple[float, float]:
    """Area of one fold and its variance, by where each row stands among the other side's."""
    level = np.unique(chance, return_inverse=True)[1]
    mine, theirs = np.bincount(level, own), np.bincount(level, others)
    above = (theirs.cumsum() - theirs / 2) / theirs.sum()
    below = 1 - (mine.cumsum() - mine / 2) / mine.sum()
    area = float(mine @ above / mine.sum())
    spread = mine @ (above - area) ** 2 / mine.sum() ** 2
    return area, float(spread + theirs @ (below - area) ** 2 / theirs.sum() ** 2)


def _levels(X: Any) -> Iterator[tuple[str, Codes]]:
    """Every feature by name, as levels from 0 on."""
    names = [str(name) for name in getattr(X, "columns", range(X.shape[1]))]
    for name, column in zip(names, inputs.feature_columns(X), strict=True):
        yield name, _coded(np.asarray(column))


def _coded(column: NDArray[Any]) -> Codes:
    if column.dtype.kind in "mM":
        column = np.where(np.isnat(column), np.nan, column.astype(np.int64).astype(np.float64))
    if column.dtype.kind in "fiub":
        return _cut(column.astype(np.float64))
    codes = inputs.factorize(column)[1] + 1  # 0 is missing
    counts = np.bincount(codes)
    kept = np.cumsum(counts >= _RARE) * (counts >= _RARE)  # 0 takes what is rare as well
    return np.asarray(kept[codes])


def _cut(values: Floats) -> Codes:
    """Few values as they are, many cut at quantiles; 0 is missing."""
    there = np.isfinite(values)
    codes = np.zeros(len(values), dtype=np.int64)
    if there.any():
        held = values[there]
        bins = min(_BINS, max(2, len(held) // _ROWS_IN_BIN))
        distinct, place = np.unique(held, return_inverse=True)
        if len(distinct) > bins:
            edges = np.quantile(held, np.linspace(0, 1, bins + 1)[1:-1], method="lower")
            # What many rows share stands alone: else a rare flag would be in one bin with it.
            often = edges[1:][edges[1:] == edges[:-1]]
            below = distinct[np.maximum(np.searchsorted(distinct, often) - 1, 0)]
            place = np.searchsorted(np.unique([*edges, *below]), held)
        codes[there] = 1 + place
    return codes
