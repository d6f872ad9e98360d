from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.losses import DemographicParityLoss, EqualizedOddsLoss, HierarchicalFairnessLoss


def logits_of(*rates: float) -> Tensor:
    return torch.logit(torch.tensor(rates, dtype=torch.float64))


def test_marginals_and_intersections_add_up() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, generator=generator, dtype=torch.float64)
    columns = torch.stack([torch.arange(200) % 3, torch.arange(200) // 3 % 2], dim=1)
    targets = torch.randint(0, 2, (200,), generator=generator)
    loss = HierarchicalFairnessLoss(
        "equalized_odds",
        num_groups=(3, 2),
        min_count=0,
        column_weights=(2.0, 1.0),
        intersection_weight=0.25,
    )
    parts = [
        2.0 * EqualizedOddsLoss(num_groups=3)(logits, targets, columns[:, 0]),
        EqualizedOddsLoss(num_groups=2)(logits, targets, columns[:, 1]),
        0.25 * EqualizedOddsLoss(num_groups=(3, 2))(logits, targets, columns),
    ]
    torch.testing.assert_close(loss(logits, targets, columns), torch.stack(parts).sum())


def test_a_gap_that_only_intersections_show() -> None:
    columns = torch.cartesian_prod(torch.arange(2), torch.arange(2)).repeat(10, 1)
    rates = 0.3 + 0.4 * (columns[:, 0] == columns[:, 1])
    logits = torch.logit(rates)
    for column in (0, 1):
        assert DemographicParityLoss()(logits, None, columns[:, column]).item() < 1e-12
    assert HierarchicalFairnessLoss(num_groups=(2, 2))(logits, None, columns).item() > 0.01


def sparse_batch() -> tuple[Tensor, None, Tensor]:
    columns = torch.tensor([[0, 0]] * 20 + [[0, 1]] * 20 + [[1, 0]] * 20 + [[1, 1]])
    return logits_of(*[0.5] * 60, 0.99), None, columns


def test_sparse_intersections_are_dropped_or_shrunk() -> None:
    only = {"num_groups": (2, 2), "column_weights": (0.0, 0.0), "intersection_weight": 1.0}
    loud = HierarchicalFairnessLoss(min_count=0, **only)(*sparse_batch()).item()
    shrunk = HierarchicalFairnessLoss(min_count=10, **only)(*sparse_batch()).item()
    dropped = HierarchicalFairnessLoss(min_count=10, sparse="drop", **only)(*sparse_batch()).item()
    assert dropped == pytest.approx(0, abs=1e-12)
    assert 0 < shrunk < 0.05 * loud


def test_shrinking_has_no_step_at_min_count() -> None:
    loss = HierarchicalFairnessLoss(num_groups=(2, 2), min_count=20)
    full = HierarchicalFairnessLoss(num_groups=(2, 2), min_count=0)
    columns = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]).repeat(20, 1)
    logits = torch.randn(80, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss(logits, None, columns), full(logits, None, columns))


def by_hand(decisions: Tensor, columns: Tensor, min_count: int, *, debias: bool = False) -> float:
    """Demographic parity in a table of two columns, from its definition, row by row in NumPy."""
    p, where = decisions.numpy(), columns.numpy()

    def spread(cells: list[tuple[float, float]]) -> float:  # over pairs, less what noise adds
        pairs = [(a, b) for i, a in enumerate(cells) for b in cells[:i]]
        return float(np.mean([(a[0] - b[0]) ** 2 - debias * (a[1] + b[1]) for a, b in pairs]))

    def cell(inside: np.ndarray) -> tuple[float, float]:
        return float(p[inside].mean()), float(p[inside].var(ddof=1) / inside.sum())

    values = [np.unique(where[:, k]) for k in (0, 1)]
    columns_alone = [[cell(where[:, k] == v) for v in values[k]] for k in (0, 1)]
    both = []
    for (i, a), (j, b) in product(enumerate(values[0]), enumerate(values[1])):
        inside = (where == (a, b)).all(1)
        trust = min(1.0, inside.sum() / max(min_count, 1))
        parent = (columns_alone[0][i][0] + columns_alone[1][j][0]) / 2
        mean, variance = cell(inside)
        both.append((trust * mean + (1 - trust) * parent, trust**2 * variance))
    return 0.5 * spread(both) + spread(columns_alone[0]) + spread(columns_alone[1])


