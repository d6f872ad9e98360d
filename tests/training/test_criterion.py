"""A trainer's loss in a loop of one's own."""

from __future__ import annotations

import pytest
import torch
from tests.training.data import make_rows
from torch import nn

from fairtrain import (
    AdversarialDebiasingTrainer,
    DemographicParity,
    LagrangianFairnessTrainer,
    RegularizedFairnessTrainer,
    fairness_report,
)
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

X, Y, A = (torch.from_numpy(part) for part in make_rows(600))
TRAIN, HELD = (X[:400], Y[:400], A[:400]), (X[400:], Y[400:], A[400:])
BOUND = LagrangianFairnessTrainer(difference_bound=0.05, dual_every=1, dual_lr=3.0)


class Loop:
    """Somebody's loop over whole batches."""

    def __init__(self, trainer, epochs=60, held=True):
        torch.manual_seed(0)
        self.module = nn.Linear(4, 2)
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=0.05)
        loader = [HELD] if held else None
        self.fair = trainer.criterion(
            self.module, num_groups=2, validation_loader=loader, n_batches=1, n_epochs=epochs
        )

    def run(self, epochs):
        x, y, a = TRAIN
        for _ in range(epochs):
            self.optimizer.zero_grad()
            self.fair(self.module(x), y, a).backward()
            self.optimizer.step()
            self.fair.step()
            self.fair.end_epoch()
        return self

    def gap(self, rows):
        return self.fair.report([rows], rows="steering").results[0].achieved


def test_a_bound_is_kept_on_rows_that_steer():
    loop = Loop(BOUND).run(60)
    loop.fair.finish()
    plain = Loop(RegularizedFairnessTrainer(eta=0.0)).run(60)
    assert plain.gap(HELD) > 0.1
    assert loop.gap(HELD) <= 0.05
    assert len(loop.fair.history) == 60


def test_without_rows_that_steer_training_batches_do():
    loop = Loop(BOUND, held=False).run(60)
    plain = Loop(RegularizedFairnessTrainer(eta=0.0), held=False).run(60)
    assert loop.gap(TRAIN) < 0.8 * plain.gap(TRAIN)
    assert loop.fair.history[-1]["multipliers: demographic_parity"] > 0


def test_the_state_goes_on_exactly():
    whole, first = Loop(BOUND).run(20), Loop(BOUND).run(10)
    second = Loop(BOUND)
    second.module.load_state_dict(first.module.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.fair.load_state_dict(first.fair.state_dict())
    second.run(10)
    assert second.fair.history == whole.fair.history
    assert torch.equal(second.module.weight, whole.module.weight)


def test_a_penalty_is_the_trainer_s_loss():
    x, y, a = TRAIN
    fair = Loop(RegularizedFairnessTrainer(eta=3.0)).fair
    module = fair.run.parts.module
    outputs = module(x)
    logit = outputs[:, 1] - outputs[:, 0]
    usual = nn.functional.binary_cross_entropy_with_logits(logit, y.float())
    assert fair(outputs, y, a) > usual
    module.eval()
    assert fair(outputs, y, a).item() == pytest.approx(usual.item(), abs=1e-6)


def test_a_report_weighs_rows_and_knows_several_classes():
    fair, (x, y, a) = Loop(BOUND).fair, TRAIN
    weight = torch.rand(len(y), generator=torch.Generator().manual_seed(0))
    logits = fair.run.parts.module(x).detach()
    for threshold in (0.5, 0.3):
        decided = (logits.softmax(1)[:, 1] > threshold).long()
        known = fairness_report(y, decided, sensitive_features=a, sample_weight=weight)
        (found,) = fair.report([(x, y, a, weight)], threshold=threshold).results
        assert found.achieved == pytest.approx(known.results[0].achieved)
    module, several = nn.Linear(4, 3), torch.arange(len(y)) % 3
    fair = BOUND.criterion(module, num_groups=2, num_classes=3)
    chosen = module(x).argmax(1)
    shares = [torch.bincount(chosen[a == g], minlength=3) / (a == g).sum() for g in (0, 1)]
    found = [result.achieved for result in fair.report([(x, several, a)]).results]
    assert found == pytest.approx((shares[0] - shares[1]).abs().tolist())
    with pytest.raises(InvalidParameterError, match="is for two classes"):
        fair.report([(x, several, a)], threshold=0.3)


def test_what_cannot_be_is_one_line():
    module = nn.Linear(4, 1)
    with pytest.raises(InvalidParameterError, match="needs groups= or num_groups="):
        BOUND.criterion(module)
    with pytest.raises(InvalidParameterError, match="steps of its own"):
        AdversarialDebiasingTrainer().criterion(module, num_groups=2)
    pooled = DemographicParity(over="sex", given="band", pooled=True, difference_bound=0.1)
    with pytest.raises(InvalidParameterError, match="need all rows that train"):
        LagrangianFairnessTrainer(constraints=pooled).criterion(module, num_groups=2)
    with pytest.raises(InvalidDataError, match="no groups"):
        BOUND.criterion(module, num_groups=2)(module(X), Y, None)
    with pytest.raises(InvalidDataError, match="groups has 5 rows, expected 600"):
        BOUND.criterion(module, num_groups=2)(module(X), Y, A[:5])
    with pytest.raises(InvalidDataError, match="not negative"):
        BOUND.criterion(module, num_groups=2)(module(X), Y, A, -torch.ones(600))
    with pytest.raises(InvalidParameterError, match="mixture=True lets weights of several"):
        LagrangianFairnessTrainer(mixture=True).criterion(module, num_groups=2)
    with pytest.raises(InvalidDataError, match="a generator gives its batches once"):
        BOUND.criterion(module, num_groups=2, validation_loader=(row for row in [HELD]))
    other = BOUND.criterion(module, num_groups=3)
    with pytest.raises(InvalidParameterError, match="another fair criterion"):
        other.load_state_dict({"run": {}})
