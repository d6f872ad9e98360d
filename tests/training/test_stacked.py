"""Networks trained at once are the networks that one training each gives."""

from __future__ import annotations

import itertools
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from torch import nn

from fairtrain import (
    BoundedGroupLoss,
    DemographicParityLoss,
    EarlyStopping,
    RegularizedFairnessTrainer,
    StepRamp,
)
from fairtrain.exceptions import CannotStackError, FairtrainError
from fairtrain.training.stacked import fit_stacked, stackable


def factory(n_features: int, n_outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(n_features, 8), nn.Tanh(), nn.Linear(8, n_outputs))


def exact(n_features: int, n_outputs: int) -> nn.Module:
    return factory(n_features, n_outputs).double()


def rows(n: int = 600, groups: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    who = rng.integers(0, groups, n)
    X = rng.normal(size=(n, 4)) + 0.5 * who[:, None]
    return X, (X.sum(axis=1) + rng.normal(size=n) > 1.5).astype(int), who


def trainers(module: Any = factory, etas: Any = (0, 1, 20), seeds: Any = (0, 1), **options: Any):
    settings = {"max_epochs": 3, "batch_size": 100, **options}
    return [
        RegularizedFairnessTrainer(module, eta=eta, random_state=seed, **settings)
        for eta in etas
        for seed in seeds
    ]


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "default network": {"module": None},
    "exact": {"module": exact},
    "exact, no held-out rows": {"module": exact, "validation_fraction": 0.0},
    "equalized odds": {"module": exact, "penalty": "equalized_odds"},
    "clipped hard": {"module": exact, "clip_norm": 0.01},
    "not clipped": {"module": exact, "clip_norm": None},
    "average": {"module": exact, "ema": 0.9},
    "momentum": {
        "module": exact, "optimizer": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    },
    "constant rate": {"module": exact, "lr_decay": "none"},
    "wasserstein": {"module": exact, "penalty": "wasserstein"},
    "two penalties": {
        "module": exact, "penalty": {"demographic_parity": 1.0, "equal_opportunity": 0.5},
    },
    "frozen": {"module": exact, "frozen": "0"},
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_model_is_the_one_that_fit_gives(case: str) -> None:
    X, y, who = rows()
    weight = np.random.default_rng(1).uniform(0.5, 2, len(y)) if case == "exact" else None
    alone, stacked = trainers(**CASES[case]), trainers(**CASES[case])
    for trainer in alone:
        trainer.fit(X, y, sensitive_features=who, sample_weight=weight)
    fit_stacked(stacked, X, y, sensitive_features=who, sample_weight=weight)
    tolerance = 1e-9 if CASES[case].get("module") is exact else 1e-5
    for one, other in zip(alone, stacked, strict=True):
        np.testing.assert_allclose(
            other.decision_function(X), one.decision_function(X), atol=tolerance
        )
        np.testing.assert_array_equal(other.predict(X), one.predict(X))
        assert list(other.reports_) == list(one.reports_)
        assert other.status_ == one.status_
        assert list(other.history_) == list(one.history_)
        pd.testing.assert_frame_equal(
            other.history_.drop(columns="seconds"), one.history_.drop(columns="seconds"),
            check_dtype=False, rtol=1e-4, atol=1e-4,
        )  # fmt: skip
        assert other.n_iter_ == one.n_iter_


def test_several_classes_and_numbers() -> None:
    X, _, who = rows()
    several = np.digitize(X[:, 0], [0.0, 0.8])
    for options, y in (
        ({}, several),
        (
            {"task": "regression", "penalty": BoundedGroupLoss(upper_bound=0.5, loss="squared")},
            X[:, 0] * 2,
        ),
    ):
        made = trainers(exact, etas=(0, 2), seeds=(0,), **options)
        again = trainers(exact, etas=(0, 2), seeds=(0,), **options)
        try:
            fit_stacked(made, X, y, sensitive_features=who)
        except CannotStackError:
            pytest.fail("classes and numbers can be stacked")
        for one, other in zip(made, again, strict=True):
            other.fit(X, y, sensitive_features=who)
            np.testing.assert_allclose(
                one._outputs(one._features(X), one.module_),
                other._outputs(other._features(X), other.module_),
                atol=1e-9,
            )


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.layer(x)
        return out if bool(out.mean() > 0) else 2 * out


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.layer(x)


def with_(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), layer, nn.Linear(6, 1))


