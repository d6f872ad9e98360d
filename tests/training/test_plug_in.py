"""Networks that are priced: what they learn, how they are stopped, and what prices make of them."""

from __future__ import annotations

import copy
import pickle
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.utils.estimator_checks import parametrize_with_checks
from tests.supplied import Supplied
from tests.training.data import linear, make_rows, two_layers
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fairtrain import Checkpoint, EqualizedOdds, FairPlugInTrainer, load, save
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.plugin.linear import JointScores
from fairtrain.training import Callback
from fairtrain.training.batches.batch import Batch
from fairtrain.training.joint import JointHead, JointModule
from fairtrain.training.joint_rows import HeldOut, joint_loss
from fairtrain.training.modules import DefaultModule

pytestmark = pytest.mark.filterwarnings("ignore::fairtrain.exceptions.FairtrainWarning")
X, Y, A = make_rows(600, groups=3)
QUICK: dict[str, Any] = {"cv": 2, "lr": 0.02, "max_epochs": 4, "random_state": 0}


def make(module: Any = two_layers, **settings: Any) -> FairPlugInTrainer:
    return FairPlugInTrainer(module, **{**QUICK, **settings})


@pytest.fixture(scope="module")
def fitted() -> FairPlugInTrainer:
    return make(difference_bound=0.05, ensemble=2).fit(X, Y, sensitive_features=A)


def test_it_is_priced_out_of_fold_and_says_so(fitted: FairPlugInTrainer) -> None:
    assert list(fitted.reports_) == ["steering"]
    assert fitted.fairness_report_.results[0].achieved < 0.07
    assert fitted.baseline_report_.results[0].achieved > 0.1
    assert len(fitted.modules_) == 4
    assert "Sequential" in fitted.explain()
    assert set(fitted.log_loss_) == {"outcome", "group"}
    assert fitted.history_["held_loss"].idxmin() == fitted.best_epoch_
    total = sum(fitted.log_loss_.values())
    assert total == pytest.approx(fitted.history_["held_loss"].min())


def test_another_bound_is_what_fit_would_have_found(fitted: FairPlugInTrainer) -> None:
    other = fitted.with_constraints(EqualizedOdds(difference_bound=0.1), warm_start=False)
    again = make(constraints="equalized_odds", difference_bound=0.1, ensemble=2)
    again.fit(X, Y, sensitive_features=A)
    assert (other.predict(X) == again.predict(X)).all()
    pd.testing.assert_frame_equal(other.prices_, again.prices_)
    assert fitted.frontier([0.02, 1.0])["accuracy"].is_monotonic_increasing


def test_held_out_scores_are_those_of_the_networks_that_never_saw_the_rows() -> None:
    folds = [(np.arange(300, 600), np.arange(300)), (np.arange(300), np.arange(300, 600))]
    model = make(cv=folds).fit(X, Y, sensitive_features=A)
    assert model._memory is not None
    for (_, held), body, layer in zip(folds, model.modules_, model.group_layers_, strict=True):
        with torch.no_grad():
            log_joint = JointModule(body, model._head, layer)(torch.from_numpy(X[held]))
        own = JointScores.of(log_joint.double().exp().numpy())
        np.testing.assert_allclose(model._memory.scores.outcome[held], own.outcome, atol=1e-6)
        np.testing.assert_allclose(model._memory.scores.groups[:, held], own.groups, atol=1e-6)


def test_networks_learn_the_joint_distribution() -> None:
    rng = np.random.default_rng(0)
    truth = rng.dirichlet(np.full(6, 2.0), size=4)  # P(g, y | x) at four points
    at = rng.integers(0, 4, 6000)
    cells = (truth[at].cumsum(axis=1) < rng.uniform(size=(6000, 1))).sum(axis=1)
    model = make(linear, max_epochs=25, lr=0.05).fit(
        np.eye(4, dtype=np.float32)[at], cells % 2, sensitive_features=cells // 2
    )
    found = model._joint(torch.eye(4)).reshape(4, 6)
    np.testing.assert_allclose(found, truth, atol=0.04)


