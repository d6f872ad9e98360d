from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fairtrain import GradientReversalLayer, SigmoidRamp
from fairtrain.exceptions import InvalidParameterError
from fairtrain.training.adversarial.reversal import reverse_gradient


def test_forward_is_the_identity_and_backward_is_minus_the_finite_difference():
    torch.manual_seed(0)
    head = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    layer = GradientReversalLayer(0.7).double()
    assert (layer(x) == x).all()
    leaf = x.clone().requires_grad_(True)
    head(layer(leaf)).square().sum().backward()
    step = 1e-6
    slopes = np.zeros(x.shape)
    with torch.no_grad():
        for i in range(5):
            for j in range(3):
                up, down = x.clone(), x.clone()
                up[i, j] += step
                down[i, j] -= step
                rise = head(up).square().sum() - head(down).square().sum()
                slopes[i, j] = float(rise) / (2 * step)
    np.testing.assert_allclose(leaf.grad, -0.7 * slopes, rtol=1e-6, atol=1e-8)


def test_weights_behind_the_layer_learn_as_without_it():
    torch.manual_seed(0)
    before, after = nn.Linear(3, 2), nn.Linear(2, 1)
    x = torch.randn(8, 3)
    after(before(x)).square().mean().backward()
    plain = [p.grad.clone() for p in (before.weight, after.weight)]
    before.zero_grad()
    after.zero_grad()
    after(GradientReversalLayer(2.0)(before(x))).square().mean().backward()
    torch.testing.assert_close(after.weight.grad, plain[1])
    torch.testing.assert_close(before.weight.grad, -2.0 * plain[0])


def test_it_can_be_differentiated_twice():
    x = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    y = reverse_gradient(x, 0.5).pow(3).sum()
    (first,) = torch.autograd.grad(y, x, create_graph=True)
    torch.testing.assert_close(first, -0.5 * 3 * x**2)
    # The way back to x leads through the layer again: reversed twice.
    (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(second, 0.25 * 6 * x)
    # Of the gradient as a map of the incoming one, autograd's own second-order check.
    a = torch.randn(3, dtype=torch.float64, requires_grad=True)
    linear = lambda v: reverse_gradient(reverse_gradient(v, 1.0), 1.0).pow(2)  # noqa: E731
    assert torch.autograd.gradcheck(linear, a)
    assert torch.autograd.gradgradcheck(linear, a)


def test_it_works_under_functional_transforms():
    slope = torch.func.vmap(torch.func.grad(lambda v: reverse_gradient(v, 0.5).square().sum()))
    x = torch.randn(4, 3)
    torch.testing.assert_close(slope(x), -0.5 * 2 * x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_passes_what_autocast_gives_it(dtype):
    linear, layer = nn.Linear(3, 2), GradientReversalLayer(0.5)
    with torch.autocast("cpu", dtype=dtype):
        out = layer(linear(torch.ones(4, 3)))
    assert out.dtype == dtype
    out.float().sum().backward()
    torch.testing.assert_close(linear.bias.grad, torch.full((2,), -2.0))


def test_a_schedule_moves_by_steps_and_lives_in_the_state_dict():
    schedule = SigmoidRamp(2.0, steps=4)
    layer = GradientReversalLayer(schedule)
    seen = [float(layer.current_strength)]
    for _ in range(4):
        layer.step()
        seen.append(float(layer.current_strength))
    np.testing.assert_allclose(seen, [schedule(step) for step in range(5)], rtol=1e-6)
    np.testing.assert_allclose(seen, 2 * (2 / (1 + np.exp(-10 * np.arange(5) / 4)) - 1), rtol=1e-6)
    again = GradientReversalLayer(schedule)
    again.load_state_dict(layer.state_dict())
    assert int(again.n_steps) == 4
    assert float(again.current_strength) == seen[-1]
    assert "strength" in repr(layer)


@pytest.mark.parametrize("strength", [-1.0, float("nan"), float("inf"), "1", True])
def test_a_strength_that_is_none_is_refused(strength):
    with pytest.raises(InvalidParameterError, match="strength must be a number >= 0 or a function"):
        GradientReversalLayer(strength)
