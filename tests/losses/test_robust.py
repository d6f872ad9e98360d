from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from fairtrain.exceptions import InvalidParameterError
from fairtrain.losses import BoundedGroupLossPenalty, GroupDROLoss, GroupMSEParityLoss


def test_bounded_group_loss_counts_what_lies_above_the_bound() -> None:
    logits, targets = torch.tensor([2.0, 1.0, -1.0]), torch.tensor([1, 1, 1])
    losses = F.softplus(-logits)
    found = BoundedGroupLossPenalty(0.3)(logits, targets, torch.arange(3))
    torch.testing.assert_close(found, (losses - 0.3).clamp(min=0).sum())
    squared = BoundedGroupLossPenalty(0.3, power=2)(logits, targets, torch.arange(3))
    torch.testing.assert_close(squared, ((losses - 0.3).clamp(min=0) ** 2).sum())


def test_bounded_group_loss_of_one_group_counts() -> None:
    penalty = BoundedGroupLossPenalty(0.1)
    value = penalty(torch.zeros(4), torch.ones(4), torch.zeros(4, dtype=torch.int64))
    assert value.item() == pytest.approx(math.log(2) - 0.1)


@pytest.mark.parametrize("loss", ["log_loss", "zero_one", "squared"])
def test_row_losses_agree_with_their_definitions(loss: str) -> None:
    logits, targets = torch.tensor([0.3, -2.0]), torch.tensor([1.0, 1.0])
    p = torch.sigmoid(logits)
    expected = {"log_loss": -p.log(), "zero_one": 1 - p, "squared": (1 - p) ** 2}[loss]
    found = BoundedGroupLossPenalty(0.0, loss=loss)(logits, targets, torch.arange(2))
    torch.testing.assert_close(found, expected.sum())


def test_log_loss_of_saturated_logits_is_not_clipped() -> None:
    logits = torch.tensor([-200.0], requires_grad=True)
    loss = BoundedGroupLossPenalty(0.0)(logits, torch.ones(1), torch.tensor([0]))
    loss.backward()
    assert loss.item() == pytest.approx(200)
    assert logits.grad.item() == pytest.approx(-1)


def test_group_dro_follows_algorithm_1() -> None:
    generator = torch.Generator().manual_seed(0)
    q = torch.full((3,), 1 / 3, dtype=torch.float64)
    loss = GroupDROLoss(num_groups=3, step_size=0.5, adjustment=2.0)
    for _ in range(5):
        logits = torch.randn(30, generator=generator, dtype=torch.float64)
        targets, codes = torch.randint(0, 2, (30,), generator=generator), torch.arange(30) % 3
        rows = F.binary_cross_entropy_with_logits(logits, targets.double(), reduction="none")
        groups = torch.stack([rows[codes == g].mean() for g in range(3)]) + 2.0 / 10**0.5
        q = q * torch.exp(0.5 * groups)
        q = q / q.sum()
        found = loss(logits, targets, codes)
        assert found.item() == pytest.approx((q * groups).sum().item(), rel=1e-5)
    torch.testing.assert_close(loss.q.double(), q, rtol=1e-5, atol=0)


def test_group_dro_moves_in_training_only() -> None:
    loss = GroupDROLoss(num_groups=2, step_size=1.0).eval()
    loss(torch.tensor([5.0, -5.0]), torch.ones(2), torch.tensor([0, 1]))
    assert loss.q.tolist() == [0.5, 0.5]


def test_group_dro_keeps_the_weight_of_an_absent_group_in_the_ranking() -> None:
    loss = GroupDROLoss(num_groups=3, step_size=1.0)
    loss(torch.tensor([0.0, -3.0, 0.0]), torch.ones(3), torch.arange(3))
    before = loss.q
    loss(torch.tensor([9.0, 9.0]), torch.ones(2), torch.tensor([0, 2]))
    assert loss.q[1] / loss.q[0] == pytest.approx(float(before[1] / before[0]), rel=1e-3)


def test_mse_parity() -> None:
    outputs, targets = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([0.0, 2.0, 3.0])
    found = GroupMSEParityLoss(reduction="max_gap")(outputs, targets, torch.tensor([0, 0, 1]))
    assert found.item() == pytest.approx(4 - 0.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (GroupDROLoss, "num_groups"),
        (lambda: GroupDROLoss(num_groups=2, step_size=0), "step_size"),
        (lambda: GroupDROLoss(num_groups=2, adjustment=-1), "adjustment"),
        (lambda: GroupDROLoss(num_groups=2, reduction="variance"), "reduction"),
        (lambda: BoundedGroupLossPenalty(-1), "upper_bound"),
        (lambda: BoundedGroupLossPenalty(0.1, power=0.5), "power"),
        (lambda: BoundedGroupLossPenalty(0.1, loss="hinge"), "loss must be"),
        (lambda: BoundedGroupLossPenalty(0.1, on="outputs"), "on='outputs'"),
        (lambda: BoundedGroupLossPenalty(0.1, on="logits", loss="squared"), "on must be"),
    ],
)
def test_bad_settings(make: object, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        make()
