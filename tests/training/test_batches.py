"""Batches of any shape: how they are taken apart, and what goes into the module."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from tests.training.data import make_rows
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from fairtrain import (
    AdversarialDebiasingTrainer,
    Groups,
    LagrangianFairnessTrainer,
    ReductionsWrapper,
    RegularizedFairnessTrainer,
    evaluate_fairness,
)
from fairtrain.exceptions import CannotStackError, FairtrainWarning, InvalidDataError
from fairtrain.training import BatchColumns
from fairtrain.training.batches.adapter import read_batch
from fairtrain.training.batches.inputs import NamedInputs, call_module, row_values
from fairtrain.training.stacked import fit_stacked

X, Y, A = (torch.from_numpy(part) for part in make_rows(600))
MASK = torch.ones(600, 4, dtype=torch.long)
WORDS = {"input_ids": X, "attention_mask": MASK}


class Answer:
    """An output with logits, as models of other packages give it."""

    def __init__(self, logits):
        self.logits = logits


class Named(nn.Module):
    """Takes its inputs by name, and gives its logits in one of three ways."""

    def __init__(self, answer=Answer):
        super().__init__()
        self.inner = nn.Linear(4, 2)
        self.answer = answer

    def forward(self, input_ids, attention_mask=None, labels=None):
        assert labels is None
        return self.answer(self.inner(input_ids * attention_mask))


def tokens(rows=slice(None), size=150):
    data = {**WORDS, "labels": Y, "groups": A}
    data = {name: part[rows] for name, part in data.items()}
    n = len(data["labels"])
    return [{k: v[i : i + size] for k, v in data.items()} for i in range(0, n, size)]


def trainer(kind=LagrangianFairnessTrainer, module=None, **more):
    if kind is LagrangianFairnessTrainer:
        more = {"difference_bound": 0.05, **more}
    settings = {"lr": 0.05, "max_epochs": 3, "random_state": 0, **more}
    return kind(Named() if module is None else module, **settings)


def quietly(call, *args, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FairtrainWarning)
        return call(*args, **more)


@pytest.fixture(scope="module")
def fitted():
    return quietly(trainer().fit_loader, tokens(slice(400)), tokens(slice(400, None)))


class Row(NamedTuple):
    image: object
    label: object
    group: object


@dataclass
class Item:
    features: object
    target: object
    sensitive_feature: object
    weight: object = None


TAKEN_APART = {
    "tuple": (X, Y, A),
    "list": [X, Y, A],
    "names": {"x": X, "y": Y, "sensitive_features": A},
    "one rest": {"image": X, "label": Y, "group": A},
    "named tuple": Row(X, Y, A),
    "dataclass": Item(X, Y, A),
}


@pytest.mark.parametrize("shape", TAKEN_APART)
def test_common_shapes_are_guessed(shape):
    found = read_batch(TAKEN_APART[shape], required=("targets", "groups"))
    assert found.inputs is X
    assert torch.equal(found.targets, Y)
    assert found.groups is A
    assert found.weight is None


def test_a_named_tuple_of_unknown_names_is_read_by_place():
    class Unknown(NamedTuple):
        a: object
        b: object
        c: object

    assert read_batch(Unknown(X, Y, A)).groups is A


def test_what_is_left_of_a_mapping_goes_in_by_name():
    batch = {**WORDS, "labels": Y, "group": A, "sample_weight": torch.ones(600, 1)}
    found = read_batch(batch, required=("targets", "groups"))
    assert set(found.inputs) == {"input_ids", "attention_mask"}
    assert found.weight.shape == (600,)


PLACES = {
    "other order": (BatchColumns(groups=1), (X, A, Y)),
    "names": (
        BatchColumns(inputs=["a", "b"], targets="t", groups="s", weight="w"),
        {"a": X, "b": X, "t": Y, "s": A, "w": Y, "text": ["no input"]},
    ),
    "series": (BatchColumns(row_id="id", table=pd.Series(A.numpy())), "id"),
    "mapping": (BatchColumns(row_id="id", table=dict(enumerate(A.tolist()))), "id"),
    "groups": (BatchColumns(row_id="id", table=Groups.from_sensitive(A.numpy())), "id"),
    "third": (BatchColumns(row_id=2, table=A.numpy()), (X, Y, torch.arange(600))),
    "function": (lambda batch: (batch[2], batch[1], batch[0], None), (A, Y, X)),
}


@pytest.mark.parametrize("case", PLACES)
def test_the_user_says_where_parts_are(case):
    adapter, batch = PLACES[case]
    if batch == "id":
        batch = {"x": X, "labels": Y, "id": torch.arange(600)}
    found = read_batch(batch, adapter, required=("targets", "groups"))
    assert torch.equal(found.targets, Y)
    assert torch.equal(found.groups, A)


def test_a_weight_among_features_is_a_feature():
    features = {"height": X, "weight": X, "labels": Y, "groups": A}
    assert set(read_batch(features).inputs) == {"height", "weight"}
    assert read_batch({"x": X, "weight": Y, "labels": Y, "groups": A}).weight is Y


def test_several_columns_of_groups():
    found = BatchColumns(groups=["sex", "race"])({"x": X, "y": Y, "sex": A, "race": 1 - A})
    assert torch.equal(found.groups, torch.stack([A, 1 - A], dim=1))


WRONG = {
    "no groups": (None, {"input_ids": X, "labels": Y}, r"\['input_ids', 'labels'\].*row_id="),
    "two labels": (None, {"x": X, "label": Y, "target": Y, "group": A}, "'label' or 'target'"),
    "no such key": (BatchColumns(groups="sex"), {"x": X, "y": Y}, "no 'sex'; it has"),
    "six": (None, (X, Y, A, Y, Y, Y), "a tuple of 6"),
    "number": (None, 3, "got int"),
    "no group": (BatchColumns(row_id=2, table=[0]), (X, Y, [5]), "no group for the row 5"),
    "names": (BatchColumns(row_id=2, table=["a"]), (X, Y, [0]), "from_sensitive"),
    "twice": (BatchColumns(row_id=2, table=pd.Series([0, 1], index=[5, 5])), (X, Y, [5]), "unique"),
    "half a row": (BatchColumns(row_id=2, table=[0, 1]), (X, Y, [0.5]), "whole numbers, got 0.5"),
    "label words": (None, (X, ["deny"] * 600, A), "targets must be numbers"),
    "group words": (None, (X, Y, np.full(600, "north")), "groups must be integer codes"),
    "few groups": (None, (X, Y, A[:5]), "sensitive_features has 5 rows, expected 600"),
    "few weights": (None, (X, Y, A, Y[:5]), "sample_weight has 5 rows, expected 600"),
    "negative": (None, (X, Y, A, -torch.ones(600)), "finite and not negative"),
    "three": (lambda batch: batch, (X, Y, A), "a tuple of inputs, targets, groups and weight"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_guessed_is_one_clear_line(case):
    adapter, batch, message = WRONG[case]
    with pytest.raises(InvalidDataError, match=message) as caught:
        read_batch(batch, adapter, required=("targets", "groups"))
    assert "\n" not in str(caught.value)


def test_half_a_table_is_refused():
    with pytest.raises(InvalidDataError, match="belong together"):
        BatchColumns(row_id="id")


def test_a_mapping_that_fits_in_part_is_refused():
    with pytest.raises(InvalidDataError, match=r"not \['text'\]: leave them out"):
        call_module(Named(), {**WORDS, "text": ["a"]})


def test_padding_moves_no_draw():
    ids, mask = torch.tensor([[7, 9, 0, 0]]), torch.tensor([[1, 1, 0, 0]])
    left = {"attention_mask": torch.tensor([[0, 1, 1]]), "input_ids": torch.tensor([[5, 7, 9]])}
    right = row_values({"input_ids": ids, "attention_mask": mask})[0]
    assert np.trim_zeros(right, "b").tolist() == row_values(left)[0].tolist()[:4]


def test_named_inputs_give_rows_and_names():
    named = NamedInputs({"a": np.zeros((5, 2)), "b": [1, 2, 3, 4, 5]})
    assert named[1:3]["b"].tolist() == [2, 3]
    assert list(named.without(["b"])) == ["a"]
    with pytest.raises(InvalidDataError, match="pad lists of tokens"):
        NamedInputs({"a": [[1], [1, 2]]}).checked()


@pytest.mark.parametrize("answer", [lambda z: {"logits": z}, lambda z: (z, "states")])
def test_logits_are_found_in_what_a_module_gives(answer):
    fair = quietly(trainer(RegularizedFairnessTrainer, Named(answer)).fit_loader, tokens())
    assert fair.predict(WORDS).shape == (600,)


def test_loaders_and_memory_answer_alike(fitted):
    everyone = tokens()
    assert (fitted.predict_loader(everyone) == fitted.predict(WORDS)).all()
    proba = fitted.predict_proba_loader([WORDS])
    np.testing.assert_allclose(proba, fitted.predict_proba(WORDS), atol=1e-6)
    memory = fitted.evaluate(WORDS, Y, sensitive_features=A)
    loader = fitted.evaluate_loader(everyone)
    assert loader.results[0].achieved == pytest.approx(memory.results[0].achieved)
    assert loader.reading == 2  # the same rows, known again
    judged = evaluate_fairness(fitted.module_, everyone)
    assert judged.results[0].achieved == pytest.approx(memory.results[0].achieved)


def test_an_empty_loader_is_said(fitted):
    with pytest.raises(InvalidDataError, match="no rows"):
        fitted.predict_loader([])


def test_a_mapping_in_memory_with_a_sensitive_key():
    named = {**WORDS, "sex": np.where(A.numpy() == 1, "f", "m")}
    fair = quietly(trainer(sensitive_features="sex", mixture=True).fit, named, Y)
    assert fair.scheme_.names == ("f", "m")
    assert list(fair.feature_names_in_) == ["input_ids", "attention_mask"]
    assert (fair.predict(named) == fair.predict(WORDS)).all()
    assert fair.score(WORDS, Y) > 0.6
    with pytest.raises(InvalidDataError, match="fit saw"):
        fair.predict({"input_ids": X})


def test_a_mapping_is_for_networks_alone():
    with pytest.raises(InvalidDataError, match=r"by name, \['input_ids', 'attention_mask'\]"):
        ReductionsWrapper(LogisticRegression()).fit(WORDS, Y, sensitive_features=A)


class Bag(nn.Module):
    """Counts words of sentences of any length."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 1, padding_idx=0)

    def forward(self, tokens):
        return self.words(tokens).sum(dim=1)


