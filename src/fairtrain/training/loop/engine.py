"""Where training runs: device, precision, processes. Plain PyTorch, or a Fabric handed in."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fairtrain.exceptions import InvalidParameterError
from fairtrain.losses.distributed import all_reduce_sum, communication_device, is_distributed

__all__ = [
    "Engine",
    "Precision",
    "by_torchrun",
    "device_of",
    "dtype_of",
    "local_randomness",
    "process_group",
    "trainable",
]

Precision = Literal["32", "bf16-mixed", "16-mixed"]

_AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class Engine:
    """Runs forward, backward and update of one module.

    Parameters
    ----------
    device : str or torch.device, default="auto"
        "auto" takes this process's GPU if there is one.
    precision : {"32", "bf16-mixed", "16-mixed"}, default="32"
        Autocast of the forward pass; "16-mixed" scales the loss. Ignored with ``fabric``, which
        has its own.
    fabric : lightning.fabric.Fabric, optional
        Launched already; takes over device, precision and processes.
    """

    def __init__(
        self, device: Any = "auto", precision: Precision = "32", fabric: Any = None
    ) -> None:
        self.fabric = fabric
        self.precision: Precision = precision
        if fabric is not None:
            self.device = torch.device(fabric.device)
        elif device == "auto":
            self.device = _own_device()
        else:
            try:
                self.device = torch.device(device)
            except (RuntimeError, TypeError) as error:
                raise InvalidParameterError(f"device={device!r}: {error}") from None
        scaled = precision == "16-mixed" and fabric is None
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=scaled)

    @property
    def world_size(self) -> int:
        """Processes that train together."""
        return dist.get_world_size() if is_distributed() else 1

    @property
    def rank(self) -> int:
        """Number of this process."""
        return dist.get_rank() if is_distributed() else 0

    def prepare(
        self, module: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Wrap module and optimizer for the processes at work; the module's weights stay shared."""
        if self.fabric is not None:
            wrapped: tuple[nn.Module, torch.optim.Optimizer] = self.fabric.setup(module, optimizer)
            return wrapped
        if is_distributed() and any(p.requires_grad for p in module.parameters()):
            ids = [self.device.index] if self.device.type == "cuda" else None
            return nn.parallel.DistributedDataParallel(module, device_ids=ids), optimizer
        return module, optimizer

    def autocast(self) -> AbstractContextManager[Any]:
        """Context of the forward pass."""
        if self.fabric is not None or self.precision == "32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=_AUTOCAST[self.precision])

    def backward(self, loss: Tensor) -> None:
        """Compute gradients."""
        if self.fabric is not None:
            self.fabric.backward(loss)
        else:
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Bring gradients back to their true size."""
        if self.scaler.is_enabled():
            self.scaler.unscale_(optimizer)

    def update(self, optimizer: torch.optim.Optimizer) -> None:
        """Move the weights."""
        if self.fabric is None and self.scaler.is_enabled():
            self.scaler.step(optimizer)
            self.scaler.update()
        else:
            optimizer.step()

    def everywhere(self, good: bool) -> bool:
        """Whether something holds on all processes; every process must ask."""
        if not is_distributed():
            return good
        bad = torch.tensor(0.0 if good else 1.0, device=communication_device())
        return float(all_reduce_sum(bad)) == 0.0

    def same(self, number: int) -> int:
        """Process 0's number, on every process."""
        if not is_distributed():
            return number
        held = torch.tensor(number if self.rank == 0 else 0, device=communication_device())
        return int(all_reduce_sum(held))


def _own_device() -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    return torch.device("cuda", local % torch.cuda.device_count())


def by_torchrun() -> bool:
    """Whether ``torchrun`` started this process."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"))


@contextmanager
def process_group(timeout: float) -> Iterator[None]:
    """Join the processes that ``torchrun`` started, unless that was done already.

    Parameters
    ----------
    timeout : float
        Seconds after which a process that waits for the others gives up with an error.
    """
    if not by_torchrun() or not dist.is_available() or dist.is_initialized():
        yield
        return
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=timedelta(seconds=timeout))
    try:
        yield
    finally:
        dist.destroy_process_group()


_SEEDED = threading.RLock()


@contextmanager
def local_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Seed PyTorch for a while, and give the caller's generators back as they were.

    PyTorch's generator belongs to the process: of two threads one waits, or neither would get the
    numbers of its seed.
    """
    with _SEEDED, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def device_of(module: nn.Module) -> torch.device:
    """Where a module's weights are."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def dtype_of(module: nn.Module) -> torch.dtype:
    """Floating type of a module's weights."""
    for parameter in module.parameters():
        if parameter.is_floating_point():
            return parameter.dtype
    return torch.get_default_dtype()


def trainable(module: nn.Module, frozen: str | Sequence[str]) -> list[nn.Parameter]:
    """Parameters that are trained; those that ``frozen`` names are switched off.

    Parameters
    ----------
    module : nn.Module
        Its parameters are switched off in place.
    frozen : str or sequence of str
        Names of submodules or parameters, or patterns with ``*`` or ``?`` that names match.

    Raises
    ------
    InvalidParameterError
        If a name is no part of the module, or nothing is left to train.
    """
    frozen = (frozen,) if isinstance(frozen, str) else frozen
    names = [name for name, _ in module.named_parameters()]
    for part in frozen:
        if not any(_is_under(name, part) for name in names):
            raise InvalidParameterError(
                f"frozen names {part!r}, which is no part of the module; its parameters are "
                f"{names[:8]}."
            )
    kept = []
    for name, parameter in module.named_parameters():
        if any(_is_under(name, part) for part in frozen):
            parameter.requires_grad_(False)
        elif parameter.requires_grad:
            kept.append(parameter)
    if not kept:
        raise InvalidParameterError("the module has no parameter left to train.")
    return kept


def _is_under(name: str, part: str) -> bool:
    """Whether a parameter has this name, belongs to a submodule of it, or matches its pattern."""
    return name == part or name.startswith(f"{part}.") or fnmatchcase(name, part)
