from __future__ import annotations

import numpy as np
import pytest

from fairtrain.training.adversarial.leakage import VALUE_PROBES, value_leakage_of


@pytest.mark.parametrize("effect", [0.0, 0.65])
def test_the_interval_covers_what_a_line_explains(effect):
    truth = effect**2 / (1 + effect**2)
    hits, found = 0, []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        z = rng.normal(size=(300, 2))
        values = effect * z[:, 0] + rng.exponential(size=300) - 1  # skewed: no normal distribution
        leak = value_leakage_of(z, 1000 + 5 * values, VALUE_PROBES[0], seed=seed)
        found.append(leak.r2)
        hits += leak.lower <= truth <= leak.upper
    assert hits >= 55
    assert np.mean(found) == pytest.approx(truth, abs=0.02)


def test_trees_find_nothing_in_noise_and_what_a_line_cannot_see():
    hits = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        leak = value_leakage_of(rng.normal(size=(300, 2)), rng.normal(size=300), VALUE_PROBES[1])
        hits += leak.lower <= 0 <= leak.upper
    assert hits >= 11
    z = np.random.default_rng(0).normal(size=(800, 1))
    straight, trees = (value_leakage_of(z, z[:, 0] ** 2, probe) for probe in VALUE_PROBES)
    assert trees.lower > 0.5
    assert straight.upper < 0.1


def test_too_few_rows_constants_and_gaps():
    rng = np.random.default_rng(0)
    z, values = rng.normal(size=(100, 1)), rng.normal(size=100)
    assert np.isnan(value_leakage_of(z[:19], values[:19], VALUE_PROBES[0]).r2)
    assert np.isnan(value_leakage_of(z, np.ones(100), VALUE_PROBES[0]).r2)
    still = value_leakage_of(np.ones((100, 1)), values, VALUE_PROBES[0])
    assert still.lower < 0 < still.upper
    z[3] = np.inf
    assert value_leakage_of(z, values, VALUE_PROBES[0]).n_rows == 99
    many = value_leakage_of(rng.normal(size=(6000, 1)), rng.normal(size=6000), VALUE_PROBES[0])
    assert many.n_rows == 5000
