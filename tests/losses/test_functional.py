from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from fairtrain.constraints.rates import ERROR_RATE, FALSE_POSITIVE_RATE, TRUE_POSITIVE_RATE
from fairtrain.exceptions import InvalidParameterError
from fairtrain.losses import group_means, group_sums, rate_sums, soft_decisions
from fairtrain.losses.functional import combine_codes, group_moments, moment_sums, shrink


@settings(deadline=None, max_examples=50)
@given(
    codes=hnp.arrays(np.int64, st.integers(0, 40), elements=st.integers(-1, 4)),
    seed=st.integers(0, 1000),
    columns=st.sampled_from([None, 1, 3]),
)
def test_group_means_agree_with_a_mask_per_group(
    codes: np.ndarray, seed: int, columns: int | None
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=len(codes) if columns is None else (len(codes), columns))
    weights = rng.uniform(0.1, 2, size=len(codes))
    means, counts = group_means(*map(torch.from_numpy, (values, codes)), 5)
    weighted, mass = group_means(
        torch.from_numpy(values), torch.from_numpy(codes), 5, torch.from_numpy(weights)
    )
    for group in range(5):
        mask = codes == group
        assert (counts.numpy()[..., group] == mask.sum()).all()
        np.testing.assert_allclose(mass.numpy()[..., group], weights[mask].sum())
        expected = values[mask].mean(0) if mask.any() else 0
        np.testing.assert_allclose(means.numpy()[..., group], expected)
        expected = np.average(values[mask], 0, weights[mask]) if mask.any() else 0
        np.testing.assert_allclose(weighted.numpy()[..., group], expected, atol=1e-12)


def test_a_nan_in_a_left_out_row_reaches_no_group() -> None:
    values = torch.tensor([1.0, torch.nan, 3.0])
    means, _ = group_means(values, torch.tensor([0, -1, 1]), 2)
    assert means.tolist() == [1, 3]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    values = torch.ones(5000, dtype=dtype)
    sums, counts = group_sums(values, torch.zeros(5000, dtype=torch.int64), 1)
    assert sums.dtype == torch.float32
    assert sums.item() == counts.item() == 5000


def test_group_means_under_vmap_over_values_and_codes() -> None:
    values, codes = torch.randn(3, 10), torch.randint(-1, 4, (3, 10))
    means, counts = torch.func.vmap(lambda v, c: group_means(v, c, 4))(values, codes)
    for i in range(3):
        one = group_means(values[i], codes[i], 4)
        torch.testing.assert_close(means[i], one.means)
        torch.testing.assert_close(counts[i], one.counts)


def test_event_conditioned_rates() -> None:
    decisions = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.25])
    targets = torch.tensor([1, 1, 0, 0, 1])
    codes = torch.tensor([0, 0, 0, 1, 1])
    rates = (TRUE_POSITIVE_RATE, FALSE_POSITIVE_RATE, ERROR_RATE)
    sums, counts = rate_sums(decisions, targets, codes, 2, rates)
    torch.testing.assert_close(sums, torch.tensor([[1, 0.25], [1, 1], [2, 1.75]]))
    torch.testing.assert_close(counts, torch.tensor([[2.0, 1], [1, 1], [3, 2]]))


def test_rates_of_several_classes_are_one_against_the_rest() -> None:
    probabilities = torch.softmax(torch.randn(30, 3, dtype=torch.float64), 1)
    targets, codes = torch.arange(30) % 3, torch.randint(-1, 2, (30,))
    one_hot = torch.nn.functional.one_hot(targets, 3)
    together = rate_sums(probabilities, one_hot, codes, 2, (TRUE_POSITIVE_RATE,))
    for c in range(3):
        alone = rate_sums(probabilities[:, c], one_hot[:, c], codes, 2, (TRUE_POSITIVE_RATE,))
        torch.testing.assert_close(together[:, [c]], alone)


def test_sums_of_batches_add_up() -> None:
    values, codes, weights = torch.rand(20), torch.randint(0, 3, (20,)), torch.rand(20)
    whole = moment_sums(values, codes, 3, weights, squares=True)
    halves = [
        moment_sums(values[part], codes[part], 3, weights[part], squares=True)
        for part in (slice(0, 7), slice(7, 20))
    ]
    torch.testing.assert_close(halves[0] + halves[1], whole)


def test_variances_of_means_are_unbiased() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(4000, 5, generator=generator, dtype=torch.float64)
    codes = torch.zeros(5, dtype=torch.int64)
    variances = torch.func.vmap(
        lambda v: group_moments(moment_sums(v, codes, 1, squares=True)).variances
    )(values)
    assert variances.mean().item() == pytest.approx(1 / 12 / 5, rel=0.02)


def test_the_variance_of_one_row_is_unknown() -> None:
    sums = moment_sums(torch.rand(3), torch.tensor([0, 1, 1]), 3, squares=True)
    assert group_moments(sums).variances.isinf().tolist() == [[True, False, True]]


def test_shrink() -> None:
    means = shrink(torch.tensor([1.0, 0.0]), torch.tensor([10.0, 0.0]), torch.tensor([0.5]), 10)
    torch.testing.assert_close(means, torch.tensor([0.75, 0.5]))


def test_combine_codes_is_the_mixed_radix() -> None:
    columns = torch.cartesian_prod(torch.arange(3), torch.arange(2), torch.arange(4))
    assert combine_codes(columns, (3, 2, 4)).tolist() == list(range(24))


@pytest.mark.parametrize("link", ["sigmoid", "probit"])
def test_soft_decisions_become_hard(link: str) -> None:
    logits = torch.tensor([-5.0, -0.1, 0.1, 5.0])
    assert soft_decisions(logits, 1e-3, link).round(decimals=6).tolist() == [0, 0, 1, 1]


def test_soft_decisions_of_several_classes_are_a_softmax() -> None:
    logits = torch.randn(4, 3)
    torch.testing.assert_close(soft_decisions(logits), logits.softmax(1))
    with pytest.raises(InvalidParameterError, match="one logit a row"):
        soft_decisions(logits, link="probit")


def test_nothing_is_looped_over_groups() -> None:
    def operations(groups: int) -> int:
        with torch.profiler.profile() as profile:
            values: Tensor = torch.rand(512, requires_grad=True)
            group_means(values, torch.randint(0, groups, (512,)), groups).means.sum().backward()
        return len(profile.events())

    operations(2)  # warm up
    assert operations(64) == operations(2)
