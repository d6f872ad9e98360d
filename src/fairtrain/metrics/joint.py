r"""What can be said of several constraints at once, at the level of one.

**All of them.** That all m bounds hold is claimed where every one of them is ``met`` at the stated
level :math:`1 - \alpha`: whichever is broken, its own test is wrong then, so that the claim is
wrong in at most :math:`\alpha` of samples without any correction (Berger, 1982).

**Which of them.** Where some are not, each ``met`` may err by itself. Those are kept together at
level :math:`1 - \alpha` that stay ``met`` in Holm's order (1979): met at :math:`1 - \alpha / m`,
then, without those, at :math:`1 - \alpha / (m - r)`, where r are met already, until none is added.

**By how much.** The limits of all m quantities hold at once at :math:`1 - \alpha / m` each
(Bonferroni).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from fairtrain.constraints import Constraint
from fairtrain.data.rows import Rows
from fairtrain.metrics.verdicts import ConstraintResult, RowsRole, Verdict, judge

__all__ = ["JointStatement", "jointly"]

Limits = tuple[float, float]


@dataclass(frozen=True)
class JointStatement:
    """Several constraints at once.

    Attributes
    ----------
    confidence : float
        Level of each of its three sentences.
    all_kept : bool
        Whether all bounds hold.
    kept : tuple of bool
        For each constraint, whether it is among those that are ``met`` together.
    limits : tuple of (float, float)
        For each constraint, limits of what it bounds that hold for all at once; NaN if hidden.
    """

    confidence: float
    all_kept: bool
    kept: tuple[bool, ...]
    limits: tuple[Limits, ...]

    def words(self, names: Sequence[str]) -> list[str]:
        r"""Say it, given the constraints' names.

        Examples
        --------
        >>> joint = JointStatement(0.95, False, (True, False), ((0.0, 0.04), (0.02, 0.09)))
        >>> print(*joint.words(["a", "b"]), sep="\n")
        Together, at 95%: not all 2 are shown to be kept; a is, with 2 tests allowed for (Holm).
        Limits that hold for all 2 at once: a 0.000 to 0.040; b 0.020 to 0.090.
        """
        level, m = f"{100 * self.confidence:.4g}%", len(self.kept)
        if self.all_kept:
            said = f"all {m} are kept (each is met, which is enough for all: Berger)."
        else:
            kept = [name for name, is_kept in zip(names, self.kept, strict=True) if is_kept]
            which = f"{', '.join(kept)} {'is' if len(kept) == 1 else 'are'}" if kept else "none is"
            said = f"not all {m} are shown to be kept; {which}, with {m} tests allowed for (Holm)."
        ends = [
            f"{name} {low:.3f} to {high:.3f}"
            for name, (low, high) in zip(names, self.limits, strict=True)
            if np.isfinite(low) and np.isfinite(high)
        ]
        lines = [f"Together, at {level}: {said}"]
        if ends:
            lines.append(f"Limits that hold for all {m} at once: {'; '.join(ends)}.")
        return lines

    def without(self, hidden: Sequence[bool]) -> Self:
        """Leave out limits that rest on few rows."""
        shown = zip(self.limits, hidden, strict=True)
        nothing = (float("nan"), float("nan"))
        return replace(self, limits=tuple(nothing if hide else ends for ends, hide in shown))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None where a limit is hidden."""
        limits = [[v if np.isfinite(v) else None for v in ends] for ends in self.limits]
        return {
            "confidence": self.confidence,
            "all_kept": self.all_kept,
            "kept": list(self.kept),
            "limits": limits,
        }

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Read what :meth:`to_dict` gave."""
        limits = [tuple(np.nan if v is None else float(v) for v in e) for e in values["limits"]]
        ends: tuple[Limits, ...] = tuple((low, high) for low, high in limits)
        return cls(
            float(values["confidence"]), bool(values["all_kept"]), tuple(values["kept"]), ends
        )


def jointly(
    judged: Sequence[tuple[Constraint, Rows]],
    results: Sequence[ConstraintResult],
    role: RowsRole,
    confidence: float,
) -> JointStatement | None:
    """Judge several constraints at once; None where there is one, or rows certify nothing.

    Parameters
    ----------
    judged : sequence of (Constraint, Rows)
        What was judged, on which rows.
    results : sequence of ConstraintResult
        What was said of each by itself.
    role : {"certification", "steering", "training"}
        What the rows were used for before.
    confidence : float
        Level.
    """
    if role != "certification" or len(results) < 2:
        return None

    def at(i: int, parts: int) -> ConstraintResult:
        constraint, rows = judged[i]
        return judge(constraint, rows, role, 1 - (1 - confidence) / parts, advise=False)

    m = len(judged)
    strictest = [at(i, m) for i in range(m)]
    kept = np.array([result.verdict is Verdict.MET for result in strictest])
    return JointStatement(
        confidence=confidence,
        all_kept=all(result.verdict is Verdict.MET for result in results),
        kept=tuple(_step_down(kept, lambda i, parts: at(i, parts).verdict is Verdict.MET)),
        limits=tuple((result.lower, result.upper) for result in strictest),
    )


def _step_down(kept: Any, is_met: Callable[[int, int], bool]) -> list[bool]:
    """Add what is met at the level that is left, until nothing is added (Holm)."""
    added = bool(kept.any())
    while added and not kept.all():
        open_ = np.flatnonzero(~kept)
        more = [i for i in open_ if is_met(int(i), len(open_))]
        kept[more] = True
        added = bool(more)
    return [bool(is_kept) for is_kept in kept]
