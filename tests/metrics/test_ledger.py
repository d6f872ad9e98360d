"""Rows that certified are known again, fresh ones are not, and what is stored tells of nobody."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from weakref import WeakSet

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from fairtrain import (
    FairPlugInClassifier,
    FairPlugInTrainer,
    LagrangianBoostingClassifier,
    LagrangianFairnessTrainer,
    ReductionsWrapper,
    RegularizedFairnessTrainer,
    load,
    save,
)
from fairtrain.data.groups import Groups
from fairtrain.data.rows import Rows
from fairtrain.data.sketch import EPSILON, exact_bits, noisy_bits, row_hashes
from fairtrain.datasets import BiasedData, make_biased
from fairtrain.estimator import FairEstimator
from fairtrain.metrics import Verdict
from fairtrain.metrics.ledger import MOST_SAMPLES, Ledger, spent_confidence


@pytest.fixture(autouse=True)
def noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same keys and lies in every run."""
    rng = np.random.default_rng(11)
    monkeypatch.setattr("secrets.randbits", lambda bits: int(rng.integers(0, 2**63)))


def people(n: int, seed: int, levels: int | None = None) -> Rows:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3)) if levels is None else rng.integers(0, levels, (n, 3)).astype(float)
    groups = Groups.from_sensitive(np.where(np.arange(n) % 3, "a", "b"))
    return Rows(X, rng.integers(0, 2, n).astype(float), groups)


def test_levels_of_later_readings_add_up_to_that_of_the_first() -> None:
    spent = [1 - spent_confidence(0.95, k) for k in range(2, 2000)]
    assert 1 - spent_confidence(0.95, 1) == pytest.approx(0.05)
    assert sum(spent) == pytest.approx(0.05, rel=1e-3)
    assert all(a > b for a, b in pairwise(spent))


