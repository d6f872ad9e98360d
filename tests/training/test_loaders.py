"""Training on loaders: tuples, mappings, streams, other inputs than vectors."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from tests.training.data import linear, make_rows
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from fairtrain import (
    BoundedGroupLoss,
    DemographicParity,
    Groups,
    LagrangianFairnessTrainer,
    RegularizedFairnessTrainer,
)
from fairtrain.exceptions import FairtrainWarning, InvalidDataError, InvalidParameterError

SETTINGS = {
    "module": linear, "lr": 0.05, "max_epochs": 40, "random_state": 0, "difference_bound": 0.06,
}  # fmt: skip
SHORT = {**SETTINGS, "max_epochs": 3}


def tensors(n=2400, groups=2, seed=0):
    X, y, a = make_rows(n, groups, seed)
    return torch.from_numpy(X), torch.from_numpy(y), torch.from_numpy(a)


def loaders(batch=128, **more):
    x, y, a = tensors(**more)
    first, second = slice(0, 1800), slice(1800, None)
    generator = torch.Generator().manual_seed(0)
    return (
        DataLoader(TensorDataset(x[first], y[first], a[first]), batch, shuffle=True,
                   generator=generator),
        DataLoader(TensorDataset(x[second], y[second], a[second]), 256),
    )  # fmt: skip


def fit(trainer, *args, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FairtrainWarning)
        return trainer.fit_loader(*args, **more)


def test_a_loader_trains_what_rows_in_memory_do():
    train, held = loaders()
    trainer = fit(LagrangianFairnessTrainer(**SETTINGS), train, held)
    assert trainer.reports_["steering"].results[0].achieved <= 0.06
    assert trainer.scheme_.names == ("0", "1")
    x, y, a = tensors()
    assert trainer.score(x, y) > 0.65
    assert trainer.predict_proba(x.numpy()).shape == (2400, 2)
    assert trainer.evaluate(x, y, sensitive_features=a).n_rows == 2400


class Stream(IterableDataset):
    """Rows that nobody can count or shuffle."""

    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        x, y, a = tensors()
        for i in self.rows:
            yield {"x": x[i], "y": y[i], "sensitive_features": a[i], "sample_weight": 1.0}


def test_a_stream_of_mappings_with_weights():
    train = DataLoader(Stream(range(1800)), 128)
    held = DataLoader(Stream(range(1800, 2400)), 128)
    trainer = fit(LagrangianFairnessTrainer(**SETTINGS), train, held, held, num_groups=2)
    assert trainer.reports_["steering"].results[0].achieved <= 0.06
    assert trainer.fairness_report_.rows == "certification"


def test_clusters_in_batches_widen_limits_and_are_all_or_none():
    x, y, a = tensors()
    cluster = torch.arange(len(y)) // 40
    y = y[cluster * 40]  # alike within a cluster
    held = DataLoader(TensorDataset(x, y, a, torch.ones(len(y)), cluster), 500)
    plain = [(x, y, a)]
    found = fit(LagrangianFairnessTrainer(**SHORT), plain, held, num_groups=2)
    steering = found.reports_["steering"].results[0]
    assert steering.clusters == {"0": 60, "1": 60}
    in_memory = found.evaluate(x, y, sensitive_features=a, clusters=cluster).results[0]
    assert (steering.lower, steering.upper) == pytest.approx((in_memory.lower, in_memory.upper))
    given = {"x": x, "y": y, "sensitive_features": a}
    for batches, said in (
        ([{**given, "clusters": x[:, 0]}], "clusters must be whole numbers"),
        ([{**given, "clusters": cluster}, given], "in some batches of a loader and not in others"),
    ):
        with pytest.raises(InvalidDataError, match=said):
            fit(LagrangianFairnessTrainer(**SHORT), batches, num_groups=2)


def test_without_a_validation_loader_the_training_rows_steer():
    train, _ = loaders()
    trainer = fit(RegularizedFairnessTrainer(linear, eta=3.0, max_epochs=3, random_state=0), train)
    assert list(trainer.reports_) == ["training"]
    fair = fit(LagrangianFairnessTrainer(**SETTINGS), train)
    assert fair.reports_["training"].results[0].achieved <= 0.06


def test_names_and_intersections_come_from_groups():
    x, y, a = tensors()
    sex = torch.from_numpy(np.random.default_rng(0).integers(0, 2, len(a)))
    groups = Groups.from_sensitive({"race": a.numpy(), "sex": sex.numpy()})
    codes = torch.from_numpy(groups.codes)
    train = DataLoader(TensorDataset(x, y, codes), 128)
    constraint = DemographicParity(difference_bound=0.08, over="race")
    trainer = fit(
        LagrangianFairnessTrainer(**{**SHORT, "difference_bound": None},
                                  constraints=constraint),
        train, groups=groups,
    )  # fmt: skip
    assert trainer.multipliers_["group"].tolist() == ["0", "1"]
    assert trainer.fairness_report_.results[0].constraint == "demographic_parity over race"
    columns = torch.stack([a, sex], dim=1)
    both = fit(
        LagrangianFairnessTrainer(**SHORT),
        DataLoader(TensorDataset(x, y, columns), 128), num_groups=(2, 2),
    )  # fmt: skip
    assert both.scheme_.names == ("0/0", "0/1", "1/0", "1/1")


class TwoInputs(nn.Module):
    """Takes a mapping of tensors, of which one is a picture."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 1)

    def forward(self, x):
        return self.inner(x["picture"].flatten(1) + x["shift"])


