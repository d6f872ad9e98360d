"""What can be said of each group, where a verdict speaks of all of them together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairtrain.constraints import Constraint, ParityConstraint
from fairtrain.data.rows import Rows
from fairtrain.metrics.cells import Cells
from fairtrain.metrics.intervals import gap_interval, ratio_interval, rows_needed
from fairtrain.metrics.measures import measure_cells
from fairtrain.metrics.verdicts import ConstraintResult, Verdict

__all__ = ["GroupStanding", "group_standings"]


@dataclass(frozen=True)
class GroupStanding:
    """One group under one constraint.

    Attributes
    ----------
    verdict : Verdict or None
        None where the group has rows enough but a group it is compared with has not.
    rows : int
        Rows that the compared rate is defined on (the fewest, if there are several rates).
    needed : float or None
        Rows that would do, where there are too few; inf if no number would.
    """

    verdict: Verdict | None
    rows: int
    needed: float | None = None

    def words(self) -> str:
        """Say it in a few words."""
        if self.verdict is Verdict.TOO_FEW_ROWS:
            return f"{self.verdict}: has {self.rows:,}, needs {_about(self.needed)}"
        return "enough rows" if self.verdict is None else str(self.verdict)


def _about(rows: float | None) -> str:
    if rows is None or not math.isfinite(rows):
        return "more than can be had"
    unit = 10 ** max(0, int(math.log10(max(rows, 1.0))) - 1)
    return f"about {math.ceil(rows / unit) * unit:,}"


def group_standings(
    constraint: Constraint, rows: Rows, result: ConstraintResult, confidence: float = 0.95
) -> dict[str, GroupStanding]:
    """Say of every group whether its rows can tell, and what they tell.

    A group is ``not_met`` where the limits of its difference from some other group, allowing for
    all pairs and rates (Bonferroni), lie beyond the bound; ``too_few_rows`` where its own rows
    cannot show that the bound is kept; and has the constraint's verdict otherwise.

    Parameters
    ----------
    constraint : Constraint
        What is asked.
    rows : Rows
        The rows judged.
    result : ConstraintResult
        The constraint's result on them.
    confidence : float, default=0.95
        Level of the intervals.
    """
    groups = rows.groups.over(constraint.over)
    cells = [measure_cells(rows, rate, groups) for rate in constraint.rates]
    counts = np.min([c.count for c in cells], axis=0)
    broken = _broken(constraint, cells, confidence) if _is_pairwise(constraint) else set()
    if result.verdict is Verdict.NOT_MET and not broken:
        ends = (result.highest,) if result.kind == "upper" else (result.highest, result.lowest)
        broken = {groups.names.index(name) for name in ends}
    short = _short(constraint, cells, result, groups.names, confidence)
    standings = {}
    for g, name in enumerate(groups.names):
        count = int(counts[g])
        if g in broken and count:
            standings[name] = GroupStanding(Verdict.NOT_MET, count)
        elif name in short or not count:
            standings[name] = GroupStanding(Verdict.TOO_FEW_ROWS, count, short.get(name))
        else:
            open_ = result.verdict in (Verdict.TOO_FEW_ROWS, Verdict.NOT_MET)
            standings[name] = GroupStanding(None if open_ else result.verdict, count)
    return standings


def _is_pairwise(constraint: Constraint) -> bool:
    return isinstance(constraint, ParityConstraint) and constraint.reference == "pairwise"


def _pairs(cells: Cells) -> Iterator[NDArray[np.int64]]:
    present = np.flatnonzero(cells.count > 0)
    for i, g in enumerate(present):
        for h in present[i + 1 :]:
            yield np.array([g, h])


def _broken(constraint: Constraint, cells: list[Cells], confidence: float) -> set[int]:
    """Groups of a pair that is certainly too far apart."""
    found: set[int] = set()
    for cell in cells:
        mean, effective = cell.bare()
        pairs = list(_pairs(cell))
        level = 1 - (1 - confidence) / max(len(pairs) * len(cells), 1)
        for pair in pairs:
            if constraint.kind == "ratio":
                interval = ratio_interval(mean[pair], effective[pair], level)
                beyond = float(interval.upper) < constraint.bound
            else:
                variance = None if cell.variance is None else cell.variance[pair]
                interval = gap_interval(mean[pair], effective[pair], level, variance=variance)
                beyond = float(interval.lower) > constraint.bound
            if beyond:
                found |= set(pair.tolist())
    return found


def _short(
    constraint: Constraint,
    cells: list[Cells],
    result: ConstraintResult,
    names: tuple[str, ...],
    confidence: float,
) -> dict[str, float]:
    if result.verdict is not Verdict.NOT_MET or not _is_pairwise(constraint):
        return result.rows_needed
    # The result names no rows where the bound is broken; half of the bound is the yardstick.
    ratio = constraint.kind == "ratio"
    room = ((1 - constraint.bound) if ratio else constraint.bound) / 2
    short: dict[str, float] = {}
    for cell in cells:
        if cell.variance is not None:
            continue
        mean, effective = cell.bare()
        needed = rows_needed(mean, effective, max(room, 1e-4), confidence, ratio=ratio)
        for g in np.flatnonzero((cell.count > 0) & (needed > effective)):
            short[names[int(g)]] = max(short.get(names[int(g)], 0.0), float(needed[g]))
    return short