def padded(rows):
    sentences, labels, groups = zip(*rows, strict=True)
    return {
        "tokens": pad_sequence(sentences, batch_first=True),
        "labels": torch.stack(labels),
        "group": torch.stack(groups),
    }


def test_sentences_of_any_length():
    rng = np.random.default_rng(0)
    lengths = 1 + rng.integers(0, 9, 600)
    rows = [(torch.from_numpy(rng.integers(1, 20, n)), Y[i], A[i]) for i, n in enumerate(lengths)]
    few, many = (DataLoader(rows, size, collate_fn=padded) for size in (7, 600))
    fair = quietly(trainer(RegularizedFairnessTrainer, Bag()).fit_loader, many)
    assert (fair.predict_loader(few) == fair.predict_loader(many)).all()
    assert fair.predict_proba_loader(few).shape == (600, 2)


def test_pictures_and_an_adversary():
    module = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Flatten(), nn.Linear(2, 1))
    batches = [{"image": X.reshape(-1, 1, 2, 2), "label": Y, "group": A}]
    fair = trainer(AdversarialDebiasingTrainer, module, leakage="none", representation="1")
    assert quietly(fair.fit_loader, batches).evaluate_loader(batches).n_rows == 600


def test_named_inputs_are_not_stacked():
    both = [trainer(RegularizedFairnessTrainer, eta=eta) for eta in (0.0, 1.0)]
    with pytest.raises(CannotStackError, match="one model at a time"):
        fit_stacked(both, WORDS, Y, sensitive_features=A)


def test_frozen_takes_patterns():
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    fair = quietly(trainer(RegularizedFairnessTrainer, module, frozen=["0.*", "*.bias"]).fit,
                   X, Y, sensitive_features=A)  # fmt: skip
    after = fair.module_.state_dict()
    same = {name for name, w in module.state_dict().items() if torch.equal(w, after[name])}
    assert same == {"0.weight", "0.bias", "2.bias"}
    assert F.linear(X, after["0.weight"]).shape == (600, 4)
