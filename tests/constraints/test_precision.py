"""Precision and its kin: ratios of two linear functions of decisions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fairlearn.metrics import MetricFrame
from sklearn.metrics import precision_score

from fairtrain import AtLeast, AtMost, DemographicParity, PredictiveParity
from fairtrain.constraints import as_constraints, linearised
from fairtrain.constraints.families import families_of
from fairtrain.constraints.limits import between, require_linear
from fairtrain.constraints.rates import NAMED_RATES
from fairtrain.constraints.table import RateTable
from fairtrain.data.groups import Groups
from fairtrain.exceptions import InvalidParameterError

RNG = np.random.default_rng(0)
N = 240
Y = RNG.integers(0, 2, N).astype(float)
WEIGHT = RNG.uniform(0.5, 3, N)
GROUPS = Groups.from_sensitive(RNG.choice(["a", "b", "c"], N))
AMONG = [name for name, rate in NAMED_RATES.items() if rate.among is not None]


def table_of(constraints: Any, weight: Any = None) -> RateTable:
    families = families_of(as_constraints(constraints), GROUPS.scheme)
    return RateTable(families, Y, GROUPS.members, weight)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_rates_are_those_of_a_metric_frame(weight: np.ndarray | None) -> None:
    decisions = RNG.integers(0, 2, N).astype(float)

    def frame(y: np.ndarray, decided: np.ndarray) -> np.ndarray:
        found = MetricFrame(
            metrics=precision_score,
            y_true=y,
            y_pred=decided,
            sensitive_features=GROUPS.codes,
            sample_params=None if weight is None else {"sample_weight": weight},
        )
        return found.by_group.to_numpy(float)

    precision, omitted = frame(Y, decisions), frame(Y, 1 - decisions)
    expected = {
        "precision": precision,
        "positive_predictive_value": precision,
        "false_discovery_rate": 1 - precision,
        "false_omission_rate": omitted,
        "negative_predictive_value": 1 - omitted,
    }
    assert set(AMONG) == set(expected)
    for name, rates in expected.items():
        found = table_of(PredictiveParity(rate=name), weight)(decisions)
        np.testing.assert_allclose(found, rates, rtol=1e-12)


@pytest.mark.parametrize("members", [False, True], ids=["groups", "memberships"])
@pytest.mark.parametrize("name", AMONG)
def test_what_it_pulls_is_the_derivative_in_every_decision(name: str, members: bool) -> None:
    families = families_of([PredictiveParity(rate=name)], GROUPS.scheme)
    who = RNG.dirichlet(np.ones(3), N) if members else GROUPS.members
    cells = RateTable(families, Y, who, WEIGHT).cells[0]
    at, prices, step = RNG.uniform(0.1, 0.9, N), RNG.normal(size=3), 1e-6
    direction = RNG.normal(size=N)
    ends = [prices @ cells(at + sign * step * direction) for sign in (1, -1)]
    pulled = cells.pull(at, prices)
    assert pulled @ direction[cells.rows] == pytest.approx((ends[0] - ends[1]) / 2 / step, rel=1e-5)


def test_rows_behind_a_rate_are_those_who_are_selected() -> None:
    decisions = (np.arange(N) % 3 == 0).astype(float)
    counted = table_of(["predictive_parity", "demographic_parity"]).effective_at(decisions)
    selected = [decisions[GROUPS.codes == g].sum() for g in range(3)]
    assert counted.tolist() == [*selected, *GROUPS.counts]


@pytest.mark.parametrize("name", AMONG)
@pytest.mark.parametrize("kind", [AtLeast, AtMost])
def test_a_linear_limit_says_the_same(name: str, kind: Any) -> None:
    """Whatever is decided, one is kept where the other is."""
    numbers = (0.5031, {"a": 0.4511, "c": 0.5513}, 0.4797)  # that no share is
    asked = [kind(name, number) for number in numbers[:2]]
    asked.append(kind(name, numbers[2], overall=True))
    tables = [(table_of(one), table_of(list(linearised([one])))) for one in asked]
    assert [len(linear.cells) for _, linear in tables] == [1, 2, 1]
    for _ in range(30):
        decisions = (RNG.random(N) < RNG.uniform(0.1, 0.9)).astype(float)
        for pair in tables:
            over, linear = (
                max(c.family.bounds.excess(table(decisions)[c.part]) for c in table.cells)
                for table in pair
            )
            assert np.sign(over) == np.sign(linear)
    assert tables[0][1].cells[0].slope is not None
    assert tables[0][0].cells[0].slope is None


def test_limits_and_parities_have_names_that_say_what_is_asked() -> None:
    floor = AtLeast("precision", 0.7, over="sex")
    assert floor.name == "positive_predictive_value at least 0.7 over sex"
    assert linearised([floor])[0].name == floor.name
    assert [c.name for c in linearised([AtMost("precision", {"b": 0.6, "a": 0.5})])] == [
        "positive_predictive_value at most 0.5 of a",
        "positive_predictive_value at most 0.6 of b",
    ]
    assert PredictiveParity(rate="false_discovery_rate").name == (
        "predictive_parity of false_discovery_rate"
    )
    for name in ("predictive_parity", "precision_parity", "Precision Parity"):
        assert as_constraints(name, ratio_bound=0.9) == (PredictiveParity(ratio_bound=0.9),)
    low, high = between(PredictiveParity(priority=2, weights={"a": 2}), 0.6, 0.65)
    assert (low.priority, high.bound, low.bound) == (2, 0.65, 0.6)
    assert linearised([DemographicParity()]) == (DemographicParity(),)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: PredictiveParity(given="band", pooled=True), "leave out pooled"),
        (lambda: PredictiveParity(reference="overall"), "compares groups with each other"),
        (lambda: PredictiveParity(rate="recall"), "must be one of"),
        (lambda: PredictiveParity().to_fairlearn(), "no counterpart"),
        (lambda: linearised([PredictiveParity()]), "FairPlugInClassifier searches it"),
        (lambda: require_linear([AtLeast("precision", 0.5)], "so"), "not linear in decisions, and"),
    ],
)
def test_what_cannot_be_asked(make: Any, says: str) -> None:
    with pytest.raises(InvalidParameterError, match=says):
        make()
