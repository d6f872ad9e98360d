from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fairtrain import constraints as c
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.losses import (
    BiasParityScoreLoss,
    DemographicParityLoss,
    EqualizedOddsLoss,
    EqualOpportunityLoss,
    ErrorRateParityLoss,
    PredictiveEqualityLoss,
    PredictiveParityLoss,
    RateParityLoss,
)
from fairtrain.metrics import gap, ratio

METRICS = {
    DemographicParityLoss: ["selection_rate"],
    EqualOpportunityLoss: ["true_positive_rate"],
    PredictiveEqualityLoss: ["false_positive_rate"],
    PredictiveParityLoss: ["precision"],
    EqualizedOddsLoss: ["true_positive_rate", "false_positive_rate"],
    ErrorRateParityLoss: ["error_rate"],
}


@pytest.mark.parametrize("loss", METRICS, ids=lambda loss: loss.__name__)
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), groups=st.integers(2, 5), link=st.sampled_from(["sigmoid"]))
def test_hard_limit_is_the_gap_of_the_metrics(loss: Any, seed: int, groups: int, link: str) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, groups, 60)
    labels = rng.integers(0, 2, 60)
    assume(all(len(set(labels[codes == g])) == 2 for g in range(groups)))
    logits = rng.normal(size=60)
    logits += np.sign(logits) * 0.01
    assume(all((logits[codes == g] > 0).any() for g in range(groups)))  # whose precision is asked
    expected = max(gap(labels, (logits > 0).astype(int), codes, m).value for m in METRICS[loss])
    soft = loss(reduction="max_gap", temperature=1e-4, link=link, num_groups=groups)
    found = soft(torch.tensor(logits), torch.tensor(labels), torch.tensor(codes))
    assert found.item() == pytest.approx(expected, abs=1e-9)


def test_hard_limit_of_the_bias_parity_score() -> None:
    rng = np.random.default_rng(0)
    codes, logits = rng.integers(0, 3, 90), rng.normal(size=90)
    decisions = (logits > 0).astype(int)
    expected = 1 - ratio(np.arange(90) % 2, decisions, codes).value
    found = BiasParityScoreLoss(temperature=1e-5)(torch.tensor(logits), None, torch.tensor(codes))
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_bias_parity_score_of_equal_zero_rates() -> None:
    loss = BiasParityScoreLoss("equal_opportunity")
    logits = torch.full((4,), -200.0, requires_grad=True)
    value = loss(logits, torch.ones(4), torch.tensor([0, 0, 1, 1]))
    value.backward()
    assert value.item() == 0
    assert torch.isfinite(logits.grad).all()


def test_any_parity_constraint_makes_a_loss() -> None:
    def missed(y: Any, prediction: Any) -> Any:
        return 2 * y * (1 - prediction)

    loss = RateParityLoss(c.RateParity(quantity=missed, label="missed"), reduction="max_gap")
    logits = torch.tensor([-50.0, 50.0, 50.0, 50.0])
    value = loss(logits, torch.ones(4), torch.tensor([0, 0, 1, 1]))
    assert value.item() == pytest.approx(1.0)


def test_weights_of_a_constraint_are_used() -> None:
    constraint = c.DemographicParity(weights={"b": 0})
    loss = RateParityLoss(constraint, group_names=["a", "b", "c"], reduction="max_gap")
    logits = torch.logit(torch.tensor([0.5, 0.9, 0.6]))
    assert loss(logits, None, torch.tensor([0, 1, 2])).item() == pytest.approx(0.1, abs=1e-6)


def test_bounded_group_loss_is_no_parity() -> None:
    with pytest.raises(InvalidParameterError, match="BoundedGroupLossPenalty"):
        RateParityLoss(c.BoundedGroupLoss(upper_bound=0.1))


def test_error_rate_of_several_classes_is_not_choosing_the_true_one() -> None:
    logits = torch.randn(40, 3, dtype=torch.float64)
    targets, codes = torch.arange(40) % 3, torch.arange(40) % 2
    wrong = 1 - logits.softmax(1)[torch.arange(40), targets]
    expected = (wrong[codes == 0].mean() - wrong[codes == 1].mean()).abs()
    found = ErrorRateParityLoss(reduction="max_gap")(logits, targets, codes)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("targets", [[1, 2, 1, 2], [-1, 1, -1, 1], [0.5, 1, 0, 0]])
def test_labels_other_than_zero_and_one_raise(targets: list[float]) -> None:
    with pytest.raises(InvalidDataError, match="targets must be 0"):
        EqualOpportunityLoss()(torch.zeros(4), torch.tensor(targets), torch.tensor([0, 0, 1, 1]))


def test_formula_fixes_the_reduction_of_the_bias_parity_score() -> None:
    with pytest.raises(InvalidParameterError, match="reduction"):
        BiasParityScoreLoss(reduction="max_gap")


def test_three_groups_with_rates_50_98_02_are_not_fair() -> None:
    logits = torch.logit(torch.tensor([0.50, 0.98, 0.02]))
    for reduction in ("squared_pairs", "squared_to_mean", "max_gap", "variance", "l1_to_mean"):
        loss = DemographicParityLoss(reduction=reduction)(logits, None, torch.arange(3))
        assert loss.item() > 0.1


def test_absent_group_gives_no_nan_and_adds_nothing() -> None:
    logits, codes = torch.randn(12), torch.arange(12) % 2
    some = DemographicParityLoss(num_groups=7)(logits, None, codes)
    assert torch.equal(some, DemographicParityLoss(num_groups=2)(logits, None, codes))


def test_groups_keep_their_codes_in_a_batch_that_lacks_one() -> None:
    weights = {0: 5.0, 1: 1.0, 2: 3.0}
    loss = DemographicParityLoss(num_groups=3, group_weights=weights)
    logits = torch.logit(torch.tensor([0.2, 0.4]))
    assert loss(logits, None, torch.tensor([1, 2])).item() == pytest.approx(3 * 0.04, abs=1e-6)


def test_a_batch_without_positives_is_zero_under_true_positive_rates() -> None:
    logits = torch.randn(8, requires_grad=True)
    loss = EqualOpportunityLoss()(logits, torch.zeros(8), torch.arange(8) % 2)
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_column_targets_do_not_broadcast() -> None:
    logits, targets, codes = torch.randn(6, 1), torch.tensor([0, 1] * 3), torch.arange(6) % 3
    flat = ErrorRateParityLoss()(logits[:, 0], targets, codes)
    assert torch.equal(ErrorRateParityLoss()(logits, targets, codes), flat)
    assert torch.equal(ErrorRateParityLoss()(logits, targets[:, None], codes[:, None]), flat)


def test_equal_opportunity_has_a_gradient() -> None:
    logits = torch.randn(40, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = torch.arange(40) // 2 % 2
    EqualOpportunityLoss()(logits, targets, torch.arange(40) % 2).backward()
    assert (logits.grad[targets == 1] != 0).all()
    assert not logits.grad[targets == 0].any()