def test_inputs_may_be_any_structure_of_tensors():
    x, y, a = tensors()

    def batches():
        for part in torch.arange(len(y)).split(128):
            picture = x[part].reshape(-1, 2, 2).double()
            yield {"picture": picture, "shift": torch.zeros(len(part), 4)}, y[part], a[part]

    trainer = fit(LagrangianFairnessTrainer(**{**SETTINGS, "module": TwoInputs()}), list(batches()))
    assert trainer.reports_["training"].results[0].achieved <= 0.06


def test_pictures_in_memory():
    x, y, a = tensors(1200)
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 1))
    trainer = LagrangianFairnessTrainer(**{**SHORT, "module": module})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FairtrainWarning)
        trainer.fit(x.reshape(-1, 2, 2), y, sensitive_features=a)
    assert trainer.predict(x.reshape(-1, 2, 2)).shape == (1200,)


def test_regression_and_several_classes():
    x, _, a = tensors(1200)
    values = x.sum(1) + a
    train = DataLoader(TensorDataset(x, values, a), 200)
    bounded = BoundedGroupLoss(upper_bound=2.0, loss="squared")
    trainer = fit(
        LagrangianFairnessTrainer(linear, bounded, task="regression", lr=0.05, max_epochs=10,
                                  random_state=0),
        train,
    )  # fmt: skip
    assert trainer.predict(x).shape == (1200,)
    assert trainer.fairness_report_.results[0].achieved < 2.0
    assert "accuracy" not in trainer.explain()
    classes = DataLoader(TensorDataset(x, (x[:, 0] * 2).long().clamp(-1, 1) + 1, a), 200)
    three = fit(LagrangianFairnessTrainer(**SHORT), classes, num_classes=3)
    assert three.predict_proba(x).shape == (1200, 3)


BAD = {
    "empty": ([], "no batch"),
    "pairs": ([(torch.zeros(4, 4), torch.zeros(4))], "must be"),
    "no groups": ([{"x": torch.zeros(4, 4), "y": torch.zeros(4)}], "lacks 'sensitive_features'"),
    "float codes": ([(torch.zeros(4, 4), torch.zeros(4), torch.zeros(4))], "integer codes"),
    "code 10^9": (
        [(torch.zeros(4, 4), torch.zeros(4), torch.tensor([0, 1, 2, 10**9]))],
        "expected at most 1000000; number groups from 0",
    ),
    "label 2": ([(torch.zeros(4, 4), torch.full((4,), 2), torch.zeros(4).long())], "class numbers"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_loaders_get_one_clear_line(case):
    loader, message = BAD[case]
    with pytest.raises(InvalidDataError, match=message) as caught:
        LagrangianFairnessTrainer(**SHORT).fit_loader(loader)
    assert "\n" not in str(caught.value)


def test_the_search_for_codes_passes_over_empty_batches():
    x, y, a = tensors(400)
    batches = [(x[:200], y[:200], a[:200]), (x[:0], y[:0], a[:0]), (x[200:], y[200:], a[200:])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FairtrainWarning)
        trainer = LagrangianFairnessTrainer(**SHORT).fit_loader(batches)
    assert len(trainer.scheme_) == 2


@pytest.mark.parametrize("number", [0, (), (2, 0), (1000, 1000, 1000)])
def test_a_number_of_groups_that_is_none(number):
    x, y, a = tensors(100)
    with pytest.raises(InvalidParameterError, match="num_groups must be 1 or more"):
        LagrangianFairnessTrainer(**SHORT).fit_loader([(x, y, a)], num_groups=number)


def test_a_group_only_in_validation_is_said():
    x, y, a = tensors(400)
    train = DataLoader(TensorDataset(x, y, a), 100)
    held = DataLoader(TensorDataset(x, y, a + 1), 100)
    with pytest.raises(InvalidDataError, match="holds the code 2, expected -1"):
        LagrangianFairnessTrainer(**SHORT).fit_loader(train, held, num_groups=2)


def test_images_of_several_channels_are_answered_after_a_loader_trained() -> None:
    x, groups = torch.randn(40, 3, 2, 2), torch.arange(40) % 2
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 1))
    trainer = LagrangianFairnessTrainer(module, max_epochs=1, random_state=0)
    with warnings.catch_warnings(action="ignore"):
        trainer.fit_loader([(x, (x[:, 0, 0, 0] > 0).long(), groups)], num_groups=2)
    assert trainer.n_features_in_ == 3
    assert trainer.predict(x).shape == (40,)
