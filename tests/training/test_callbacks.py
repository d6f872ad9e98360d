from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import pytest
import torch
from tests.training.data import make_rows, two_layers

from fairtrain import AtLeast, AtMost, LagrangianFairnessTrainer, RegularizedFairnessTrainer
from fairtrain.exceptions import FairtrainWarning, InvalidDataError, InvalidParameterError
from fairtrain.training import Callback, Checkpoint, EarlyStopping, LogMetrics, ProgressBar
from fairtrain.training.loop.callbacks import read_checkpoint, write_checkpoint

SETTINGS = {
    "module": two_layers, "lr": 0.02, "batch_size": 200, "max_epochs": 8, "random_state": 3,
    "difference_bound": 0.05,
}  # fmt: skip
KINDS = {
    "lagrangian": (LagrangianFairnessTrainer, {}),
    "nu_pi, ema, mixture": (
        LagrangianFairnessTrainer,
        {"dual": "nu_pi", "ema": 0.9, "mixture": True},
    ),
    "regularized": (RegularizedFairnessTrainer, {"eta": 2.0}),
    "floors, momentum": (
        LagrangianFairnessTrainer,
        {
            "difference_bound": None,
            "constraints": [
                AtLeast("recall", {"0": 0.9, "1": 0.6}),
                AtMost("selection_rate", 0.4, overall=True),
            ],
            "dual_optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.5),
        },
    ),
    "critic": (RegularizedFairnessTrainer, {"penalty": "neural_mutual_information"}),
}


def fit(trainer, resume_from=None):
    X, y, a = make_rows(1200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FairtrainWarning)
        return trainer.fit(X, y, sensitive_features=a, resume_from=resume_from)


class Killed(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, trainer, record):
        if trainer.loop_.epoch == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_training_goes_on_bit_for_bit(kind, tmp_path):
    cls, more = KINDS[kind]
    straight = fit(cls(**{**SETTINGS, **more}))
    path = tmp_path / "run" / "last.pt"
    before = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        fit(cls(**{**SETTINGS, **more}, callbacks=[Checkpoint(path), Killed(5)]))
    assert (torch.get_rng_state() == before).all()
    resumed = fit(cls(**{**SETTINGS, **more}), resume_from=path)
    for name, value in straight.module_.state_dict().items():
        assert (resumed.module_.state_dict()[name] == value).all()
    timed = ["seconds"]
    left, right = straight.history_.drop(columns=timed), resumed.history_.drop(columns=timed)
    assert left.equals(right)
    assert list(path.parent.iterdir()) == [path]


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    path = tmp_path / "last.pt"
    fit(LagrangianFairnessTrainer(**SETTINGS, callbacks=[Checkpoint(path, every=3)]))
    assert read_checkpoint(path)["epoch"] == 8
    with pytest.raises(InvalidParameterError, match=r"under another dual_lr: 0\.5, now 0\.1"):
        fit(LagrangianFairnessTrainer(**SETTINGS, dual_lr=0.1), resume_from=path)


@pytest.mark.parametrize("damage", ["missing", "cut short", "no checkpoint"])
def test_a_damaged_checkpoint_is_one_clear_error(damage, tmp_path):
    path = tmp_path / "last.pt"
    if damage == "cut short":
        write_checkpoint({"a": torch.zeros(1000)}, path)
        path.write_bytes(path.read_bytes()[:500])
    elif damage == "no checkpoint":
        torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(InvalidDataError, match="checkpoint") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "last.pt"
    write_checkpoint({"value": np.arange(3)}, path)
    with pytest.raises(Exception, match="pickle"):
        write_checkpoint({"value": lambda: None}, path)
    assert read_checkpoint(path)["value"].tolist() == [0, 1, 2]
    assert list(tmp_path.iterdir()) == [path]


class Recorder(Callback):
    def __init__(self):
        self.seen = []

    def on_train_begin(self, trainer):
        self.seen.append("train")

    def on_epoch_begin(self, trainer):
        self.seen.append("epoch")

    def on_batch_begin(self, trainer, batch):
        self.seen.append("batch")

    def on_batch_end(self, trainer, batch, report):
        assert report.taken
        assert len(batch.y) <= 500

    def on_epoch_end(self, trainer, record):
        assert record["epoch"] == trainer.loop_.epoch - 1

    def on_train_end(self, trainer):
        self.seen.append("end")


def test_hooks_are_called_in_order():
    recorder = Recorder()
    settings = {**SETTINGS, "max_epochs": 2, "batch_size": 500}
    trainer = fit(LagrangianFairnessTrainer(**settings, callbacks=[recorder]))
    assert recorder.seen == ["train", *["epoch", "batch", "batch"] * 2, "end"]
    assert not hasattr(trainer, "loop_")


def test_early_stopping_waits_for_feasible_epochs():
    settings = {**SETTINGS, "max_epochs": 60, "difference_bound": 0.5}
    stopped = fit(LagrangianFairnessTrainer(**settings, callbacks=[EarlyStopping(patience=3)]))
    assert 3 < stopped.n_iter_ < 60
    assert stopped.history_["feasible"].any()
    with pytest.raises(InvalidParameterError, match="is no column of history_"):
        fit(LagrangianFairnessTrainer(**SETTINGS, callbacks=[EarlyStopping(monitor="auc")]))


class Logger:
    def __init__(self):
        self.logged = []

    def log_metrics(self, metrics, step):
        self.logged.append((step, metrics))


def test_a_logger_gets_every_number_of_every_epoch():
    logger = Logger()
    fit(LagrangianFairnessTrainer(**SETTINGS, callbacks=[LogMetrics(logger)]))
    assert [step for step, _ in logger.logged] == list(range(8))
    assert {"loss", "held_accuracy", "gap_held: demographic_parity"} <= set(logger.logged[0][1])
    assert all(np.isfinite(v) for _, m in logger.logged for v in m.values())
    with pytest.raises(InvalidParameterError, match="log_metrics"):
        LogMetrics(print)


def test_the_progress_bar_prints_plain_lines_off_a_terminal(capsys):
    fit(LagrangianFairnessTrainer(**{**SETTINGS, "max_epochs": 3}, callbacks=[ProgressBar()]))
    shown = capsys.readouterr().out
    assert "epoch 1/3" in shown
    assert "loss" in shown


@pytest.mark.parametrize("make", [lambda: Checkpoint("x", every=0), lambda: EarlyStopping(0)])
def test_bad_settings_are_refused(make):
    with pytest.raises(InvalidParameterError, match="a whole number >= 1"):
        make()
