"""The same training on a Dask cluster: rows stay where they are, sums are all-reduced.

Every worker that holds rows runs the same loop. XGBoost all-reduces its histograms and quantile
sketches; :data:`~fairtrain.boosting.objective.GroupSums` all-reduces what the multipliers need. All
ranks so take the same decisions. Labels, groups and weights pass through the client, a few bytes a
row, which makes the split of the rows that of one process; features never do.
"""

from __future__ import annotations

import copy
import hashlib
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairtrain._imports import require
from fairtrain.boosting.training import Job, Trained, predict_all, scored, train
from fairtrain.data import inputs
from fairtrain.data.groups import group_sums
from fairtrain.data.rows import Rows
from fairtrain.data.splits import RowSplit
from fairtrain.exceptions import FairtrainError, InvalidDataError, InvalidParameterError

__all__ = ["DaskRows", "RankResult", "map_rows", "train_on_workers", "train_ranks"]

Floats = NDArray[np.float64]

_LOOK_EVERY = 0.2  # seconds between two looks at whether all workers are there


class DaskRows:
    """Feature rows on the workers of the current Dask client.

    Parameters
    ----------
    X : dask.dataframe.DataFrame or dask.array.Array of shape (n, d)
        Features.

    Attributes
    ----------
    head : frame or array
        A few rows, from which columns and types are read.
    levels : dict
        Levels of categorical columns.
    lengths : list of int
        Rows of each partition.
    """

    def __init__(self, X: Any) -> None:
        distributed = require("distributed", extra="distributed")
        try:
            self.client = distributed.get_client()
        except ValueError:
            raise InvalidParameterError(
                "X is a Dask collection, but there is no Dask client: make one with "
                "dask.distributed.Client(...) before fit."
            ) from None
        if hasattr(X, "rechunk"):
            X = X.rechunk({1: -1})  # whole rows
        self.parts = self.client.compute(list(np.asarray(X.to_delayed()).reshape(-1)))
        distributed.wait(self.parts)
        self.lengths = self.client.gather(
            [self.client.submit(inputs.number_of_rows, part) for part in self.parts]
        )
        first = int(np.argmax(np.array(self.lengths) > 0))
        self.head = self.client.submit(_head, self.parts[first]).result()
        _, self.levels = inputs.booster_features(self.head)
        self.kept: NDArray[np.int64] = np.arange(sum(self.lengths))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows that take part, and columns."""
        return len(self.kept), int(self.head.shape[1])

    def take_rows(self, rows: NDArray[np.int64]) -> DaskRows:
        """Keep only some rows, given by position; none is moved."""
        found = copy.copy(self)
        found.kept = self.kept[rows]
        return found

    def by_worker(self) -> dict[str, list[int]]:
        """Partitions that have rows, by the worker that holds them."""
        held: dict[str, list[int]] = {}
        where = self.client.who_has(self.parts)
        for i, part in enumerate(self.parts):
            if self.lengths[i]:
                held.setdefault(min(where[part.key]), []).append(i)
        return dict(sorted(held.items()))


@dataclass(frozen=True, eq=False)
class RankResult:
    """What one worker brings back.

    Attributes
    ----------
    trained : Trained
        Model and rounds, without margins.
    digest : str
        Of the model and of the multipliers.
    predicted : ndarray
        Predictions for the worker's rows.
    """

    trained: Trained
    digest: str
    predicted: Floats


def train_on_workers(job: Job, rows: Rows, timeout: float) -> tuple[Trained, Rows]:
    """Train on every worker that holds rows.

    Parameters
    ----------
    job : Job
        What to train.
    rows : Rows
        All rows, in the order of the partitions; ``X`` is a :class:`DaskRows`.
    timeout : float
        Seconds that one worker waits for another.

    Returns
    -------
    trained, rows
        As from one process; all rows with predictions and decisions.

    Raises
    ------
    FairtrainError
        If a worker is lost, or workers end with different models.
    """
    held = rows.X.by_worker()
    results = train_ranks(job, rows, held, timeout)
    if len({result.digest for result in results}) > 1:
        raise FairtrainError(
            "the workers ended with different models; install the same versions on all of them."
        )
    predicted = np.empty(len(rows))
    for places, result in zip(_places(rows.X, held), results, strict=True):
        predicted[_own(rows.X, places)] = result.predicted
    return results[0].trained, scored(rows, predicted)


def train_ranks(
    job: Job, rows: Rows, held: dict[str, list[int]], timeout: float
) -> list[RankResult]:
    """Run one rank on each worker and wait for all; the body of :func:`train_on_workers`."""
    X: DaskRows = rows.X
    args = X.client.run_on_scheduler(
        start_tracker, len(held), X.client.scheduler.address, int(timeout)
    )
    args |= {"dmlc_timeout": int(timeout), "dmlc_retry": 3}
    futures = []
    for rank, (worker, places) in enumerate(zip(held, _places(X, held), strict=True)):
        inside = np.flatnonzero(np.isin(places, X.kept))
        futures.append(
            X.client.submit(
                run_rank,
                [X.parts[i] for i in held[worker]],
                job,
                X.levels,
                _share(rows, places),
                None if len(inside) == len(places) else inside,
                args | {"dmlc_task_id": f"{rank:06d}"},
                workers=[worker],
                allow_other_workers=False,
                pure=False,
                retries=0,
            )
        )
    return _wait_for(X.client, futures, list(held))


def _wait_for(client: Any, futures: list[Any], workers: list[str]) -> list[RankResult]:
    """Results of all, or an error as soon as one is lost: the others would wait for it."""
    try:
        while not all(future.done() for future in futures):
            alive = set(client.scheduler_info(n_workers=-1)["workers"])
            if lost := [worker for worker in workers if worker not in alive]:
                raise FairtrainError(
                    f"the worker {lost[0]} was lost during training; start the fit again."
                )
            if failed := [f for f in futures if f.status in ("error", "lost", "cancelled")]:
                raise _failure(failed[0])
            time.sleep(_LOOK_EVERY)
        if failed := [f for f in futures if f.status != "finished"]:
            raise _failure(failed[0])
        results: list[RankResult] = client.gather(futures)
        return results
    finally:
        client.cancel(futures, force=True)


def _failure(future: Any) -> Exception:
    cause = future.exception() if future.status == "error" else None
    if isinstance(cause, FairtrainError):
        return cause
    found = FairtrainError(f"training failed on a Dask worker: {cause or future.status}")
    found.__cause__ = cause
    return found


def start_tracker(n_workers: int, scheduler: str, timeout: int) -> dict[str, Any]:
    """Start XGBoost's tracker beside the Dask scheduler, and say how to reach it."""
    from threading import Thread

    from distributed.comm.addressing import get_address_host
    from xgboost.tracker import RabitTracker

    tracker = RabitTracker(
        n_workers=n_workers, host_ip=get_address_host(scheduler), sortby="task", timeout=timeout
    )
    tracker.start()
    Thread(target=_until_done, args=(tracker,), daemon=True).start()
    return dict(tracker.worker_args())


