"""What training under bounds came to, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fairtrain.constraints import Constraint
from fairtrain.constraints.families import RateFamily
from fairtrain.lagrangian.controller import DualController
from fairtrain.metrics.report import FairnessReport
from fairtrain.metrics.verdicts import Verdict

__all__ = ["Sign", "base_rate_conflict", "explain_training", "oscillation"]

Floats = NDArray[np.float64]

Sign = Literal["none", "primal", "dual"]
"""What the trace of an excess shows: no oscillation, noise of the weights, or of multipliers."""

_CONFLICT = 0.05


def oscillation(excess: Floats, sums: Floats, bound: float) -> Sign:
    """Recognise oscillation in the second half of training.

    Parameters
    ----------
    excess : ndarray of shape (T,)
        Amount by which a bound was exceeded at each look.
    sums : ndarray of shape (T,)
        Sum of its multipliers at the same looks.
    bound : float
        The bound, the yardstick of "large".

    Returns
    -------
    {"none", "primal", "dual"}
        ``"dual"``: excess and multipliers swing together, in waves of several looks, as a dual
        step that is too long makes them. ``"primal"``: the excess jumps from look to look while
        the multipliers stand still.
    """
    over = np.asarray(excess, dtype=np.float64)[len(excess) // 2 :]
    sums = np.asarray(sums, dtype=np.float64)[len(sums) // 2 :]
    known = np.isfinite(over) & np.isfinite(sums)
    over, sums = over[known], sums[known]
    if len(over) < 6:
        return "none"
    swing = float(np.percentile(over, 90) - np.percentile(over, 10))
    if swing < max(bound, 0.005) or not (over > 0).any() or not (over <= 0).any():
        return "none"
    level = float(sums.mean())
    moved = float(np.percentile(sums, 90) - np.percentile(sums, 10))
    return "dual" if level > 0 and moved > 0.3 * level else "primal"


def base_rate_conflict(
    constraints: Sequence[Constraint], base_rates: Floats, names: Sequence[str]
) -> str | None:
    """Say so where demographic parity and a bound on error rates cannot both hold.

    With base rates that far apart, equal selection at equal true and false positive rates leaves
    only decisions that ignore the label (Kleinberg, Mullainathan & Raghavan, 2017). A ratio counts
    as the largest difference it allows: between selection rates, the higher of which is near the
    higher base rate, or between error rates, which are 1 at most.

    Parameters
    ----------
    constraints : sequence of Constraint
        The constraints that decisions are to keep.
    base_rates : ndarray of shape (G,)
        Share of favourable labels in each group; NaN where a group is empty.
    names : sequence of str
        Group names.
    """
    notions = {c.notion for c in constraints}
    conditional = notions & {"equalized_odds", "equal_opportunity", "predictive_equality"}
    if "demographic_parity" not in notions or not conditional:
        return None
    known = np.isfinite(base_rates)
    if known.sum() < 2:
        return None
    high = int(np.nanargmax(base_rates))
    low = int(np.nanargmin(base_rates))
    apart = float(base_rates[high] - base_rates[low])
    asked = []
    for c in constraints:
        allowed = 1 - c.bound if c.kind == "ratio" else c.bound
        if c.notion == "demographic_parity":
            scale = float(base_rates[high]) if c.kind == "ratio" else 1.0
            asked.append(scale * max(_CONFLICT, allowed))
        elif c.notion in conditional:
            asked.append(allowed)
    if apart <= max(asked):
        return None
    return (
        f"base rates lie {apart:.3f} apart ({names[high]!r} {base_rates[high]:.3f}, "
        f"{names[low]!r} {base_rates[low]:.3f}): demographic parity and "
        f"{min(conditional).replace('_', ' ')} can then both hold only at the price of "
        "accuracy. Loosen one of them, or give it the lower priority."
    )


def explain_training(
    report: FairnessReport,
    dual: DualController,
    *,
    base_rates: Floats | None = None,
    names: Sequence[str] = (),
    rates: tuple[str, str] = ("lr", "dual_lr"),
) -> list[str]:
    """Sentences about how training went, after the report's own.

    Parameters
    ----------
    report : FairnessReport
        The outcome.
    dual : DualController
        Its last state.
    base_rates : ndarray of shape (G,), optional
        Share of favourable labels of the finest groups.
    names : sequence of str
        Names of the finest groups.
    rates : pair of str, default=("lr", "dual_lr")
        What the learning rates of weights and multipliers are called.
    """
    said: list[str] = []
    multipliers, slack = dual.multipliers, dual.yielding.slack
    excess, sums = np.array(dual.excess), np.array(dual.sums)
    at_cap = multipliers.at_cap
    for i, family in enumerate(dual.families):
        if at_cap[i]:
            said.append(
                f"{family.name}: the multipliers reached their cap ({multipliers.cap:g}): no price "
                "up to it keeps the bound. Loosen the bound, or raise multiplier_cap."
            )
        if slack[i] > 0:
            said.append(
                f"{family.name}: the bound gave way by {slack[i]:.3f} to constraints of higher "
                "priority, which could not hold beside it at an accuracy above the best constant."
            )
        said += _swings(family, excess[..., i], sums[..., i], rates) if len(sums) else []
    if report.verdict is not Verdict.MET and base_rates is not None:
        constraints = [family.constraint for family in dual.families]
        conflict = base_rate_conflict(constraints, base_rates, names)
        said += [] if conflict is None else [conflict]
    if report.near_constant:
        said.append(
            "The bound is kept by deciding (almost) the same for everybody, which is worth "
            "nothing: loosen it, or train longer."
        )
    return said


def _swings(family: RateFamily, excess: Floats, sums: Floats, rates: tuple[str, str]) -> list[str]:
    sign = oscillation(excess, sums, family.constraint.bound)
    if sign == "dual":
        return [
            f"{family.name}: the gap swings around the bound together with the multipliers: "
            f"lower {rates[1]}."
        ]
    if sign == "primal":
        return [
            f"{family.name}: the gap jumps around the bound while the multipliers stand still: "
            f"lower {rates[0]}, or let it decay."
        ]
    return []
