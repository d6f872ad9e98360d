"""Two processes on one machine judge the rows of both."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

pytestmark = [
    pytest.mark.skipif(
        not (dist.is_available() and dist.is_gloo_available()), reason="needs torch's gloo backend"
    ),
    # Python 3.12 on warns of forking; the children use one thread.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]

ROWS = ((0, 9), (9, 30))  # unequal shards


def rows() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 3, generator=generator, dtype=torch.float64)
    codes = torch.randint(0, 3, (30,), generator=generator)
    codes[:9][codes[:9] == 2] = 0  # the first process has no row of group 2
    return x, torch.randint(0, 2, (30,), generator=generator), codes


def losses() -> dict[str, nn.Module]:
    from fairtrain import losses as fl

    groups = {"num_groups": 3}
    return {
        "squared_pairs": fl.DemographicParityLoss(**groups),
        "max_gap": fl.EqualizedOddsLoss(reduction="max_gap", **groups),
        "debias": fl.DemographicParityLoss(debias=True, **groups),
        "memory": fl.EqualOpportunityLoss(memory=0.8, **groups),
        "mutual_information": fl.MutualInformationLoss(**groups),
        "group_dro": fl.GroupDROLoss(step_size=0.5, **groups),
        "covariance": fl.CovarianceLoss(**groups),
        "hsic": fl.HSICLoss(**groups),
        "mmd": fl.MMDLoss(**groups),
        "wasserstein": fl.WassersteinLoss(**groups),
        "neural": fl.NeuralMutualInformationLoss(critic_steps=3, **groups),
    }


def model() -> nn.Module:
    module = nn.Linear(3, 1, dtype=torch.float64)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[0.5, -1.0, 0.3]]))
        module.bias.fill_(0.1)
    return module


def steps(loss: nn.Module, module: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Gradient after two calls, so that state counts."""
    x, y, a = batch
    for _ in range(2):
        module.zero_grad()
        loss(module(x), y, a).backward()
    return torch.cat([p.grad.reshape(-1) for p in module.parameters()])


def work(rank: int, port: int, results: Any) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2, timeout=timedelta(seconds=60))
    try:
        results[rank] = {name: probe(rank) for name, probe in PROBES.items()}
    finally:
        dist.destroy_process_group()


def gradients(rank: int) -> dict[str, Any]:
    part = slice(*ROWS[rank])
    batch = tuple(column[part] for column in rows())
    found = {}
    for name, loss in losses().items():
        module = nn.parallel.DistributedDataParallel(model())
        gradient = steps(loss, module, batch)
        found[name] = (gradient, deepcopy(loss.state_dict()))
    return found


def meter(rank: int) -> Any:
    from fairtrain.training import EpochFairnessMeter

    x, y, a = (column[slice(*ROWS[rank])] for column in rows())
    counted = EpochFairnessMeter("equalized_odds", num_groups=3)
    counted.update(model()(x), y, a)
    return counted.compute().gaps


def sums(rank: int) -> Any:
    from fairtrain.losses.distributed import all_reduce_sum, gather_rows

    x = torch.arange(3.0 + rank, dtype=torch.float64).requires_grad_()
    total = all_reduce_sum(x.sum() ** 2)
    (first,) = torch.autograd.grad(total**2, x)
    gathered = gather_rows(x)
    (second,) = torch.autograd.grad((gathered * torch.arange(7.0)).sum() ** 2, x)
    return total.item(), first.tolist(), gathered.tolist(), second.tolist()


def inferred(rank: int) -> str:
    from fairtrain.exceptions import InvalidParameterError
    from fairtrain.losses import DemographicParityLoss

    loss = DemographicParityLoss()
    try:
        loss(torch.zeros(2), None, torch.tensor([0, 1]))
    except InvalidParameterError as error:
        return str(error)
    return "no error"


