"""Losses under autocast and under ``torch.compile``: the same numbers and the same gradients."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fairtrain.losses import FairnessRegularizerLoss

PENALTIES = ("demographic_parity", "equalized_odds", "group_dro", "correlation")
compiler = any(map(shutil.which, ("g++", "c++", "clang++")))


def batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    made = torch.Generator().manual_seed(0)
    X = torch.randn(64, 3, generator=made)
    return X.to(dtype), (X[:, 0] > 0).float(), torch.arange(64) % 3


def criterion(penalty: str) -> FairnessRegularizerLoss:
    return FairnessRegularizerLoss(penalty=penalty, eta=2.0, num_groups=3)


def model() -> nn.Linear:
    linear = nn.Linear(3, 1)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[0.4, -0.2, 0.3]]))
        linear.bias.fill_(0.1)
    return linear


def loss_and_gradient(loss_of: Any, net: nn.Module) -> tuple[Tensor, Tensor]:
    loss = loss_of()
    loss.backward()
    gradient = next(net.parameters()).grad
    assert gradient is not None
    return loss.detach(), gradient


@pytest.mark.parametrize("penalty", PENALTIES)
def test_autocast_changes_a_loss_by_the_rounding_of_the_model_only(penalty: str) -> None:
    X, y, codes = batch()
    found = []
    for enabled in (True, False):
        net, loss = model(), criterion(penalty)

        def under_autocast(net: Any = net, loss: Any = loss, enabled: bool = enabled) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                return loss(net(X), y, codes)

        found.append(loss_and_gradient(under_autocast, net))
    (low, low_gradient), (full, full_gradient) = found
    assert low.dtype == torch.float32  # sums of groups are not kept in half precision
    torch.testing.assert_close(low, full, rtol=0.02, atol=0.0)
    torch.testing.assert_close(low_gradient, full_gradient, rtol=0.05, atol=0.01)


COMPILED = """
from tests.integrations import test_compiled as here

X, y, codes = here.batch()
net, again, loss = here.model(), here.model(), here.criterion("equalized_odds")
compiled = here.torch.compile(lambda x, y, codes: loss(again(x), y, codes), fullgraph=True)
plain = here.loss_and_gradient(lambda: loss(net(X), y, codes), net)
fused = here.loss_and_gradient(lambda: compiled(X, y, codes), again)
here.torch.testing.assert_close(fused, plain)

from fairtrain.losses import DemographicParityLoss

penalty = DemographicParityLoss(num_groups=3)
compiled = here.torch.compile(penalty, fullgraph=True)
here.torch.testing.assert_close(compiled(X[:, 0], y, codes), penalty(X[:, 0], y, codes))
"""

REVERSED = """
import torch
from torch import nn
from fairtrain import GradientReversalLayer, SigmoidRamp
for backend in ("eager", "aot_eager"):
    torch.compiler.reset()
    layer, linear = GradientReversalLayer(SigmoidRamp(1.0, steps=10)), nn.Linear(3, 1)
    compiled = torch.compile(nn.Sequential(linear, layer), backend=backend, fullgraph=True)
    x = torch.ones(2, 3)
    compiled(x).sum().backward()
    assert float(linear.weight.grad.abs().sum()) == 0  # the ramp begins at 0
    for _ in range(10):
        layer.step()
    with torch.compiler.set_stance("fail_on_recompile"):
        compiled(x).sum().backward()
    expected = torch.full((1, 3), -2.0 * float(layer.current_strength))
    torch.testing.assert_close(linear.weight.grad, expected)
"""


@pytest.mark.skipif(not compiler, reason="torch.compile needs a C++ compiler")
def test_a_compiled_step_is_the_plain_one() -> None:
    # In a process of its own: checks of shapes, which tests put around losses, do not compile.
    subprocess.run([sys.executable, "-c", COMPILED], check=True, cwd=Path(__file__).parents[2])


def test_reversed_gradients_compile_whole_and_not_anew_when_their_strength_moves() -> None:
    subprocess.run([sys.executable, "-c", REVERSED], check=True, cwd=Path(__file__).parents[2])
