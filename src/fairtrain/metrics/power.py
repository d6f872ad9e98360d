"""How many rows would tell: the chance of ``met``, and the rows that give a chance of 80 %."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from fairtrain.constraints import Constraint
from fairtrain.constraints.bounds import RateBounds
from fairtrain.exceptions import InvalidParameterError
from fairtrain.metrics.cells import Cells
from fairtrain.metrics.intervals.single import error_rate, two_sided

__all__ = [
    "POWER",
    "Requirement",
    "bound_in_reach",
    "chance_broken",
    "check_shares",
    "least_rows",
    "level_cells",
    "rows_short",
    "rows_to_certify",
    "smallest_bound",
    "spread_cells",
]

Floats = NDArray[np.float64]

POWER = 0.8
"""The chance of ``met`` that advised numbers of rows give."""

_MOST_ROWS = 1e9  # a group that needs more will never have them
_SPARE = 0.25  # part of the bound that the model of "rows needed" leaves unused
# hypot(a, b) is the largest of a cos t + b sin t, which is a sum of one number a group: the widest
# pair of G groups costs G steps instead of G^2. Few angles serve a chance, many one yes or no.
_ANGLES = {False: np.pi / 16 * np.array([1, 3, 5, 7]), True: np.linspace(0, np.pi / 2, 65)}
_STRETCH = {False: 1.0065, True: 1.0}  # the mean of 1 / cos(t) between the few angles


def rows_to_certify(
    bound: float,
    true_gap: float,
    *,
    power: float = POWER,
    rate: float = 0.5,
    kind: str = "difference",
    confidence: float = 0.95,
    n_groups: int = 2,
) -> float:
    r"""Rows each group needs for a stated chance of ``met``, were the true gap as given.

    The smallest n with :math:`P(\max_{ij} U_{ij} \le b) \ge \text{power}`, where :math:`U_{ij}` are
    the upper limits that decide the verdict, over samples of n rows a group from rates that lie
    evenly between two that are ``true_gap`` apart around ``rate``.

    Parameters
    ----------
    bound : float
        Largest difference allowed, or smallest ratio.
    true_gap : float
        Difference (or ratio) of the extreme groups in the population.
    power : float in (0, 1), default=0.8
        Chance of ``met``.
    rate : float in (0, 1), default=0.5
        Middle of the groups' rates; one half needs most rows for a difference, a small one for a
        ratio.
    kind : {"difference", "ratio"}, default="difference"
        What the bound limits.
    confidence : float in (0, 1), default=0.95
        Level of the limits.
    n_groups : int, default=2
        Number of groups; each adds a chance to miss the bound by bad luck.

    Returns
    -------
    float
        A whole number, to within 2 % above 100; infinite where no number would do.

    Raises
    ------
    InvalidParameterError
        If a number lies outside its range.

    Examples
    --------
    >>> rows_to_certify(0.05, 0.0), rows_to_certify(0.05, 0.025)
    (2092.0, 6113.0)
    """
    check_shares(power=power, rate=rate, bound=bound, confidence=confidence)
    if kind not in ("difference", "ratio"):
        raise InvalidParameterError(f"kind must be 'difference' or 'ratio', got {kind!r}.")
    if n_groups < 2 or not 0 <= true_gap <= 1:
        raise InvalidParameterError(
            f"there must be two groups or more, and a true_gap in [0, 1], got {n_groups!r} and "
            f"{true_gap!r}."
        )
    cells = spread_cells(np.zeros(n_groups), rate, true_gap, kind)
    required = Requirement(kind, bound, confidence)
    return least_rows(lambda n: required.chance(cells, n), power)


def spread_cells(rows: Floats, rate: float, gap: float, kind: str) -> Cells:
    """Groups of given rows whose rates lie evenly between two that differ by ``gap``."""
    if kind == "ratio":
        ends = 2 * rate * np.array([gap, 1.0]) / (1 + gap)
    else:
        ends = rate + gap / 2 * np.array([-1.0, 1.0])
    ends = ends - max(0.0, ends[1] - 1.0) - min(0.0, ends[0])
    return _flips(np.linspace(ends[0], ends[1], len(rows)) if len(rows) > 1 else ends[:1], rows)


def level_cells(rows: Floats, required: Requirement, part: float) -> Cells:
    """Groups of given rows whose rates are all that part of their upper bound."""
    mean = part * (required.bound + required.shift) * np.ones(len(rows))
    return _flips(np.clip(mean, 0.0, 1.0), rows)


def _flips(mean: Floats, rows: Floats) -> Cells:
    count = np.asarray(rows, dtype=np.float64)
    return Cells(mean, count.astype(np.int64), count, np.maximum(count, 1.0), None)


@dataclass(frozen=True)
class Requirement:
    """A bound, and the limits that must keep it for ``met``.

    Attributes
    ----------
    kind : {"difference", "ratio", "upper"}
        What the bound limits.
    bound : float
        The bound.
    confidence : float
        Level of the limits.
    around : bool
        Whether a difference is that from all rows, as fairlearn's bounds are; ratios keep to pairs.
    shift : ndarray of shape (G,) or float
        How far each group's own upper bound lies above the common one.
    """

    kind: str
    bound: float
    confidence: float = 0.95
    around: bool = False
    shift: Floats | float = 0.0

    @classmethod
    def of(
        cls,
        constraint: Constraint,
        confidence: float,
        bound: float | None = None,
        shift: Floats | float = 0.0,
    ) -> Self:
        """Read a constraint, with another bound if one is given; a floor as an upper bound."""
        kind = constraint.kind
        bound = constraint.bound if bound is None else bound
        if kind == "lower":
            return cls("upper", 1 - bound, confidence, shift=-1.0 * shift)
        around = kind == "difference" and getattr(constraint, "reference", "") == "overall"
        return cls(kind, bound, confidence, around, shift)

    def chance(self, cells: Cells, least: float = 0.0) -> float:
        """Chance that the far limit of one rate keeps the bound, over samples of the same sizes.

        Parameters
        ----------
        cells : Cells
            The true means, and the rows of each group.
        least : float, default=0.0
            Groups with fewer (effective) rows are brought up to this number.
        """
        return float((self._worst(cells, least) <= self._limit).mean())

    def fits(self, cells: Cells) -> bool:
        """Whether the limits of the very means that are assumed keep the bound."""
        if not cells.effective.all():
            return False
        return bool(self._worst(cells, 0.0, typical=True)[0] <= self._limit)

    def gap(self, cells: Cells) -> float:
        """What the bound limits, of these means."""
        low, high = float(cells.mean.min()), float(cells.mean.max())
        if self.kind == "ratio":
            return low / high if high > 0 else 1.0
        if self.around:
            return float(np.abs(cells.mean - np.average(cells.mean, weights=cells.total)).max())
        return float((cells.mean - self.shift).max()) if self.kind == "upper" else high - low

    def within(self, cells: Cells, spare: float) -> Cells:
        """The same means, brought together until they leave a part of the bound unused."""
        mean, bound = cells.mean, self.bound
        low, high = float(mean.min()), float(mean.max())
        allowed = (1 - spare) * bound
        if self.kind == "upper":
            mean = np.minimum(mean, (1 - spare) * (bound + self.shift))
        elif self.kind == "ratio":
            mean = np.maximum(mean, high * (bound + spare * (1 - bound)))
        elif spare and self.gap(cells) > allowed:
            mean = np.clip(mean, (low + high - allowed) / 2, (low + high + allowed) / 2)
        return replace(cells, mean=mean)

    @property
    def _limit(self) -> float:
        return 0.0 if self.kind == "ratio" else self.bound

    def _worst(self, cells: Cells, least: float, *, typical: bool = False) -> Floats:
        """The far limit in samples; in a ``typical`` one, each group has its own mean.

        A ratio R with the limits of `pairwise_ratios` is at least the bound b where
        ``b p_j - p_i + hypot(p_i - l_i, b (u_j - p_j))`` is at most 0: that is given for it.
        """
        n, mean = np.maximum(cells.effective, least), cells.mean
        variance = mean * (1 - mean) if cells.variance is None else np.nan_to_num(cells.variance)
        scale = np.sqrt(variance / n)
        z = np.zeros((1, len(mean))) if typical else _samples(len(mean))
        x = mean + scale * z
        if cells.variance is None and not typical:
            # Fisher's first correction: counts of rare decisions are skewed.
            skew = np.divide(1 - 2 * mean, n * scale, out=np.zeros(len(mean)), where=scale > 0)
            x = x + scale * (z**2 - 1) * skew / 6
        family = len(mean) if self.around and len(mean) > 2 else 1
        critical = two_sided(error_rate(self.confidence) / family)

        def limits(mean: Floats) -> tuple[Floats, Floats]:
            at = replace(cells, mean=mean).with_rows(n)
            return at.limits(self.confidence) if self.kind == "upper" else at.limits_at(critical)

        below, above = _halves(cells, scale, z, limits)
        if self.kind == "upper":
            return np.asarray((x + above - self.shift).max(axis=1))
        if self.around:
            return _worst_around(x, below, above, cells.total / cells.total.sum())
        if self.kind == "ratio":
            return _widest(self.bound * x, -x, self.bound * above, below, typical)
        return _widest(x, -x, above, below, typical)


def least_rows(chance: Callable[[float], float], power: float) -> float:
    """Smallest number of rows whose chance reaches the power: whole, above 100 to within 2 %."""
    low, high = 1.0, 4.0
    while chance(high) < power:
        low, high = high, 4 * high
        if high > _MOST_ROWS:
            return float("inf")
    while high - low > max(1.0, 0.02 * high):
        middle = max(low + 1, float(np.floor(np.sqrt(low * high))))
        low, high = (low, middle) if chance(middle) >= power else (middle, high)
    return high


def smallest_bound(chance: Callable[[float], float], kind: str, power: float = POWER) -> float:
    """The strictest bound whose chance of ``met`` reaches the power, to within .001.

    Parameters
    ----------
    chance : callable
        ``chance(bound)``.
    kind : {"difference", "ratio", "upper"}
        Of a ratio the strictest bound is the largest one.
    power : float
        The chance required.

    Returns
    -------
    float
        NaN where no bound below 1 (above 0 for a ratio) does.
    """
    strict, loose = (1.0, 0.001) if kind == "ratio" else (0.0, 0.999)
    if chance(loose) < power:
        return float("nan")
    while abs(loose - strict) > 0.001:
        middle = (strict + loose) / 2
        strict, loose = (strict, middle) if chance(middle) >= power else (middle, loose)
    return float(loose)


def chance_broken(constraint: Constraint, cells: Sequence[Cells], shift: Floats) -> float:
    r"""Estimated chance that a bound is broken in the population, from rows that chose the model.

    .. math:: P\Big(\max_r G(\hat p_r + \varepsilon_r) > b\Big), \qquad
              \varepsilon_{rg} \sim N\big(0,\ \hat p_{rg} (1 - \hat p_{rg}) / n_{rg}\big)

    where G is what the bound limits. Prices that steer to a bound end on it, so that the noise of
    the rows decides on which side of it the truth lies: the chance is one half for two groups, and
    more for several, as any of them can break it. It is that of a flat prior; it does not know how
    many other models were tried on these rows, which makes it too small where those were many.

    Parameters
    ----------
    constraint : Constraint
        What was asked.
    cells : sequence of Cells
        Its rates on those rows.
    shift : ndarray of shape (G,)
        How far each group's own bound lies above the common one.

    Returns
    -------
    float
        NaN where no rates are known.
    """
    kept = 1.0
    for cell in cells:
        known = cell.known
        if known.sum() < (1 if constraint.absolute else 2):
            continue
        some = cell.of(np.flatnonzero(known))
        n = some.effective
        centre = (some.mean * n + 2) / (n + 4)  # Agresti and Coull: no rate is sure
        flips = some.variance is None or some.support == "unit"
        variance = centre * (1 - centre) if some.variance is None else some.variance
        x = some.mean + np.sqrt(np.nan_to_num(variance) / np.maximum(n, 1)) * _samples(len(n))
        x = np.clip(x, 0.0, 1.0) if flips else x
        bounds = RateBounds(constraint, np.ones(len(n)), shift=shift[known])
        kept *= float((bounds.excess(x, some.total) <= 0).mean())
    return 1 - kept


def rows_short(
    constraint: Constraint,
    cells: Sequence[Cells],
    names: Sequence[str],
    confidence: float,
    *,
    within: bool,
    spares: Sequence[float] = (_SPARE, 0.0),
    labels: Sequence[Sequence[str]] | None = None,
) -> tuple[dict[str, float], float | None]:
    """Groups whose rows cannot show that the bound is kept, with the rows that could.

    The interval has to fit between what was achieved and the bound. Where less than a quarter of
    the bound is left, or it is broken, a model that leaves a quarter is the yardstick, unless the
    rows suffice for that. A group without a row is taken to have the rate of all rows. ``labels``
    names the groups in every cell where strata give them other names.

    Returns
    -------
    rows : dict of str to float
        Group -> rows that give a chance of 80 % (over all rates) to show that the bound is kept.
    true_gap : float or None
        What the largest true difference (ratio, mean) was taken to be; None where no group is
        short.
    """
    short: dict[str, float] = {}
    gaps: list[float] = []
    required = Requirement.of(constraint, confidence, shift=constraint.shifts(names))
    share = POWER ** (1 / len(cells))  # rates over disjoint events: their chances multiply
    faced = [_facing(constraint, _filled(cell)) for cell in cells]
    for spare in spares:
        for cell, label in zip(faced, labels or [names] * len(cells), strict=True):
            assumed = required.within(cell, spare)
            if required.fits(assumed):
                continue
            least = least_rows(partial(required.chance, assumed), share)
            per_row = np.divide(
                cell.count, cell.effective, out=np.ones(len(names)), where=cell.effective > 0
            )
            for g in np.flatnonzero(cell.effective < least):
                rows = float(np.ceil(least * per_row[g]))
                short[label[int(g)]] = max(short.get(label[int(g)], 0.0), rows)
            gaps.append(required.gap(assumed))
        if short or not within:
            break
    extreme = min if required.kind == "ratio" else max
    gap = extreme(gaps, default=None)
    return short, (1 - gap if gap is not None and constraint.kind == "lower" else gap)


def bound_in_reach(
    constraint: Constraint, cells: Sequence[Cells], confidence: float
) -> float | None:
    """The strictest bound that these rows show with a chance of 80 %; None where there is none.

    True gaps are taken to be as observed, and at most half of that bound.
    """
    if not all(cell.count.all() for cell in cells):
        return None
    filled = [_facing(constraint, _filled(cell)) for cell in cells]
    kind, floor = ("upper" if constraint.absolute else constraint.kind), constraint.kind == "lower"
    spare = 0.0 if constraint.absolute else 0.5

    def chance(bound: float) -> float:
        required = Requirement.of(constraint, confidence, 1 - bound if floor else bound)
        chances = [required.chance(required.within(cell, spare)) for cell in filled]
        return float(np.prod(chances))

    bound = smallest_bound(chance, kind)
    return None if np.isnan(bound) else 1 - bound if floor else bound


def _facing(constraint: Constraint, cells: Cells) -> Cells:
    """Shares of the opposite decision under a floor: it is their upper bound."""
    return replace(cells, mean=1 - cells.mean) if constraint.kind == "lower" else cells


def _filled(cells: Cells) -> Cells:
    """Give groups without a row the mean of all, and those without a variance the usual one."""
    present = cells.count > 0
    if not present.any():  # of a stratum without rows: the rate that needs most of them
        cells = replace(cells, mean=np.full(len(present), 0.5), total=np.ones(len(present)))
        present = ~present
    overall = np.average(cells.mean[present], weights=cells.total[present])
    variance = cells.variance
    if variance is not None and np.isfinite(variance).any():
        variance = np.where(np.isfinite(variance), variance, np.nanmean(variance))
    return replace(cells, mean=np.where(present, cells.mean, overall), variance=variance)


def _halves(
    cells: Cells,
    scale: Floats,
    z: Floats,
    limits: Callable[[Floats], tuple[Floats, Floats]],
) -> tuple[Floats, Floats]:
    """Distances of limits from each sample's mean, linear between one deviation each side."""
    ends = []
    for side in (-1.0, 1.0) if z.any() else (0.0, 0.0):
        mean = cells.mean + side * scale
        mean = np.clip(mean, 0.0, 1.0) if cells.support == "unit" else mean
        lower, upper = limits(mean)
        ends.append((mean - lower, upper - mean))
    with np.errstate(invalid="ignore"):  # infinite less infinite
        below, above = (
            (first + second) / 2 + (second - first) / 2 * z
            for first, second in zip(*ends, strict=True)
        )
    # Below two rows there are no limits of a mean: any value is possible.
    below, above = (np.where(np.isnan(v), np.inf, np.maximum(v, 0.0)) for v in (below, above))
    return below, above


