"""Time of one training step with a fairness loss, against the same step with BCE only and fairret.

An MLP 32-64-64-1 with Adam on one thread. In every round each method takes one step, one after
the other, so that a busy machine slows all of them alike; ratios are medians over rounds of
(step / BCE step of the same round). fairret gets its one-hot groups ready-made.

    OMP_NUM_THREADS=1 python benchmarks/losses.py [--rounds 300]
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairtrain.losses import FairnessRegularizerLoss

BATCHES = (512, 8192)
GROUPS = (2, 8, 64)
NOTIONS = ("demographic_parity", "equalized_odds")
TARGET = {512: 1.3, 8192: 1.15}
RESULTS = Path(__file__).parent / "results" / "losses.csv"

Loss = Callable[[Tensor], Tensor]
Rows = tuple[Tensor, Tensor, Tensor, Tensor]


def rows(batch: int, groups: int) -> Rows:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 32, generator=generator)
    codes = torch.randint(0, groups, (batch,), generator=generator)
    codes[:groups] = torch.arange(groups)
    # Every group has both labels: fairret raises otherwise.
    targets = (torch.rand(batch, 1, generator=generator) < 0.4).float()
    targets[:groups], targets[groups : 2 * groups] = 0, 1
    codes[groups : 2 * groups] = torch.arange(groups)
    return x, targets, codes, F.one_hot(codes, groups).float()


def fairtrain_loss(notion: str, data: Rows, **settings: object) -> Loss:
    _, targets, codes, one_hot = data
    criterion = FairnessRegularizerLoss(penalty=notion, num_groups=one_hot.shape[1], **settings)
    return lambda logits: criterion(logits, targets, codes)


def fairret_loss(notion: str, data: Rows) -> Loss:
    from fairret.loss import NormLoss
    from fairret.statistic import FalsePositiveRate, PositiveRate, TruePositiveRate

    _, targets, _, one_hot = data
    if notion == "demographic_parity":
        parity = NormLoss(PositiveRate())
        return lambda z: F.binary_cross_entropy_with_logits(z, targets) + parity(z, one_hot)
    parts = (NormLoss(TruePositiveRate()), NormLoss(FalsePositiveRate()))
    return lambda z: (
        F.binary_cross_entropy_with_logits(z, targets)
        + sum(part(z, one_hot, targets) for part in parts)
    )


class Stepper:
    """A model, its optimizer and a loss."""

    def __init__(self, loss: Loss, x: Tensor) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(
            nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
        )
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.loss, self.x = loss, x

    def step(self) -> float:
        start = time.perf_counter()
        self.optimizer.zero_grad()
        self.loss(self.model(self.x)).backward()
        self.optimizer.step()
        return time.perf_counter() - start


def compare(batch: int, groups: int, notion: str, rounds: int) -> list[dict[str, object]]:
    data = rows(batch, groups)
    x, targets = data[:2]
    losses: dict[str, Loss] = {
        "bce": lambda z: F.binary_cross_entropy_with_logits(z, targets),
        "fairtrain": fairtrain_loss(notion, data),
        "fairtrain debias": fairtrain_loss(notion, data, debias=True),
        "fairtrain memory": fairtrain_loss(notion, data, memory=0.9),
        "fairret": fairret_loss(notion, data),
    }
    steppers = {name: Stepper(loss, x) for name, loss in losses.items()}
    times = np.array(
        [[stepper.step() for stepper in steppers.values()] for _ in range(rounds + 20)]
    )[20:]
    ratios = times / times[:, :1]
    return [
        {
            "batch": batch,
            "groups": groups,
            "notion": notion,
            "method": name,
            "median_us": round(1e6 * float(np.median(times[:, i])), 1),
            "ratio": round(float(np.median(ratios[:, i])), 3),
            "ratio_of_minima": round(float(times[:, i].min() / times[:, 0].min()), 3),
            "target": TARGET[batch] if name == "fairtrain" else np.nan,
        }
        for i, name in enumerate(steppers)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=300)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    found = [
        row
        for batch in BATCHES
        for groups in GROUPS
        for notion in NOTIONS
        for row in compare(batch, groups, notion, rounds)
    ]
    table = pd.DataFrame(found)
    RESULTS.parent.mkdir(exist_ok=True)
    table.to_csv(RESULTS, index=False)
    keys = ["batch", "groups", "notion"]
    print("median ratio to the BCE step")
    print(table.pivot_table(index=keys, columns="method", values="ratio").to_string())
    missed = table[table["ratio"] > table["target"]]
    print(f"\ntargets {TARGET}: missed in {len(missed)} of {table['target'].notna().sum()} cells")


if __name__ == "__main__":
    main()
