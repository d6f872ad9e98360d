"""A model, an optimizer and a loader that ``accelerate`` prepared are trained as they were."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.training.data import make_rows
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fairtrain import LagrangianFairnessTrainer

accelerate = pytest.importorskip("accelerate", reason="needs the accelerate extra")

pytestmark = pytest.mark.filterwarnings("ignore::fairtrain.exceptions.FairtrainWarning")


def loader() -> Any:
    X, y, group = make_rows(240)
    rows = (torch.from_numpy(X), torch.from_numpy(y), torch.from_numpy(group))
    return DataLoader(TensorDataset(*rows), batch_size=60)


def asked(**more: Any) -> Any:
    return LagrangianFairnessTrainer(
        difference_bound=0.02, dual_every=1, dual_lr=0.7, random_state=0, **more
    )


def looped(accelerator: Any) -> Any:
    torch.manual_seed(0)
    module, batches = nn.Linear(4, 1), loader()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.3)
    backward: Any = torch.Tensor.backward
    if accelerator is not None:
        module, optimizer, batches = accelerator.prepare(module, optimizer, batches)
        backward = accelerator.backward
    fair = asked().criterion(module, num_groups=2, validation_loader=batches)
    for _ in range(3):
        for x, y, group in batches:
            optimizer.zero_grad()
            backward(fair(module(x), y, group))
            optimizer.step()
            fair.step()
        fair.end_epoch()
    return module.weight.detach(), fair.run.multipliers.values


def test_a_prepared_loop_is_the_plain_one() -> None:
    weights, multipliers = looped(accelerate.Accelerator(cpu=True))
    plain, theirs = looped(None)
    torch.testing.assert_close(weights, plain)
    assert multipliers.sum() > 0
    assert (multipliers == theirs).all()


def test_a_trainer_takes_a_prepared_loader() -> None:
    prepared = accelerate.Accelerator(cpu=True).prepare(loader())
    found = [
        asked(module=nn.Linear(4, 1), max_epochs=2).fit_loader(batches, num_groups=2)
        for batches in (prepared, loader())
    ]
    assert found[0].fairness_report_.n_rows == found[1].fairness_report_.n_rows == 240
