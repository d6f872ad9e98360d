"""Temperature scaling of tensors."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch.nn.functional import cross_entropy

from fairtrain import TemperatureScaling
from fairtrain.calibration.cells import Cells
from fairtrain.calibration.maps.logistic import fit_temperature
from fairtrain.exceptions import InvalidDataError, InvalidParameterError


def logits_of(n: int, classes: int, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, classes)) * 1.5
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    y = (rng.uniform(size=n)[:, None] > np.cumsum(p, axis=1)).sum(1)
    return torch.tensor(z, dtype=torch.float32), torch.tensor(y)


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_the_factor_is_found_and_it_is_the_minimum(factor: float) -> None:
    z, y = logits_of(6000, 4)
    scaling = TemperatureScaling().fit(factor * z, y)
    assert scaling.temperature.item() == pytest.approx(factor, rel=0.05)

    def loss(t: float) -> float:
        return float(cross_entropy(factor * z.double() / t, y))

    best = minimize_scalar(loss, bounds=(0.01, 50), method="bounded", options={"xatol": 1e-8}).x
    assert scaling.temperature.item() == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("shape", [(3000,), (3000, 1)])
def test_binary_logits_agree_with_the_numpy_map(shape: Any) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=3000) * 2
    y = (rng.uniform(size=3000) < 1 / (1 + np.exp(-x / 1.8))).astype(float)
    cells = Cells(np.zeros(3000, dtype=np.int64), x, np.ones(3000), y, np.ones(3000), 1)
    scaling = TemperatureScaling().fit(torch.tensor(x).reshape(shape), torch.tensor(y))
    assert scaling.temperature.item() == pytest.approx(
        1 / fit_temperature(cells).slope[0], rel=1e-3
    )
    out = scaling(torch.tensor(x).reshape(shape))
    assert out.shape == shape
    assert out.dtype == torch.float64


def test_groups_have_their_own_and_small_ones_lean_on_the_others() -> None:
    z, y = logits_of(6003, 3)
    groups = torch.arange(6003).clamp(max=6000).div(3000, rounding_mode="floor")
    factor = torch.tensor([1.0, 3.0, 1.0])[groups]
    free = TemperatureScaling(3, penalty=0.0).fit(factor[:, None] * z, y, groups)
    np.testing.assert_allclose(free.temperature[:2], [1, 3], rtol=0.08)
    tied = TemperatureScaling(3, penalty=50.0).fit(factor[:, None] * z, y, groups)
    np.testing.assert_allclose(tied.temperature[:2], [1, 3], rtol=0.15)
    assert 0.5 < tied.temperature[2] < 4
    assert tied(z, groups).argmax(1).equal(z.argmax(1))


def test_a_separated_set_ends_and_state_is_kept() -> None:
    z = torch.tensor([-1.0, 1.0, 2.0])
    scaling = TemperatureScaling().fit(z, torch.tensor([0, 1, 1]))
    assert 0.009 < scaling.temperature.item() < 1
    other = TemperatureScaling()
    other.load_state_dict(scaling.state_dict())
    assert other(z).equal(scaling(z))
    assert [p.numel() for p in scaling.parameters()] == [1]
    z.requires_grad_()
    scaling(z).sum().backward()
    assert z.grad is not None


def test_errors_say_what_to_do() -> None:
    z, y = logits_of(20, 3)
    with pytest.raises(InvalidParameterError, match="num_groups must be a whole number"):
        TemperatureScaling(0)
    with pytest.raises(InvalidParameterError, match="penalty must be a number >= 0"):
        TemperatureScaling(penalty=-1)
    with pytest.raises(InvalidDataError, match="groups are missing"):
        TemperatureScaling(2)(z)
    with pytest.raises(InvalidDataError, match=r"groups must have shape \(20,\)"):
        TemperatureScaling(2)(z, torch.zeros(3, dtype=torch.long))
    with pytest.raises(InvalidDataError, match="y has 3 rows, logits have 20"):
        TemperatureScaling().fit(z, y[:3])
    with pytest.raises(InvalidDataError, match="NaN"):
        TemperatureScaling().fit(z * torch.nan, y)


def test_only_this_module_imports_torch() -> None:
    code = "import sys, fairtrain.calibration; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_arrays_in_arrays_out_with_the_same_temperatures() -> None:
    logits, _ = logits_of(400, 1)
    labels = (torch.rand(400, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    codes = torch.arange(400) % 2
    tensors = TemperatureScaling(2).fit(logits, labels, codes)
    arrays = TemperatureScaling(2).fit(logits.numpy(), labels.numpy(), codes.numpy())
    torch.testing.assert_close(arrays.temperature, tensors.temperature)
    scaled = arrays(logits.numpy(), codes.tolist())
    assert isinstance(scaled, np.ndarray)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, tensors(logits, codes).detach().numpy())
