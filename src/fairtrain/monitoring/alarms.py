"""Whether the newest windows of a rate break a bound, or show a wider gap than the reference."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairtrain.monitoring.dispersion import estimate_dispersion
from fairtrain.monitoring.pooling import Due, Part, WindowSequence

__all__ = ["Alarm", "look"]


class Alarm(NamedTuple):
    """What one test found: arrays of the leading shape of the windows, 0-d for one stream."""

    tested: Due
    breaks: NDArray[np.bool_]
    drifts: NDArray[np.bool_]


def look(
    sequence: WindowSequence,
    reference: Part | None,
    *,
    bound: float,
    kind: str,
    alpha: float,
    min_rows: float,
    dispersion: str = "binomial",
) -> list[Alarm]:
    """Make the tests that the newest window makes due, on the fewest windows first.

    Each question may spend a third of ``alpha`` over all windows, and the reference a third once.
    With ``dispersion="estimated"`` there is no test before there are windows enough.
    """
    found = []
    reference = None if reference is None else reference.grown(sequence.all.mean.shape[-1])
    for due in sequence.due():
        spent, part, before = alpha * due.share / 3, due.part, reference
        if dispersion == "estimated":
            moves = estimate_dispersion(sequence.before(due.windows), min_rows)
            if moves is None:
                continue
            part = moves.widened(part, due.windows, spent)
            before = None if before is None else moves.widened(before, 1, alpha / 3)
        worst = _certain(part.comparable(min_rows), spent, kind)
        drifts = np.zeros(worst.shape, dtype=bool)
        if before is not None:
            drifts = _drifted(part, before, spent, alpha / 3, kind, min_rows)
        found.append(Alarm(due, worst < bound if kind == "ratio" else worst > bound, drifts))
    return found


def _drifted(
    part: Part, reference: Part, alpha: float, spent: float, kind: str, min_rows: float
) -> NDArray[np.bool_]:
    """Whether the gap among groups that the reference knows has certainly widened.

    The reference is one sample, used in every window: it spends its share of alpha once.
    """
    known = reference.has(min_rows) & part.has(min_rows)
    before = reference.only(known).gap(spent, kind)
    now = _certain(part.only(known), alpha, kind)
    return np.asarray(now < before.lower if kind == "ratio" else now > before.upper)


def _certain(part: Part, alpha: float, kind: str) -> Any:
    """The limit on the far side of the estimate from the bound: what is certain by now."""
    gap = part.gap(alpha, kind)
    return np.asarray(gap.upper if kind == "ratio" else gap.lower)
