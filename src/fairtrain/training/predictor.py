"""What a trained module answers: decisions, probabilities, and reports on fresh rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from fairtrain.data import inputs
from fairtrain.data.groups import GroupScheme
from fairtrain.data.rows import take_sensitive
from fairtrain.exceptions import InvalidDataError
from fairtrain.metrics.report import FairnessReport
from fairtrain.training.batch import CHUNK
from fairtrain.training.heads import Head
from fairtrain.training.judging import Decided, Judge, Members

__all__ = ["Predictor", "as_array", "columns_of", "dtype_of"]

Floats = NDArray[np.float64]


class Predictor:
    """The half of a trainer that is used after ``fit``.

    Attributes
    ----------
    module_ : nn.Module
        The trained module.
    classes_ : ndarray of shape (C,)
        Labels, sorted.
    scheme_ : GroupScheme
        The groups.
    fairness_report_ : FairnessReport
        What was achieved.
    """

    task: str
    sensitive_features: Any
    module_: nn.Module
    classes_: NDArray[Any]
    scheme_: GroupScheme
    fairness_report_: FairnessReport
    n_features_in_: int
    _head: Head
    _judge: Judge
    _labels: NDArray[Any] | None
    _said: list[str]

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
        labels = self._class_labels("decision_function")
        outputs = self._outputs(X, self.module_)
        if outputs.ndim == 2:
            return outputs  # several classes are numbered in sorted order
        return outputs if labels[1] == self.classes_[1] else -outputs

    def predict_proba(self, X: Any) -> Floats:
        """Probability of each class.

        Returns
        -------
        ndarray of shape (n, C)
            In the order of ``classes_``.
        """
        self._class_labels("predict_proba")
        outputs = torch.from_numpy(self._outputs(X, self.module_))
        return self._in_order(self._head.probabilities(outputs))

    def predict(self, X: Any) -> NDArray[Any]:
        """Decide, or predict numbers.

        Returns
        -------
        ndarray of shape (n,)
            Labels; numbers for regression.
        """
        check_is_fitted(self)
        shares = self._shares(X)
        if self._head.task == "regression":
            return shares
        return np.asarray(self.classes_[self._in_order(columns_of(shares)).argmax(axis=1)])

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy; R^2 for regression."""
        scorer = r2_score if self.task == "regression" else accuracy_score
        return float(scorer(as_array(y), self.predict(X), sample_weight=sample_weight))

    def evaluate(
        self, X: Any, y: Any, *, sensitive_features: Any = None, sample_weight: Any = None
    ) -> FairnessReport:
        """Judge the constraints on rows that took no part in training or choosing.

        Parameters
        ----------
        X, y, sensitive_features, sample_weight
            As in ``fit``; groups keep their codes, a group that fit never saw raises.

        Returns
        -------
        FairnessReport
        """
        check_is_fitted(self)
        X, sensitive = self._split_columns(X, sensitive_features)
        y = as_array(y)
        codes = self._codes(sensitive, X if inputs.has_index(X) else y)
        truth = inputs.as_vector(y, "y")
        inputs.check_lengths(inputs.number_of_rows(X), y=truth, sensitive_features=codes)
        if self._labels is None:
            target: NDArray[Any] = inputs.as_float_column(truth, "y")
        else:
            inputs.require_known_labels(truth, self.classes_)
            order = np.argsort(self._labels, kind="stable")
            target = order[np.searchsorted(self._labels, truth, sorter=order)]
        weight = inputs.as_sample_weight(sample_weight, len(target))
        return self._judge(Decided(self._shares(X), target, codes, weight), "certification")

    def explain(self) -> str:
        """Say in plain words what was achieved, on which rows, and why not more."""
        check_is_fitted(self)
        return "\n".join([self.fairness_report_.explain(), *self._said])

    @property
    def needs_sensitive_at_predict(self) -> bool:
        """False: decisions read the features only."""
        return False

    def _codes(self, sensitive: Any, like: Any) -> NDArray[np.int64]:
        """Groups of later rows."""
        return self.scheme_.encode(sensitive, like=like)

    def _class_labels(self, name: str) -> NDArray[Any]:
        check_is_fitted(self)
        if self._labels is None:
            raise AttributeError(f"{name} belongs to classification; this task is regression.")
        return self._labels

    def _outputs(self, X: Any, module: nn.Module) -> Floats:
        """Outputs of a module for rows of any kind."""
        x = self._features(self._without_sensitive(X), reset=False)
        x = x.to(dtype_of(module)) if x.is_floating_point() else x
        with torch.no_grad():
            found = [self._head.outputs(module(p), len(p)).double() for p in torch.split(x, CHUNK)]
        return np.asarray(torch.cat(found).numpy())

    def _without_sensitive(self, X: Any) -> Any:
        if isinstance(X, Tensor):
            return X
        X = inputs.as_features(X)
        if self.sensitive_features is None:
            return X
        return inputs.drop_if_present(X, self.sensitive_features)

    def _rows_of(self, X: Any) -> NDArray[Any]:
        """Feature rows as numbers, one row a person."""
        x = self._features(self._without_sensitive(X), reset=False)
        return np.asarray(x.reshape(len(x), -1).numpy())

    def _shares(self, X: Any) -> Floats:
        """Decisions as a report reads them: of all members, by their shares."""
        total: Any = 0.0
        for share, module in self._members:
            total = total + share * self._head.hard(torch.from_numpy(self._outputs(X, module)))
        return np.asarray(total.numpy())

    def decision_proba(self, X: Any) -> Floats:
        """Chance of each decision, in the order of ``classes_``, shape (n, C)."""
        self._class_labels("decision_proba")
        return self._in_order(columns_of(self._shares(X)))

    def _in_order(self, columns: Floats) -> Floats:
        """Columns by class number, put into the order of ``classes_``."""
        assert self._labels is not None
        return columns[:, np.argsort(self._labels, kind="stable")]

    def _split_columns(self, X: Any, sensitive_features: Any) -> tuple[Any, Any]:
        X = X if isinstance(X, Tensor) else inputs.as_features(X)
        X, sensitive = take_sensitive(X, self.sensitive_features, sensitive_features)
        return X, as_array(sensitive)

    def _features(self, X: Any, *, reset: bool) -> Tensor:
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


def dtype_of(module: nn.Module) -> torch.dtype:
    """Floating type of a module's weights."""
    for parameter in module.parameters():
        if parameter.is_floating_point():
            return parameter.dtype
    return torch.get_default_dtype()


def columns_of(shares: Floats) -> Floats:
    """Shares by class number, one column a class."""
    return shares if shares.ndim == 2 else np.column_stack([1 - shares, shares])


def as_array(values: Any) -> Any:
    """Tensors as arrays; anything else as it came."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else values
