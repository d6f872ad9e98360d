"""What labels mean as numbers: the one place that knows which label is the favourable one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, r2_score

from fairtrain.data import inputs
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

__all__ = ["LabelCoding", "read_decisions", "scored"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LabelCoding:
    """Labels by number, as ``fit`` saw them.

    Attributes
    ----------
    labels : ndarray of shape (C,)
        Label of every class number. Two labels are (unfavourable, favourable), so that 1 always
        stands for the favourable outcome; more are sorted.
    named : bool
        Whether it is known which of two labels is favourable: it was named, or the labels are
        {0, 1}, {-1, 1} or booleans. Otherwise the one that sorts last is taken, which only notions
        that treat both labels alike may rely on.

    Examples
    --------
    >>> target, coding = LabelCoding.read(["deny", "approve", "deny"], positive_label="approve")
    >>> target.tolist(), coding.favourable, coding.classes.tolist()
    ([0, 1, 0], 'approve', ['approve', 'deny'])
    >>> coding.columns(np.array([0.9]))  # in the order of classes
    array([[0.9, 0.1]])
    """

    labels: NDArray[Any]
    named: bool

    @classmethod
    def read(
        cls, y: Any, positive_label: Any = None, *, several: bool = False
    ) -> tuple[NDArray[np.int64], Self]:
        """Read labels as class numbers, and learn the coding.

        Parameters
        ----------
        y : array-like of shape (n,)
            Labels.
        positive_label : label, optional
            The favourable one of two.
        several : bool, default=False
            Allow more than two classes.

        Returns
        -------
        numbers : ndarray of int64, shape (n,)
        coding : LabelCoding

        Raises
        ------
        InvalidDataError
            If labels are missing, vary like numbers, or are not two where two are needed.
        InvalidParameterError
            If ``positive_label`` is none of them.
        """
        array = inputs.column_of_labels(y)
        classes, numbers = np.unique(array, return_inverse=True)
        if several and len(classes) < 2:
            raise InvalidDataError(
                f"y must hold at least two classes, found 1 class: {classes.tolist()}."
            )
        if several and len(classes) > 2:
            if positive_label is not None:
                raise InvalidParameterError(
                    f"positive_label={positive_label!r} belongs to two classes, y holds "
                    f"{len(classes)}: each is then an outcome of its own."
                )
            return numbers.reshape(-1).astype(np.int64), cls(classes, True)
        target, both = inputs.binary_target(array, positive_label)
        named = positive_label is not None or not inputs.needs_positive_label(both)
        return target.astype(np.int64), cls(both, named)

    @classmethod
    def of(cls, favourable: Any) -> Self:
        """Coding of rows that are numbers already, 1 standing for ``favourable``."""
        labels = np.empty(2, dtype=object)
        labels[:] = [None, favourable]
        return cls(labels, True)

    @property
    def classes(self) -> NDArray[Any]:
        """Labels, sorted: scikit-learn's ``classes_``."""
        return np.sort(self.labels)

    @property
    def favourable(self) -> Any:
        """The favourable label; with more than two classes there is none (None)."""
        return self.labels[1] if len(self.labels) == 2 else None

    @property
    def column(self) -> int:
        """Place of the favourable label in :attr:`classes`."""
        return int(self.classes[1] == self.labels[1])

    def encode(self, y: Any) -> NDArray[np.int64]:
        """Class numbers of later rows.

        Raises
        ------
        InvalidDataError
            If a label is none of those that ``fit`` saw.
        """
        labels = inputs.as_vector(y, "y")
        if labels.dtype.kind in "fO" and pd.isna(labels).any():
            raise InvalidDataError("y contains missing labels; drop those rows.")
        inputs.require_known_labels(labels, self.classes)
        order = np.argsort(self.labels, kind="stable")
        return np.asarray(order[np.searchsorted(self.labels, labels, sorter=order)], dtype=np.int64)

    def decode(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """Labels of class numbers."""
        return np.asarray(self.labels[np.asarray(numbers, dtype=np.int64)])

    def columns(self, shares: Floats) -> Floats:
        """Shares by class number, as columns in the order of :attr:`classes`.

        Parameters
        ----------
        shares : ndarray of shape (n,) or (n, C)
            Share of the favourable label, or a column for every class number.
        """
        by_number = shares if shares.ndim == 2 else np.column_stack([1 - shares, shares])
        return np.asarray(by_number[:, np.argsort(self.labels, kind="stable")])

    def require_named(self, asked: str) -> None:
        """Raise where something depends on the favourable outcome and nobody named it.

        Parameters
        ----------
        asked : str
            What depends on it.
        """
        if not self.named:
            raise InvalidParameterError(
                f"positive_label is missing: {asked} depends on which of "
                f"{self.classes.tolist()} is the favourable outcome."
            )


def read_decisions(
    truth: NDArray[Any] | None, predicted: NDArray[Any], named: Any, *, name_required: bool = True
) -> tuple[Any, bool]:
    """Find the favourable label among labels and decisions about them.

    Parameters
    ----------
    truth : ndarray of shape (n,) or None
        Labels.
    predicted : ndarray of shape (n,)
        Decisions as labels, or probabilities of the favourable one.
    named : label or None
        The favourable one, as somebody named it.
    name_required : bool, default=True
        Whether it must be named where labels do not say so themselves.

    Returns
    -------
    favourable : label
    probabilities : bool
        Whether ``predicted`` holds probabilities.

    Raises
    ------
    InvalidDataError
        If values are missing, or there are more than two labels.
    InvalidParameterError
        If the favourable label is unknown, or is none of them.
    """
    for name, column in (("y_true", truth), ("y_pred", predicted)):
        if column is not None and pd.isna(column).any():
            raise InvalidDataError(f"{name} contains missing values; drop those rows.")
    probabilities = _holds_probabilities(truth, predicted)
    columns = [c for c in (truth, None if probabilities else predicted) if c is not None]
    labels = list(dict.fromkeys(label for c in columns for label in pd.unique(c).tolist()))
    if len(labels) > 2:
        raise InvalidDataError(
            f"y_true and y_pred hold {len(labels)} labels, expected two: {str(labels[:6])[:100]}; "
            "scores belong in y_score, probabilities of a decision must lie in [0, 1]. Several "
            "classes, or numbers, are judged by evaluate() of the model that predicts them; one "
            "class against all others here, as y == label."
        )
    if named is not None:
        if len(labels) == 2 and named not in labels:
            raise InvalidParameterError(f"positive_label={named!r} is none of {labels}.")
        return named, probabilities
    if set(labels) <= {0, 1} or set(labels) <= {-1, 1}:
        return 1, probabilities
    if name_required:
        raise InvalidParameterError(
            f"positive_label is missing: which of {labels} is the favourable outcome?"
        )
    return max(labels), probabilities


def _holds_probabilities(truth: NDArray[Any] | None, predicted: NDArray[Any]) -> bool:
    """Whether decisions are probabilities: fractions, or 0.0 and 1.0 beside other labels."""
    if predicted.dtype.kind != "f" or not len(predicted):
        return False
    if predicted.min() < 0 or predicted.max() > 1:
        return False
    if ((predicted > 0) & (predicted < 1)).any():
        return True
    return truth is not None and not np.isin(pd.unique(predicted), pd.unique(truth)).any()


def scored(
    X: Any, y: Any, predicted: Any, sample_weight: Any = None, *, values: bool = False
) -> float:
    """Accuracy of predicted labels, or R^2 of predicted values, on rows read as in ``fit``.

    Parameters
    ----------
    X, y, sample_weight
        As in ``fit``.
    predicted : ndarray of shape (n,)
        What a model says of them.
    values : bool, default=False
        Whether numbers are predicted, no labels.
    """
    inputs.require_same_index(X=X, y=y, sample_weight=sample_weight)
    predicted = inputs.local(predicted)
    known = (inputs.column_of_values if values else inputs.column_of_labels)(inputs.local(y))
    weight = inputs.as_sample_weight(inputs.local(sample_weight), len(predicted))
    measure = r2_score if values else accuracy_score
    return float(measure(known, predicted, sample_weight=weight))