class Convolution(nn.Module):
    """An image in, the label's logit out."""

    def __init__(self, width: int = 1) -> None:
        super().__init__()
        self.front = nn.Conv2d(1, 4, 3)
        self.back = nn.Linear(16, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.back(torch.relu(self.front(x)).flatten(1)).squeeze(1)


@pytest.mark.parametrize("width", [1, 2, 6])
def test_modules_of_one_s_own(width: int, tmp_path: Any) -> None:
    module = Convolution(width)
    before = copy.deepcopy(module.state_dict())
    images = torch.from_numpy(np.repeat(X, 4, axis=1).reshape(600, 1, 4, 4))
    model = make(module, frozen="front", difference_bound=0.1)
    model.fit(images, Y, sensitive_features=A)
    trained = model.modules_[0].state_dict()
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert torch.equal(before["front.weight"], trained["front.weight"])
    assert not torch.equal(before["back.weight"], trained["back.weight"])
    assert [layer is None for layer in model.group_layers_] == [width == 6] * 2
    save(model, tmp_path / "m")
    again = load(tmp_path / "m", module=Convolution(width))
    assert (again.predict(images) == model.predict(images)).all()
    np.testing.assert_array_equal(again.outcome_proba(images), model.outcome_proba(images))


def test_a_logit_for_the_label_keeps_its_meaning() -> None:
    body, rows = linear(4, 1), torch.from_numpy(X[:8])
    network = JointModule.around(body, JointHead(3), rows[:2], 2)
    joint = network(rows).exp()
    assert joint.shape == (8, 3, 2)
    torch.testing.assert_close(joint.sum((1, 2)), torch.ones(8))
    torch.testing.assert_close(joint[:, :, 1].sum(1), torch.sigmoid(body(rows)).squeeze(1))


def test_modules_that_cannot_say_it_are_refused_with_the_fix() -> None:
    bare = nn.Sequential(nn.Conv1d(1, 1, 4), nn.Flatten(0))
    with pytest.raises(InvalidParameterError, match=r"give it 6 outputs, one a group and label"):
        make(bare).fit(torch.from_numpy(X[:, None]), Y, sensitive_features=A)
    with pytest.raises(InvalidDataError, match="does not take rows of shape"):
        make(nn.Linear(9, 1)).fit(X, Y, sensitive_features=A)
    with pytest.raises(InvalidDataError, match="gave an output of shape"):
        make(nn.Linear(4, 5)).fit(X, Y, sensitive_features=A)
    with pytest.raises(InvalidDataError, match=r"data set of torch .* use fit_loader\(DataLoader"):
        make().fit(TensorDataset(torch.from_numpy(X)))
    with pytest.raises(InvalidParameterError, match="validation_fraction must be above 0"):
        make(cv=None, validation_fraction=0.0).fit(X, Y, sensitive_features=A)


def test_one_part_trains_and_the_other_prices(tmp_path: Any) -> None:
    frame = pd.DataFrame(X, columns=list("abcd")).assign(who=np.array(["u", "v", "w"])[A])
    model = make(None, cv=None, certification_fraction=0.2, sensitive_features="who")
    model.fit(frame, Y, sample_weight=np.ones(600))
    assert list(model.reports_) == ["training", "steering", "certification"]
    assert len(model.modules_) == 1
    assert isinstance(model.modules_[0], DefaultModule)
    assert model.modules_[0].n_pieces > 0
    assert model._memory is not None
    assert len(model._memory.rows) == model.reports_["steering"].n_rows
    assert "rates of rows that trained nothing chose the prices" in model.explain()
    save(model, tmp_path / "m")
    for again in (load(tmp_path / "m"), pickle.loads(pickle.dumps(model))):
        assert getattr(again, "_memory", None) is None
        assert (again.predict(frame) == model.predict(frame)).all()
        with pytest.raises(InvalidDataError, match="with_rows"):
            again.with_bounds(difference_bound=0.1)
        fresh = again.with_rows(frame, Y)
        assert fresh.fairness_report_.n_rows == 600
        assert "rates of rows passed to with_rows chose the prices" in fresh.explain()


def loader(rows: slice, size: int = 60, *, codes: Any = A, shuffle: bool = False) -> Any:
    """Batches by name: two inputs, whose sum is what rows at hand are."""
    half = torch.from_numpy(X[rows]) / 2
    parts = (half, half, torch.from_numpy(Y[rows]), torch.from_numpy(np.asarray(codes)[rows]))
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(*parts)
    return DataLoader(data, size, shuffle=shuffle, generator=generator, collate_fn=_by_name)


def _by_name(items: Any) -> dict[str, Any]:
    names = ("left", "right", "labels", "groups")
    return {
        name: torch.stack(own) for name, own in zip(names, zip(*items, strict=True), strict=True)
    }


class TwoInputs(nn.Module):
    def __init__(self, width: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = two_layers(4, width)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.net(left + right)}


NAMED = {"left": X / 2, "right": X / 2}
APART: dict[str, Any] = {"cv": None, "difference_bound": 0.05}


@pytest.fixture(scope="module")
def loaded() -> FairPlugInTrainer:
    model = make(TwoInputs(), **APART)
    return model.fit_loader(loader(slice(480), 480), loader(slice(480, 600), 50), num_groups=3)


def test_loaders_train_what_rows_at_hand_train(loaded: FairPlugInTrainer) -> None:
    known = make(TwoInputs(), **APART, batch_size=480)
    rows = known._begin(NAMED, Y, A, None, np.random.RandomState(0))
    known._resume_from = None
    folds = [(np.arange(480), np.arange(480, 600))]
    scores = known._cross_fit(rows, folds, np.random.RandomState(0))
    for name in ("loss", "held_loss", "held_outcome_loss"):
        np.testing.assert_allclose(loaded.history_[name], known.history_[name], rtol=1e-5)
    assert loaded._memory is not None
    np.testing.assert_allclose(loaded._memory.scores.groups, scores.groups, atol=1e-6)
    assert list(loaded.reports_) == ["training", "steering"]
    assert loaded.reports_["training"].n_rows == 480
    priced = loaded.with_rows(
        {k: v[480:] for k, v in NAMED.items()}, Y[480:], sensitive_features=A[480:]
    )
    np.testing.assert_allclose(priced.prices_["price"], loaded.prices_["price"], atol=1e-5)


def test_loaders_are_answered_as_rows_at_hand(loaded: FairPlugInTrainer, tmp_path: Any) -> None:
    everybody = loader(slice(600))
    assert (loaded.predict_loader(everybody) == loaded.predict(NAMED)).all()
    proba = loaded.predict_proba_loader(everybody)
    np.testing.assert_allclose(proba, loaded.predict_proba(NAMED), atol=1e-6)
    report, known = (
        loaded.evaluate_loader(everybody),
        loaded.evaluate(NAMED, Y, sensitive_features=A),
    )
    assert report.results[0].achieved == known.results[0].achieved
    save(loaded, tmp_path / "m")
    again = load(tmp_path / "m", module=TwoInputs())
    np.testing.assert_array_equal(again.outcome_proba(NAMED), loaded.outcome_proba(NAMED))


def test_a_loader_that_shuffles_steers_alike_and_another_certifies(
    loaded: FairPlugInTrainer,
) -> None:
    parts = loader(slice(480), 480), loader(slice(480, 600), 50, shuffle=True), loader(slice(480))
    again = make(TwoInputs(), **APART).fit_loader(*parts, num_groups=3)
    np.testing.assert_allclose(again.prices_["price"], loaded.prices_["price"], atol=1e-6)
    assert again.reports_["certification"].n_rows == 480
    assert again.reports_["certification"].reading == 1


def test_rows_of_unknown_group_teach_the_label() -> None:
    codes = np.where(np.arange(600) % 3 == 0, -1, A)
    parts = loader(slice(480), 480, codes=codes), loader(slice(480, 600), codes=codes)
    model = make(TwoInputs(), **APART, max_epochs=1).fit_loader(*parts, num_groups=3)
    assert model._memory is not None
    batch = Batch(None, torch.from_numpy(Y), torch.from_numpy(codes))
    log_joint = torch.log_softmax(torch.randn(600, 6), 1).view(600, 3, 2)
    joint = log_joint.exp().numpy()
    own = [p[:, y].sum() if a < 0 else p[a, y] for p, a, y in zip(joint, codes, Y, strict=True)]
    assert float(joint_loss(log_joint, batch)) == pytest.approx(-np.log(own).mean(), rel=1e-5)
    assert HeldOut(joint, batch).log_losses[1] == pytest.approx(-np.log(own).mean(), rel=1e-5)
    told = make(TwoInputs(), **APART, sensitive_at_predict=True, max_epochs=1)
    with pytest.raises(InvalidDataError, match="the group of a row is unknown"):
        told.fit_loader(*parts, num_groups=3)


def test_groups_of_batches_that_decide() -> None:
    model = make(TwoInputs(), **APART, sensitive_at_predict=True)
    model.fit_loader(loader(slice(480)), loader(slice(480, 600)), num_groups=3)
    told = model.predict(NAMED, sensitive_features=A)
    assert (model.predict_loader(loader(slice(600))) == told).all()
    with pytest.raises(InvalidDataError, match="a batch has no groups"):
        model.predict_loader([{k: torch.from_numpy(v) for k, v in NAMED.items()}])


def test_loaders_that_are_used_up_are_said_and_names_of_frames_forgotten() -> None:
    parts = loader(slice(480)), loader(slice(480, 600))
    model = make(linear, cv=None, max_epochs=1)
    model.fit(pd.DataFrame(X, columns=[*"abcd"]), Y, sensitive_features=A)
    model.module = TwoInputs()
    with pytest.raises(InvalidDataError, match="validation loader gave no rows: pass a DataLoader"):
        model.fit_loader(parts[0], iter([]), num_groups=3)
    model.fit_loader(*parts, num_groups=3)
    assert not hasattr(model, "feature_names_in_")


class Meanwhile(nn.Module):
    """Asks for another answer in another thread, once."""

    ask: Any = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if ask := Meanwhile.ask:
            Meanwhile.ask = None
            thread = threading.Thread(target=ask)
            thread.start()
            thread.join()
        return x


def test_threads_that_ask_at_once_get_their_own_rows() -> None:
    torch.manual_seed(0)
    body, head = nn.Sequential(two_layers(4, 1), Meanwhile()), JointHead(3)
    mine, other = torch.randn(2, 5, 4)
    first = JointModule.around(body, head, mine, 5)
    known = first(mine)
    second = JointModule(body, head, first.group_layer())
    Meanwhile.ask = lambda: second(other)
    assert torch.equal(first(mine), known)


def test_what_loaders_cannot_do_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = loader(slice(480)), loader(slice(480, 600))
    with pytest.raises(InvalidParameterError, match=r"folds need rows at hand.*set cv=None"):
        make(TwoInputs()).fit_loader(*parts)
    with pytest.raises(InvalidParameterError, match="cannot be sought here"):
        make(TwoInputs(), cv=None, objective="auc").fit_loader(*parts)
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.setenv(name, "0")
    with pytest.raises(InvalidParameterError, match="trains in one process"):
        make(TwoInputs(), cv=None).fit_loader(*parts)


class Interrupted(Callback):
    def on_epoch_end(self, trainer: Any, record: Any) -> None:
        if record["epoch"] == 1:
            raise KeyboardInterrupt


@pytest.mark.parametrize("patience", [None, 1])
def test_it_goes_on_from_a_checkpoint_bit_for_bit(patience: int | None, tmp_path: Any) -> None:
    path = tmp_path / "state.pt"
    settings: dict[str, Any] = {"patience": patience, "lr": 0.1, "max_epochs": 5}
    straight = make(**settings).fit(X, Y, sensitive_features=A)
    keep = Checkpoint(path)
    with pytest.raises(KeyboardInterrupt):
        make(**settings, callbacks=[keep, Interrupted()]).fit(X, Y, sensitive_features=A)
    resumed = make(**settings, difference_bound=0.1, callbacks=[keep])  # prices are not training
    resumed.fit(X, Y, sensitive_features=A, resume_from=path)
    again = make(**settings).fit(X, Y, sensitive_features=A, resume_from=path)  # of a finished one
    for other in (resumed, again):
        assert other.best_epoch_ == straight.best_epoch_
        pd.testing.assert_frame_equal(
            other.history_.drop(columns="seconds"), straight.history_.drop(columns="seconds")
        )
        np.testing.assert_array_equal(other.outcome_proba(X), straight.outcome_proba(X))
    pd.testing.assert_frame_equal(again.prices_, straight.prices_)
    others = {"lr": {"lr": 0.2}, "seed": {"random_state": np.random.RandomState(1)}}
    for name, other in others.items():  # another seed makes other folds
        with pytest.raises(InvalidParameterError, match=f"under another {name}"):
            make(**{**settings, **other}).fit(X, Y, sensitive_features=A, resume_from=path)


def test_groups_that_are_known_when_deciding() -> None:
    shapes: list[int] = []

    def factory(n_features: int, n_outputs: int) -> nn.Module:
        shapes.append(n_outputs)
        return linear(n_features, n_outputs)

    model = make(factory, sensitive_at_predict=True, difference_bound=0.05)
    model.fit(X, Y, sensitive_features=A)
    assert set(shapes) == {1}
    assert set(model.log_loss_) == {"outcome"}
    assert model.score(X, Y, sensitive_features=A) > 0.6
    with pytest.raises(InvalidDataError, match="predict needs sensitive_features"):
        model.predict(X)


def test_training_stops_where_it_no_longer_helps_and_keeps_the_best() -> None:
    noise = np.random.default_rng(0).integers(0, 2, 600)
    model = make(max_epochs=60, patience=2, lr=0.1, ema=None)
    model.fit(X, noise, sensitive_features=A)
    assert model.n_iter_ == model.best_epoch_ + 3 < 60

    class Stop(Callback):
        def on_epoch_end(self, trainer: Any, record: Any) -> None:
            trainer.loop_.stop = True

    assert make(callbacks=[Stop()]).fit(X, Y, sensitive_features=A).n_iter_ == 1


@dataclass(frozen=True)
class Precise:
    """A factory that prints alike in every process, as names of tests must."""

    def __call__(self, features: int, outputs: int) -> nn.Module:
        return linear(features, outputs).double()


class Checked(Supplied, FairPlugInTrainer):
    pass


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(
    [
        Checked(
            Precise(),
            difference_bound=0.5,
            cv=2,
            max_epochs=20,
            batch_size=10_000,
            lr=0.1,
            ema=None,
            min_count=1,
            random_state=0,
        )
    ]
)
def test_check_estimator(estimator: Checked, check: Any) -> None:
    check(estimator)