def _widest(first: Floats, second: Floats, above: Floats, below: Floats, fine: bool) -> Floats:
    """Largest ``first_i + second_j + hypot(above_i, below_j)`` of two different groups."""
    widest = np.full(len(first), -np.inf)
    rows = np.arange(len(first))
    for angle in _ANGLES[fine]:
        high = first + _STRETCH[fine] * np.cos(angle) * above
        low = second + _STRETCH[fine] * np.sin(angle) * below
        i, j = high.argmax(axis=1), low.argmax(axis=1)
        best = high[rows, i] + low[rows, j]
        same = np.flatnonzero(i == j)
        if len(same):
            one, other = high[same].copy(), low[same].copy()
            at = np.arange(len(same))
            tops = one[at, i[same]], other[at, i[same]]
            one[at, i[same]] = other[at, i[same]] = -np.inf
            best[same] = np.maximum(tops[0] + other.max(axis=1), one.max(axis=1) + tops[1])
        widest = np.maximum(widest, best)
    return widest


def _worst_around(x: Floats, below: Floats, above: Floats, share: Floats) -> Floats:
    """Largest distance from the overall mean, limits as in `differences_from_overall`."""
    apart = x - (x * share).sum(axis=1, keepdims=True)
    limits = []
    for own, other in ((above, below), (below, above)):
        rest = (share**2 * other**2).sum(axis=1, keepdims=True) - share**2 * other**2
        limits.append(np.sqrt((1 - share) ** 2 * own**2 + np.maximum(rest, 0.0)))
    return np.asarray(np.maximum(apart + limits[0], limits[1] - apart).max(axis=1))


@lru_cache(maxsize=16)
def _samples(groups: int) -> Floats:
    """Standard normals of the sampled means, shape (m, groups): the same in every call."""
    # Sobol's points: 1024 of them tell a chance to about .005; more groups cost more, vary less.
    power = 10 if groups <= 32 else 8
    return np.asarray(special.ndtri(stats.qmc.Sobol(groups, seed=20).random_base2(power)))


def check_shares(**numbers: float) -> None:
    """Raise for a number that does not lie between 0 and 1."""
    for name, value in numbers.items():
        if not 0 < value < 1:
            raise InvalidParameterError(f"{name} must lie strictly between 0 and 1, got {value!r}.")
