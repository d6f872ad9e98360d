"""The kernel against fairlearn's MetricFrame, finite differences and direct sums."""

from __future__ import annotations

import numpy as np
import pytest
from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate
from sklearn.metrics import zero_one_loss

from fairtrain import (
    BoundedGroupLoss,
    DemographicParity,
    EqualizedOdds,
    EqualOpportunity,
    ErrorRateParity,
)
from fairtrain.constraints.families import families_of
from fairtrain.constraints.table import CellRows, RateTable
from fairtrain.data.groups import Groups
from fairtrain.exceptions import InvalidDataError
from fairtrain.metrics.cells import cell_means

RNG = np.random.default_rng(0)
N = 300
Y = RNG.integers(0, 2, N).astype(float)
WEIGHT = RNG.uniform(0.5, 3, N)
GROUPS = Groups.from_sensitive({"sex": RNG.integers(0, 2, N), "race": RNG.integers(0, 3, N)})
ALL = [DemographicParity(), EqualizedOdds(over="race"), ErrorRateParity(over=["race", "sex"])]


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_rates_are_those_of_a_metric_frame(weight: np.ndarray | None) -> None:
    table = RateTable.comparing(ALL, Y, GROUPS, weight)
    decisions = RNG.integers(0, 2, N)
    expected = []
    for over, metric in [
        (None, selection_rate),
        ("race", false_positive_rate),
        ("race", true_positive_rate),
        (["race", "sex"], zero_one_loss),
    ]:
        frame = MetricFrame(
            metrics=metric,
            y_true=Y,
            y_pred=decisions,
            sensitive_features=GROUPS.over(over).codes,
            sample_params=None if weight is None else {"sample_weight": weight},
        )
        expected.append(frame.by_group.to_numpy(float))
    np.testing.assert_allclose(table(decisions), np.concatenate(expected), rtol=1e-12)
    error = np.average(decisions != Y, weights=weight)
    assert table.error(decisions) == pytest.approx(error)


def test_pulling_back_is_the_derivative_in_every_decision() -> None:
    table = RateTable.comparing(ALL, Y, GROUPS, WEIGHT)
    at, prices = RNG.random(N), RNG.normal(size=table.n_cells)
    direction = RNG.normal(size=N)
    slope = (prices @ table(at + direction) - prices @ table(at - direction)) / 2
    assert table.pull_back(prices) @ direction == pytest.approx(slope)


def test_losses_of_probabilities_are_no_mixture_of_the_losses_of_decisions() -> None:
    families = families_of([BoundedGroupLoss(upper_bound=0.3, loss="squared")], GROUPS.scheme)
    p = RNG.random(N)
    soft = RateTable(families, Y, GROUPS.codes, linear=[False])(np.round(p), p)
    mixed = RateTable(families, Y, GROUPS.codes)(p)
    for g in range(len(GROUPS)):
        own = GROUPS.codes == g
        assert soft[g] == pytest.approx(((Y - p)[own] ** 2).mean())
        assert mixed[g] == pytest.approx(np.abs(Y - p)[own].mean())


def test_effective_counts_are_those_of_kish() -> None:
    table = RateTable.comparing([EqualOpportunity()], Y, GROUPS, WEIGHT)
    for g in range(len(GROUPS)):
        own = WEIGHT[(GROUPS.codes == g) & (Y == 1)]
        assert table.totals[g] == pytest.approx(own.sum())
        assert table.effective[g] == pytest.approx(own.sum() ** 2 / (own**2).sum())
    plain = RateTable.comparing([EqualOpportunity()], Y, GROUPS)
    np.testing.assert_array_equal(plain.effective, plain.totals)
    np.testing.assert_allclose(
        RateTable.comparing([EqualOpportunity()], Y, GROUPS, 1e3 * WEIGHT).effective,
        table.effective,
    )


