"""A two-worker Dask cluster on this machine."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster
from numpy.typing import NDArray
from tests.boosting.data import make_rows

from fairtrain import LagrangianBoostingClassifier, gap
from fairtrain.boosting.backend import Settings
from fairtrain.boosting.distributed import DaskRows, train_ranks
from fairtrain.boosting.training import Job
from fairtrain.constraints import as_constraints
from fairtrain.data.groups import Groups
from fairtrain.data.rows import Rows
from fairtrain.data.splits import RowSplit
from fairtrain.exceptions import FairtrainError, InvalidDataError, InvalidParameterError

# Dask and its loop warn of their own affairs: sockets that close late, ports in use.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:Port .* is already in use:UserWarning"),
    pytest.mark.filterwarnings("ignore:Sending large graph:UserWarning"),
]


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Let what Dask leaves open close here, where warnings of it are expected."""
    yield
    time.sleep(0.2)
    for _ in range(3):
        gc.collect()


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
        ) as cluster,
        Client(cluster) as found,
    ):
        yield found


def model(**settings: Any) -> LagrangianBoostingClassifier:
    given = {"difference_bound": 0.05, "n_estimators": 30, "max_depth": 3, "learning_rate": 0.3}
    given |= {"random_state": 0, "n_jobs": 1, "timeout": 30} | settings
    return LagrangianBoostingClassifier(**given)


