"""Dominance, area and knee against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairtrain.exceptions import InvalidParameterError
from fairtrain.tradeoff.dominance import dominated, hypervolume, knee

steps = st.integers(0, 4).map(lambda k: k / 4)
points = st.lists(st.tuples(steps, steps), max_size=9)


def beaten(gap: np.ndarray, performance: np.ndarray, i: int) -> bool:
    no_worse = (gap <= gap[i]) & (performance >= performance[i])
    better = (gap < gap[i]) | (performance > performance[i])
    return bool((no_worse & better).any())


@given(points)
def test_dominance_is_its_definition(pairs: list[tuple[float, float]]) -> None:
    gap, performance = np.array([p for p, _ in pairs]), np.array([p for _, p in pairs])
    expected = [beaten(gap, performance, i) for i in range(len(pairs))]
    assert dominated(gap, performance).tolist() == expected


def test_unknown_points_are_beaten_and_beat_none() -> None:
    assert dominated([np.nan, 0.2, 0.1], [1.0, 0.5, np.nan]).tolist() == [True, False, True]


@given(points)
def test_hypervolume_is_the_area_that_is_dominated(pairs: list[tuple[float, float]]) -> None:
    gap, performance = np.array([p for p, _ in pairs]), np.array([p for _, p in pairs])
    # Coordinates are multiples of 1/4, so the middles of a grid of that size tell the area.
    middles = np.arange(0.125, 1, 0.25)
    inside = [any(g < x and p > y for g, p in pairs) for x in middles for y in middles]
    area = hypervolume(gap, performance, (1.0, 0.0))
    assert area == pytest.approx(np.sum(inside) / 16)


def test_hypervolume_needs_a_reference() -> None:
    with pytest.raises(InvalidParameterError, match="two finite numbers"):
        hypervolume([0.1], [0.5], (np.inf, 0.0))


def test_knee_of_a_bent_front() -> None:
    gap = np.array([0.0, 0.02, 0.05, 0.2, 0.3, 0.25])
    performance = np.array([0.5, 0.7, 0.84, 0.86, 0.87, 0.3])
    assert knee(gap, performance) == 2


@pytest.mark.parametrize(
    ("gap", "performance", "at"),
    [([0.1], [0.9], 0), ([0.2, 0.1], [0.9, 0.8], 1), ([0.1, 0.1], [0.8, 0.9], 1)],
)
def test_knee_of_a_short_front_is_its_fairest(gap: list, performance: list, at: int) -> None:
    assert knee(gap, performance) == at


def test_knee_of_nothing() -> None:
    with pytest.raises(InvalidParameterError, match="no point"):
        knee([np.nan], [0.5])


def test_unequal_lengths() -> None:
    with pytest.raises(InvalidParameterError, match="equally long"):
        dominated([0.1], [0.2, 0.3])