def _until_done(tracker: Any) -> None:
    with suppress(Exception):  # the workers report what went wrong
        tracker.wait_for()
    with suppress(Exception):  # after a failure its finaliser would raise where nobody can catch it
        tracker.free()


def run_rank(
    parts: list[Any],
    job: Job,
    levels: inputs.Levels,
    rows: Rows,
    inside: NDArray[np.int64] | None,
    args: dict[str, Any],
) -> RankResult:
    """Run one rank on a worker, on those rows of its partitions that take part."""
    from distributed import get_worker
    from xgboost import collective

    if job.settings.n_jobs is None:
        threads = get_worker().state.nthreads
        job = replace(job, settings=replace(job.settings, n_jobs=threads))
    X = inputs.stack_rows([inputs.booster_features(part, levels)[0] for part in parts])
    rows = replace(rows, X=X if inside is None else inputs.take_rows(X, inside))

    def sums(values: Any, codes: Any, size: int) -> Floats:
        own = group_sums(values, codes, size)
        return np.asarray(collective.allreduce(own, collective.Op.SUM), dtype=np.float64)

    with collective.CommunicatorContext(**args):
        trained = train(job, rows, sums=sums)
    predicted = predict_all(job, trained, rows)
    digest = hashlib.sha256(bytes(trained.model.save_raw("ubj")))
    digest.update(trained.dual.multipliers.values.tobytes())
    return RankResult(trained.without_margins(), digest.hexdigest(), predicted)


def map_rows(function: Any, X: Any, like: NDArray[Any]) -> Any:
    """Apply a function of rows to every partition, lazily.

    Parameters
    ----------
    function : callable
        ``function(rows)`` -> array of the shape of ``like``, but for the number of rows.
    X : Dask collection
        Rows.
    like : ndarray of no rows
        Shape and type of the result.

    Returns
    -------
    dask.array.Array
    """
    if not hasattr(X, "rechunk"):
        return X.map_partitions(function, meta=like)
    X = X.rechunk({1: -1})
    if like.ndim == 1:
        return X.map_blocks(function, dtype=like.dtype, drop_axis=1, meta=like)
    return X.map_blocks(
        function, dtype=like.dtype, chunks=(X.chunks[0], (like.shape[1],)), meta=like
    )


def _head(part: Any) -> Any:
    return part.iloc[:5] if hasattr(part, "iloc") else part[:5]


def _places(X: DaskRows, held: dict[str, list[int]]) -> list[NDArray[np.int64]]:
    """Row numbers of every worker's partitions, one after the other."""
    ends = np.cumsum([0, *X.lengths])
    return [
        np.concatenate([np.arange(ends[i], ends[i + 1]) for i in parts]) for parts in held.values()
    ]


def _own(X: DaskRows, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which of the rows that take part lie at these places; parts keep their order, so do rows."""
    return np.flatnonzero(np.isin(X.kept, places))


def _share(rows: Rows, places: NDArray[np.int64]) -> Rows:
    """One worker's rows that take part: all but X."""
    assert rows.split is not None
    own = _own(rows.X, places)
    split = RowSplit(
        *(
            np.flatnonzero(np.isin(own, part))
            for part in (rows.split.training, rows.split.steering, rows.split.certification)
        )
    )
    if not len(split.training):
        raise InvalidDataError(
            "a Dask worker holds no row to train on; repartition X into parts of similar size."
        )
    return replace(replace(rows, X=None).take(own), split=split)
