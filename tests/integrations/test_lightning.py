"""A ``LightningModule`` under constraints: one process, two, and one that was interrupted."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training.data import make_rows
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fairtrain import LagrangianFairnessTrainer
from fairtrain.exceptions import InvalidParameterError

lightning = pytest.importorskip("lightning", reason="needs the lightning extra")
from fairtrain.integrations.lightning import FairnessCallback, fair_training_step  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # Lightning's advice on workers, loggers and devices
    pytest.mark.skipif(
        not torch.distributed.is_gloo_available(), reason="needs torch's gloo backend"
    ),
]


class Own(lightning.LightningModule):
    """What somebody has already, and one line."""

    def __init__(self, lr: float = 0.3) -> None:
        super().__init__()
        self.net, self.lr = nn.Linear(4, 1, dtype=torch.float64), lr
        with torch.no_grad():
            self.net.weight.copy_(torch.tensor([[0.4, -0.2, 0.1, 0.3]]))
            self.net.bias.fill_(-0.1)

    def forward(self, x: Any) -> Any:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return fair_training_step(self, batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.net.parameters(), lr=self.lr)


def loader(n: int = 200, seed: int = 0, batch_size: int = 200) -> Any:
    X, y, group = make_rows(n, 2, seed)
    rows = (torch.from_numpy(X).double(), torch.from_numpy(y), torch.from_numpy(group))
    return DataLoader(TensorDataset(*rows), batch_size=batch_size)


def asked(**more: Any) -> Any:
    return LagrangianFairnessTrainer(
        difference_bound=0.02, margin=0.0, dual_step="proxy", dual_every=1, dual_lr=0.7, **more
    )


def trained(
    folder: Path, train: Any, held: Any, *, epochs: int = 4, resume: Any = None, **more: Any
) -> tuple[Any, Any, Any]:
    settings = {"accelerator": "cpu", "devices": 1, "logger": False, "max_epochs": epochs}
    callback = FairnessCallback(asked(), num_groups=2)
    trainer = lightning.Trainer(
        **settings | more, callbacks=[callback], default_root_dir=folder,
        enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
    )  # fmt: skip
    module = Own()
    trainer.fit(module, train, held, ckpt_path=resume)
    return module, callback, trainer


def weights(module: Any) -> Any:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_two_processes_train_the_model_that_one_trains(tmp_path: Path) -> None:
    one, callback, trainer = trained(tmp_path, loader(), loader(seed=1), num_sanity_val_steps=0)
    two, _, both = trained(
        tmp_path, loader(batch_size=100), loader(seed=1, batch_size=100),
        num_sanity_val_steps=0, devices=2, strategy="ddp_fork",
    )  # fmt: skip
    assert callback.criterion_.history[-1]["multipliers: demographic_parity"] > 0
    torch.testing.assert_close(weights(two), weights(one), rtol=0, atol=1e-12)
    for name, value in trainer.callback_metrics.items():
        if "seconds" not in name:
            torch.testing.assert_close(both.callback_metrics[name], value, rtol=0, atol=1e-6)


def test_it_is_the_training_of_fairtrain_s_own_loop(tmp_path: Path) -> None:
    one, callback, _ = trained(tmp_path, loader(), loader(seed=1))
    own = asked(
        module=Own().net, optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.3),
        max_epochs=4, lr_decay="none", clip_norm=None, random_state=0,
    )  # fmt: skip
    with warnings.catch_warnings(action="ignore"):
        own.fit_loader(list(loader()), list(loader(seed=1)), num_groups=2)
    np.testing.assert_allclose(weights(one), weights(own.module_), rtol=0, atol=1e-12)
    found = [record["held_accuracy"] for record in callback.criterion_.history]
    np.testing.assert_allclose(found, own.history_["held_accuracy"])


def test_a_second_fit_begins_anew(tmp_path: Path) -> None:
    _, callback, trainer = trained(tmp_path, loader(), loader(seed=1), epochs=2)
    first = callback.criterion_.history
    trainer.fit_loop.epoch_progress.reset()
    trainer.fit(Own(), loader(), loader(seed=1))
    timed = {"seconds"}
    again = [{k: v for k, v in r.items() if k not in timed} for r in callback.criterion_.history]
    assert again == [{k: v for k, v in r.items() if k not in timed} for r in first]


def test_multipliers_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    whole, callback, _ = trained(tmp_path, loader(), loader(seed=1))
    trained(tmp_path, loader(), loader(seed=1), epochs=2)
    (half,) = tmp_path.rglob("epoch=1-*.ckpt")
    torch.load(half, weights_only=True)  # holds nothing but tensors and plain values
    again, resumed, _ = trained(tmp_path, loader(), loader(seed=1), resume=half)
    assert len(resumed.criterion_.history) == 4
    torch.testing.assert_close(weights(again), weights(whole), rtol=0, atol=1e-12)
    ours, theirs = (c.criterion_.run.multipliers.values for c in (resumed, callback))
    np.testing.assert_allclose(ours, theirs)


def test_a_validation_loader_steers_however_late_or_never_it_validates(tmp_path: Path) -> None:
    settings = {"num_sanity_val_steps": 0, "check_val_every_n_epoch": 2}
    _, callback, _ = trained(tmp_path, loader(), loader(seed=1), epochs=1, **settings)
    assert "held_accuracy" in callback.criterion_.history[-1]
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(Own, "validation_step")
        with pytest.raises(InvalidParameterError, match="without validation_step: write one"):
            trained(tmp_path, loader(), loader(seed=1), epochs=1)


def test_a_trainer_without_the_callback_is_told_so(tmp_path: Path) -> None:
    trainer = lightning.Trainer(
        accelerator="cpu", devices=1, logger=False, max_epochs=1, default_root_dir=tmp_path,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    with pytest.raises(InvalidParameterError, match="FairnessCallback"):
        trainer.fit(Own(), loader())
