"""Windows of one rate, alone, in blocks and all together, and what each of these may spend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fairtrain.metrics.clusters import LEAST_CLUSTERS
from fairtrain.metrics.intervals import GapInterval, gap_interval, ratio_interval
from fairtrain.metrics.intervals.gaps import certain_gap, certain_ratio
from fairtrain.metrics.intervals.single import Design, student_rows, two_sided

__all__ = ["Due", "Part", "Pool", "WindowSequence"]

Floats = NDArray[np.float64]

# Lengths of blocks (0: all windows so far), and the share of the error rate that each may spend. A
# jump shows in one window, a slow drift in eight; a step that is small against one window's error
# takes longest, so long blocks have more. Of 1,500 streams that step over the bound by .02, .03 and
# .05 in a window drawn from 11 to 60, half were found after 19, 9 and 4 windows; with equal shares
# after as many, a third of all later; CUSUM 13, 7 and 4 (`benchmarks/monitors.py`).
_SHARES = {1: 0.15, 2: 0.1, 4: 0.15, 8: 0.2, 16: 0.25, 0: 0.15}
# A quarter of each share goes to early looks, the rest is spread over about as many windows. All
# of it early, the same streams took 24 to 26, 13 and 5 windows; half of it 21, 10 and 4; none 19, 9
# and 4, but of those that are over the bound by .05 from the start half took 3 windows, not 2.
_EARLY, _SPREAD = 0.25, 100.0
_FINENESS = 64  # of levels: critical values of many groups are costly, and remembered
_MANY = 1e9  # degrees of freedom of rows that are independent
_KEPT = 80  # newest windows that are kept one by one: 64 before a block of 16


@dataclass(frozen=True)
class Part:
    """Means of G groups in some rows, with effective rows and counts, each of shape (..., G).

    Where rows come in clusters, ``df`` has the degrees of freedom between those of each group.
    """

    mean: Floats
    rows: Floats
    count: Floats
    df: Floats | None = None

    def of(self, groups: Any) -> Part:
        """Some of the groups."""
        return self.each(lambda values: values[..., groups])

    def grown(self, size: int) -> Part:
        """The same with groups added that have no row."""
        more = [(0, 0)] * (self.mean.ndim - 1) + [(0, size - self.mean.shape[-1])]
        return self.each(lambda values: np.pad(values, more))

    def has(self, min_rows: float) -> NDArray[np.bool_]:
        """Which groups have rows, and clusters, enough to be compared."""
        enough: NDArray[np.bool_] = self.count >= min_rows
        return enough if self.df is None else enough & (self.df >= LEAST_CLUSTERS - 1)

    def comparable(self, min_rows: float) -> Part:
        """The same without the rows of groups that have few."""
        return self.only(self.has(min_rows))

    def only(self, groups: NDArray[np.bool_]) -> Part:
        """The same without the rows of other groups."""
        return replace(self, rows=np.where(groups, self.rows, 0.0))

    def gap(self, alpha: float, kind: str) -> GapInterval:
        """Gap or ratio of the extreme groups that have rows, with limits."""
        interval = ratio_interval if kind == "ratio" else gap_interval
        return interval(self.mean, self._rows_at(alpha), 1 - alpha)

    def beyond(self, bound: Any, alpha: float, kind: str) -> NDArray[np.bool_]:
        """Whether the gap lies certainly beyond a bound; on it that is said with chance alpha."""
        alpha = self.one_sided(alpha, bound, kind)
        rows = self._rows_at(alpha)
        if kind == "ratio":
            return np.asarray(certain_ratio(self.mean, rows, 1 - alpha) < bound)
        return np.asarray(certain_gap(self.mean, rows, 1 - alpha) > bound)

    def _rows_at(self, alpha: float) -> Floats:
        """Rows, so few that limits at ``alpha`` allow for how many clusters there are."""
        if self.df is None:
            return self.rows
        independent = np.zeros((self.df.shape[-1],) * 2)
        return student_rows(self.rows, two_sided(alpha), Design(self.df, independent))

    def one_sided(self, alpha: float, bound: Any, kind: str) -> float:
        """Two-sided level of limits that lie beyond a bound with chance alpha, for a gap on it.

        A difference of b fails on one side, and on the other only if it is off by 2 b more: so the
        level is twice alpha where 2 b is many standard errors, and alpha where b is 0. Of more
        groups than two, those on the bound are the high against the low: one side again.
        """
        rate = (self.mean * self.rows + 2) / (self.rows + 4)  # Agresti and Coull's, never 0 or 1
        odd = (1 - rate) / rate if kind == "ratio" else rate * (1 - rate)
        variance = np.where(self.rows > 0, odd / np.maximum(self.rows, 1.0), 0.0).max(axis=-1)
        away = -np.log(np.maximum(bound, 1e-300)) if kind == "ratio" else bound
        df = _MANY if self.df is None else np.maximum(self.df.min(axis=-1), 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = 2 * away / np.sqrt(2 * variance)
        other = special.stdtr(df, special.stdtrit(df, alpha) - distance) / alpha
        share = 2 / (1 + np.nan_to_num(other, nan=1.0).max())
        return alpha * float(np.floor(_FINENESS * share) / _FINENESS)

    def each(self, change: Callable[[Floats], Floats]) -> Part:
        """The same change of all arrays."""
        df = None if self.df is None else change(self.df)
        return Part(change(self.mean), change(self.rows), change(self.count), df)


@dataclass
class Pool:
    r"""Windows together, each with one weight for all groups: its rows.

    The mean of group g is :math:`\sum_t w_t r_{gt} / W`; a sum of rows would let groups that come
    at different times look unequal where no window treats them so (Simpson's paradox). A group that
    a window lacks is given the rate of that window, which widens no gap.
    """

    windows: int = 0
    weight: Floats = field(default_factory=lambda: np.zeros(()))
    overall: Floats = field(default_factory=lambda: np.zeros(()))
    spread: Floats = field(default_factory=lambda: np.zeros(()))
    mean: Floats = field(default_factory=lambda: np.zeros(0))
    variance: Floats = field(default_factory=lambda: np.zeros(0))
    count: Floats = field(default_factory=lambda: np.zeros(0))
    df: Floats | None = None

    def take(self, window: Part) -> None:
        """Add a window, whose groups are those known before and perhaps more."""
        self.windows += 1
        n = window.count.sum(axis=-1, keepdims=True)
        known = window.mean.shape[-1] - self.mean.shape[-1]
        rate = (window.mean * window.count).sum(axis=-1, keepdims=True) / np.maximum(n, 1.0)
        seen = window.count > 0
        mean = n * np.where(seen, window.mean, rate)
        # Of the sum of n times the mean, in units of one row's variance.
        variance = n**2 / np.where(seen, window.rows, np.maximum(n, 1.0))
        self.mean = _appended(self.mean, self.overall, known) + mean
        self.variance = _appended(self.variance, self.spread, known) + variance
        self.count = _appended(self.count, 0 * self.spread, known) + window.count
        if self.df is not None or window.df is not None:
            own = np.where(seen, _MANY if window.df is None else window.df, 0.0)
            if self.df is None:  # windows before, if any, had independent rows
                self.df = np.where(self.count > window.count, _MANY, 0.0) + own
            else:
                self.df = _appended(self.df, 0 * self.spread, known) + own
        self.weight = self.weight + n[..., 0]
        self.overall = self.overall + (n * rate)[..., 0]
        self.spread = self.spread + n[..., 0]

    @property
    def part(self) -> Part:
        """Weighted means and effective rows."""
        weight = self.weight[..., None]
        rows = weight**2 / np.where(self.variance > 0, self.variance, 1.0)
        return Part(self.mean / np.maximum(weight, 1.0), rows, self.count, self.df)


def _appended(values: Floats, value: Floats, more: int) -> Floats:
    """Values with those of ``more`` new groups at their end."""
    if not values.size:
        return np.zeros(1)
    return np.concatenate([values, np.repeat(value[..., None], more, axis=-1)], axis=-1)


class Due(NamedTuple):
    """A test that is due: pooled rows, how many windows they are, its share of alpha."""

    part: Part
    windows: int
    share: float


@dataclass
class WindowSequence:
    r"""One rate of the groups over the windows.

    Blocks of L windows overlap by three quarters, so that a change is soon in a block of its own.
    The k-th may spend

    .. math:: \frac14 \cdot \frac{6}{\pi^2 k^2} + \frac34 \cdot \frac{h}{(k + h)(k + h - 1)}

    of its length's share, where h looks are made in a hundred windows: a longer block pays for
    fewer looks. Over all k both sums are 1.

    Attributes
    ----------
    names : list of str
        Groups, in the order in which they came.
    pool : Pool
        All windows.
    newest : list of Part
        The last windows one by one.
    """

    names: list[str] = field(default_factory=list)
    pool: Pool = field(default_factory=Pool)
    newest: list[Part] = field(default_factory=list)

    @property
    def all(self) -> Part:
        """All windows so far."""
        return self.pool.part

    def named(self, names: list[str], part: Part) -> Part:
        """A part whose columns are this sequence's groups, new ones at the end."""
        self.names += [name for name in names if name not in self.names]
        return _placed(self.names, names, part)

    def take(self, window: Part) -> Self:
        """Add a window."""
        self.pool.take(window)
        self.newest = [*self.newest[1 - _KEPT :], window]
        return self

    def due(self) -> Iterator[Due]:
        """What the newest window completes: itself, blocks, and all windows."""
        now = self.pool.windows
        for length, share in _SHARES.items():
            step = max(length // 4, 1)
            if now < length or now % step:
                continue
            looks = (now - length) // step + 1 if length else now
            part = self._block(length) if length else self.all
            yield Due(part, length or now, share * _spent(looks, _SPREAD / step))

    def before(self, windows: int) -> list[Part]:
        """Windows that are not among the newest ``windows``; all, if that leaves none."""
        kept = self.newest[: len(self.newest) - windows] or self.newest
        return [part.grown(self.pool.mean.shape[-1]) for part in kept]

    def _block(self, length: int) -> Part:
        block = Pool()
        for part in self.newest[-length:]:
            block.take(part.grown(self.pool.mean.shape[-1]))
        return block.part


def _spent(look: int, spread: float) -> float:
    """What the k-th look of a kind may spend of the kind's share."""
    early = 6 / (np.pi * look) ** 2
    return _EARLY * early + (1 - _EARLY) * spread / ((look + spread) * (look + spread - 1))


def _placed(order: list[str], names: list[str], part: Part) -> Part:
    """A part with its groups in another order; others have no rows."""
    at = [order.index(name) for name in names]

    def put(values: Floats) -> Floats:
        placed = np.zeros(len(order))
        placed[at] = values
        return placed

    return part.each(put)
