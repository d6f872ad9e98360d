from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from fairtrain.data.groups import Groups
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.losses import DemographicParityLoss
from fairtrain.training import GroupStratifiedBatchSampler


def data(n: int = 1000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = rng.choice(4, n, p=[0.6, 0.3, 0.09, 0.01])
    codes[:4] = range(4)
    return codes, (rng.random(n) < 0.2 + 0.1 * codes).astype(int)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1000),
    n=st.integers(4, 300),
    batch_size=st.integers(8, 64),
    minimum=st.integers(1, 2),
    balance=st.sampled_from(["proportional", "equal"]),
    drop_last=st.booleans(),
    world=st.integers(1, 3),
)
def test_every_batch_of_every_process_holds_every_group(
    seed: int, n: int, batch_size: int, minimum: int, balance: str, drop_last: bool, world: int
) -> None:
    codes, _ = data(n, seed)
    samplers = [
        GroupStratifiedBatchSampler(
            codes,
            batch_size,
            min_per_group=minimum,
            balance=balance,
            drop_last=drop_last,
            seed=seed,
            num_replicas=world,
            rank=rank,
        )
        for rank in range(world)
    ]
    per_rank = [list(sampler) for sampler in samplers]
    assert {len(batches) for batches in per_rank} == {len(samplers[0])}
    batches = [batch for batches in per_rank for batch in batches]
    sizes = {len(batch) for batch in batches}
    for batch in batches:
        assert (np.bincount(codes[batch], minlength=4) >= minimum).all()
    assert max(sizes) <= batch_size
    if drop_last or balance == "equal":
        assert sizes == {batch_size}
    else:
        assert max(sizes) - min(sizes) <= 1
        assert {row for batch in batches for row in batch} == set(range(n))


def test_proportional_draws_each_row_once_where_cells_are_large_enough() -> None:
    codes = np.arange(1000) % 3
    batches = list(GroupStratifiedBatchSampler(codes, 64))
    assert sorted(row for batch in batches for row in batch) == list(range(1000))
    counts = np.stack([np.bincount(codes[batch], minlength=3) for batch in batches])
    assert (np.ptp(counts, axis=0) <= 1).all()
    assert (GroupStratifiedBatchSampler(codes, 64).weights == 1).all()


def test_labels_make_cells_of_group_and_label() -> None:
    codes, labels = data(4000)
    for batch in GroupStratifiedBatchSampler(codes, 64, labels=torch.tensor(labels)):
        assert len(set(zip(codes[batch], labels[batch], strict=True))) == 8


def test_equal_balances_cells() -> None:
    codes, _ = data()
    for batch in GroupStratifiedBatchSampler(codes, 40, balance="equal"):
        assert np.bincount(codes[batch]).tolist() == [10, 10, 10, 10]


@pytest.mark.parametrize("balance", ["proportional", "equal"])
def test_weights_keep_estimates_unbiased(balance: str) -> None:
    codes, _ = data()
    rng = np.random.default_rng(1)
    values = codes + rng.normal(size=1000)
    sampler = GroupStratifiedBatchSampler(codes, 32, balance=balance, min_per_group=2)
    estimates, plain = [], []
    for epoch in range(20):
        sampler.set_epoch(epoch)
        rows = np.concatenate(list(sampler))
        estimates.append(np.average(values[rows], weights=sampler.weights.numpy()[rows]))
        plain.append(values[rows].mean())
    assert np.mean(estimates) == pytest.approx(values.mean(), abs=0.01)
    assert abs(np.mean(plain) - values.mean()) > 0.02


def test_a_cell_with_fewer_rows_than_batches_is_repeated_evenly() -> None:
    codes = np.array([0] * 997 + [1] * 3)
    sampler = GroupStratifiedBatchSampler(codes, 20)
    drawn = np.concatenate(list(sampler))
    times = np.bincount(drawn, minlength=1000)
    assert (times[:997] == 1).all()
    assert np.ptp(times[997:]) <= 1
    assert sampler.weights[-1] < 0.1 < sampler.weights[0]


def test_epochs_reshuffle_and_seeds_repeat() -> None:
    codes, _ = data()

    def first(seed: int, epoch: int) -> list[int]:
        sampler = GroupStratifiedBatchSampler(codes, 50, seed=seed)
        sampler.set_epoch(epoch)
        return next(iter(sampler))

    assert first(0, 0) == first(0, 0)
    assert first(0, 0) != first(0, 1)
    assert first(0, 0) != first(1, 0)


def test_unknown_rows_are_drawn_but_owed_to_nobody() -> None:
    codes = np.array([0] * 50 + [1] * 49 + [-1])
    drawn = [row for batch in GroupStratifiedBatchSampler(codes, 10) for row in batch]
    assert sorted(drawn) == list(range(100))
    equal = GroupStratifiedBatchSampler(codes, 10, balance="equal")
    assert 99 not in {row for batch in equal for row in batch}
    assert equal.weights[99] == 0


def test_columns_and_groups_are_accepted() -> None:
    columns = np.stack([np.arange(80) % 2, np.arange(80) // 2 % 2], axis=1)
    for codes in (columns, Groups.from_sensitive(columns), torch.tensor(columns)):
        for batch in GroupStratifiedBatchSampler(codes, 8):
            assert len(np.unique(columns[batch], axis=0)) == 4


def test_in_a_loader_with_a_loss() -> None:
    codes, labels = data()
    sampler = GroupStratifiedBatchSampler(codes, 50, labels=labels, balance="equal")
    rows = TensorDataset(torch.randn(1000), torch.tensor(codes), sampler.weights)
    loss = DemographicParityLoss(num_groups=4)
    loader = DataLoader(rows, batch_sampler=sampler)
    assert len(loader) == len(list(loader))
    for logits, a, weights in loader:
        assert torch.isfinite(loss(logits, None, a, sample_weight=weights))


def test_a_rare_cell_does_not_make_planning_slow() -> None:
    codes = np.zeros(200_000, dtype=int)
    codes[-1] = 1
    sampler = GroupStratifiedBatchSampler(codes, 64)
    assert sum(map(len, sampler)) == 200_000 - 1 + len(sampler)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"batch_size": 3}, "raise it to 4"),
        ({"batch_size": 6, "min_per_group": 2}, "raise it to 8"),
        ({"batch_size": 8, "min_per_group": 0}, "min_per_group"),
        ({"batch_size": 8, "balance": "even"}, "balance"),
        ({"batch_size": 8, "num_replicas": 2, "rank": 2}, "rank"),
    ],
)
def test_bad_settings(kwargs: dict, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        GroupStratifiedBatchSampler(data()[0], **kwargs)


@pytest.mark.parametrize("codes", [[0.5, 1.0], [], ["a", "b"], np.zeros((2, 2, 2), dtype=int)])
def test_bad_codes(codes: object) -> None:
    with pytest.raises(InvalidDataError, match="codes"):
        GroupStratifiedBatchSampler(codes, 8)


def test_labels_of_another_length() -> None:
    with pytest.raises(InvalidDataError, match="labels has 3 rows"):
        GroupStratifiedBatchSampler([0, 1], 8, labels=[0, 1, 1])
