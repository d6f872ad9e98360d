"""What a trained network answers about the batches of a loader, whoever trained it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from fairtrain.data.groups import Groups, GroupScheme
from fairtrain.data.labels import LabelCoding
from fairtrain.data.rows import Rows
from fairtrain.data.sketch import Hashes
from fairtrain.estimator import FairEstimator
from fairtrain.exceptions import InvalidDataError
from fairtrain.losses.distributed import gather_rows
from fairtrain.metrics.report import FairnessReport
from fairtrain.training.batches.adapter import BatchAdapter, BatchParts, read_batch
from fairtrain.training.batches.batch import Batch, FitData, Source, nobody
from fairtrain.training.batches.inputs import NamedInputs, to_device
from fairtrain.training.batches.loaders import LoaderSource, levels_in
from fairtrain.training.heads import Head
from fairtrain.training.loop.engine import Engine, device_of

__all__ = ["LoaderAnswers", "answered", "read_rows", "to_judge"]

Floats = NDArray[np.float64]


class LoaderAnswers(FairEstimator):
    """The part of a face that reads loaders after ``fit``."""

    # What a trainer fills in --------------------------------------------------------------------

    @abstractmethod
    def _batch_predicted(self, parts: BatchParts) -> NDArray[Any]:
        """Labels or numbers for a batch."""

    @abstractmethod
    def _batch_probabilities(self, parts: BatchParts) -> Floats:
        """Probability of each class for a batch."""

    @abstractmethod
    def _reader(self) -> tuple[nn.Module, Head]:
        """A module of those that answer, and what labels of batches may be."""

    @abstractmethod
    def _batches_decided(self, batches: Iterable[Batch], data: FitData) -> Rows:
        """Rows of batches, decided."""

    # The face -----------------------------------------------------------------------------------

    def predict_loader(
        self, loader: Iterable[Any], *, adapter: BatchAdapter | None = None
    ) -> NDArray[Any]:
        """Decide about all rows of a loader, or predict numbers.

        Parameters
        ----------
        loader : iterable
            Batches as in ``fit_loader``; targets and groups may be left out, and are not looked at
            (but groups where ``predict`` needs them).
        adapter : BatchAdapter, optional
            Takes batches apart that cannot be guessed.

        Returns
        -------
        ndarray of shape (n,)
            Labels, as :meth:`predict` gives them; numbers for regression.
        """
        return self._over(loader, adapter, self._batch_predicted)

    def predict_proba_loader(
        self, loader: Iterable[Any], *, adapter: BatchAdapter | None = None
    ) -> Floats:
        """Probability of each class for all rows of a loader.

        Parameters
        ----------
        loader, adapter
            As in :meth:`predict_loader`.

        Returns
        -------
        ndarray of shape (n, C)
            As :meth:`predict_proba` gives them.
        """
        return self._over(loader, adapter, self._batch_probabilities)

    def evaluate_loader(
        self, loader: Iterable[Any], *, adapter: BatchAdapter | None = None
    ) -> FairnessReport:
        """Judge the constraints on all rows of a loader, which took no part in training.

        Under ``torch.distributed`` the rows of all processes are judged, and every process must
        call this.

        Parameters
        ----------
        loader : iterable
            Batches as in ``fit_loader``; groups are codes of ``scheme_``.
        adapter : BatchAdapter, optional
            Takes batches apart that cannot be guessed.

        Returns
        -------
        FairnessReport
            As :meth:`evaluate` gives it.
        """
        check_is_fitted(self)
        source, data = to_judge(
            loader,
            *self._reader(),
            self.scheme_,
            self._coding,
            continuous=getattr(self, "continuous_", None),
            adapter=adapter,
        )
        decided, hashes = self._decide_and_hash(source, data)
        return self._judged(decided, *self._kept_ledger.look(hashes))

    def _decide_and_hash(self, source: Source, data: FitData) -> tuple[Rows, Hashes]:
        """Decide about the rows of all processes in one pass; what the ledger knows them by."""
        ledger, seen = self._kept_ledger, []

        def batches() -> Iterator[Batch]:
            for batch in source.all():
                seen.append(ledger.hashes(read_rows(batch, data)).view(np.int64))
                yield batch

        decided = self._batches_decided(batches(), data)
        own = torch.from_numpy(np.concatenate(seen)).to(data.engine.device)
        return decided, gather_rows(own).cpu().numpy().view(np.uint64)

    def _over(
        self,
        loader: Iterable[Any],
        adapter: BatchAdapter | None,
        answer: Callable[[BatchParts], NDArray[Any]],
    ) -> NDArray[Any]:
        check_is_fitted(self)
        found = []
        for raw in loader:
            parts = read_batch(raw, adapter)
            found.append(answer(parts._replace(inputs=to_device(parts.inputs, "cpu"))))
        if not found:
            raise InvalidDataError("the loader gave no rows.")
        return np.concatenate(found)


def to_judge(
    loader: Iterable[Any],
    module: nn.Module,
    head: Head,
    scheme: GroupScheme,
    labels: LabelCoding | None,
    *,
    device: str | torch.device | None = None,
    continuous: Any = None,
    adapter: BatchAdapter | None = None,
) -> tuple[LoaderSource, FitData]:
    """A loader whose rows a module shall decide, and what its labels and codes mean.

    Parameters
    ----------
    loader : iterable
        Batches as in ``fit_loader``.
    module, head
        What decides, and what labels of batches may be.
    scheme, labels
        The groups and the labels of ``fit``.
    device : str or torch.device, optional
        Where batches go; by default to the module.
    continuous, adapter
        As :class:`~fairtrain.training.batches.loaders.LoaderSource` takes them.
    """
    engine = Engine(device or device_of(module))
    source = LoaderSource(loader, engine.device, levels_in(scheme), head, continuous, adapter)
    source.prepare(module)
    return source, FitData({}, scheme, head, labels, engine, 0, nobody())


@torch.no_grad()
def answered(
    batches: Iterable[Batch], data: FitData, answer: Callable[[Batch], tuple[Any, ...]]
) -> tuple[Any, ...]:
    """Rows of all processes, and what is answered about them.

    Parameters
    ----------
    batches : iterable of Batch
        Rows of this process.
    data : FitData
        What labels and codes mean, and where batches are.
    answer : callable
        Batch -> tensors or arrays, a row a person.

    Returns
    -------
    rows : Rows
        Without features.
    *answers : ndarray of shape (n, ...)

    Raises
    ------
    InvalidDataError
        If there are no rows.
    """
    found: list[tuple[Tensor, ...]] = []
    weighted = clustered = False
    for batch in batches:
        answers = [torch.as_tensor(part).cpu() for part in answer(batch)]
        weighted = weighted or batch.weight is not None
        weight = batch.weights(torch.float32).double()
        clustered = clustered or batch.clusters is not None
        cluster = batch.codes if batch.clusters is None else batch.clusters
        rest = batch.y, batch.codes, weight, cluster
        found.append((*(part.cpu() for part in rest), *answers))
    if not found:
        raise InvalidDataError("a loader gave no rows.")
    y, codes, weights, clusters, *told = (
        gather_rows(torch.cat(parts).to(data.engine.device)).cpu().numpy()
        for parts in zip(*found, strict=True)
    )
    rows = Rows(
        None,
        y.astype(np.float64),
        Groups(data.scheme, codes),
        weights if weighted else None,
        data.labels,
        clusters=clusters if clustered else None,
    )
    return rows, *told


def read_rows(batch: Batch, data: FitData) -> Rows:
    """A batch as rows, without features where they are neither one tensor nor have names."""
    x = batch.x if isinstance(batch.x, Tensor) else None
    if isinstance(batch.x, Mapping) and all(isinstance(t, Tensor) for t in batch.x.values()):
        x = NamedInputs.of(batch.x)
    groups = Groups(data.scheme, batch.codes.cpu().numpy())
    return Rows(x, batch.y.cpu().double().numpy(), groups, labels=data.labels)
