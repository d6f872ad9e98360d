"""From rates to a verdict on one constraint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fairtrain._intervals import (
    GapInterval,
    differences_from_overall,
    gap_interval,
    pairwise_differences,
    pairwise_ratios,
    ratio_interval,
)
from fairtrain.constraints import BoundedGroupLoss, Constraint, ParityConstraint
from fairtrain.exceptions import InvalidDataError
from fairtrain.metrics.cells import Cells
from fairtrain.metrics.measures import Rows, measure_cells

__all__ = ["ConstraintResult", "RowsRole", "Verdict", "judge"]

Floats = NDArray[np.float64]
RowsRole = Literal["certification", "steering", "training"]

_MOST_ROWS = 1e9  # a group that needs more will never have them
_SPARE = 0.25  # part of the bound that the model of "rows needed" leaves unused
_ROUNDING = 1e-9  # a mixture that was put on its bound must not read as over it


class Verdict(StrEnum):
    """What can be said of a bound.

    ``met``
        On rows that steered nothing, the confidence limit lies within the bound.
    ``met_on_steering_rows``
        The bound holds on rows that took part in choosing the model, which certifies nothing.
    ``not_met``
        The bound is broken, or not kept although the rows would suffice to show it.
    ``too_few_rows``
        The rows cannot tell; the result says how many would.
    """

    MET = "met"
    MET_ON_STEERING_ROWS = "met_on_steering_rows"
    NOT_MET = "not_met"
    TOO_FEW_ROWS = "too_few_rows"


@dataclass(frozen=True)
class ConstraintResult:
    """One constraint on one set of rows.

    Attributes
    ----------
    constraint : str
        Name of the constraint.
    kind : {"difference", "ratio", "upper"}
        What the bound limits.
    reference : {"pairwise", "overall", "absolute"}
        What groups are compared with under the bound.
    bound : float
        The bound.
    rate : str
        The rate that is widest apart.
    achieved, lower, upper : float
        The quantity the bound limits, and its confidence limits.
    pairwise : float
        The same between any two groups (equal to ``achieved`` unless the bound is fairlearn's).
    highest, lowest : str
        The extreme groups.
    verdict : Verdict
        What can be said.
    rows_needed : dict of str to float
        Groups with too few rows -> rows in the event that would do, were the rates as they are
        (inf: no number would).
    counts : dict of str to int
        Rows in the event, of every group that has some.
    """

    constraint: str
    kind: str
    reference: str
    bound: float
    rate: str
    achieved: float
    lower: float
    upper: float
    pairwise: float
    highest: str
    lowest: str
    verdict: Verdict
    rows_needed: dict[str, float]
    counts: dict[str, int]

    def __str__(self) -> str:
        return f"{self.constraint}: {self.verdict}. {self.words()}"

    def words(self, confidence: float = 0.95) -> str:
        """Say what was found in a sentence or two."""
        interval = f"{confidence:.0%} interval {self.lower:.3f} to {self.upper:.3f}"
        most = "at least" if self.kind == "ratio" else "at most"
        subject = self.rate.replace("_", " ")
        if self.kind == "upper":
            said = f"{subject} of {self.highest!r} is {self.achieved:.3f} ({interval})"
        else:
            what = "differs by" if self.kind == "difference" else "has the ratio"
            said = (
                f"{subject} {what} {self.achieved:.3f} ({interval}) between {self.highest!r} and "
                f"{self.lowest!r}"
            )
            if self.reference == "overall":
                said = (
                    f"{subject} {what} {self.achieved:.3f} ({interval}) between a group and all "
                    f"rows, and {self.pairwise:.3f} between {self.highest!r} and {self.lowest!r}"
                )
        said += f"; {most} {self.bound:g} is asked."
        if self.verdict is Verdict.TOO_FEW_ROWS and self.rows_needed:
            said += f" {self._needs()}"
        return said

    def _needs(self, most: int = 4) -> str:
        ordered = sorted(self.rows_needed.items(), key=lambda item: -item[1])
        parts = [
            f"{name!r} has {self.counts.get(name, 0)} rows and needs about {_rounded(rows)}"
            for name, rows in ordered[:most]
        ]
        more = len(ordered) - most
        return (
            f"To tell, {'; '.join(parts)}" + (f"; {more} more groups are short" if more > 0 else "")
        ) + "."


def _rounded(rows: float) -> str:
    if not np.isfinite(rows):
        return "more than can be had"
    digits = max(0, int(np.floor(np.log10(max(rows, 1)))) - 1)
    return f"{int(np.ceil(rows / 10**digits) * 10**digits):,}"


@dataclass(frozen=True)
class _Limited:
    """The quantity a bound limits, for one rate: smaller is fairer after ``sign``."""

    achieved: float
    lower: float
    upper: float
    pairwise: float
    highest: int
    lowest: int


def judge(
    constraint: Constraint, rows: Rows, role: RowsRole, confidence: float
) -> ConstraintResult:
    """Compare one constraint's rates across its groups and reach a verdict.

    Raises
    ------
    InvalidDataError
        If fewer than two groups have rows that a parity constraint is defined on.
    """
    groups = rows.groups.over(constraint.over)
    left_out = constraint.group_weights(groups.names) == 0
    cells = [_without(measure_cells(rows, r, groups), left_out) for r in constraint.rates]
    found = [_limited(constraint, c, confidence, len(cells)) for c in cells]
    ratio = constraint.kind == "ratio"
    values = np.array([f.achieved for f in found])
    worst = int(np.nanargmin(values) if ratio else np.nanargmax(values))
    achieved, lower, upper = _over_rates(found, ratio)
    within = (
        achieved >= constraint.bound - _ROUNDING
        if ratio
        else (achieved <= constraint.bound + _ROUNDING)
    )
    shown = lower >= constraint.bound if ratio else upper <= constraint.bound
    broken = upper < constraint.bound if ratio else lower > constraint.bound
    small = _small(cells, groups.names, groups.scheme.min_count)
    if shown or broken or (within and role != "certification"):
        short = small  # nothing to tell, or nothing but whether all groups are large enough
    else:
        short = _rows_short(constraint, cells, groups.names, confidence, within=within)
    verdict = _verdict(
        role, within=within, shown=shown, broken=broken, short=bool(short), small=bool(small)
    )
    extreme = found[worst]
    return ConstraintResult(
        constraint=constraint.name,
        kind=constraint.kind,
        reference=getattr(constraint, "reference", "absolute"),
        bound=constraint.bound,
        rate=constraint.rates[worst].name,
        achieved=achieved,
        lower=lower,
        upper=upper,
        pairwise=extreme.pairwise,
        highest=groups.names[extreme.highest],
        lowest=groups.names[extreme.lowest],
        verdict=verdict,
        rows_needed=short if verdict is Verdict.TOO_FEW_ROWS else {},
        counts={
            name: int(count)
            for name, count in zip(groups.names, _fewest(cells), strict=True)
            if count > 0
        },
    )


def _verdict(
    role: RowsRole, *, within: bool, shown: bool, broken: bool, short: bool, small: bool
) -> Verdict:
    if broken:
        return Verdict.NOT_MET
    if role != "certification":
        if within:
            return Verdict.TOO_FEW_ROWS if small else Verdict.MET_ON_STEERING_ROWS
        return Verdict.TOO_FEW_ROWS if short else Verdict.NOT_MET
    if shown:
        return Verdict.MET
    return Verdict.TOO_FEW_ROWS if within or short else Verdict.NOT_MET


def _without(cells: Cells, left_out: NDArray[np.bool_]) -> Cells:
    """Leave out groups of weight 0."""
    if not left_out.any():
        return cells
    return Cells(
        mean=np.where(left_out, np.nan, cells.mean),
        count=np.where(left_out, 0, cells.count),
        effective=np.where(left_out, 0.0, cells.effective),
        total=np.where(left_out, 0.0, cells.total),
        variance=None if cells.variance is None else np.where(left_out, np.nan, cells.variance),
    )


def _fewest(cells: Sequence[Cells]) -> NDArray[np.int64]:
    """Rows of each group in the event where it has fewest, of those where it has any."""
    counts = np.array([c.count for c in cells])
    fewest = np.where(counts > 0, counts, np.iinfo(np.int64).max).min(axis=0)
    return np.where((counts > 0).any(axis=0), fewest, 0)


def _over_rates(found: Sequence[_Limited], ratio: bool) -> tuple[float, float, float]:
    """Worst over the rates of a notion; the far limit needs no correction (Berger, 1982)."""
    extreme = np.nanmin if ratio else np.nanmax
    return (
        float(extreme([f.achieved for f in found])),
        float(extreme([f.lower for f in found])),
        float(extreme([f.upper for f in found])),
    )


def _limited(constraint: Constraint, cells: Cells, confidence: float, n_rates: int) -> _Limited:
    # The limit on the near side may err once for every rate: Bonferroni over the rates.
    stricter = 1 - (1 - confidence) / n_rates
    if isinstance(constraint, BoundedGroupLoss):
        return _upper_limited(cells, confidence, stricter)
    assert isinstance(constraint, ParityConstraint)
    mean, effective = cells.bare()
    if constraint.kind == "difference":
        far = gap_interval(mean, effective, confidence, variance=cells.variance)
        near = gap_interval(mean, effective, stricter, variance=cells.variance)
        _check_comparable(constraint, far)
        if constraint.reference == "overall":
            return _around_overall(cells, far, confidence, stricter)
        return _from_interval(far, lower=near.lower, upper=far.upper)
    if cells.variance is not None:
        raise InvalidDataError(f"{constraint.name}: a ratio bound needs a rate in [0, 1].")
    far = ratio_interval(mean, effective, confidence)
    near = ratio_interval(mean, effective, stricter)
    _check_comparable(constraint, far)
    if constraint.reference == "overall":
        return _ratio_to_overall(cells, far, near)
    return _from_interval(far, lower=far.lower, upper=near.upper)


def _check_comparable(constraint: Constraint, interval: GapInterval) -> None:
    if interval.highest < 0:
        raise InvalidDataError(
            f"{constraint.name} compares at least two groups, but these rows hold fewer that it "
            "is defined on."
        )


def _from_interval(interval: GapInterval, lower: Floats, upper: Floats) -> _Limited:
    value = float(interval.estimate)
    value = 1.0 if np.isnan(value) else value  # a ratio of two rates of 0: equal
    return _Limited(
        value, float(lower), float(upper), value, int(interval.highest), int(interval.lowest)
    )


def _around_overall(
    cells: Cells, pairs: GapInterval, confidence: float, stricter: float
) -> _Limited:
    """fairlearn's difference: the group farthest from all rows."""
    mean, effective = cells.bare()
    limits, near = (
        differences_from_overall(
            mean, effective, level, weight=cells.total, variance=cells.variance
        )
        for level in (confidence, stricter)
    )
    distance = np.fmax(near.lower, -near.upper)
    return _Limited(
        achieved=float(np.nanmax(np.abs(limits.estimate))),
        lower=float(max(0.0, np.nanmax(distance))),
        upper=float(np.nanmax(np.fmax(limits.upper, -limits.lower))),
        pairwise=float(pairs.estimate),
        highest=int(pairs.highest),
        lowest=int(pairs.lowest),
    )


def _ratio_to_overall(cells: Cells, far: GapInterval, near: GapInterval) -> _Limited:
    """fairlearn's ratio, min over groups of r_g / r and r / r_g.

    It lies between the pairwise ratio R and sqrt(R), which gives it limits.
    """
    present = cells.count > 0
    overall = float(np.average(cells.mean[present], weights=cells.total[present]))
    with np.errstate(divide="ignore", invalid="ignore"):
        to_overall = cells.mean[present] / overall
        both = np.fmin(to_overall, 1 / to_overall)
    value = 1.0 if overall == 0 else float(np.nanmin(both))
    pairwise = 1.0 if np.isnan(far.estimate) else float(far.estimate)
    return _Limited(
        value,
        float(far.lower),
        float(np.sqrt(near.upper)),
        pairwise,
        int(far.highest),
        int(far.lowest),
    )


def _upper_limited(cells: Cells, confidence: float, stricter: float) -> _Limited:
    groups = max(int((cells.count > 0).sum()), 1)
    lower = cells.limits(1 - (1 - stricter) / groups)[0]
    upper = cells.limits(confidence)[1]
    if not (cells.count > 0).any():
        raise InvalidDataError("bounded group loss: no group has rows.")
    order = np.argsort(np.where(cells.count > 0, cells.mean, -np.inf))
    missing = np.isnan(upper) & (cells.count > 0)  # one row: no variance, no limit
    return _Limited(
        achieved=float(np.nanmax(cells.mean)),
        lower=float(np.nanmax(np.where(np.isnan(lower), 0.0, lower))),
        upper=float("inf") if missing.any() else float(np.nanmax(upper)),
        pairwise=float(np.nanmax(cells.mean) - np.nanmin(cells.mean)),
        highest=int(order[-1]),
        lowest=int(np.nanargmin(cells.mean)),
    )


def _small(cells: Sequence[Cells], names: Sequence[str], min_count: int) -> dict[str, float]:
    """Groups with fewer rows than a verdict on steering rows asks for."""
    fewest = _fewest(cells)
    return {
        names[int(g)]: float(min_count) for g in np.flatnonzero((fewest > 0) & (fewest < min_count))
    }


def _rows_short(
    constraint: Constraint,
    cells: Sequence[Cells],
    names: Sequence[str],
    confidence: float,
    *,
    within: bool,
) -> dict[str, float]:
    """Groups whose rows cannot show that the bound is kept, with the rows that could.

    The interval has to fit between what was achieved and the bound. Where less than a quarter of
    the bound is left, or it is broken, a model that leaves a quarter is the yardstick, unless the
    rows suffice for that.
    """
    short: dict[str, float] = {}
    for spare in (_SPARE, 0.0):
        for cell in cells:
            mean = _yardstick(constraint, cell, spare)
            least = _least_rows(constraint, cell, mean, confidence)
            for g in np.flatnonzero((cell.count > 0) & (cell.effective < least)):
                rows = np.ceil(least * cell.count[g] / cell.effective[g])
                short[names[int(g)]] = max(short.get(names[int(g)], 0.0), float(rows))
        if short or not within:
            break
    return short


def _yardstick(constraint: Constraint, cells: Cells, spare: float) -> Floats:
    """The observed means, brought together until they leave a part of the bound unused."""
    mean, bound = cells.mean, constraint.bound
    if constraint.kind == "upper":
        return np.nan_to_num(np.minimum(mean, (1 - spare) * bound))
    low, high = float(np.nanmin(mean)), float(np.nanmax(mean))
    if constraint.kind == "ratio":
        return np.nan_to_num(np.maximum(mean, high * (bound + spare * (1 - bound))))
    achieved = high - low
    if _around(constraint):
        present = cells.total > 0
        overall = np.average(mean[present], weights=cells.total[present])
        achieved = float(np.nanmax(np.abs(mean - overall)))
    allowed = (1 - spare) * bound
    if spare == 0 or achieved <= allowed:
        return np.nan_to_num(mean)
    return np.nan_to_num(np.clip(mean, (low + high - allowed) / 2, (low + high + allowed) / 2))


def _around(constraint: Constraint) -> bool:
    """Whether a bound limits the distance to the overall rate, as fairlearn's do."""
    return getattr(constraint, "reference", "") == "overall"


def _least_rows(constraint: Constraint, cells: Cells, mean: Floats, confidence: float) -> float:
    """Rows (of weight 1) that every group must have at these means, to within 2 %."""

    def enough(rows: float) -> bool:
        n = np.where(cells.count > 0, np.maximum(cells.effective, rows), 0.0)
        limit = _far_limit(constraint, cells, mean, n, confidence)
        return (
            limit >= constraint.bound if constraint.kind == "ratio" else limit <= constraint.bound
        )

    low, high = 0.0, 2.0
    while not enough(high):
        low, high = high, 2 * high
        if high > _MOST_ROWS:
            return float("inf")
    if low == 0:
        return high if not enough(0.0) else 0.0
    while high - low > max(1.0, 0.02 * high):
        middle = float(np.floor((low + high) / 2))
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _far_limit(
    constraint: Constraint, cells: Cells, mean: Floats, n: Floats, confidence: float
) -> float:
    """The limit that has to lie within the bound."""
    if constraint.kind == "upper":
        limits = replace(cells, mean=mean, effective=n).limits(confidence)[1]
        return float(np.nanmax(np.where((n > 0) & np.isnan(limits), np.inf, limits)))
    if constraint.kind == "ratio":
        return float(np.nanmin(pairwise_ratios(mean, n, confidence, simultaneous=False).lower))
    if _around(constraint):
        around = differences_from_overall(
            mean, n, confidence, weight=cells.total, variance=cells.variance
        )
        return float(np.nanmax(np.fmax(around.upper, -around.lower)))
    pairs = pairwise_differences(mean, n, confidence, variance=cells.variance, simultaneous=False)
    return float(np.nanmax(pairs.upper))
