from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairtrain.data.splits import RowSplit, split_rows, stratified_folds
from fairtrain.exceptions import InvalidDataError, InvalidParameterError


def split(n: int, steer: Any, certify: Any, seed: int = 0, groups: int = 3) -> RowSplit:
    rng = np.random.default_rng(seed)
    return split_rows(
        rng.integers(0, groups, n),
        rng.integers(0, 2, n),
        validation_fraction=steer,
        certification_fraction=certify,
        random_state=np.random.RandomState(seed),
    )


def parts(found: RowSplit) -> tuple[np.ndarray, ...]:
    return found.training, found.steering, found.certification


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(50, 400),
    steer=st.floats(0.1, 0.45),
    certify=st.floats(0.1, 0.45),
    seed=st.integers(0, 10_000),
)
def test_parts_are_disjoint_sorted_and_complete(
    n: int, steer: float, certify: float, seed: int
) -> None:
    found = parts(split(n, steer, certify, seed))
    assert np.array_equal(np.sort(np.concatenate(found)), np.arange(n))
    assert all(not set(a) & set(b) for a, b in combinations(found, 2))
    assert all((np.diff(rows) > 0).all() for rows in found)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), steer=st.floats(0.1, 0.4), certify=st.floats(0.1, 0.4))
def test_every_group_and_label_is_spread_in_proportion(
    seed: int, steer: float, certify: float
) -> None:
    rng = np.random.default_rng(seed)
    codes, y = rng.choice(4, 3000, p=[0.7, 0.2, 0.09, 0.01]), rng.integers(0, 2, 3000)
    found = split_rows(
        codes,
        y,
        validation_fraction=steer,
        certification_fraction=certify,
        random_state=np.random.RandomState(seed),
    )
    for rows, share in ((found.steering, steer), (found.certification, certify)):
        for g, label in np.ndindex(4, 2):
            size = int(((codes == g) & (y == label)).sum())
            got = int(((codes[rows] == g) & (y[rows] == label)).sum())
            assert abs(got - share * size) < 4  # the golden ratio's discrepancy is logarithmic


def test_same_seed_same_rows_other_seed_other_rows() -> None:
    first, again, other = (split(200, 0.2, 0.2, seed).steering for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("fraction", [None, 0, 0.0])
def test_without_fractions_every_row_trains(fraction: float | None) -> None:
    found = split(20, fraction, fraction)
    assert [len(p) for p in parts(found)] == [20, 0, 0]


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan"), True, "0.2"])
@pytest.mark.parametrize("name", ["validation_fraction", "certification_fraction"])
def test_fraction_out_of_range_is_named(name: str, fraction: Any) -> None:
    steer, certify = (fraction, None) if name.startswith("v") else (None, fraction)
    with pytest.raises(InvalidParameterError, match=name):
        split(20, steer, certify)


def test_fractions_that_leave_nothing_to_train_on() -> None:
    with pytest.raises(InvalidParameterError, match="leaves no row to train on"):
        split(20, 0.5, 0.5)


def test_empty_part_is_an_error() -> None:
    with pytest.raises(InvalidDataError, match="of 1 rows is empty"):
        split(1, 0.3, 0.3)


def test_which_row_certifies_does_not_depend_on_its_place() -> None:
    chosen = np.zeros(100)
    for seed in range(300):
        found = split_rows(
            np.zeros(100, dtype=int),
            np.zeros(100),
            validation_fraction=0.2,
            certification_fraction=0.2,
            random_state=np.random.RandomState(seed),
        )
        chosen[found.certification] += 1
    assert (chosen / 300).min() > 0.08
    assert (chosen / 300).max() < 0.34


def test_folds_spread_every_cell_and_every_rare_label() -> None:
    rng = np.random.RandomState(0)
    y = np.r_[np.zeros(500, int), np.ones(100, int), [2, 2]]
    codes = rng.randint(0, 4, len(y))
    folds = stratified_folds((y, codes), 5, np.random.RandomState(1))
    tests = [test for _, test in folds]
    assert sorted(np.concatenate(tests).tolist()) == list(range(len(y)))
    counts = np.array([np.bincount(y[test] * 4 + codes[test], minlength=12) for test in tests])
    assert np.ptp(counts, axis=0).max() <= 1
    assert sum(2 in y[test] for test in tests) == 2
    for train, test in folds:
        assert not np.intersect1d(train, test).size


def clustered(
    seed: int, n: int = 3000, mean_size: float = 5.0, nested: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Group, label and cluster of rows in clusters of unequal size, some of them large."""
    rng = np.random.default_rng(seed)
    sizes = 1 + rng.negative_binomial(0.5, 0.5 / (0.5 + mean_size), n)
    cluster = rng.permutation(np.repeat(np.arange(n), sizes)[:n])
    of_cluster = rng.choice(3, n, p=[0.7, 0.2, 0.1])
    codes = of_cluster[cluster] if nested else rng.choice(3, n, p=[0.7, 0.2, 0.1])
    return codes, rng.integers(0, 2, n), cluster


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_clusters_stay_whole_and_parts_keep_their_shares(seed: int, nested: bool) -> None:
    codes, y, cluster = clustered(seed, nested=nested)
    found = split_rows(
        codes,
        y,
        validation_fraction=0.2,
        certification_fraction=0.2,
        random_state=np.random.RandomState(seed),
        clusters=cluster,
    )
    assert np.array_equal(np.sort(np.concatenate(parts(found))), np.arange(len(y)))
    for a, b in combinations(parts(found), 2):
        assert not set(cluster[a]) & set(cluster[b])
    for rows, share in zip(parts(found), (0.6, 0.2, 0.2), strict=True):
        assert len(rows) == pytest.approx(share * len(y), rel=0.06)
        for g in range(3):
            assert (codes[rows] == g).sum() == pytest.approx(
                share * (codes == g).sum(), rel=0.15, abs=12
            )


def test_clusters_go_where_the_seed_says_whatever_the_order_of_rows() -> None:
    codes, y, cluster = clustered(5)
    order = np.random.default_rng(6).permutation(len(y))

    def folds(at: np.ndarray, seed: int) -> list[set[int]]:
        made = stratified_folds([codes[at], y[at]], 5, np.random.RandomState(seed), cluster[at])
        return [set(cluster[at][held].tolist()) for _, held in made]

    everybody = np.arange(len(y))
    assert folds(everybody, 0) == folds(order, 0)
    assert folds(everybody, 0) != folds(everybody, 1)
    assert set().union(*folds(everybody, 0)) == set(cluster.tolist())


def test_few_clusters_are_dealt_out_to_within_the_size_of_one() -> None:
    rng = np.random.default_rng(0)
    cluster = np.repeat(np.arange(8), rng.integers(20, 60, 8))
    y = rng.integers(0, 2, len(cluster))
    for seed in range(5):
        made = stratified_folds([np.zeros_like(y), y], 2, np.random.RandomState(seed), cluster)
        assert abs(2 * len(made[0][1]) - len(y)) < 60


def test_a_handful_of_clusters_fills_every_part_or_says_that_it_cannot() -> None:
    cluster = np.repeat([0, 1, 2], [50, 3, 2])
    y = np.arange(55) % 2
    made = stratified_folds([y], 3, np.random.RandomState(0), cluster)
    assert sorted(len(held) for _, held in made) == [2, 3, 50]
    with pytest.raises(InvalidDataError, match="3 clusters cannot be divided into 4 parts"):
        stratified_folds([y], 4, np.random.RandomState(0), cluster)
