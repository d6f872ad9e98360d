"""Derivatives against finite differences, rates against fairlearn, sums over several processes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate
from numpy.typing import NDArray

from fairtrain import (
    BoundedGroupLoss,
    DemographicParity,
    EqualizedOdds,
    EqualOpportunity,
    ErrorRateParity,
    PredictiveEquality,
    RateParity,
)
from fairtrain.boosting.objective import Lagrangian, quantity_derivatives
from fairtrain.constraints import Constraint
from fairtrain.data.groups import Groups, group_sums
from fairtrain.lagrangian import families_of


def absolute_error(y: Any, p: Any) -> Any:
    return ((y - p) ** 2 + 0.01) ** 0.5


def costly_misses(y: Any, p: Any) -> Any:
    return 2 * y * (1 - p)


CONSTRAINTS = [
    DemographicParity(),
    EqualOpportunity(),
    PredictiveEquality(),
    EqualizedOdds(),
    ErrorRateParity(),
    DemographicParity(over="sex", ratio_bound=0.8),
    RateParity(quantity=costly_misses, difference_bound=0.1),
    BoundedGroupLoss(upper_bound=0.2),
    BoundedGroupLoss(upper_bound=0.2, loss="squared"),
    BoundedGroupLoss(upper_bound=0.5, loss="log_loss"),
    BoundedGroupLoss(upper_bound=0.5, loss=absolute_error),
]


def rows(
    constraints: list[Constraint], task: Any = "classification", n: int = 40
) -> tuple[Lagrangian, NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(1)
    groups = Groups.from_sensitive({"sex": rng.integers(0, 2, n), "race": rng.integers(0, 3, n)})
    codes = np.where(np.arange(n) % 9 == 0, -1, groups.codes)  # some belong to no group
    y = rng.integers(0, 2, n) if task == "classification" else rng.normal(size=n)
    families = families_of(constraints, groups.scheme)
    found = Lagrangian(families, y, codes, rng.uniform(0.5, 2, n), task=task)
    prices = rng.normal(size=sum(len(f.scheme) for f in families))
    return found, 2 * rng.normal(size=n), prices


def differences(function: Any, at: NDArray[Any], step: float = 1e-5) -> NDArray[Any]:
    columns = []
    for i in range(len(at)):
        e = np.zeros(len(at))
        e[i] = step
        columns.append((np.asarray(function(at + e)) - np.asarray(function(at - e))) / (2 * step))
    return np.array(columns)


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=lambda c: f"{c.name}-{c.bound}")
def test_the_gradient_is_that_of_the_value(constraint: Constraint) -> None:
    lagrangian, margin, prices = rows([constraint])
    gradient, _ = lagrangian.derivatives(margin, prices)
    expected = differences(lambda m: lagrangian.value(m, prices), margin)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=lambda c: f"{c.name}-{c.bound}")
def test_the_hessian_is_the_true_one_where_prices_curve_upwards(constraint: Constraint) -> None:
    lagrangian, margin, prices = rows([constraint])
    _, hessian = lagrangian.derivatives(margin, prices)
    _, plain = lagrangian.derivatives(margin, np.zeros_like(prices))
    true = np.diag(differences(lambda m: lagrangian.derivatives(m, prices)[0], margin))
    np.testing.assert_allclose(hessian, np.maximum(true, plain), rtol=2e-3, atol=1e-4)
    assert (hessian > 0).all()


def test_several_constraints_add_up() -> None:
    both, margin, prices = rows([DemographicParity(), EqualizedOdds()])
    first, *_ = rows([DemographicParity()])
    second, *_ = rows([EqualizedOdds()])
    plain = first.derivatives(margin, np.zeros(6))[0]
    parts = first.derivatives(margin, prices[:6])[0] + second.derivatives(margin, prices[6:])[0]
    np.testing.assert_allclose(both.derivatives(margin, prices)[0], parts - plain)


@pytest.mark.parametrize("loss", ["squared", absolute_error])
def test_regression_has_the_same_gradient(loss: Any) -> None:
    lagrangian, margin, prices = rows([BoundedGroupLoss(upper_bound=1.0, loss=loss)], "regression")
    gradient, hessian = lagrangian.derivatives(margin, prices)
    expected = differences(lambda m: lagrangian.value(m, prices), margin)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)
    assert (hessian >= 0.5).all()  # half the squared error alone has the weight as its Hessian


def test_single_precision_follows_double() -> None:
    rng = np.random.default_rng(0)
    groups = Groups.from_sensitive(rng.integers(0, 3, 60))
    y, margin, prices = rng.integers(0, 2, 60), rng.normal(size=60), rng.normal(size=6)
    families = families_of([EqualizedOdds()], groups.scheme)
    single = Lagrangian(families, y, groups.codes, dtype=np.float32)
    double = Lagrangian(families, y, groups.codes)
    for a, b in zip(
        single.derivatives(margin.astype(np.float32), prices),
        double.derivatives(margin, prices),
        strict=True,
    ):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_hard_rates_are_those_of_fairlearn() -> None:
    rng = np.random.default_rng(3)
    n = 400
    groups = Groups.from_sensitive(rng.integers(0, 3, n))
    y, margin, weight = rng.integers(0, 2, n), rng.normal(size=n), rng.uniform(0, 2, n)
    families = families_of([DemographicParity(), EqualizedOdds()], groups.scheme)
    found = Lagrangian(families, y, groups.codes, weight).hard_rates(margin)
    for i, metric in enumerate((selection_rate, false_positive_rate, true_positive_rate)):
        frame = MetricFrame(
            metrics=metric,
            y_true=y,
            y_pred=margin > 0,
            sensitive_features=groups.codes,
            sample_params={"sample_weight": weight},
        )
        np.testing.assert_allclose(found[3 * i : 3 * i + 3], frame.by_group.to_numpy(float))


def test_a_cell_without_rows_has_no_rate_and_no_price() -> None:
    groups = Groups.from_sensitive(["a", "a", "b", "b"])
    families = families_of([EqualOpportunity()], groups.scheme)
    lagrangian = Lagrangian(families, np.array([1, 0, 0, 0]), groups.codes)
    np.testing.assert_array_equal(lagrangian.hard_rates(np.ones(4)), [1.0, np.nan])
    assert lagrangian.counts.tolist() == [1.0, 0.0]
    gradient, _ = lagrangian.derivatives(np.zeros(4), np.array([0.0, 5.0]))
    np.testing.assert_allclose(gradient, [-0.5, 0.5, 0.5, 0.5])


def test_group_sums_are_all_that_crosses_processes() -> None:
    """Two threads that add their sums see what one process with all rows sees."""
    n, half = 60, 30
    rng = np.random.default_rng(5)
    groups = Groups.from_sensitive(rng.integers(0, 3, n))
    y, margin, weight = rng.integers(0, 2, n), rng.normal(size=n), rng.uniform(0.5, 2, n)
    constraints = [EqualizedOdds(), BoundedGroupLoss(upper_bound=0.2, loss="squared")]
    families = families_of(constraints, groups.scheme)
    prices = rng.normal(size=9)
    barrier = threading.Barrier(2, timeout=20)
    parts: dict[int, Any] = {}

    def process(rank: int) -> Any:
        def sums(values: Any, codes: Any, size: int) -> Any:
            parts[rank] = group_sums(values, codes, size)
            barrier.wait()
            total = parts[0] + parts[1]
            barrier.wait()
            return total

        own = slice(rank * half, (rank + 1) * half)
        local = Lagrangian(families, y[own], groups.codes[own], weight[own], sums=sums)
        gradient, hessian = local.derivatives(margin[own], prices)
        return gradient, hessian, local.hard_rates(margin[own]), local.loss(margin[own])

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(process, (0, 1))
    whole = Lagrangian(families, y, groups.codes, weight)
    for i, expected in enumerate(whole.derivatives(margin, prices)):
        np.testing.assert_allclose(np.concatenate([first[i], second[i]]), expected)
    for found in (first, second):
        np.testing.assert_allclose(found[2], whole.hard_rates(margin))
        assert found[3] == pytest.approx(whole.loss(margin))


def test_own_quantities_are_differentiated_inside_their_range() -> None:
    y, p = np.array([0.0, 1.0, 1.0]), np.array([0.0, 1.0, 0.3])
    first, second = quantity_derivatives(absolute_error, y, p, "classification")
    assert np.isfinite(first).all()
    assert np.isfinite(second).all()
    assert first[2] == pytest.approx(-0.7 / np.sqrt(0.5), rel=1e-3)
