"""What a trained module answers: decisions, probabilities, numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils import RegressorTags, Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.utils.data import Dataset

from fairtrain.data import inputs
from fairtrain.data.labels import LabelCoding
from fairtrain.data.rows import Rows, finite_predictions
from fairtrain.estimator import FairEstimator
from fairtrain.exceptions import FairtrainError, InvalidDataError
from fairtrain.training.answers import LoaderAnswers, answered
from fairtrain.training.batches.adapter import BatchParts
from fairtrain.training.batches.batch import CHUNK, Batch, FitData
from fairtrain.training.batches.inputs import (
    NamedInputs,
    call_module,
    n_rows,
    some_rows,
    to_device,
)
from fairtrain.training.heads import Head
from fairtrain.training.loop.engine import device_of, dtype_of

__all__ = [
    "Members",
    "Predictor",
    "TensorFeatures",
    "decide",
    "require_finite",
    "told",
]

Floats = NDArray[np.float64]

Members = Sequence[tuple[float, nn.Module]]
"""Modules with the share of decisions that each makes; one, or the two of a mixture."""


class TensorFeatures(FairEstimator):
    """Reads ``X`` as a tensor: numbers of shape (n, d), tensors of any shape (n, ...), or by name.

    What a mapping holds stays a mapping, :class:`~fairtrain.training.batches.inputs.NamedInputs`.
    """

    n_features_in_: int

    def _read(self, X: Any, *columns: Any) -> Rows:
        if isinstance(X, Dataset):
            raise InvalidDataError(
                f"X is a data set of torch ({type(X).__name__}), whose items hold labels and "
                "groups: use fit_loader(DataLoader(X, batch_size=...), ...), or pass arrays."
            )
        return super()._read(NamedInputs.of(X), *columns)

    def _read_later(self, X: Any, *columns: Any) -> Rows:
        return super()._read_later(NamedInputs.of(X), *columns)

    def _bare_features(self, X: Any) -> Any:
        return super()._bare_features(NamedInputs.of(X))

    def _fit_features(self, X: Any) -> Any:
        return self._tensor(X, reset=True)

    def _later_features(self, X: Any) -> Any:
        return self._tensor(X, reset=False)

    def _tensor(self, X: Any, *, reset: bool) -> Any:
        if isinstance(X, NamedInputs):
            return self._named(X.checked(), reset=reset)
        if not isinstance(X, Tensor):
            rows = inputs.numeric_features(self, X, reset=reset)
            return torch.from_numpy(np.require(rows, requirements="W"))
        if X.ndim < 2 or not len(X):
            raise InvalidDataError(f"X must be rows of shape (n, ...), got {tuple(X.shape)}.")
        if X.is_floating_point() and not bool(torch.isfinite(X).all()):
            raise InvalidDataError("X contains NaN or infinity: fill or drop those rows.")
        if reset:
            self.n_features_in_ = int(X.shape[1])
        elif X.shape[1] != self.n_features_in_:
            raise InvalidDataError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input."
            )
        return X.detach().cpu()

    def _named(self, X: NamedInputs, *, reset: bool) -> NamedInputs:
        """Inputs by name, of the names that ``fit`` saw."""
        if reset:
            self.n_features_in_ = len(X)
            self.feature_names_in_ = np.array(list(X), dtype=object)
        known = getattr(self, "feature_names_in_", None)
        if known is not None and set(known) != set(X):
            raise InvalidDataError(f"X has the inputs {list(X)}, fit saw {list(known)}.")
        return X


class Predictor(TensorFeatures, LoaderAnswers, ClassifierMixin, FairEstimator):
    """The half of a trainer that is used after ``fit``.

    Attributes
    ----------
    module_ : nn.Module
        The trained module.
    """

    several_classes = True

    task: str
    module_: nn.Module
    n_features_in_: int
    _head: Head

    @property
    def _chunk(self) -> int:
        """Rows of one forward pass where nothing is trained."""
        return int(getattr(self, "micro_batch_size", None) or CHUNK)

    @property
    def _members(self) -> Members:
        """Who decides."""
        return [(1.0, self.module_)]

    def decision_function(self, X: Any) -> Floats:
        """Logits.

        Returns
        -------
        ndarray of shape (n,), or (n, C) for several classes
            Above 0 decides for ``classes_[1]``; with several classes the largest column decides.
        """
        coding = self._classification("decision_function")
        outputs = np.asarray(self._outputs(self._features(X), self.module_).numpy())
        if outputs.ndim == 2:
            return outputs  # several classes are numbered in sorted order
        return outputs if coding.column == 1 else -outputs

    def predict_proba(self, X: Any) -> Floats:
        """Probability of each class.

        Returns
        -------
        ndarray of shape (n, C)
            In the order of ``classes_``.
        """
        self._classification("predict_proba")
        return self._probabilities(self._features(X))

    def _probabilities(self, X: Any) -> Floats:
        outputs = self._outputs(X, self.module_)
        return self._classification("predict_proba").columns(self._head.probabilities(outputs))

    def predict(self, X: Any) -> NDArray[Any]:
        """Decide, or predict numbers.

        Returns
        -------
        ndarray of shape (n,)
            Labels; numbers for regression.
        """
        return self._predicted(self._features(X))

    def _predicted(self, X: Any) -> NDArray[Any]:
        decided = self._decision(X)
        if self._coding is None:
            return decided
        return np.asarray(self.classes_[self._coding.columns(decided).argmax(axis=1)])

    score = FairEstimator.score

    def _classification(self, name: str) -> LabelCoding:
        check_is_fitted(self)
        if self._coding is None:
            raise AttributeError(f"{name} belongs to classification; this task is regression.")
        return self._coding

    # What the face asks for ---------------------------------------------------------------------

    @property
    def _is_regression(self) -> bool:
        return self.task == "regression"

    def _strata(self, rows: Rows) -> NDArray[Any]:
        if rows.labels is None:
            return np.zeros(len(rows), dtype=np.int64)
        if len(np.unique(rows.outcomes)) < len(rows.labels.labels):  # rows of weight 0 are gone
            inputs.require_two_classes(rows.outcomes)
        return rows.outcomes

    def _decision(self, X: Any) -> Floats:
        """Decisions of all members, by their shares."""
        return finite_predictions(self._told(X)[0].numpy())

    def _decided(self, rows: Rows) -> Rows:
        decided, score = self._told(rows.X)
        known = self._head.task == "binary"
        return rows.decided(decided.numpy(), score.numpy() if known else None)

    def _told(self, X: Any) -> tuple[Tensor, Tensor]:
        members = self._members
        return told(self._head, [(share, self._outputs(X, module)) for share, module in members])

    @torch.no_grad()
    def _outputs(self, X: Any, module: nn.Module) -> Tensor:
        """Outputs of a module for rows of any kind, in float64."""
        n, at, dtype = n_rows(X), device_of(module), dtype_of(module)
        chunk = self._chunk
        parts = (some_rows(X, slice(start, start + chunk)) for start in range(0, n, chunk))
        raw = ((call_module(module, to_device(x, at, dtype)), n_rows(x)) for x in parts)
        return torch.cat([self._head.outputs(*given).double().cpu() for given in raw])

    # Loaders ------------------------------------------------------------------------------------

    def _batch_predicted(self, parts: BatchParts) -> NDArray[Any]:
        return self._predicted(parts.inputs)

    def _batch_probabilities(self, parts: BatchParts) -> Floats:
        self._classification("predict_proba_loader")
        return self._probabilities(parts.inputs)

    def _reader(self) -> tuple[nn.Module, Head]:
        return self.module_, self._head

    def _batches_decided(self, batches: Iterable[Batch], data: FitData) -> Rows:
        return decide(self._members, batches, data)

    # scikit-learn -------------------------------------------------------------------------------

    def __sklearn_tags__(self) -> Tags:
        """Tags of a classifier, or of a regressor with ``task="regression"``."""
        tags = super().__sklearn_tags__()
        if self._is_regression:
            tags.estimator_type = "regressor"
            tags.classifier_tags = None
            tags.regressor_tags = RegressorTags()
        return tags


@torch.no_grad()
def decide(members: Members, batches: Iterable[Batch], data: FitData) -> Rows:
    """Decide about the rows of all processes.

    Parameters
    ----------
    members : sequence of (share, module)
        Who decides; on the CPU before and after.
    batches : iterable of Batch
        Rows of this process.
    data : FitData
        What outputs, labels and codes mean, and where batches are.

    Returns
    -------
    Rows
        Without features; ``decision`` is 1 for the (favourable) decision, or its probability, with
        a column a class where there are several; numbers for regression.

    Raises
    ------
    FairtrainError
        If an output is NaN or infinite.
    """
    for _, module in members:
        module.to(data.engine.device).eval()

    def answer(batch: Batch) -> tuple[Tensor, Tensor]:
        n = len(batch.y)
        raw = ((share, call_module(module, batch.x)) for share, module in members)
        return told(data.head, [(share, data.head.outputs(own, n)) for share, own in raw])

    rows: Rows
    rows, decided, score = answered(batches, data, answer)
    for _, module in members:
        module.cpu()
    known = data.head.task == "binary"
    return rows.decided(decided, score if known else None)  # raises on all processes, or on none


def told(head: Head, outputs: Sequence[tuple[float, Tensor]]) -> tuple[Tensor, Tensor]:
    """Decisions of members by their shares, and between two classes the score they rest on.

    The score is what ``predict_proba`` says: a probability, or of several members the decisions.
    """
    decided: Any = sum(share * _hard(head, own) for share, own in outputs)
    alone = len(outputs) == 1 and head.task == "binary"
    return decided, torch.sigmoid(outputs[0][1].double()) if alone else decided


def _hard(head: Head, outputs: Tensor) -> Tensor:
    """Decisions as float64; NaN where an output is NaN, which would count as a no to a person."""
    outputs = outputs.double()
    decided = head.hard(outputs)
    wrong = ~torch.isfinite(outputs)
    return decided.masked_fill(wrong.any(1, keepdim=True) if wrong.ndim == 2 else wrong, torch.nan)


def require_finite(module: nn.Module) -> None:
    """Raise if a weight is NaN or infinite; buffers may be (the mask of an attention layer)."""
    for name, weight in module.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            raise FairtrainError(
                f"training left NaN or infinity in {name!r}; lower lr, look for NaN in the module "
                "or the data, or set clip_norm."
            )
