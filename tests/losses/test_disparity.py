from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor

from fairtrain.exceptions import InvalidParameterError
from fairtrain.losses import DemographicParityLoss, disparity
from fairtrain.losses.functional import GroupMoments

MEANS = torch.tensor([0.5, 0.98, 0.02, 0.7], dtype=torch.float64)
COUNTS = torch.tensor([4.0, 2.0, 6.0, 0.0], dtype=torch.float64)
WEIGHTS = torch.tensor([1.0, 0.5, 2.0, 3.0], dtype=torch.float64)
OVERALL = (MEANS * COUNTS).sum() / COUNTS.sum()
MOMENTS = GroupMoments(MEANS, COUNTS, OVERALL)
PRESENT = (0, 1, 2)


def by_hand(reduction: str, w: Tensor) -> float:
    m, overall = MEANS.tolist(), float(OVERALL)
    w = w.tolist()
    total = sum(w[g] for g in PRESENT)
    centre = sum(w[g] * m[g] for g in PRESENT) / total
    scaled = [w[g] * (m[g] - centre) for g in PRESENT]
    pairs = [w[g] * w[h] * (m[g] - m[h]) ** 2 for g, h in combinations(PRESENT, 2)]
    return {
        "squared_pairs": sum(pairs) / len(pairs),
        "squared_to_mean": sum(w[g] * (m[g] - overall) ** 2 for g in PRESENT),
        "max_gap": max(scaled) - min(scaled),
        "variance": sum(w[g] * (m[g] - centre) ** 2 for g in PRESENT) / total,
        "l1_to_mean": sum(w[g] * abs(m[g] - overall) for g in PRESENT),
    }[reduction]


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize(
    "reduction", ["squared_pairs", "squared_to_mean", "max_gap", "variance", "l1_to_mean"]
)
def test_formulas(reduction: str, weights: Tensor | None) -> None:
    expected = by_hand(reduction, torch.ones(4) if weights is None else weights)
    assert disparity(MOMENTS, reduction, weights).item() == pytest.approx(expected)


def test_smooth_max_lies_below_max_gap_and_moves_every_group() -> None:
    means = torch.tensor([0.5, 0.54, 0.6, 0.7], dtype=torch.float64, requires_grad=True)
    value = disparity(MOMENTS._replace(means=means), "smooth_max")
    assert 0 < value.item() < 0.1
    value.backward()
    assert means.grad[:3].abs().min() > 0
    assert means.grad[3] == 0
    assert 0.8 < disparity(MOMENTS, "smooth_max").item() < 0.96


def test_weight_zero_leaves_a_group_out() -> None:
    weights = torch.tensor([1.0, 1, 0, 1], dtype=torch.float64)
    assert disparity(MOMENTS, "max_gap", weights).item() == pytest.approx(0.48)
    assert disparity(MOMENTS, "squared_pairs", weights).item() == pytest.approx(0.48**2)


def test_unknown_reduction() -> None:
    with pytest.raises(InvalidParameterError, match="squared_pairs"):
        disparity(MOMENTS, "sum")


@pytest.mark.parametrize("reduction", ["max_gap", "l1_to_mean", "smooth_max"])
def test_only_squared_reductions_can_be_debiased(reduction: str) -> None:
    with pytest.raises(InvalidParameterError, match="squared reduction"):
        disparity(MOMENTS, reduction, debias=True)
    with pytest.raises(InvalidParameterError, match="squared reduction"):
        DemographicParityLoss(reduction=reduction, debias=True)


def sample(repeats: int, n: int, groups: int, gap: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, groups, (n,), generator=generator)
    probabilities = torch.rand(repeats, n, generator=generator, dtype=torch.float64)
    return probabilities * 0.8 + gap * (codes == 0), codes


@pytest.mark.parametrize("weights", [None, "some"])
@pytest.mark.parametrize("reduction", ["squared_pairs", "squared_to_mean", "variance"])
@pytest.mark.parametrize("gap", [0.0, 0.15])
def test_debiased_value_is_unbiased(reduction: str, gap: float, weights: str | None) -> None:
    groups, n = 8, 96
    scores, codes = sample(4000, n, groups, gap)
    given = None if weights is None else [0.5, 1, 2, 1, 1, 1.5, 1, 0]
    settings = {"num_groups": groups, "reduction": reduction, "group_weights": given}
    debiased = DemographicParityLoss(debias=True, **settings)
    plain = DemographicParityLoss(**settings)
    counts = torch.bincount(codes, minlength=groups).double()
    truth = torch.zeros(groups, dtype=torch.float64)
    truth[0] = gap
    moments = GroupMoments(truth, counts, (truth * counts).sum() / counts.sum())
    w = None if given is None else torch.tensor(given, dtype=torch.float64)
    expected = disparity(moments, reduction, w).item()
    values = torch.func.vmap(lambda p: debiased(torch.logit(p), None, codes))(scores)
    raw = torch.func.vmap(lambda p: plain(torch.logit(p), None, codes))(scores)
    error = (values.mean() - expected).item()
    assert abs(error) < 4 * values.std().item() / len(values) ** 0.5
    assert (raw.mean() - expected).item() > 10 * abs(error)


def test_sampling_noise_of_64_groups_pushes_towards_indecision_unless_debiased() -> None:
    """At 512 rows and 64 groups a zero gap looks like a gap of about .15."""
    logits = torch.randn(512, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits = (4 * logits).requires_grad_()
    draws = [
        torch.randint(0, 64, (512,), generator=torch.Generator().manual_seed(s)) for s in range(100)
    ]

    def pull(debias: bool) -> tuple[float, float]:
        loss = DemographicParityLoss(num_groups=64, debias=debias)
        value = torch.stack([loss(logits, None, codes) for codes in draws]).mean()
        (gradient,) = torch.autograd.grad(value, logits)
        return value.item(), (gradient * logits.detach()).sum().item()

    value, towards_middle = pull(debias=False)
    debiased, left = pull(debias=True)
    assert value**0.5 > 0.14
    assert abs(debiased) < 0.05 * value
    assert towards_middle > 0
    assert abs(left) < 0.1 * towards_middle
