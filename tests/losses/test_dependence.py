from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mutual_info_score
from torch import Tensor

from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.losses import (
    CorrelationLoss,
    CovarianceLoss,
    DemographicParityLoss,
    HSICLoss,
    MMDLoss,
    MutualInformationLoss,
    NeuralMutualInformationLoss,
    WassersteinLoss,
)
from fairtrain.losses.kernels import gaussian_kernel


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 3, (90,), generator=generator)
    return torch.randn(90, generator=generator, dtype=torch.float64) + 0.5 * codes, codes


def test_covariance_is_numpys(batch: tuple[Tensor, Tensor]) -> None:
    logits, codes = batch
    one_hot = torch.nn.functional.one_hot(codes, 3).numpy()
    expected = np.mean([np.cov(column, logits, ddof=0)[0, 1] ** 2 for column in one_hot.T])
    assert CovarianceLoss()(logits, None, codes).item() == pytest.approx(expected)
    attribute = torch.linspace(-1, 1, 90, dtype=torch.float64)
    expected = np.cov(attribute, logits, ddof=0)[0, 1] ** 2
    assert CovarianceLoss()(logits, None, attribute).item() == pytest.approx(expected)


def test_correlation_is_the_r_squared_of_a_regression(batch: tuple[Tensor, Tensor]) -> None:
    logits, codes = batch
    one_hot = torch.nn.functional.one_hot(codes, 3).numpy()
    expected = LinearRegression().fit(one_hot, logits).score(one_hot, logits)
    found = CorrelationLoss(on="outputs")(logits, None, codes).item()
    assert found == pytest.approx(expected)
    attributes = torch.stack([codes, torch.sin(3 * logits), 7 + 0.1 * torch.arange(90)], dim=1)
    expected = LinearRegression().fit(attributes, logits).score(attributes, logits)
    found = CorrelationLoss(on="outputs")(logits, None, attributes).item()
    assert found == pytest.approx(expected, rel=1e-4)


def test_correlation_cannot_be_met_by_indecision(batch: tuple[Tensor, Tensor]) -> None:
    logits, codes = batch
    loss = CorrelationLoss(on="outputs")
    assert loss(1e-3 * logits, None, codes).item() == pytest.approx(
        loss(logits, None, codes).item(), rel=1e-6
    )
    # unlike a difference of rates
    parity = DemographicParityLoss()
    assert parity(1e-3 * logits, None, codes) < 1e-4 * parity(logits, None, codes)


def test_correlation_bears_a_constant_attribute(batch: tuple[Tensor, Tensor]) -> None:
    logits = batch[0].clone().requires_grad_()
    loss = CorrelationLoss()(logits, None, torch.ones(90, 2, dtype=torch.float64))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert torch.isfinite(logits.grad).all()