class Projected(nn.Module):
    """Holds a tensor that is neither parameter nor buffer, and differs from model to model."""

    made = itertools.count(1)

    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__()
        self.fixed = next(self.made) * torch.randn(n_features, 3)
        self.layer = nn.Linear(3, n_outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x @ self.fixed)


def by_axes(parameters: Any) -> torch.optim.Optimizer:
    """No decay on biases, told by their one axis."""
    groups: list[list[Any]] = [[], []]
    for parameter in parameters:
        groups[parameter.ndim > 1].append(parameter)
    return torch.optim.AdamW(
        [{"params": g, "weight_decay": d} for g, d in zip(groups, (0.0, 0.5), strict=True)]
    )


class Own(torch.optim.SGD):
    """An optimizer of the user's."""


REFUSED: dict[str, dict[str, Any]] = {
    "running statistics": {"module": with_(nn.BatchNorm1d(6))},
    "random numbers": {"module": with_(nn.Dropout(0.3))},
    "cannot stack": {"module": Branching()},
    "changes calls": {"module": Counting()},
    "does not do what": {"module": Projected},
    "groups of weights": {"optimizer": by_axes},
    "some batches": {"penalty_options": {"every": 2}},
    "LBFGS": {"optimizer": torch.optim.LBFGS},
    "Own may move": {"optimizer": Own},
    "callbacks": {"callbacks": (EarlyStopping(),)},
    "precision": {"precision": "bf16-mixed"},
    "schedule": {"etas": (StepRamp({0: 0.0, 5: 1.0}), 1.0)},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_stacked_says_why_before_anything_is_trained(reason: str) -> None:
    X, y, who = rows(200)
    made = trainers(**REFUSED[reason])
    with pytest.raises(CannotStackError, match=reason) as caught:
        fit_stacked(made, X, y, sensitive_features=who)
    assert "\n" not in str(caught.value)
    assert not any(hasattr(trainer, "module_") for trainer in made)


def test_a_penalty_with_a_memory_is_refused() -> None:
    X, y, who = rows(200)
    made = trainers(penalty_options={"memory": 0.9})
    with pytest.raises(CannotStackError, match="state of its own"):
        fit_stacked(made, X, y, sensitive_features=who)


def test_trainers_must_agree() -> None:
    one, other = trainers(etas=(1,), seeds=(0, 1))
    assert stackable([one, other]) is None
    assert "lr" in str(stackable([one, other.set_params(lr=0.5)]))
    assert "integer" in str(stackable([one, trainers(seeds=(None,))[0]]))
    loss = DemographicParityLoss(num_groups=3)
    copies = [clone(each) for each in trainers(penalty=loss)]
    assert stackable(copies) is None
    wide = trainers(nn.Linear(4, 1), etas=(1,), seeds=(0,)) + trainers(
        with_(nn.ReLU()), etas=(1,), seeds=(1,)
    )
    with pytest.raises(CannotStackError, match="architecture"):
        fit_stacked(wide, *rows()[:2], sensitive_features=rows()[2])


class Wall(nn.Module):
    """Gives NaN once its weights have gone far, as a strong penalty keeps them from."""

    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(n_features, n_outputs).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        far = self.layer.weight.sum() > 1.0
        return torch.where(far, torch.nan, 1.0) * self.layer(x)


@pytest.mark.filterwarnings("ignore::fairtrain.exceptions.NearConstantWarning")  # a penalty of 60
def test_a_model_that_explodes_disturbs_no_other() -> None:
    X, y, who = rows()
    options: dict[str, Any] = {"seeds": (0,), "lr": 0.05, "max_epochs": 10}
    wild, tame = trainers(Wall, (0.0, 60.0), **options)
    alone = trainers(Wall, (60.0,), **options)[0].fit(X, y, sensitive_features=who)
    with pytest.raises(FairtrainError, match="not finite"):  # what its own fit says
        fit_stacked([wild, tame], X, y, sensitive_features=who)
    np.testing.assert_allclose(tame.decision_function(X), alone.decision_function(X), atol=1e-9)


def test_nothing_is_left_behind() -> None:
    X, y, who = rows()
    X[5, 2] = 0.123456789123
    made = trainers(None)
    before = torch.get_rng_state()
    fit_stacked(made, X, y, sensitive_features=who)
    assert torch.equal(torch.get_rng_state(), before)
    kept = pickle.dumps(made[0])
    assert np.float32(0.123456789123).tobytes() not in kept
    assert all(p.grad is None for p in made[0].module_.parameters())
