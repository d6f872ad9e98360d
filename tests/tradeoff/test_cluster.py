"""A sweep whose models are trained by the workers of a cluster."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator

import joblib
import pytest
from sklearn.linear_model import LogisticRegression
from tests.tradeoff.data import make_rows

from fairtrain import ReductionsWrapper, pareto_frontier

distributed = pytest.importorskip("distributed")

# Dask and its loop warn of their own affairs: sockets that close late, ports in use.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:Port .* is already in use:UserWarning"),
    pytest.mark.filterwarnings("ignore:Sending large graph:UserWarning"),
]


@pytest.fixture
def client() -> Iterator[None]:
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
        ) as cluster,
        distributed.Client(cluster),
    ):
        yield
    time.sleep(0.2)
    for _ in range(3):
        gc.collect()


def test_two_workers_train_the_same_models(client: None) -> None:
    rows = make_rows(400)
    model = ReductionsWrapper(LogisticRegression())

    def sweep() -> list[list[float]]:
        found = pareto_frontier(
            model, *rows[:2], sensitive_features=rows.who, param="difference_bound",
            values=[0.05, 0.1, 0.2], random_state=0,
        )  # fmt: skip
        return found.points[["performance", "gap"]].to_numpy().tolist()

    here = sweep()
    with joblib.parallel_config("dask"):
        there = sweep()
    assert there == here
