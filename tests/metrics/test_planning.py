"""What is said before training is what the verdicts then do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from fairtrain import (
    AtLeast,
    AtMost,
    BoundedGroupLoss,
    CertificationPlan,
    EqualOpportunity,
    NoLevellingDown,
    certification_plan,
)
from fairtrain.exceptions import FairtrainError
from fairtrain.metrics.intervals import gap_interval, short_exact


def test_the_chance_and_the_strictest_bound_are_those_of_samples() -> None:
    plan = certification_plan({"a": 20_000, "b": 4_000}, difference_bound=0.1)
    rows, rng = np.array([4000, 800]), np.random.default_rng(0)

    def met(bound: float) -> float:
        seen = rng.binomial(rows, [0.5 - bound / 4, 0.5 + bound / 4], (4000, 2)) / rows
        return float((gap_interval(seen, rows).upper <= bound).mean())

    assert met(0.1) == pytest.approx(plan.chance, abs=0.04)
    assert met(plan.smallest_bounds[0.2]) == pytest.approx(0.8, abs=0.04)


def test_more_rows_certify_stricter_bounds_and_wider_gaps_need_more() -> None:
    for settings in ({"difference_bound": 0.1}, {"ratio_bound": 0.8}):
        plan = certification_plan({"a": 9000, "b": 5000, "c": 2000}, **settings)
        bounds = list(plan.smallest_bounds.values())
        ordered = sorted(bounds, reverse="difference_bound" in settings)
        assert bounds == ordered
        needed = plan.to_frame().drop_duplicates("true_gap").sort_values("true_gap")["rows_needed"]
        assert needed.is_monotonic_increasing or needed.is_monotonic_decreasing
        assert needed.nunique() == 4


def test_merging_the_small_groups_would_do() -> None:
    counts = {"a": 30_000, "b": 20_000, "c": 9000, "d": 8000}
    plan = certification_plan(counts, difference_bound=0.075)
    assert plan.chance < 0.8
    assert plan.merged == (("d", "c"),)
    assert "judged together: d + c" in str(plan)
    joined = certification_plan({"a": 30_000, "b": 20_000, "cd": 17_000}, difference_bound=0.075)
    assert joined.chance >= 0.8
    assert not joined.merged


def test_rates_over_a_label_count_the_rows_that_have_it() -> None:
    who, y = np.repeat(["a", "b"], [600, 400]), np.arange(1000) % 4 == 0
    plan = certification_plan(who, "equalized_odds", y=y.astype(int))
    assert plan.counts == {"a": 150, "b": 100}
    frame = certification_plan(
        pd.DataFrame({"sex": who, "race": who[::-1]}),
        EqualOpportunity(over="sex"),
        y=np.where(y, "good", "bad"),
        positive_label="good",
        certification_fraction=1,
    )
    assert frame.counts == plan.counts
    assert frame.to_frame()["certification_rows"].tolist()[:1] == [150]


def test_a_bound_on_losses_and_groups_left_out() -> None:
    counts = {"a": 3000, "b": 3000, "odd": 3}
    plan = certification_plan(counts, BoundedGroupLoss(upper_bound=0.5, weights={"odd": 0}))
    assert set(plan.counts) == {"a", "b"}
    assert plan.chance > 0.99
    assert "true mean" in plan.explain()


@pytest.mark.parametrize(
    ("groups", "settings", "message"),
    [
        (["a", "b"], {"constraint": "equal_opportunity"}, "needs y"),
        ({"a": 100}, {}, "needs groups"),
        ({"a": 100, "b": -1}, {}, "needs groups"),
        ({"a": 100, "b": 90}, {"true_gap": 0.05}, "inside the bound"),
        ({"a": 100, "b": 90}, {"certification_fraction": 0}, "certification_fraction must"),
        ({"a": 100, "b": 90}, {"power": 1}, "power must"),
        ({"a": 9, "b": 9}, {"constraint": ["equal_opportunity", "equalized_odds"]}, "one constr"),
        (["a", "b"], {"y": [1, 0, 1]}, "y has 3 rows"),
    ],
)
def test_what_cannot_be_planned(groups: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(FairtrainError, match=message):
        certification_plan(groups, **settings)


def test_a_group_without_rows_is_never_certified() -> None:
    plan = certification_plan({"a": 1000, "b": 0})
    assert isinstance(plan, CertificationPlan)
    assert plan.chance == 0
    assert all(np.isnan(bound) for bound in plan.smallest_bounds.values())
    assert "none" in plan.explain()


@pytest.mark.parametrize("rows", [150, 900])
def test_a_floor_is_planned_as_the_cap_on_its_complement(rows: int) -> None:
    counts = {"a": 2 * rows, "b": rows}
    floor = certification_plan(counts, AtLeast("recall", 0.7), true_gap=0.75)
    cap = certification_plan(counts, AtMost("false_negative_rate", 0.3), true_gap=0.25)
    assert floor.kind == "lower"
    assert floor.chance == pytest.approx(cap.chance)
    assert [*floor.rows_needed.values()] == [*cap.rows_needed.values()]
    assert max(floor.rows_needed) == 1  # equality, the best there is
    for share, bound in floor.smallest_bounds.items():
        assert bound == pytest.approx(1 - cap.smallest_bounds[share], abs=0.0011)
    assert "true mean is 0.75" in floor.explain()


def test_a_floor_s_chance_is_that_of_samples() -> None:
    rows, rng = np.array([500, 300]), np.random.default_rng(0)
    counts = dict(zip("ab", rows.tolist(), strict=True))
    floor = AtLeast("recall", 0.7)
    plan = certification_plan(counts, floor, certification_fraction=1, true_gap=0.77)
    seen = rng.binomial(rows, 0.77, (4000, 2)) / rows
    met = (short_exact(seen, rows)[0] >= floor.bound).all(axis=1).mean()
    assert met == pytest.approx(plan.chance, abs=0.045)


def test_limits_of_everybody_of_some_and_of_ones_own() -> None:
    everybody = AtMost("selection_rate", 0.3, overall=True)
    assert certification_plan({"a": 900, "b": 90}, everybody).counts == {"everybody": 990}
    assert certification_plan(["a"] * 90 + ["b"] * 9, everybody).counts == {"everybody": 99}
    assert certification_plan({"a": 90, "b": 9}, AtLeast("recall", 0.3, groups="a")).counts == {
        "a": 90
    }
    own = certification_plan({"a": 900, "b": 900}, AtLeast("recall", {"a": 0.5, "b": 0.8}))
    alike = certification_plan({"a": 900, "b": 900}, AtLeast("recall", 0.5))
    assert own.bound == alike.bound == 0.5
    assert own.chance < alike.chance
    assert own.rows_needed[0.75] > alike.rows_needed[0.75]
    with pytest.raises(FairtrainError, match="state the floors"):
        certification_plan({"a": 900, "b": 900}, NoLevellingDown())
    with pytest.raises(FairtrainError, match=r"in \[0, 1\]"):
        certification_plan({"a": 90, "b": 90}, BoundedGroupLoss(upper_bound=2, loss="log_loss"))


def test_a_bound_near_one_is_not_rounded_to_it() -> None:
    assert ": 1;" not in certification_plan({"a": 20_000}, AtLeast("recall", 0.3)).explain()
