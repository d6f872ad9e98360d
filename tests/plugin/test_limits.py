"""Floors, caps, capacity and no levelling down: against a linear program on finite tables."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from fairtrain.constraints import (
    AtLeast,
    AtMost,
    Constraint,
    DemographicParity,
    EqualizedOdds,
    NoLevellingDown,
    PredictiveParity,
    linearised,
)
from fairtrain.constraints.families import RateFamily, families_of
from fairtrain.data.groups import Groups
from fairtrain.plugin.levels import Levels, best_levels, with_levels
from fairtrain.plugin.linear import JointScores, LinearRates, linear_rates
from fairtrain.plugin.rule import PricedRule, RuleSettings, ScoredRows, find_rule, sketch_rule

SCHEME = Groups.from_sensitive(list("abc")).scheme


def population(cells: int, seed: int) -> tuple[JointScores, np.ndarray]:
    """P(y | x), P(g | x, y) and P(x) of a finite table."""
    rng = np.random.default_rng(seed)
    outcome = rng.uniform(0.05, 0.95, cells)
    members = rng.dirichlet(np.full(3, 0.7), size=(2, cells))
    members *= np.exp(np.outer(outcome, [2.0, 0.0, -2.0]))  # base rates differ
    members /= members.sum(axis=2, keepdims=True)
    return JointScores(outcome, members), rng.dirichlet(np.full(cells, 3.0))


def rates_of(scores: JointScores, mass: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Rate of every group, and of everybody, as a slope and a constant in d: written by hand."""
    joint = np.stack([scores.joint(0), scores.joint(1)]) * mass[:, None]  # (y, x, g)
    joint = np.concatenate([joint, joint.sum(axis=2, keepdims=True)], axis=2)
    if name == "error_rate":
        total = joint.sum(axis=(0, 1))
        return (joint[0] - joint[1]) / total, joint[1].sum(axis=0) / total
    part = {
        "selection_rate": joint.sum(axis=0),
        "true_positive_rate": joint[1],
        "false_positive_rate": joint[0],
    }[name]
    return part / part.sum(axis=0), np.zeros(4)


def short_of(scores: JointScores, mass: np.ndarray, constraint: Constraint) -> np.ndarray:
    """By how much hits among the selected fall short of a number (or exceed it), as rows in d."""
    hits, misses = (scores.joint(y) * mass[:, None] for y in (1, 0))
    if constraint.rates[0].name == "false_discovery_rate":
        hits, misses = misses, hits
    hits, misses = (
        np.column_stack([part, part.sum(axis=1)]) for part in (hits, misses)
    )  # and everybody
    sign = 1 if constraint.kind == "upper" else -1
    groups = [3] if constraint.overall else [0, 1, 2]
    return sign * (hits - constraint.value * (hits + misses))[:, groups].T


def optimum(
    scores: JointScores, mass: np.ndarray, constraints: list[Constraint], gain: np.ndarray
) -> float:
    """Largest gain of any decision under the constraints."""
    rows: list[np.ndarray] = []
    limits: list[float] = []
    free = (gain > 0).astype(float)
    for constraint in constraints:
        if constraint.rates[0].among is not None:
            rows += list(short_of(scores, mass, constraint))
            limits += [0.0] * (len(rows) - len(limits))
            continue
        for rate in constraint.rates:
            slope, base = rates_of(scores, mass, rate.name)
            if isinstance(constraint, DemographicParity | EqualizedOdds):
                for i, j in ((i, j) for i in range(3) for j in range(3) if i != j):
                    rows.append(slope[:, i] - slope[:, j])
                    limits.append(constraint.bound - base[i] + base[j])
                continue
            sign = 1 if constraint.kind == "upper" else -1
            for g in [3] if constraint.overall else range(3):
                if constraint.groups and SCHEME.names[g] not in constraint.groups:
                    continue
                if isinstance(constraint, NoLevellingDown):
                    number = slope[:, g] @ free + base[g] - constraint.margin
                else:
                    number = constraint.value
                rows.append(sign * slope[:, g])
                limits.append(sign * (number - base[g]))
    found = linprog(
        -gain * mass, A_ub=np.array(rows), b_ub=limits, bounds=[(0, 1)] * len(mass), method="highs"
    )
    assert found.status == 0
    return float(-found.fun)


def resolved(
    constraints: list[Constraint], scores: JointScores, mass: np.ndarray, gain: np.ndarray
) -> list[Constraint]:
    """Floors of no levelling down, at the rates of whoever gains."""
    found = []
    for constraint in constraints:
        if isinstance(constraint, NoLevellingDown):
            slope, base = rates_of(scores, mass, constraint.rates[0].name)
            unconstrained = slope.T @ (gain > 0) + base
            found.append(constraint.resolved(SCHEME.names, unconstrained[:3]))
        else:
            found.append(constraint)
    return found


