"""What can be said of each group, where a verdict speaks of all of them together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairtrain.constraints import Constraint, ParityConstraint
from fairtrain.constraints.families import families_of
from fairtrain.data.rows import Rows
from fairtrain.metrics.cells import Cells
from fairtrain.metrics.disclosure import count_words
from fairtrain.metrics.intervals import pairwise_differences, pairwise_ratios
from fairtrain.metrics.measures import family_cells
from fairtrain.metrics.power import rows_short
from fairtrain.metrics.verdicts import ConstraintResult, Verdict, rounded_rows

__all__ = ["GroupStanding", "group_standings"]

Bools = NDArray[np.bool_]


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
        Rows that give an 80 % chance to show that the bound is kept (see
        :attr:`ConstraintResult.rows_needed`), where there are too few; inf if no number would.
    told : bool
        Whether ``rows`` may be told: not where they have one label and few have the other.
    """

    verdict: Verdict | None
    rows: int
    needed: float | None = None
    told: bool = True

    def words(self) -> str:
        """Say it in a few words, without a count that would tell of single people."""
        if self.verdict is Verdict.TOO_FEW_ROWS:
            needed = np.inf if self.needed is None else self.needed
            about = rounded_rows(needed, "about ")
            has = f"has {count_words(self.rows)}, " if self.told else ""
            return f"{self.verdict}: {has}needs {about}"
        return "enough rows" if self.verdict is None else str(self.verdict)


def group_standings(
    constraint: Constraint, rows: Rows, result: ConstraintResult, confidence: float = 0.95
) -> dict[str, GroupStanding]:
    """Say of every group whether its rows can tell, and what they tell.

    A group is ``not_met`` where the limits of its difference from some other group, which hold for
    all pairs (Tukey) and rates (Bonferroni) together, lie beyond the bound; ``too_few_rows`` where
    its own rows cannot show that the bound is kept; and has the constraint's verdict otherwise.
    Groups of weight 0 are not judged. Within strata, cells of group and stratum stand for groups.

    Parameters
    ----------
    constraint : Constraint
        The notion and its bound.
    rows : Rows
        The rows judged.
    result : ConstraintResult
        The constraint's result on them.
    confidence : float, default=0.95
        Level of the intervals.
    """
    families = families_of([constraint], rows.groups.scheme)
    groups = families[0].scheme.names
    judged = constraint.group_weights(groups) > 0
    cells = [family_cells(rows, family) for family in families]
    some = np.flatnonzero(judged)
    labels = [[family.cell_names[g] for g in some] for family in families]
    counts: dict[str, int] = {}
    for label, cell in zip(labels, cells, strict=True):
        for name, count in zip(label, cell.count[some].tolist(), strict=True):
            counts[name] = min(count, counts.get(name, count))
    broken: set[str] = set()
    if _is_pairwise(constraint):
        for label, beyond in zip(
            labels, _broken(constraint, cells, judged, confidence), strict=True
        ):
            broken |= {label[i] for i in np.flatnonzero(beyond[some])}
    if result.verdict is Verdict.NOT_MET and not broken:
        broken = {result.extreme} if result.absolute else {result.highest, result.lowest}
    short = result.rows_needed
    if result.verdict is Verdict.NOT_MET and _is_pairwise(constraint):
        # Half of the bound is the yardstick where it is broken.
        kept, names = [c.of(some) for c in cells], [groups[g] for g in some]
        short = rows_short(
            constraint, kept, names, confidence, within=False, spares=(0.5,), labels=labels
        )[0]
    open_ = result.verdict in (Verdict.TOO_FEW_ROWS, Verdict.NOT_MET)
    standings = {}
    for name, count in counts.items():
        if name in broken and count:
            standings[name] = GroupStanding(Verdict.NOT_MET, count)
        elif name in short or not count:
            standings[name] = GroupStanding(Verdict.TOO_FEW_ROWS, count, short.get(name))
        else:
            standings[name] = GroupStanding(None if open_ else result.verdict, count)
    return standings


def _is_pairwise(constraint: Constraint) -> bool:
    return isinstance(constraint, ParityConstraint) and constraint.reference == "pairwise"


def _broken(
    constraint: Constraint, cells: list[Cells], judged: Bools, confidence: float
) -> list[Bools]:
    """For every rate, groups of a pair that is certainly too far apart."""
    broken = []
    level = 1 - (1 - confidence) / len(cells)
    for cell in cells:
        mean, rows = cell.mean, np.where(judged, cell.effective, 0.0)
        if constraint.kind == "ratio":
            limits = pairwise_ratios(mean, rows, level, variance=cell.variance, design=cell.design)
            beyond = limits.upper < constraint.bound
        else:
            limits = pairwise_differences(mean, rows, level, **cell.spread)
            beyond = limits.lower > constraint.bound
        broken.append(np.asarray(beyond.any(axis=0) | beyond.any(axis=1)))
    return broken