@pytest.mark.parametrize("n", [300, 5000])
def test_rows_are_known_again_whatever_their_order(n: int) -> None:
    ledger, rows = Ledger(), people(n, 0)
    assert ledger.read(rows) == 1
    assert ledger.read(rows.take(np.random.default_rng(1).permutation(n))) == 2
    assert ledger.read(rows.take(np.arange(n // 2)), rows.take(np.arange(n // 2, n))) == 3
    assert ledger.read(rows.take(np.arange(2 * n // 3))) == 4


def test_fresh_rows_are_fresh_even_where_many_are_alike() -> None:
    for levels in (None, 2, 4, 8, 20, 60):
        ledger = Ledger()
        assert [ledger.read(people(1500, seed, levels)) for seed in range(30)] == [1] * 30
        if levels is None or levels >= 8:
            assert ledger.read(people(1500, 29, levels)) == 2


def test_of_rows_of_several_samples_the_one_read_most_counts() -> None:
    ledger, rows = Ledger(), people(4000, 3)
    first, second = rows.take(np.arange(2000)), rows.take(np.arange(2000, 4000))
    assert [ledger.read(part) for part in (first, first, first, second)] == [1, 2, 3, 1]
    assert ledger.read(rows) == 4
    assert ledger.read(second) == 5


def test_rows_that_trained_or_steered_are_known_again_and_fresh_ones_are_not() -> None:
    ledger, rows = Ledger(), people(6000, 3)
    trained, steered, fresh = (rows.take(np.arange(k, k + 2000)) for k in (0, 2000, 4000))
    ledger.learn("training", trained)
    ledger.learn("steering", steered)
    again = Ledger.from_dict(json.loads(json.dumps(ledger.to_dict())))
    shuffled = trained.take(np.random.default_rng(0).permutation(2000))
    assert ledger.look(shuffled).role == again.look(shuffled).role == "training"
    assert ledger.look(steered).role == "steering"
    assert ledger.look(trained.take(np.arange(1000))).role == "training"
    assert ledger.look(fresh) == ("certification", 1)
    assert ledger.summary()["learned"] == ["training", "steering"]


@pytest.mark.parametrize(
    "model",
    [
        FairPlugInClassifier(LogisticRegression(), group_estimator=LogisticRegression(), cv=2),
        ReductionsWrapper(LogisticRegression(), max_iter=3),
        LagrangianBoostingClassifier(n_estimators=5),
        LagrangianFairnessTrainer(max_epochs=2),
        RegularizedFairnessTrainer(max_epochs=2),
    ],
    ids=lambda model: type(model).__name__,
)
@pytest.mark.filterwarnings("ignore")  # how well so short a training keeps its bound
def test_no_method_certifies_on_rows_that_trained_it(model: FairEstimator) -> None:
    """A bound of .9 is kept by all of them, so that fresh rows must say ``met``."""
    old, new = (make_biased(1200, n_noise=0, random_state=seed) for seed in (4, 5))
    model = clone(model).set_params(difference_bound=0.9, random_state=0)
    model.fit(old.X, old.y, sensitive_features=old.sensitive_features)
    said = model.evaluate(old.X, old.y, sensitive_features=old.sensitive_features)
    assert said.rows != "certification"
    assert said.verdict is Verdict.NOT_CERTIFIED
    fresh = model.evaluate(new.X, new.y, sensitive_features=new.sensitive_features)
    assert (fresh.rows, fresh.verdict) == ("certification", Verdict.MET)


class Passing:
    """A loader of shuffled batches that counts how many of them are alive at once."""

    def __init__(self, data: BiasedData) -> None:
        _, who = np.unique(np.asarray(data.sensitive_features).ravel(), return_inverse=True)
        x = torch.from_numpy(np.asarray(data.X, dtype=np.float32))
        self.rows = x, torch.from_numpy(np.asarray(data.y)).long(), torch.from_numpy(who)
        self.most_alive = 0

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        alive: WeakSet[torch.Tensor] = WeakSet()
        for at in torch.randperm(len(self.rows[0])).split(100):
            batch = tuple(part[at] for part in self.rows)
            alive.add(batch[0])
            self.most_alive = max(self.most_alive, len(alive))
            yield batch


@pytest.mark.parametrize(
    "model",
    [
        LagrangianFairnessTrainer(max_epochs=2),
        FairPlugInTrainer(cv=None, max_epochs=2, sensitive_at_predict=False),
    ],
    ids=lambda model: type(model).__name__,
)
def test_rows_of_loaders_are_known_again_and_none_is_kept(
    model: LagrangianFairnessTrainer | FairPlugInTrainer,
) -> None:
    """Rows that trained and steered through loaders certify nothing, by whatever way they come."""
    trained, steered, fresh = (make_biased(1200, n_noise=0, random_state=s) for s in (4, 5, 6))
    model = clone(model).set_params(difference_bound=0.9, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # how well so short a training keeps its bound
        model.fit_loader(Passing(trained), Passing(steered), num_groups=2)
    for role, rows in (("training", trained), ("steering", steered), ("certification", fresh)):
        loader = Passing(rows)
        by_loader = model.evaluate_loader(loader)
        assert by_loader.rows == role
        assert by_loader.verdict == (Verdict.MET if rows is fresh else Verdict.NOT_CERTIFIED)
        assert loader.most_alive <= 2
        x, y, who = loader.rows
        by_rows = model.evaluate(x.numpy(), y.numpy(), sensitive_features=who.numpy())
        assert by_rows.rows == role
        assert by_rows.reading == (2 if rows is fresh else by_loader.reading + 1)


def test_of_wide_rows_evenly_spaced_numbers_are_hashed() -> None:
    images = np.random.default_rng(0).normal(size=(300, 3, 50, 60))
    rows = Rows(images, np.zeros(300), Groups.from_sensitive(np.arange(300) % 2))
    assert len(np.unique(row_hashes(rows, 1))) == 300
    same = Rows(torch.from_numpy(images), np.zeros(300), rows.groups)
    assert np.array_equal(row_hashes(rows, 1), row_hashes(same, 1))


def test_memory_is_bounded_and_what_was_forgotten_is_counted() -> None:
    ledger = Ledger()
    for seed in range(MOST_SAMPLES + 3):
        ledger.read(people(300, seed))
    assert len(ledger.readings) == MOST_SAMPLES
    assert ledger.forgotten == 3
    assert all(reading.bits.nbytes == 256 for reading in ledger.readings)
    again = Ledger.from_dict(json.loads(json.dumps(ledger.to_dict())))
    assert again.summary() == ledger.summary()
    assert again.read(people(300, MOST_SAMPLES + 1)) == 2


def test_one_person_more_changes_the_odds_of_what_is_stored_by_no_more_than_stated() -> None:
    """Neighbouring samples differ in one exact bit at most, and each bit may be a lie."""
    rows, key = people(900, 5), 1234567
    whole = exact_bits([rows], key)
    assert whole is not None
    truth = 1 / (1 + np.exp(-EPSILON))
    for gone in range(0, 900, 90):
        fewer = exact_bits([rows.take(np.delete(np.arange(900), gone))], key)
        assert fewer is not None
        apart = (whole[0][0] != fewer[0][0]) | (whole[0][1] != fewer[0][1])
        assert apart.sum() <= 1
    rng = np.random.default_rng(0)
    stored = np.array([np.unpackbits(noisy_bits(whole[0], rng)) for _ in range(60)])
    at = whole[0][1] == 1
    assert (stored == whole[0][0])[:, at].mean() == pytest.approx(truth, abs=0.01)
    assert stored[:, ~at].mean() == pytest.approx(0.5, abs=0.01)  # an empty bucket tells nothing


def test_a_model_keeps_count_says_so_and_takes_the_ledger_along(tmp_path: Path) -> None:
    data = make_biased(3000, n_noise=0, random_state=4)
    X, y, who = data.X, data.y, data.sensitive_features
    model = FairPlugInClassifier(
        LogisticRegression(),
        group_estimator=LogisticRegression(),
        difference_bound=0.1,
        cv=2,
        certification_fraction=0.4,
        random_state=0,
    ).fit(X, y, sensitive_features=who)
    assert model.fairness_report_.reading == 1
    assert "have certified" not in model.explain()
    fresh = make_biased(2000, n_noise=0, random_state=5)
    rows = (fresh.X, fresh.y), {"sensitive_features": fresh.sensitive_features}
    first, second = (model.evaluate(*rows[0], **rows[1]) for _ in range(2))
    assert (first.reading, first.confidence) == (1, 0.95)
    assert (second.reading, second.confidence) == (2, pytest.approx(0.975))
    assert second.results[0].upper > first.results[0].upper
    assert "this is reading 2" in second.explain()
    assert "97.5% interval" in second.explain()
    assert second.to_dict()["reading"] == 2
    # Other bounds after a look at the certificate choose by it.
    other = model.with_bounds(difference_bound=0.08)
    assert other.evaluate(*rows[0], **rows[1]).reading == 3
    inside = model.evaluate(X, y, sensitive_features=who)  # the rows of fit: more steered than not
    assert (inside.reading, inside.rows) == (2, "steering")
    assert "took part in choosing the model" in inside.explain()
    save(model, tmp_path / "model")
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
    assert manifest["ledger"]["readings"][1] == 3
    assert load(tmp_path / "model").evaluate(*rows[0], **rows[1]).reading == 4
