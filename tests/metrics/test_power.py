"""Advised numbers of rows give the chance they state, on the limits that decide the verdict."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from fairtrain import DemographicParity, EqualizedOdds, Groups
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidParameterError
from fairtrain.metrics.intervals import gap_interval, ratio_interval
from fairtrain.metrics.measures import measure_cells
from fairtrain.metrics.power import bound_in_reach, rows_short, rows_to_certify, spread_cells
from fairtrain.metrics.verdicts import judge


def share_met(
    kind: str, bound: float, true_gap: float, rate: float, groups: int, rows: float
) -> float:
    rng = np.random.default_rng(7)
    truth = spread_cells(np.zeros(groups), rate, true_gap, kind).mean
    seen = rng.binomial(int(rows), truth, (4000, groups)) / rows
    count = np.full(groups, rows)
    if kind == "ratio":
        return float((ratio_interval(seen, count).lower >= bound).mean())
    return float((gap_interval(seen, count).upper <= bound).mean())


@pytest.mark.parametrize("share", [0.0, 0.5, 0.75])
@pytest.mark.parametrize(
    ("kind", "bound", "rate", "groups"),
    [
        ("difference", 0.05, 0.5, 2),
        ("difference", 0.1, 0.05, 4),
        ("difference", 0.1, 0.3, 8),
        ("ratio", 0.8, 0.3, 2),
        ("ratio", 0.8, 0.2, 4),
    ],
)
def test_the_advised_rows_give_met_in_four_of_five_samples(
    kind: str, bound: float, rate: float, groups: int, share: float
) -> None:
    gap = 1 - share * (1 - bound) if kind == "ratio" else share * bound
    rows = rows_to_certify(bound, gap, rate=rate, kind=kind, n_groups=groups)
    assert share_met(kind, bound, gap, rate, groups, rows) == pytest.approx(0.8, abs=0.045)


@pytest.mark.parametrize("power", [0.5, 0.95])
def test_another_power_is_reached_too(power: float) -> None:
    rows = rows_to_certify(0.1, 0.03, power=power, rate=0.4)
    assert share_met("difference", 0.1, 0.03, 0.4, 2, rows) == pytest.approx(power, abs=0.045)


def test_a_true_gap_at_the_bound_is_never_shown() -> None:
    assert rows_to_certify(0.05, 0.05) == np.inf
    assert rows_to_certify(0.8, 0.8, kind="ratio") == np.inf


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bound": 0.0}, "bound must lie"),
        ({"power": 1.0}, "power must lie"),
        ({"kind": "upper"}, "kind must be"),
        ({"n_groups": 1}, "two groups or more"),
        ({"true_gap": -0.1}, "two groups or more"),
    ],
)
def test_numbers_out_of_range_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        rows_to_certify(**{"bound": 0.1, "true_gap": 0.0, **arguments})


def test_a_verdict_states_its_power_and_what_the_rows_can_show() -> None:
    rates = {"a": (2500, 5000), "b": (245, 500)}
    who = np.repeat(list(rates), [n for _, n in rates.values()])
    p = np.concatenate([np.arange(n) < k for k, n in rates.values()]).astype(float)
    rows = Rows.judged(np.ones(len(p)), p, Groups.from_sensitive(who))
    found = judge(DemographicParity(difference_bound=0.05), rows, "certification", 0.95)
    assert "for a chance of 80% if the true gap is 0.01)" in found.words()
    assert f"can certify a bound of {found.smallest_bound:.2g}" in found.words()
    assert "certification_plan" in found.words()
    assert found.smallest_bound is not None
    # The bound it names is met with four samples of five, were the true gap half of it (b is
    # brought nearer: what was seen is less than that).
    rng = np.random.default_rng(0)
    seen = np.stack([rng.binomial(n, k / n, 4000) / n for k, n in rates.values()], axis=1)
    met = gap_interval(seen, np.array([5000, 500])).upper <= found.smallest_bound
    assert met.mean() == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize(("size", "seconds"), [(300, 0.2), (1000, 1.0)])
def test_a_thousand_groups_take_no_time(size: int, seconds: float) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, size, 130 * size)
    y, p = rng.random(len(codes)) < 0.4, rng.random(len(codes)) < 0.3
    rows = Rows.judged(y.astype(float), p.astype(float), Groups.from_sensitive(codes))
    constraint = EqualizedOdds(difference_bound=0.1)
    cells = [measure_cells(rows, rate) for rate in constraint.rates]
    names = [str(g) for g in range(size)]
    start = time.process_time()
    short, _ = rows_short(constraint, cells, names, 0.95, within=False)
    assert len(short) == size
    # .09 s and .28 s on an idle machine; the factor is for slow ones.
    assert time.process_time() - start < 5 * seconds
    reach = bound_in_reach(constraint, cells, 0.95)
    assert reach is not None
    assert 0.5 < reach < 1
