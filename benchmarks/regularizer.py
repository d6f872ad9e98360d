"""The same MLP with and without ``FairnessRegularizerLoss``: accuracy and gap on unseen rows.

Run ``python benchmarks/regularizer.py``; needs the folder of benchmark data.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: seconds are for one thread
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script

import numpy as np
import torch
from benchmarks.protocol import (
    RESULTS,
    Fitted,
    Method,
    MissingDataError,
    Part,
    data_folder,
    load,
    run,
    table,
    timed,
    write_csv,
)

from fairtrain import FairnessRegularizerLoss, GroupStratifiedBatchSampler

ETAS = (0.0, 0.5, 1.0, 2.0, 5.0)
BOUND = 0.05
EPOCHS = 15


def network(features: int) -> torch.nn.Module:
    """Two hidden layers of 64."""
    relu = torch.nn.ReLU
    return torch.nn.Sequential(
        torch.nn.Linear(features, 64),
        relu(),
        torch.nn.Linear(64, 64),
        relu(),
        torch.nn.Linear(64, 1),
    )


def regularized(eta: float, epochs: int = EPOCHS) -> Method:
    """An MLP trained with demographic parity weighed by ``eta``."""

    def train_network(rows: Part, seed: int) -> torch.nn.Module:
        torch.manual_seed(seed)
        names, codes = np.unique(rows.groups, return_inverse=True)
        X = torch.as_tensor(rows.X, dtype=torch.float32)
        y, group = torch.as_tensor(rows.y, dtype=torch.float32), torch.as_tensor(codes)
        net = network(X.shape[1])
        criterion = FairnessRegularizerLoss(
            penalty="demographic_parity", eta=eta, num_groups=len(names)
        )
        optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        batches = GroupStratifiedBatchSampler(codes, 512, seed=seed)
        for epoch in range(epochs):
            batches.set_epoch(epoch)
            for batch in batches:
                optimizer.zero_grad()
                criterion(net(X[batch]), y[batch], group[batch]).backward()
                optimizer.step()
            decay.step()
        return net

    def fit(train: Part, validation: Part, bound: float, seed: int) -> Fitted:
        net, seconds = timed(lambda: train_network(train.with_rows(validation), seed))

        def decide(X: Any) -> Any:
            with torch.no_grad():
                logits = net(torch.as_tensor(X, dtype=torch.float32))
            return (logits[:, 0] > 0).numpy().astype(np.int64)

        return Fitted(decide, seconds)

    return fit


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, few epochs, not written")
    options = parser.parse_args(arguments)
    try:
        data_folder()
    except MissingDataError as error:
        print(error, file=sys.stderr)
        return 2
    epochs = 2 if options.quick else EPOCHS
    methods = {f"MLP, eta {eta:g}": regularized(eta, epochs) for eta in ETAS}
    seeds = (0,) if options.quick else (0, 1, 2)
    rows = run(load("adult"), "sex", methods, bound=BOUND, seeds=seeds, say=print)
    print(table(rows))
    if not options.quick:
        write_csv(rows, RESULTS / "regularizer.csv")
    return 0


if __name__ == "__main__":
    sys.exit(main())