def alone_in_eval(rank: int) -> float:
    from fairtrain.losses import DemographicParityLoss

    if rank == 1:
        return 0.0  # must not be waited for
    loss = DemographicParityLoss(num_groups=2, reduction="max_gap").eval()
    return loss(torch.tensor([-50.0, 50.0]), None, torch.tensor([0, 1])).item()


PROBES: dict[str, Callable[[int], Any]] = {
    "gradients": gradients,
    "meter": meter,
    "sums": sums,
    "inferred": inferred,
    "alone_in_eval": alone_in_eval,
}


@pytest.fixture(scope="module")
def both() -> list[dict[str, Any]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = mp.get_context("fork")
    with context.Manager() as manager:
        results = manager.dict()
        processes = [context.Process(target=work, args=(r, port, results)) for r in (0, 1)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
            if process.is_alive():
                process.kill()
        assert [process.exitcode for process in processes] == [0, 0]
        return [dict(results[rank]) for rank in (0, 1)]


@pytest.mark.parametrize("name", list(losses()))
def test_gradient_is_that_of_one_process_with_all_rows(both: Any, name: str) -> None:
    expected = steps(loss := losses()[name], model(), rows())
    assert expected.abs().max() > 0
    for found in both:
        gradient, state = found["gradients"][name]
        torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)
        for key, value in loss.state_dict().items():
            torch.testing.assert_close(state[key], value, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", list(losses()))
def test_state_is_bit_equal_on_both_processes(both: Any, name: str) -> None:
    states = [found["gradients"][name][1] for found in both]
    assert states[0].keys() == states[1].keys()
    torch.testing.assert_close(dict(states[0]), dict(states[1]), rtol=0, atol=0)


def test_mean_of_penalties_would_be_wrong(both: Any) -> None:
    """What all-reducing sums avoids: the average of two |gap|s is another number."""
    from fairtrain.losses import DemographicParityLoss

    x, y, a = rows()
    loss = DemographicParityLoss(num_groups=3, reduction="max_gap")
    module = model()
    whole = torch.autograd.grad(loss(module(x), y, a), module.weight)[0]
    shards = [
        torch.autograd.grad(loss(module(x[s]), y[s], a[s]), module.weight)[0]
        for s in (slice(*part) for part in ROWS)
    ]
    cosine = torch.nn.functional.cosine_similarity(whole, sum(shards) / 2)
    assert cosine.item() < 0.95


def test_meter_counts_the_rows_of_both(both: Any) -> None:
    from fairtrain.training import EpochFairnessMeter

    x, y, a = rows()
    counted = EpochFairnessMeter("equalized_odds", num_groups=3)
    counted.update(model()(x), y, a)
    assert both[0]["meter"] == both[1]["meter"] == counted.compute().gaps


def test_sums_are_exact_in_forward_and_backward(both: Any) -> None:
    # Shards 0..2 and 0..3: squares of sums 9 and 36; all processes' copies of 45^2.
    for rank, found in enumerate(both):
        total, first, gathered, second = found["sums"]
        assert total == 45
        assert first == [2 * 2 * 45 * 2 * (3, 6)[rank]] * (3 + rank)
        assert gathered == [0, 1, 2, 0, 1, 2, 3]
        value = 1 + 4 + 4 + 10 + 18
        start = (0, 3)[rank]
        assert second == [2 * 2 * value * i for i in range(start, start + 3 + rank)]


def test_groups_are_not_inferred(both: Any) -> None:
    assert "needs num_groups under torch.distributed" in both[0]["inferred"]


def test_eval_waits_for_nobody(both: Any) -> None:
    assert both[0]["alone_in_eval"] == pytest.approx(1.0)


def test_one_process_is_left_as_it_is() -> None:
    from fairtrain.losses.distributed import all_reduce_sum, gather_rows, is_distributed

    tensor = torch.ones(3)
    assert not is_distributed()
    assert all_reduce_sum(tensor) is tensor
    assert gather_rows(tensor) is tensor
