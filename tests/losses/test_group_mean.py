"""Settings that all losses over group means share, and their state."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.losses import DemographicParityLoss, EqualizedOddsLoss, GroupDROLoss


def logits_of(*rates: float) -> Tensor:
    return torch.logit(torch.tensor(rates, dtype=torch.float64))


def test_number_of_groups_is_the_largest_seen() -> None:
    loss = DemographicParityLoss(memory=0.5, reduction="max_gap")
    loss(logits_of(0.1, 0.2), None, torch.tensor([0, 3]))
    assert loss.memory.running.shape[-1] == 4
    loss(logits_of(0.1, 0.2), None, torch.tensor([0, 1]))
    assert loss.memory.running.shape[-1] == 4
    loss(logits_of(0.1), None, torch.tensor([5]))
    assert loss.memory.running.shape[-1] == 6


def test_memory_sees_groups_that_the_batch_lacks() -> None:
    loss = DemographicParityLoss(num_groups=2, memory=0.9, reduction="max_gap")
    loss(logits_of(0.2, 0.2), None, torch.tensor([0, 0]))
    logits = logits_of(0.7).requires_grad_()
    value = loss(logits, None, torch.tensor([1]))
    assert value.item() == pytest.approx(0.5)
    value.backward()
    # The gradient is that of the batch mean, not a tenth of it.
    assert logits.grad.item() == pytest.approx(0.7 * 0.3)


def test_memory_fades() -> None:
    loss = DemographicParityLoss(num_groups=2, memory=0.5, reduction="max_gap")
    loss(logits_of(0.2), None, torch.tensor([0]))
    loss(logits_of(0.2), None, torch.tensor([1]))
    value = loss(logits_of(0.8), None, torch.tensor([0]))
    assert value.item() == pytest.approx((0.25 * 0.2 + 0.8) / 1.25 - 0.2)


def test_memory_is_neither_read_nor_written_in_eval() -> None:
    loss = DemographicParityLoss(num_groups=2, memory=0.9, reduction="max_gap")
    loss(logits_of(0.2), None, torch.tensor([0]))
    before = loss.memory.running.clone()
    assert loss.eval()(logits_of(0.7), None, torch.tensor([1])).item() == 0
    assert torch.equal(loss.memory.running, before)


def test_memory_is_saved_and_can_be_forgotten() -> None:
    loss = DemographicParityLoss(num_groups=2, memory=0.9)
    loss(logits_of(0.2, 0.6), None, torch.tensor([0, 1]))
    again = DemographicParityLoss(num_groups=2, memory=0.9)
    again.load_state_dict(loss.state_dict())
    assert torch.equal(again.memory.running, loss.memory.running)
    loss.reset_memory()
    assert not loss.memory.running.numel()


def test_one_bad_batch_does_not_poison_the_memory() -> None:
    loss = DemographicParityLoss(num_groups=2, memory=0.9, reduction="max_gap")
    loss(logits_of(0.2, 0.6), None, torch.tensor([0, 1]))
    bad = loss(torch.tensor([torch.nan, 0.0], dtype=torch.float64), None, torch.tensor([0, 1]))
    assert bad.isnan()
    good = loss(logits_of(0.2, 0.6), None, torch.tensor([0, 1]))
    assert good.item() == pytest.approx(0.4)


def test_one_bad_batch_does_not_poison_group_dro() -> None:
    loss = GroupDROLoss(num_groups=2)
    loss(torch.tensor([torch.nan, 0.0]), torch.ones(2), torch.tensor([0, 1]))
    assert loss.q.tolist() == [0.5, 0.5]


def test_shrinkage_pulls_small_groups_to_the_overall_mean() -> None:
    rates, codes = [0.5] * 18 + [0.9] * 2, torch.tensor([0] * 18 + [1] * 2)
    plain = DemographicParityLoss(reduction="max_gap")(logits_of(*rates), None, codes)
    shrunk = DemographicParityLoss(reduction="max_gap", shrinkage=2)(logits_of(*rates), None, codes)
    overall = 0.54
    expected = overall + 0.5 * (0.9 - overall) - (overall + 0.9 * (0.5 - overall))
    assert plain.item() == pytest.approx(0.4)
    assert shrunk.item() == pytest.approx(expected)


def test_weights_by_code_name_and_order_agree() -> None:
    names = ["x", "y", "z"]
    logits, codes = logits_of(0.1, 0.4, 0.8), torch.arange(3)
    values = {
        DemographicParityLoss(num_groups=3, group_weights=w, group_names=n)(
            logits, None, codes
        ).item()
        for w, n in (
            ({0: 1, 1: 2, 2: 1}, None),
            ({"y": 2}, names),
            ([1, 2, 1], None),
            (torch.tensor([1.0, 2, 1]), None),
        )
    }
    assert len(values) == 1


def test_weights_of_intersections() -> None:
    loss = DemographicParityLoss(num_groups=(2, 2), group_weights={(1, 0): 0}, reduction="max_gap")
    columns = torch.tensor([[0, 0], [1, 0], [1, 1]])
    assert loss(logits_of(0.1, 0.9, 0.3), None, columns).item() == pytest.approx(0.2)


@pytest.mark.parametrize("kind", ["size", "inverse_variance"])
def test_weights_from_the_data_average_one_and_favour_the_certain(kind: str) -> None:
    codes = torch.tensor([0] * 90 + [1] * 10)
    logits = torch.randn(100, generator=torch.Generator().manual_seed(0))
    loss = DemographicParityLoss(num_groups=3, group_weights=kind)
    moments = loss.moments(loss.read(logits, None, codes))
    weights = loss.weights_of_groups(moments, (3,), moments.means)[0]
    assert weights[2] == 0
    assert weights.sum().item() == pytest.approx(2)
    assert weights[0] > 5 * weights[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reduction": "sum"}, "reduction must be one of"),
        ({"temperature": 0}, "temperature"),
        ({"link": "tanh"}, "link"),
        ({"shrinkage": -1}, "shrinkage"),
        ({"memory": 1.0}, "memory"),
        ({"num_groups": 0}, "num_groups"),
        ({"debias": True, "shrinkage": 3}, "use one of them"),
        ({"group_weights": "rows"}, "size"),
        ({"group_weights": {"a": 1.0}}, "group_names"),
        ({"group_weights": {"c": 1.0}, "group_names": ["a", "b"]}, "not among"),
        ({"group_weights": {0: -1.0}}, "finite number"),
        ({"group_weights": {7: 1.0}, "num_groups": 2}, "names the group 7"),
        ({"group_names": ["a"], "num_groups": 2}, "1 names"),
    ],
)
def test_bad_settings(settings: dict, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        DemographicParityLoss(**settings)


@pytest.mark.parametrize(
    ("sensitive", "message"),
    [
        (None, "sensitive_features is missing"),
        (torch.tensor([0.0, 1.0]), "integer group codes"),
        (torch.tensor([0, 5]), "code 5"),
        (torch.tensor([0, -2]), "code -2"),
        (torch.tensor([[0, 0], [1, 1]]), "2 column"),
    ],
)
def test_bad_groups(sensitive: Tensor | None, message: str) -> None:
    with pytest.raises(InvalidDataError, match=message):
        DemographicParityLoss(num_groups=2)(torch.zeros(2), None, sensitive)


def test_a_code_in_the_wrong_column_is_not_taken_for_another_group() -> None:
    loss = DemographicParityLoss(num_groups=(3, 2))
    with pytest.raises(InvalidDataError, match="code 2"):
        loss(torch.zeros(2), None, torch.tensor([[0, 2], [1, 0]]))


def test_repr_names_the_settings() -> None:
    assert repr(EqualizedOddsLoss(num_groups=3)) == (
        "EqualizedOddsLoss(num_groups=3, temperature=1.0, reduction='squared_pairs')"
    )