def test_rows_without_group_and_groups_without_row_are_in_no_mean() -> None:
    rows = CellRows(np.array([0, -1, 0, 2]), 4)
    np.testing.assert_array_equal(rows.mean(np.array([1.0, 3.0, 4.0])), [2.0, np.nan, 4.0, np.nan])
    np.testing.assert_array_equal(rows.count, [2, 0, 1, 0])
    np.testing.assert_array_equal(
        rows.variance(np.array([1.0, 3.0, 4.0])), [2.0, np.nan, np.nan, np.nan]
    )


def test_a_parity_needs_two_groups_to_compare() -> None:
    with pytest.raises(InvalidDataError, match="at least two groups, but only 1 of 2"):
        RateTable.comparing([EqualOpportunity()], [1, 0, 0], Groups.from_sensitive(["a", "a", "b"]))


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_codes_are_memberships_of_zeros_and_ones(weight: np.ndarray | None) -> None:
    certain = Groups(GROUPS.scheme, GROUPS.codes, np.eye(len(GROUPS))[GROUPS.codes])
    hard, soft = (RateTable.comparing(ALL, Y, groups, weight) for groups in (GROUPS, certain))
    decisions, prices = RNG.random(N), RNG.normal(size=hard.n_cells)
    np.testing.assert_allclose(soft(decisions), hard(decisions))
    np.testing.assert_allclose(soft.effective, hard.effective)
    np.testing.assert_allclose(soft.totals, hard.totals)
    np.testing.assert_allclose(soft.pull_back(prices), hard.pull_back(prices))
    values = RNG.normal(size=N)
    found, expected = (cell_means(values, g.members, len(g), weight) for g in (certain, GROUPS))
    np.testing.assert_array_equal(found.count, expected.count)
    np.testing.assert_allclose(found.mean, expected.mean)
    np.testing.assert_allclose(found.variance, expected.variance)


def test_rates_of_memberships_are_weighted_by_them() -> None:
    soft = RNG.dirichlet(np.ones(len(GROUPS)), N)
    table = RateTable.comparing(
        [EqualOpportunity(), ErrorRateParity(over="race")],
        Y,
        Groups(GROUPS.scheme, soft.argmax(axis=1), soft),
        WEIGHT,
    )
    decisions, prices = RNG.random(N), RNG.normal(size=table.n_cells)
    rates, of_race = table(decisions), GROUPS.scheme.coarsen("race")[1]
    for g in range(len(GROUPS)):
        share = WEIGHT * soft[:, g] * (Y == 1)
        assert rates[g] == pytest.approx(share @ decisions / share.sum())
        assert table.effective[g] == pytest.approx(share.sum() ** 2 / (share @ share))
    for r in range(3):
        share = WEIGHT * soft[:, of_race == r].sum(axis=1)
        expected = share @ (Y + decisions - 2 * Y * decisions) / share.sum()
        assert rates[len(GROUPS) + r] == pytest.approx(expected)
    direction = RNG.normal(size=N)
    slope = (prices @ table(decisions + direction) - prices @ table(decisions - direction)) / 2
    assert table.pull_back(prices) @ direction == pytest.approx(slope)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_a_sweep_is_one_call_for_every_cut(weight: np.ndarray | None) -> None:
    families = families_of([DemographicParity(), EqualizedOdds(), ErrorRateParity()], GROUPS.scheme)
    table = RateTable(families, Y, GROUPS.codes, weight)
    score = RNG.uniform(size=N)
    order = np.lexsort((-score, GROUPS.codes))
    start = np.searchsorted(GROUPS.codes[order], np.arange(len(GROUPS)))
    ends = start[:, None] + np.array([0, 1, 3, 10])
    swept = table.sweep(order, start, ends)
    assert swept.shape == (4, len(GROUPS), 4)
    place = np.empty(N, dtype=int)
    place[order] = np.arange(N)
    for k in range(4):
        decisions = (place < ends[GROUPS.codes, k]).astype(float)
        np.testing.assert_allclose(swept[..., k].ravel(), table(decisions))