def test_mutual_information_of_hard_decisions_is_sklearns(batch: tuple[Tensor, Tensor]) -> None:
    logits, codes = batch
    expected = mutual_info_score(codes, logits > 0)
    found = MutualInformationLoss(temperature=1e-6)(logits, None, codes)
    assert found.item() == pytest.approx(expected)
    classes = torch.randn(90, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = mutual_info_score(codes, classes.argmax(1))
    found = MutualInformationLoss(temperature=1e-6)(classes, None, codes)
    assert found.item() == pytest.approx(expected)


def test_stated_bias_of_mutual_information() -> None:
    generator = torch.Generator().manual_seed(0)
    n, groups = 512, 16
    logits = torch.randn(n, generator=generator, dtype=torch.float64)
    draws = [torch.randint(0, groups, (n,), generator=generator) for _ in range(300)]

    def mean(temperature: float) -> float:
        loss = MutualInformationLoss(num_groups=groups, temperature=temperature)
        return float(torch.stack([loss(logits, None, codes) for codes in draws]).mean())

    assert mean(1e-6) == pytest.approx((groups - 1) / (2 * n), rel=0.1)
    p = torch.sigmoid(logits)
    m = p.mean()
    stated = (groups - 1) * p.var() / (2 * n * m * (1 - m))
    assert mean(1.0) == pytest.approx(float(stated), rel=0.1)


def naive_hsic(kernel: Tensor, other: Tensor) -> float:
    n = len(kernel)
    centre = torch.eye(n, dtype=kernel.dtype) - 1 / n
    return float(torch.trace(kernel @ centre @ other @ centre)) / n**2


def test_hsic_is_the_trace_formula(batch: tuple[Tensor, Tensor]) -> None:
    logits, codes = batch
    x = torch.sigmoid(logits).unsqueeze(1)
    rows = torch.full((90,), 1 / 90, dtype=torch.float64)
    kernel = gaussian_kernel(x, rows)
    same = (codes.unsqueeze(1) == codes).double()
    assert HSICLoss()(logits, None, codes).item() == pytest.approx(naive_hsic(kernel, same))
    age = torch.linspace(-1, 1, 90, dtype=torch.float64)
    other = gaussian_kernel(age.unsqueeze(1), rows)
    assert HSICLoss()(logits, None, age).item() == pytest.approx(naive_hsic(kernel, other))


def naive_mmd(x: Tensor, y: Tensor, bandwidth: float, *, unbiased: bool) -> float:
    def mean(a: Tensor, b: Tensor, *, diagonal: bool = True) -> float:
        distance = torch.cdist(a, b) ** 2
        k = sum(torch.exp(-distance / (2 * s * bandwidth**2)) for s in (0.25, 1, 4)) / 3
        if diagonal:
            return float(k.mean())
        return float((k.sum() - k.trace()) / (len(a) * (len(a) - 1)))

    own = not unbiased
    return mean(x, x, diagonal=own) + mean(y, y, diagonal=own) - 2 * mean(x, y)


@pytest.mark.parametrize("debias", [False, True])
def test_mmd_of_representations(debias: bool) -> None:
    x = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    codes = torch.arange(40) // 15
    pairs = [
        naive_mmd(x[codes == g], x[codes == h], 0.7, unbiased=debias)
        for g, h in ((0, 1), (0, 2), (1, 2))
    ]
    loss = MMDLoss(bandwidth=0.7, debias=debias)
    assert loss(x, None, codes).item() == pytest.approx(np.mean(pairs))
    loss = MMDLoss(bandwidth=0.7, debias=debias, reduction="max_gap")
    assert loss(x, None, codes).item() == pytest.approx(max(pairs))


def test_mmd_to_everyone() -> None:
    x = torch.randn(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    codes = torch.arange(40) % 2
    loss = MMDLoss(bandwidth=0.7, reduction="squared_to_mean")
    expected = sum(naive_mmd(x[codes == g], x, 0.7, unbiased=False) for g in (0, 1))
    assert loss(x, None, codes).item() == pytest.approx(expected)


@pytest.mark.parametrize("sizes", [(30, 60), (1, 89), (45, 45)])
@pytest.mark.parametrize("reduction", ["l1_to_mean", "max_gap"])
def test_wasserstein_of_two_groups_is_scipys(sizes: tuple[int, int], reduction: str) -> None:
    x = torch.randn(90, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    codes = torch.tensor([0] * sizes[0] + [1] * sizes[1])
    expected = wasserstein_distance(x[codes == 0], x[codes == 1])
    loss = WassersteinLoss(on="outputs", reduction=reduction)
    assert loss(x, None, codes).item() == pytest.approx(expected)


def test_wasserstein_is_demographic_parity_at_every_threshold(batch: tuple[Tensor, Tensor]) -> None:
    logits, codes = batch
    p = torch.sigmoid(logits)
    thresholds = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    rates = torch.stack([(p[codes == g] > thresholds[:, None]).double().mean(1) for g in range(3)])
    area = torch.trapezoid(rates.amax(0) - rates.amin(0), thresholds)
    loss = WassersteinLoss(reduction="max_gap")(logits, None, codes)
    assert loss.item() == pytest.approx(area.item(), abs=1e-4)


def test_every_row_gets_a_gradient_from_wasserstein(batch: tuple[Tensor, Tensor]) -> None:
    logits, codes = batch[0].clone().requires_grad_(), batch[1] % 2
    WassersteinLoss()(logits, None, codes).backward()
    assert (logits.grad != 0).float().mean() > 0.9


@pytest.mark.parametrize("loss", [DemographicParityLoss, MutualInformationLoss, MMDLoss])
def test_losses_over_groups_reject_continuous_attributes(loss: type) -> None:
    with pytest.raises(InvalidDataError, match="integer group codes"):
        loss()(torch.zeros(3), None, torch.tensor([0.1, 0.2, 0.3]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CovarianceLoss(on="logits"), "on must be"),
        (lambda: CorrelationLoss(ridge=0), "ridge"),
        (lambda: CorrelationLoss(group_weights=[1.0]), "group_weights"),
        (lambda: MutualInformationLoss(debias=True), "debias"),
        (lambda: HSICLoss(bandwidth=-1), "bandwidth"),
        (lambda: MMDLoss(reduction="variance"), "reduction"),
        (lambda: MMDLoss(reduction="squared_to_mean", debias=True), "pairs"),
        (lambda: WassersteinLoss(reduction="sum"), "reduction"),
        (lambda: WassersteinLoss(shrinkage=-1), "shrinkage"),
        (lambda: WassersteinLoss(group_weights="inverse_variance"), "size"),
        (lambda: NeuralMutualInformationLoss(critic_steps=0), "critic_steps"),
        (lambda: NeuralMutualInformationLoss(ema=1.0), "ema"),
    ],
)
def test_bad_settings(make: object, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        make()


class TestNeuralMutualInformation:
    """The critic: what it learns, who owns it, when it moves."""

    def test_gaussian_with_known_information(self) -> None:
        generator = torch.Generator().manual_seed(0)
        rho, n = 0.8, 1500
        a = torch.randn(n, generator=generator)
        x = rho * a + math.sqrt(1 - rho**2) * torch.randn(n, generator=generator)
        loss = NeuralMutualInformationLoss(on="outputs", critic_steps=150)
        found = loss(x, None, a).item()
        assert found == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.1)

    def test_independent_representation_of_several_groups(self) -> None:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(3000, 4, generator=generator)
        codes = torch.randint(0, 5, (3000,), generator=generator)
        loss = NeuralMutualInformationLoss(num_groups=5, critic_steps=50)
        assert abs(loss(x, None, codes).item()) < 0.05
        moved = x + 2 * torch.nn.functional.one_hot(codes, 5)[:, :4]
        assert loss(moved, None, codes).item() > 0.5

    def test_critic_is_left_alone_in_eval_and_by_other_optimizers(self) -> None:
        loss = NeuralMutualInformationLoss(num_groups=2)
        batch = (torch.randn(32, requires_grad=True), None, torch.arange(32) % 2)
        loss(*batch).backward()
        before = [p.clone() for p in loss.parameters()]
        assert not any(p.requires_grad or p.grad is not None for p in loss.parameters())
        loss.eval()(*batch).backward()
        assert all(torch.equal(a, b) for a, b in zip(before, loss.parameters(), strict=True))
        loss.train()(*batch)
        assert not torch.equal(before[0], next(loss.parameters()))

    def test_critic_trains_under_no_grad(self) -> None:
        loss = NeuralMutualInformationLoss(num_groups=2, critic_steps=100)
        codes = torch.arange(64) % 2
        with torch.no_grad():
            assert loss(6.0 * codes - 3, None, codes).item() > 0.3

    def test_global_random_state_is_left_alone(self) -> None:
        torch.manual_seed(0)
        before = torch.get_rng_state()
        NeuralMutualInformationLoss()(torch.zeros(8), None, torch.linspace(0, 1, 8))
        assert torch.equal(torch.get_rng_state(), before)

    def test_one_bad_batch_does_not_poison_the_critic(self) -> None:
        loss = NeuralMutualInformationLoss(num_groups=2)
        codes = torch.arange(16) % 2
        loss(torch.randn(16), None, codes)
        loss(torch.full((16,), torch.nan), None, codes)
        assert all(torch.isfinite(p).all() for p in loss.parameters())
        assert torch.isfinite(loss(torch.randn(16), None, codes))

    def test_batches_of_another_precision(self) -> None:
        loss = NeuralMutualInformationLoss(num_groups=2)
        for dtype in (torch.float64, torch.float32):
            assert torch.isfinite(loss(torch.randn(8, dtype=dtype), None, torch.arange(8) % 2))

    def test_other_groups_than_before_raise(self) -> None:
        loss = NeuralMutualInformationLoss()
        loss(torch.randn(4), None, torch.tensor([0, 1, 0, 1]))
        with pytest.raises(InvalidParameterError, match="num_groups"):
            loss(torch.randn(4), None, torch.tensor([0, 1, 2, 1]))
