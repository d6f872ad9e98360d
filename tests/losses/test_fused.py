"""The short way and the long way to the default penalty agree."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fairtrain.losses import (
    DemographicParityLoss,
    EqualizedOddsLoss,
    EqualOpportunityLoss,
    ErrorRateParityLoss,
    HierarchicalFairnessLoss,
    PredictiveEqualityLoss,
)

LOSSES = [
    DemographicParityLoss,
    EqualOpportunityLoss,
    PredictiveEqualityLoss,
    EqualizedOddsLoss,
    ErrorRateParityLoss,
]
every = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)


def batch(n: int = 60) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(n, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 2, (n,), generator=generator)
    codes = torch.randint(-1, 4, (n,), generator=generator)
    return logits, targets, codes, torch.rand(n, generator=generator, dtype=torch.float64)


def general(loss: type) -> torch.nn.Module:
    module = loss(num_groups=6)
    module._fused = False
    return module


@every
@pytest.mark.parametrize("weighted", [False, True])
def test_values_and_gradients_agree(loss: type, weighted: bool) -> None:
    logits, targets, codes, weights = batch()
    found, expected = (
        module(logits, targets, codes, sample_weight=weights if weighted else None)
        for module in (loss(num_groups=6), general(loss))
    )
    assert type(found.grad_fn) is not type(expected.grad_fn)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, logits), torch.autograd.grad(expected, logits)
    )


@every
def test_second_derivatives(loss: type) -> None:
    logits, targets, codes, weights = batch(12)
    assert torch.autograd.gradgradcheck(
        lambda z: loss(num_groups=6)(z, targets, codes, sample_weight=weights), logits
    )


def test_a_nan_in_an_unknown_row_reaches_no_group() -> None:
    loss = DemographicParityLoss(num_groups=2)
    value = loss(torch.tensor([0.0, 1.0, torch.nan]), None, torch.tensor([0, 1, -1]))
    assert torch.isfinite(value)


def test_other_settings_take_the_long_way() -> None:
    assert DemographicParityLoss()._fused
    for settings in (
        {"reduction": "variance"},
        {"memory": 0.5},
        {"shrinkage": 1},
        {"debias": True},
        {"group_weights": "size"},
    ):
        assert not DemographicParityLoss(**settings)._fused
    assert not HierarchicalFairnessLoss()._fused
