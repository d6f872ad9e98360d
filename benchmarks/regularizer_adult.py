"""The same MLP on Adult with the penalty off and on: test gap and accuracy over seeds.

A plain training loop, as a reader would write it, with FairnessRegularizerLoss in place of
BCEWithLogitsLoss and batches from GroupStratifiedBatchSampler. The eta of the summary is picked on
validation rows: the most accurate one whose validation gap is at most 0.04.

    OMP_NUM_THREADS=1 python benchmarks/regularizer_adult.py [--seeds 3] [--epochs 15]
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import torch
from benchmarks.protocol import RESULTS, MissingDataError, Part, load, measure, split
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fairtrain.data.groups import Groups
from fairtrain.losses import FairnessRegularizerLoss
from fairtrain.training import GroupStratifiedBatchSampler

ETAS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)


def tensors(part: Part, groups: Groups) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.tensor(part.X, dtype=torch.float32),
        torch.tensor(part.y),
        torch.tensor(groups.encode(part.groups)),
    )


def train(part: Part, groups: Groups, eta: float, seed: int, epochs: int) -> nn.Module:
    x, y, a = tensors(part, groups)
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(x.shape[1], 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
    )
    criterion = FairnessRegularizerLoss(
        penalty="demographic_parity", eta=eta, num_groups=len(groups)
    )
    sampler = GroupStratifiedBatchSampler(a, 512, seed=seed)
    loader = DataLoader(TensorDataset(x, y, a), batch_sampler=sampler)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(sampler))
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for xb, yb, ab in loader:
            optimizer.zero_grad()
            criterion(model(xb), yb, ab).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def decide(model: nn.Module, part: Part) -> np.ndarray:
    return (model(torch.tensor(part.X, dtype=torch.float32)).squeeze(1) > 0).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    try:
        adult = load("adult")
    except MissingDataError as error:
        sys.exit(str(error))
    found = []
    for seed in range(options.seeds):
        parts = split(adult, "sex", seed)
        groups = Groups.from_sensitive(parts.train.groups)
        for eta in ETAS:
            model = train(parts.train, groups, eta, seed, options.epochs)
            held, test = (
                measure(p.y, decide(model, p), p.groups, 0.05)
                for p in (parts.validation, parts.test)
            )
            found.append(
                {
                    "seed": seed,
                    "eta": eta,
                    "validation_accuracy": held.accuracy,
                    "validation_gap": held.gap,
                    "test_accuracy": test.accuracy,
                    "test_gap": test.gap,
                }
            )
    table = pd.DataFrame(found)
    Path(RESULTS).mkdir(parents=True, exist_ok=True)
    table.round(4).to_csv(RESULTS / "regularizer_adult.csv", index=False)
    print(table.groupby("eta").mean().drop(columns="seed").round(4).to_string())
    kept = table[(table["eta"] > 0) & (table["validation_gap"] <= 0.04)]
    best = kept.loc[kept.groupby("seed")["validation_accuracy"].idxmax()]
    off = table[table["eta"] == 0].set_index("seed")
    for row in best.itertuples():
        cost = 100 * (off.loc[row.seed, "test_accuracy"] - row.test_accuracy)
        print(
            f"seed {row.seed}: eta 0 -> {row.eta:g}: test gap "
            f"{off.loc[row.seed, 'test_gap']:.3f} -> {row.test_gap:.3f}, "
            f"{cost:.2f} points of accuracy"
        )


if __name__ == "__main__":
    main()
