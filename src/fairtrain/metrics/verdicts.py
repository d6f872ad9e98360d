"""From rates to a verdict on one constraint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fairtrain.constraints import Constraint
from fairtrain.data.rows import Rows
from fairtrain.metrics.cells import Cells
from fairtrain.metrics.limits import Limited, limited
from fairtrain.metrics.measures import measure_cells
from fairtrain.metrics.shortage import rows_short

__all__ = ["ConstraintResult", "RowsRole", "Verdict", "judge"]

Floats = NDArray[np.float64]
RowsRole = Literal["certification", "steering", "training"]

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
    found = [limited(constraint, c, confidence, len(cells)) for c in cells]
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
        short = rows_short(constraint, cells, groups.names, confidence, within=within)
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


def _over_rates(found: Sequence[Limited], ratio: bool) -> tuple[float, float, float]:
    """Worst over the rates of a notion; the far limit needs no correction (Berger, 1982)."""
    extreme = np.nanmin if ratio else np.nanmax
    return (
        float(extreme([f.achieved for f in found])),
        float(extreme([f.lower for f in found])),
        float(extreme([f.upper for f in found])),
    )


def _small(cells: Sequence[Cells], names: Sequence[str], min_count: int) -> dict[str, float]:
    """Groups with fewer rows than a verdict on steering rows asks for."""
    fewest = _fewest(cells)
    return {
        names[int(g)]: float(min_count) for g in np.flatnonzero((fewest > 0) & (fewest < min_count))
    }
