"""skorch's nets with a fair criterion, which gets the groups of its batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.model_selection import cross_val_score
from tests.training.data import make_rows
from torch import nn

from fairtrain.exceptions import InvalidDataError
from fairtrain.losses import FairnessRegularizerLoss

skorch = pytest.importorskip("skorch", reason="needs the skorch extra")
from fairtrain.integrations.skorch import FairNetMixin  # noqa: E402


class FairNet(FairNetMixin, skorch.NeuralNetBinaryClassifier):
    """A net whose criterion is told who is who."""


class FairClasses(FairNetMixin, skorch.NeuralNetClassifier):
    """The same for a module with an output a class."""


X, Y, GROUP = make_rows(600)


def net(kind: Any = FairNet, outputs: int = 1, **more: Any) -> Any:
    torch.manual_seed(0)
    settings = {"max_epochs": 15, "lr": 0.3, "batch_size": 600, "verbose": 0}
    return kind(
        nn.Linear(4, outputs), criterion=FairnessRegularizerLoss, optimizer=torch.optim.SGD,
        criterion__num_groups=2, **settings | more,
    )  # fmt: skip


def gap(fitted: Any) -> float:
    decided = np.asarray(fitted.predict(X))
    return float(abs(decided[GROUP == 0].mean() - decided[GROUP == 1].mean()))


def test_the_penalty_is_felt_and_the_step_is_that_of_a_plain_loop() -> None:
    soft = net(criterion__eta=20.0, train_split=None).fit(
        X, Y.astype(np.float32), sensitive_features=GROUP
    )
    plain = net(criterion__eta=0.0, train_split=None).fit(
        X, Y.astype(np.float32), sensitive_features=GROUP
    )
    assert gap(soft) < gap(plain) - 0.05
    torch.manual_seed(0)
    module, loss = nn.Linear(4, 1), FairnessRegularizerLoss(eta=20.0, num_groups=2)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.3)
    x, y, codes = torch.from_numpy(X), torch.from_numpy(Y).float(), torch.from_numpy(GROUP)
    for _ in range(15):
        optimizer.zero_grad()
        loss(module(x), y, codes).backward()
        optimizer.step()
    torch.testing.assert_close(soft.module_.weight, module.weight)


def test_groups_stay_beside_their_rows_in_splits_and_batches() -> None:
    words = np.where(GROUP == 1, "north", "south")
    fitted = net(batch_size=64, max_epochs=3).fit(X, Y.astype(np.float32), sensitive_features=words)
    assert fitted.scheme_.names == ("north", "south")
    assert len(fitted.history[:, "valid_loss"]) == 3
    proba = fitted.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-6)  # of logits, by the usual loss
    assert (fitted.predict(X) == Y).mean() > 0.7


def test_several_outputs_and_cross_validation() -> None:
    classes = net(
        FairClasses, 2, criterion__base_loss=nn.CrossEntropyLoss(), max_epochs=5, train_split=None
    )
    found = cross_val_score(classes, X, Y, params={"sensitive_features": GROUP}, cv=2)
    assert found.min() > 0.6


def test_a_fit_without_groups_says_what_is_missing() -> None:
    fitted = net(max_epochs=1, train_split=None)
    with pytest.raises(TypeError, match="sensitive_features"):
        fitted.fit(X, Y.astype(np.float32))
    with pytest.raises(InvalidDataError, match="sensitive_features"):
        fitted.partial_fit(X, Y.astype(np.float32))
