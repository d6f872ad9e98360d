from __future__ import annotations

import copy
import gc
import pickle
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairtrain import constraints as c
from fairtrain.exceptions import FairtrainError, InvalidDataError, InvalidParameterError
from fairtrain.losses import (
    DemographicParityLoss,
    EqualizedOddsLoss,
    FairnessRegularizer,
    FairnessRegularizerLoss,
    GroupMSEParityLoss,
    LinearWarmup,
    WassersteinLoss,
)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(40, generator=generator, requires_grad=True)
    return logits, torch.randint(0, 2, (40,), generator=generator), torch.arange(40) % 2


def test_two_changed_lines(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, targets, codes = batch
    criterion = FairnessRegularizerLoss(eta=3.0)  # was nn.BCEWithLogitsLoss()
    loss = criterion(logits, targets, codes)  # was criterion(logits, targets)
    base = F.binary_cross_entropy_with_logits(logits, targets.float())
    expected = base + 3 * DemographicParityLoss()(logits, None, codes)
    torch.testing.assert_close(loss, expected)
    assert FairnessRegularizer is FairnessRegularizerLoss


def test_several_penalties(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    dp, eo = DemographicParityLoss()(batch[0], None, batch[2]), EqualizedOddsLoss()(*batch)
    wasserstein = WassersteinLoss()
    cases = {
        "list": (["demographic_parity", "equalized_odds"], dp + eo),
        "mapping": ({"demographic_parity": 2.0, c.EqualizedOdds(): 0.5}, 2 * dp + 0.5 * eo),
        "object": ([wasserstein, "Equalized-Odds"], wasserstein(batch[0], None, batch[2]) + eo),
    }
    for penalty, expected in cases.values():
        criterion = FairnessRegularizerLoss(penalty=penalty)
        criterion(*batch)
        torch.testing.assert_close(criterion.last_terms["penalty"], expected.detach())


def test_bounded_group_loss_constraint(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    criterion = FairnessRegularizerLoss(penalty=c.BoundedGroupLoss(upper_bound=0.1))
    assert criterion(*batch) > criterion.last_terms["base"]


def test_last_terms_are_detached_and_add_up(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    criterion = FairnessRegularizerLoss(penalty="equalized_odds", eta=2.0)
    criterion(*batch)
    terms = criterion.last_terms
    assert not any(term.requires_grad for term in terms.values())
    torch.testing.assert_close(terms["total"], terms["base"] + terms["eta"] * terms["penalty"])


def test_eta_zero_is_the_base_loss_and_still_tells_the_penalty(
    batch: tuple[Tensor, Tensor, Tensor],
) -> None:
    criterion = FairnessRegularizerLoss(eta=0.0)
    loss = criterion(*batch)
    loss.backward()
    expected = torch.autograd.grad(
        F.binary_cross_entropy_with_logits(batch[0], batch[1].float()), batch[0]
    )[0]
    torch.testing.assert_close(batch[0].grad, expected)
    assert criterion.last_terms["penalty"] > 0


def test_schedule_counts_training_calls_and_resumes(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    criterion = FairnessRegularizerLoss(eta=LinearWarmup(1.0, steps=4))
    etas = []
    for _ in range(3):
        criterion(*batch)
        etas.append(float(criterion.last_terms["eta"]))
    criterion.eval()(*batch)
    again = FairnessRegularizerLoss(eta=LinearWarmup(1.0, steps=4))
    again.load_state_dict(criterion.state_dict())
    again(*batch)
    etas.append(float(again.last_terms["eta"]))
    assert etas == [0, 0.25, 0.5, 0.75]


def test_every_k_steps_has_the_same_gradient_on_average(
    batch: tuple[Tensor, Tensor, Tensor],
) -> None:
    def mean_gradient(every: int) -> Tensor:
        criterion = FairnessRegularizerLoss(eta=2.0, every=every)
        losses = torch.stack([criterion(*batch) for _ in range(6)])
        return torch.autograd.grad(losses.mean(), batch[0])[0]

    torch.testing.assert_close(mean_gradient(3), mean_gradient(1))
    torch.testing.assert_close(
        FairnessRegularizerLoss(every=3).eval()(*batch), FairnessRegularizerLoss().eval()(*batch)
    )


@pytest.mark.parametrize(
    "base_loss",
    [
        None,
        nn.BCEWithLogitsLoss(reduction="none"),
        lambda z, y: F.binary_cross_entropy_with_logits(z, y.float(), reduction="none"),
    ],
    ids=["mean", "none", "callable"],
)
def test_sample_weight(batch: tuple[Tensor, Tensor, Tensor], base_loss: object) -> None:
    logits, targets, codes = batch
    weights = torch.linspace(0, 2, 40)
    criterion = FairnessRegularizerLoss(base_loss, eta=0.5)
    found = criterion(logits, targets, codes, sample_weight=weights)
    rows = F.binary_cross_entropy_with_logits(logits, targets.float(), reduction="none")
    penalty = DemographicParityLoss()(logits, None, codes, sample_weight=weights)
    torch.testing.assert_close(found, (rows * weights).sum() / weights.sum() + 0.5 * penalty)
    if isinstance(criterion.base_loss, nn.BCEWithLogitsLoss) and base_loss is None:
        assert criterion.base_loss.reduction == "mean"


def test_a_scalar_base_loss_takes_no_weights(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    criterion = FairnessRegularizerLoss(lambda z, y: (z - y).square().mean())
    with pytest.raises(InvalidDataError, match="one number a row"):
        criterion(*batch, sample_weight=torch.ones(40))


def test_cross_entropy_and_regression() -> None:
    logits, targets, codes = torch.randn(12, 3), torch.arange(12) % 3, torch.arange(12) % 2
    criterion = FairnessRegularizerLoss(nn.CrossEntropyLoss(), "equalized_odds")
    assert torch.isfinite(criterion(logits, targets, codes))
    with pytest.raises(InvalidDataError, match="CrossEntropyLoss"):
        FairnessRegularizerLoss()(logits, targets, codes)
    criterion = FairnessRegularizerLoss(nn.MSELoss(), GroupMSEParityLoss())
    assert torch.isfinite(criterion(logits[:, :1], torch.randn(12, 1), codes))


def test_columns_do_not_broadcast(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, targets, codes = batch
    criterion = FairnessRegularizerLoss(penalty="error_rate_parity")
    flat = criterion(logits, targets, codes)
    torch.testing.assert_close(criterion(logits[:, None], targets, codes), flat)
    torch.testing.assert_close(criterion(logits, targets[:, None], codes[:, None]), flat)
    with pytest.raises(InvalidDataError, match="targets must have shape"):
        criterion(logits, targets[:-1], codes)


class TestGradientNorms:
    """Which term drives training, in words."""

    def model(self) -> tuple[nn.Linear, Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(200, 3, generator=generator)
        codes = (x[:, 0] > 0).long()
        module = nn.Linear(3, 1)
        with torch.no_grad():
            module.weight.copy_(torch.tensor([[0.3, -0.2, 0.1]]))
            module.bias.zero_()
        return module, x, (x.sum(1) > 0).float(), codes

    @pytest.mark.parametrize(
        ("eta", "words"),
        [(1e-4, "too small"), (1e4, "accuracy hardly counts"), (0.0, "only the base loss")],
    )
    def test_words(self, eta: float, words: str) -> None:
        module, x, y, a = self.model()
        criterion = FairnessRegularizerLoss(eta=eta)
        loss = criterion(module(x), y, a)
        assert words in str(criterion.gradient_norms(module.parameters()))
        loss.backward()

    def test_norms_are_those_of_the_two_terms(self) -> None:
        module, x, y, a = self.model()
        criterion = FairnessRegularizerLoss(eta=2.0)
        loss = criterion(module(x), y, a)
        found = criterion.gradient_norms(module.parameters())
        assert module.weight.grad is None
        base, penalty = criterion.terms(module(x), y, a)
        for term, norm in ((base, found.base), (2 * penalty, found.penalty)):
            grads = torch.autograd.grad(term, list(module.parameters()), retain_graph=True)
            expected = torch.cat([g.reshape(-1) for g in grads]).norm()
            assert norm == pytest.approx(expected.item(), rel=1e-5)
        assert found.ratio == pytest.approx(found.penalty / found.base)
        loss.backward()

    def test_following_the_advice_balances_the_terms(self) -> None:
        module, x, y, a = self.model()
        criterion = FairnessRegularizerLoss(eta=1e-4)
        loss = criterion(module(x), y, a)
        words = str(criterion.gradient_norms(module.parameters()))
        criterion.eta = float(words.rsplit(" ", 1)[1].rstrip("."))
        loss = criterion(module(x), y, a)
        assert 0.3 < criterion.gradient_norms(module.parameters()).ratio < 0.7
        del loss

    def test_too_late(self) -> None:
        module, x, y, a = self.model()
        criterion = FairnessRegularizerLoss()
        loss = criterion(module(x), y, a)
        loss.backward()
        with pytest.raises(FairtrainError, match="before"):
            criterion.gradient_norms(module.parameters())
        del loss
        gc.collect()
        with pytest.raises(FairtrainError, match="alive"):
            criterion.gradient_norms(module.parameters())

    def test_no_gap_and_no_parameters(self) -> None:
        module, x, y, a = self.model()
        criterion = FairnessRegularizerLoss()
        loss = criterion(module(x), y, torch.zeros_like(a))
        assert "no gradient in this batch" in str(criterion.gradient_norms(module.parameters()))
        with pytest.raises(InvalidParameterError, match="parameters"):
            criterion.gradient_norms([torch.zeros(3)])
        del loss


class Held(torch.autograd.Function):
    """A node of the graph that keeps an object alive."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, token: object) -> Tensor:
        ctx.token = token
        return logits.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def test_the_graph_lives_no_longer_than_the_loss(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    class Token:
        pass

    token = Token()
    alive = weakref.ref(token)
    criterion = FairnessRegularizerLoss()
    loss = criterion(Held.apply(batch[0], token), *batch[1:])
    del token
    assert alive() is not None
    del loss
    gc.collect()
    assert alive() is None


def test_copies_and_pickles_after_a_call(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    criterion = FairnessRegularizerLoss(penalty="equalized_odds", memory=0.5)
    loss = criterion(*batch)
    for other in (copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion))):
        torch.testing.assert_close(other.eval()(*batch), criterion.eval()(*batch))
    loss.backward()


def test_per_model_eta_under_vmap(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    _, targets, codes = batch
    criterion = FairnessRegularizerLoss()
    logits, etas = torch.randn(3, 40), torch.tensor([0.0, 1.0, 5.0])

    def total(z: Tensor, eta: Tensor) -> Tensor:
        base, penalty = criterion.terms(z, targets, codes)
        return base + eta * penalty

    found = torch.func.vmap(total)(logits, etas)
    for i, eta in enumerate(etas.tolist()):
        criterion.eta = eta
        torch.testing.assert_close(found[i], criterion(logits[i], targets, codes))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"penalty": "parity"}, "demographic_parity"),
        ({"penalty": []}, "penalty is empty"),
        ({"penalty": {"demographic_parity": -1.0}}, "finite number"),
        ({"penalty": 3}, "penalty must be"),
        ({"penalty": "covariance", "memory": 0.5}, "memory"),
        ({"penalty": DemographicParityLoss(), "num_groups": 2}, "itself"),
        ({"eta": -1.0}, "eta"),
        ({"eta": float("nan")}, "eta"),
        ({"every": 0}, "every"),
        ({"base_loss": "bce"}, "base_loss"),
    ],
)
def test_bad_settings(settings: dict, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        FairnessRegularizerLoss(**settings)