CASES = {
    "floor": [AtLeast("recall", 0.85)],
    "floor of some": [AtLeast("recall", 0.9, groups=("a", "c"))],
    "cap": [AtMost("false_positive_rate", 0.12)],
    "cap on errors": [AtMost("error_rate", 0.34)],
    "capacity": [AtMost("selection_rate", 0.2, overall=True)],
    "at least so many": [AtLeast("selection_rate", 0.7, overall=True)],
    "parity and capacity": [
        DemographicParity(difference_bound=0.05),
        AtMost("selection_rate", 0.2, overall=True),
    ],
    "floor of precision": [AtLeast("precision", 0.8)],
    "precision of all": [AtLeast("precision", 0.85, overall=True)],
    "cap on false discoveries, capacity": [
        AtMost("false_discovery_rate", 0.25),
        AtMost("selection_rate", 0.3, overall=True),
    ],
    "precision between": [AtLeast("precision", 0.66), AtMost("precision", 0.72)],
    "odds and floor": [EqualizedOdds(difference_bound=0.05), AtLeast("recall", 0.6)],
    "parity, nobody worse": [DemographicParity(difference_bound=0.05), NoLevellingDown()],
    "parity, hardly worse": [
        DemographicParity(difference_bound=0.02),
        NoLevellingDown("recall", margin=0.03),
    ],
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("cells", "seed"), [(12, 0), (12, 1), (5000, 2)])
def test_prices_reach_the_optimum(name: str, cells: int, seed: int) -> None:
    scores, mass = population(cells, seed)
    gain = 2 * scores.outcome - 1
    best = optimum(scores, mass, CASES[name], gain)
    constraints = resolved(CASES[name], scores, mass, gain)
    families = families_of(linearised(constraints), SCHEME)
    rates: LinearRates = linear_rates(families, scores, mass)
    rows = ScoredRows(gain, rates, rates, np.full(len(rates.base), 1e9))
    rule = find_rule(families, rows, RuleSettings(aim=False))
    # A limit is kept by a hair, which costs more where few are selected.
    among = any(constraint.rates[0].among is not None for constraint in constraints)
    assert rule.gain == pytest.approx(best, abs=2e-3 if among else 1e-3)
    assert rule.excess.max() < 1e-3


def test_a_level_is_found_below_all_free_rates_where_more_is_asked() -> None:
    def tried(levels: Levels) -> tuple[float, float]:
        return max(levels[0] - 0.3, 0.0), levels[0]

    parity = PredictiveParity(difference_bound=0.05)
    assert best_levels(parity, np.array([0.7, 0.8]), tried, alone=False)[0] == pytest.approx(
        0.3, abs=0.03
    )


@pytest.mark.parametrize(
    ("parity", "beside"),
    [
        (PredictiveParity(difference_bound=0.03), []),
        (PredictiveParity(ratio_bound=0.95), []),
        (PredictiveParity(difference_bound=0.05), [AtMost("selection_rate", 0.3, overall=True)]),
    ],
    ids=["difference", "ratio", "beside a capacity"],
)
def test_the_level_that_is_found_is_the_best_of_all(
    parity: PredictiveParity, beside: list[Constraint]
) -> None:
    scores, mass = population(200, 3)
    gain = 2 * scores.outcome - 1
    asked = [parity, *beside]

    def top(level: float) -> float:
        return level + parity.bound if parity.kind == "difference" else level / parity.bound

    def rows_of(levels: Levels) -> tuple[list[RateFamily], ScoredRows]:
        families = families_of(linearised(with_levels(asked, levels)), SCHEME)
        rates = linear_rates(families, scores, mass)
        return families, ScoredRows(gain, rates, rates, np.full(len(rates.base), 1e9))

    def tried(levels: Levels) -> tuple[float, float]:
        rule = sketch_rule(*rows_of(levels), RuleSettings(aim=False))
        return float(rule.excess.max()), rule.gain

    hits, both = (
        (part * mass[:, None] * (gain > 0)[:, None]).sum(axis=0)
        for part in (scores.joint(1), scores.joint(1) + scores.joint(0))
    )
    levels = best_levels(parity, hits / both, tried, alone=not beside)
    rule: PricedRule = find_rule(*rows_of(levels), RuleSettings(aim=False))
    best = max(
        optimum(scores, mass, [*linear, *beside], gain)
        for level in np.arange(0.5, 0.98, 0.008)
        for linear in [[AtLeast("precision", level), AtMost("precision", min(top(level), 1.0))]]
    )
    assert rule.gain == pytest.approx(best, abs=2e-3)
    assert rule.excess.max() < 1e-3
