"""Oracles: what is promised of the rows that train, and of the decay by them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fairtrain import LagrangianFairnessTrainer, RegularizedFairnessTrainer
from fairtrain.training.heads import Head, Task
from fairtrain.training.modules import DefaultModule


def default(rows: int) -> DefaultModule:
    module = DefaultModule(2, 1)
    module.learn(torch.randn(rows, 2, generator=torch.Generator().manual_seed(0)))
    return module


@pytest.mark.parametrize(
    ("module", "task", "decay"),
    [
        (default(1600), "binary", 5.0),
        (default(100), "multiclass", 20.0),
        (default(100), "regression", 1e-3),
        (DefaultModule(2, 1), "binary", 1e-3),
        (nn.Linear(2, 1), "binary", 1e-3),
    ],
)
def test_few_rows_decay_the_default_network_more(
    module: nn.Module, task: Task, decay: float
) -> None:
    trainer = LagrangianFairnessTrainer()
    assert trainer._weight_decay(module, Head(task)) == decay
    assert RegularizedFairnessTrainer()._weight_decay(module, Head(task)) == 1e-3


def test_decay_says_for_how_many_rows_although_the_encoding_stays() -> None:
    module = default(400)
    pieces = module.n_pieces
    module.learn(torch.zeros(4000, 2))
    assert (module.weight_decay, module.n_pieces) == (2.0, pieces)
