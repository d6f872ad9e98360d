"""Two processes train one model: gradients, multipliers, and the death of one of them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import warnings
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

pytestmark = [
    pytest.mark.skipif(
        not (dist.is_available() and dist.is_gloo_available()), reason="needs torch's gloo backend"
    ),
    # Python 3.12 on warns of forking; the children use one thread.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]

SHARDS = ((0, 70), (70, 200))  # unequal; the first has no row of group 2


def rows():
    from tests.training.data import make_rows

    X, y, a = make_rows(200, 3)
    order = np.argsort(a == 2, kind="stable")
    return X[order].astype(np.float64), y[order], a[order]


def module():
    linear = nn.Linear(4, 1, dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[0.4, -0.2, 0.1, 0.3]]))
        linear.bias.fill_(-0.1)
    return linear


def trainer(kind: str, **more: Any):
    import functools

    from fairtrain import (
        AdversarialDebiasingTrainer,
        LagrangianFairnessTrainer,
        RegularizedFairnessTrainer,
    )

    common = {
        "module": module(), "difference_bound": 0.05, "random_state": 0, "max_epochs": 4,
        "lr_decay": "none", "clip_norm": None, "timeout": 12.0,
        "optimizer": functools.partial(torch.optim.SGD, lr=0.3),
    }  # fmt: skip
    if kind == "regularized":
        return RegularizedFairnessTrainer(**{**common, "eta": 3.0, **more})
    if kind in ("reversal", "projection", "numbers"):
        numbers = {"continuous": "age", "method": "reversal"} if kind == "numbers" else {}
        return AdversarialDebiasingTrainer(
            **{**common, "method": kind, **numbers, "warm_up": 0, "leakage": "debiased",
               "adversary_steps": 2, **more}
        )  # fmt: skip
    dual = {"lagrangian": "proxy", "simultaneous": "simultaneous"}[kind]
    return LagrangianFairnessTrainer(
        **{**common, "dual_step": dual, "dual_every": 1, "dual_lr": 0.7, "margin": 0.0, **more}
    )


KINDS = ("lagrangian", "simultaneous", "regularized", "reversal", "projection", "numbers")


def loader(part: slice) -> list[Any]:
    X, y, a = (torch.from_numpy(column[part]) for column in rows())
    weight = torch.linspace(0.5, 1.5, 200, dtype=torch.float64)[part]
    return [(X, y, a, weight)]


def with_numbers(batches: list[Any]) -> list[Any]:
    """Batches with a number beside the group, whose scale and cuts are those of all rows."""
    return [(X, y, (a, 30 + 5 * X[:, 0] + a), weight) for X, y, a, weight in batches]


def fit_by_loader(kind: str, part: slice, **more: Any):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = with_numbers(loader(part)) if kind == "numbers" else loader(part)
        return trainer(kind, **more).fit_loader(rows, rows, num_groups=3)


def leakage_of(fitted: Any) -> list[float]:
    found = getattr(fitted, "leakage_", None)
    return [] if found is None or "r2" not in found else found["r2"].dropna().tolist()


def what_counts(fitted: Any) -> dict[str, Any]:
    return {
        "weights": [p.detach().clone() for p in fitted.module_.parameters()],
        "trace": None if not hasattr(fitted, "trace_") else fitted.trace_.to_numpy(),
        "report": fitted.fairness_report_.results[0].achieved,
        "accuracy": fitted.history_["held_accuracy"].tolist(),
        "n_rows": fitted.fairness_report_.n_rows,
        "names": fitted.scheme_.names,
        "leakage": leakage_of(fitted),
    }


def by_loader(rank: int) -> Any:
    return {kind: what_counts(fit_by_loader(kind, slice(*SHARDS[rank]))) for kind in KINDS}


def in_memory(rank: int) -> Any:
    X, y, a = rows()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = trainer("lagrangian", batch_size=40, validation_fraction=0.3, random_state=None)
        return what_counts(fitted.fit(X, y, sensitive_features=a))


def with_fabric(rank: int) -> Any:
    from lightning_fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    return what_counts(fit_by_loader("lagrangian", slice(0, 200), fabric=fabric))


def work(rank: int, port: int, probe: Any, results: Any) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2, timeout=timedelta(seconds=60))
    try:
        results[rank] = probe(rank)
    finally:
        dist.destroy_process_group()


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def on_two(probe: Any) -> list[Any]:
    context = mp.get_context("fork")
    with context.Manager() as manager:
        results = manager.dict()
        mp.start_processes(work, (free_port(), probe, results), nprocs=2, start_method="fork")
        return [results[0], results[1]]


def test_two_processes_train_what_one_does():
    first, second = on_two(by_loader)
    for kind in KINDS:
        alone = what_counts(fit_by_loader(kind, slice(0, 200)))
        for found in (first[kind], second[kind]):
            for own, other in zip(found["weights"], alone["weights"], strict=True):
                np.testing.assert_allclose(own, other, atol=1e-10)
            assert found["report"] == pytest.approx(alone["report"])
            assert found["accuracy"] == pytest.approx(alone["accuracy"])
            assert found["n_rows"] == 200
            assert found["names"] == alone["names"]
            assert found["leakage"] == pytest.approx(alone["leakage"], abs=1e-6)
            if alone["trace"] is not None:
                np.testing.assert_allclose(found["trace"], alone["trace"], atol=1e-10)
        if first[kind]["trace"] is not None:  # bit for bit the same on both
            assert (first[kind]["trace"] == second[kind]["trace"]).all()


def test_rows_in_memory_are_shared_out_even_without_a_seed():
    first, second = on_two(in_memory)
    assert (first["trace"] == second["trace"]).all()
    assert first["n_rows"] == second["n_rows"] == pytest.approx(60, abs=3)
    for own, other in zip(first["weights"], second["weights"], strict=True):
        assert torch.equal(own, other)


DYING = """
import faulthandler, os, signal, sys
faulthandler.dump_traceback_later(60, exit=True)
import torch.distributed as dist
from fairtrain.training import Callback
from tests.training.test_processes import SHARDS, fit_by_loader

rank = int(os.environ["RANK"])

class Dies(Callback):
    def on_epoch_end(self, trainer, record):
        if rank == 1 and trainer.loop_.epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)

try:
    fit_by_loader("lagrangian", slice(*SHARDS[rank]), callbacks=[Dies()], max_epochs=100_000)
except RuntimeError as error:
    assert not dist.is_initialized()
    sys.exit(f"stopped by {type(error).__name__}")
"""


def test_the_death_of_one_process_is_an_error_not_a_hang():
    port = str(free_port())
    common = {
        **os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd(),
    }  # fmt: skip
    children = [
        subprocess.Popen(
            [sys.executable, "-c", DYING],
            env={**common, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [child.communicate(timeout=90)[1] for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert children[1].returncode == -signal.SIGKILL
    assert "stopped by" in said[0], said[0]


def test_fabric_takes_over_device_and_precision():
    pytest.importorskip("lightning_fabric", reason="needs lightning-fabric")
    alone = what_counts(fit_by_loader("lagrangian", slice(0, 200)))
    found = with_fabric(0)
    for own, other in zip(found["weights"], alone["weights"], strict=True):
        np.testing.assert_allclose(own, other, atol=1e-10)