@pytest.mark.parametrize("debias", [False, True])
def test_the_whole_by_hand(debias: bool) -> None:
    sizes = {(0, 0): 30, (0, 1): 10, (1, 0): 4, (1, 1): 9, (2, 0): 3, (2, 1): 12}
    columns = torch.tensor([cell for cell, n in sizes.items() for _ in range(n)])
    logits = torch.randn(
        len(columns), dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    )
    loss = HierarchicalFairnessLoss(num_groups=(3, 2), debias=debias)
    expected = by_hand(torch.sigmoid(logits), columns, 10, debias=debias)
    assert loss(logits, None, columns).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("min_count", "kept"), [(10, True), (11, False)])
def test_an_intersection_of_just_min_count_rows_is_kept(min_count: int, kept: bool) -> None:
    only = {"column_weights": (0.0, 0.0), "sparse": "drop", "num_groups": (2, 1)}
    columns = torch.tensor([[0, 0]] * 10 + [[1, 0]] * 30)
    loss = HierarchicalFairnessLoss(min_count=min_count, **only)
    value = loss(logits_of(*[0.2] * 10, *[0.6] * 30), None, columns).item()
    assert value == pytest.approx(0.5 * 0.4**2 if kept else 0.0, abs=1e-12)


def test_group_counts_may_be_none_at_all_and_are_no_part_of_the_state() -> None:
    loss = HierarchicalFairnessLoss(num_groups=(2, 2), group_counts=[0, 40, 40, 40])
    assert not loss.state_dict()
    counted = HierarchicalFairnessLoss(num_groups=(2, 2), group_counts=[40] * 4)
    columns = torch.cartesian_prod(torch.arange(2), torch.arange(2)).repeat(20, 1)
    logits = torch.randn(80, generator=torch.Generator().manual_seed(0))
    assert loss(logits, None, columns).item() != counted(logits, None, columns).item()


def test_group_counts_of_the_training_data_decide() -> None:
    settings = {"num_groups": (2, 2), "min_count": 10, "sparse": "drop"}
    known = HierarchicalFairnessLoss(group_counts=[900, 900, 900, 900], **settings)
    free = HierarchicalFairnessLoss(num_groups=(2, 2), min_count=0)
    torch.testing.assert_close(known(*sparse_batch()), free(*sparse_batch()))


def test_one_column_is_the_plain_loss() -> None:
    logits, codes = torch.randn(30), torch.arange(30) % 3
    torch.testing.assert_close(
        HierarchicalFairnessLoss(num_groups=3)(logits, None, codes),
        DemographicParityLoss(num_groups=3)(logits, None, codes),
    )


def test_memory_makes_sparse_intersections_populated() -> None:
    loss = HierarchicalFairnessLoss(num_groups=(2, 2), min_count=10, sparse="drop", memory=0.99)
    columns = torch.cartesian_prod(torch.arange(2), torch.arange(2))
    logits = logits_of(0.7, 0.3, 0.3, 0.7)
    first = loss(logits, None, columns).item()
    for _ in range(12):
        last = loss(logits, None, columns).item()
    assert first == pytest.approx(0, abs=1e-12)
    assert last > 0.01


def test_debias_reaches_every_level() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.stack([torch.arange(96) % 3, torch.arange(96) % 4], dim=1)
    scores = torch.randn(2000, 96, generator=generator, dtype=torch.float64)
    loss = HierarchicalFairnessLoss(num_groups=(3, 4), min_count=0, debias=True)
    values = torch.func.vmap(lambda z: loss(z, None, codes))(scores)
    assert abs(values.mean()) < 4 * values.std() / 2000**0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_count": -1}, "min_count"),
        ({"sparse": "merge"}, "sparse"),
        ({"column_weights": [-1.0]}, "column_weights"),
        ({"intersection_weight": float("nan")}, "intersection_weight"),
        ({"group_counts": [1, 2], "num_groups": (2, 2)}, "4 intersections"),
    ],
)
def test_bad_settings(settings: dict, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        HierarchicalFairnessLoss(**settings)


def test_column_weights_must_fit_the_columns() -> None:
    loss = HierarchicalFairnessLoss(column_weights=[1.0])
    with pytest.raises(InvalidDataError, match="columns"):
        loss(torch.zeros(4), None, torch.zeros(4, 2, dtype=torch.int64))