def coarse_rows(n: int = 4000, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Features of fewer values than bins, whose quantile sketches merge without loss."""
    X, y, group = make_rows(n, 3, seed=seed)
    return np.round(X * 5) / 5, y, group


def spread(values: NDArray[Any], parts: int = 4) -> Any:
    return da.from_array(values, chunks=(len(values) // parts, *values.shape[1:]))


@pytest.mark.filterwarnings("ignore::fairtrain.exceptions.FairtrainWarning")
def test_two_workers_train_the_model_of_one_process(client: Any) -> None:
    X, y, group = coarse_rows()
    single = model(certification_fraction=0.2).fit(X, y, sensitive_features=group)
    both = model(certification_fraction=0.2).fit(
        spread(X), spread(y), sensitive_features=spread(group)
    )
    assert both.best_iteration_ == single.best_iteration_
    np.testing.assert_allclose(both.predict_proba(X), single.predict_proba(X), atol=1e-5)
    pd.testing.assert_frame_equal(both.multipliers_, single.multipliers_, atol=1e-9)
    for role in ("training", "steering", "certification"):
        assert both.reports_[role].results[0].achieved == pytest.approx(
            single.reports_[role].results[0].achieved, abs=2e-3
        )
    lazy = both.predict(spread(X))
    np.testing.assert_array_equal(lazy.compute(), both.predict(X))
    assert both.predict_proba(spread(X)).compute().shape == (4000, 2)
    assert both.evaluate(spread(X), spread(y), sensitive_features=group).n_rows == 4000
    lazy = both.decision_proba(spread(X))
    assert isinstance(lazy, da.Array)
    np.testing.assert_array_equal(lazy.compute(), both.decision_proba(X))


@pytest.mark.filterwarnings("ignore::fairtrain.exceptions.FairtrainWarning")
def test_with_finer_features_accuracy_and_gap_agree(client: Any) -> None:
    X, y, group = make_rows(6000, seed=2)
    fresh, truth, fresh_group = make_rows(6000, seed=3)
    frame = pd.DataFrame(X, columns=list("abcde")).assign(group=group)
    lazy = dd.from_pandas(frame, npartitions=4)
    single = model(sensitive_features="group").fit(frame, y)
    both = model(sensitive_features="group").fit(lazy, dd.from_pandas(pd.Series(y), npartitions=4))
    rows = pd.DataFrame(fresh, columns=list("abcde"))
    assert both.score(rows, truth) == pytest.approx(single.score(rows, truth), abs=0.02)
    gaps = [gap(truth, m.predict(rows), fresh_group).value for m in (single, both)]
    assert gaps[0] == pytest.approx(gaps[1], abs=0.03)
    assert both.feature_names_in_.tolist() == list("abcde")
    assert both.predict(lazy).compute().shape == (6000,)


@pytest.mark.filterwarnings("ignore::fairtrain.exceptions.FairtrainWarning")
def test_rows_of_weight_zero_take_no_part(client: Any) -> None:
    X, y, group = coarse_rows(2000)
    weight = np.where(np.arange(2000) % 5 == 0, 0.0, 1.0)
    kept = weight > 0
    single = model().fit(X[kept], y[kept], sensitive_features=group[kept])
    both = model().fit(spread(X), spread(y), sensitive_features=group, sample_weight=spread(weight))
    np.testing.assert_allclose(both.predict_proba(X), single.predict_proba(X), atol=1e-5)
    weighted = both.evaluate(spread(X), y, sensitive_features=group, sample_weight=weight)
    fewer = both.evaluate(X[kept], y[kept], sensitive_features=group[kept])
    assert weighted.n_rows == int(kept.sum())
    assert weighted.to_dict() == fewer.to_dict()


def test_rows_are_left_out_without_a_change_to_those_they_came_from(client: Any) -> None:
    rows = DaskRows(spread(np.arange(20.0).reshape(10, 2)))
    fewer = rows.take_rows(np.array([1, 4, 7])).take_rows(np.array([0, 2]))
    assert (rows.shape, fewer.shape) == ((10, 2), (2, 2))
    assert fewer.kept.tolist() == [1, 7]


def test_a_collection_carries_the_index_of_its_labels(client: Any) -> None:
    X, y, group = coarse_rows(400)
    frame = pd.DataFrame(X, columns=list("abcde")[: X.shape[1]]).assign(group=group)
    lazy = dd.from_pandas(frame, npartitions=4)
    asked = model(sensitive_features="group", n_estimators=3)
    with pytest.raises(InvalidDataError, match="y carries another index than X"):
        asked.fit(lazy, pd.Series(y, index=np.arange(400) + 5))


def job_of(X: Any, y: NDArray[Any], group: NDArray[Any], rounds: int) -> tuple[Job, Rows]:
    groups = Groups.from_sensitive(group)
    constraints = as_constraints("equalized_odds", difference_bound=0.05)
    job = Job(Settings.of(model(n_estimators=rounds), seed=0), constraints, groups.scheme)
    steers = np.arange(len(y)) % 5 == 0
    split = RowSplit(np.flatnonzero(~steers), np.flatnonzero(steers), np.arange(0))
    return job, Rows(DaskRows(spread(X)), y.astype(float), groups, split=split)


def test_models_and_multipliers_are_bit_equal_across_ranks(client: Any) -> None:
    X, y, group = make_rows(4000, 3)
    job, rows = job_of(X, y, group, 15)
    held = rows.X.by_worker()
    assert len(held) == 2
    first, second = train_ranks(job, rows, held, timeout=30)
    assert bytes(first.trained.model.save_raw()) == bytes(second.trained.model.save_raw())
    np.testing.assert_array_equal(
        first.trained.dual.multipliers.values, second.trained.dual.multipliers.values
    )
    assert first.digest == second.digest
    assert first.trained.dual.multipliers.values.max() > 0


def test_what_dask_cannot_do_is_said(client: Any) -> None:
    X, y, group = coarse_rows(400)
    with pytest.raises(InvalidParameterError, match="'lightgbm' does not train on Dask"):
        model(booster="lightgbm").fit(spread(X), y, sensitive_features=group)
    with pytest.raises(InvalidParameterError, match="eval_set is not followed on Dask"):
        model().fit(spread(X), y, sensitive_features=group, eval_set=[(X, y)])
    with pytest.raises(InvalidDataError, match="sensitive_features has 5 rows"):
        model().fit(spread(X), y, sensitive_features=group[:5])


def test_without_a_client_it_says_so() -> None:
    X, y, group = coarse_rows(100)
    with (
        patch("distributed.get_client", side_effect=ValueError("No global client found")),
        pytest.raises(InvalidParameterError, match=r"make one with dask\.distributed\.Client"),
    ):
        model().fit(spread(X), y, sensitive_features=group)


def test_a_lost_worker_is_an_error_and_no_hang() -> None:
    X, y, group = make_rows(4000)
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
        ) as cluster,
        Client(cluster) as own,
    ):
        job, rows = job_of(X, y, group, 100_000)  # would take minutes
        held = rows.X.by_worker()
        pid = own.run(os.getpid)[list(held)[1]]
        killer = threading.Timer(3.0, os.kill, (pid, signal.SIGKILL))
        killer.start()
        before = time.monotonic()
        with pytest.raises(FairtrainError, match=r"was lost during training|failed on a Dask"):
            train_ranks(job, rows, held, timeout=20)
        assert time.monotonic() - before < 30
