"""``Rows``: people as every method reads them and passes them on, whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from fairtrain.data import inputs
from fairtrain.data.groups import Groups, GroupScheme, Missing
from fairtrain.data.labels import LabelCoding, read_decisions
from fairtrain.data.splits import Random, RowSplit, split_rows, stratified_folds, value_strata
from fairtrain.data.strata import Given
from fairtrain.exceptions import FairtrainError, InvalidDataError, InvalidParameterError

__all__ = ["Role", "Rows", "finite_predictions", "take_clusters", "take_sensitive", "with_strata"]

Floats = NDArray[np.float64]
Role = Literal["training", "steering", "certification"]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of people: features, labels, groups and weights that belong together.

    Everything that :meth:`read` was given and that carries an index carried the same one, so row i
    of every part is the same person. Rows of weight 0 are gone.

    Attributes
    ----------
    X : frame, sparse matrix, array, PyTorch tensor or None
        Features, without the sensitive columns; scores, for a calibrator; None where only
        decisions are judged.
    y : ndarray of shape (n,) or None
        Class numbers (1: the favourable label, of two), or values, in regression.
    groups : Groups
        The sensitive features: which group each person belongs to.
    weight : ndarray of shape (n,) or None
        Sample weights, all above 0.
    labels : LabelCoding or None
        What the class numbers mean; None in regression.
    split : RowSplit or None
        Which of the rows train, steer and certify.
    decision : ndarray of shape (n,) or (n, C), optional
        What was decided about them: 1 for the favourable decision, or the probability of one.
    score : ndarray of shape (n,), optional
        Probability of the favourable label.
    position : ndarray of int64, shape (n,), optional
        Place of each row among those that were passed, where some are gone.
    design_effect : float, default=1
        Variance of a mean over the rows as they were decided, over that of independent ones.
    clusters : ndarray of int64, shape (n,), optional
        Which rows are not independent of each other: those of one person, branch or judge. Splits
        and folds keep them together, and intervals allow for them.

    Examples
    --------
    >>> rows = Rows.read([[1.0], [2.0], [3.0]], ["no", "yes", "no"], ["a", "b", "a"],
    ...                  positive_label="yes")
    >>> len(rows), rows.y.tolist(), rows.groups.names
    (3, [0.0, 1.0, 0.0], ('a', 'b'))
    >>> rows.take([1]).groups.codes
    array([1])
    """

    X: Any
    y: Floats | None
    groups: Groups
    weight: Floats | None = None
    labels: LabelCoding | None = None
    split: RowSplit | None = None
    decision: Floats | None = None
    score: Floats | None = None
    position: NDArray[np.int64] | None = None
    design_effect: float = 1.0
    clusters: NDArray[np.int64] | None = None

    @classmethod
    def read(
        cls,
        X: Any,
        y: Any,
        sensitive_features: Any,
        sample_weight: Any = None,
        *,
        clusters: Any = None,
        columns: str | Sequence[str] | None = None,
        features: Callable[[Any], Any] | None = None,
        scheme: GroupScheme | None = None,
        group: Callable[[Any], Groups] | None = None,
        labels: LabelCoding | None = None,
        positive_label: Any = None,
        several_classes: bool = False,
        regression: bool = False,
        missing: Missing = "error",
        min_count: int = 30,
        given: Given = (),
    ) -> Self:
        """Read what a person passed.

        Parameters
        ----------
        X : frame, array, sparse matrix, PyTorch tensor or Dask collection of shape (n, ...)
            Features.
        y : array-like or tensor of shape (n,)
            Labels, or values with ``regression=True``.
        sensitive_features : frame, series, mapping, array, list or Groups
            Who; None where ``columns`` names columns of ``X``.
        sample_weight : array-like of shape (n,), optional
            Weights, finite and not negative; rows of weight 0 are dropped.
        clusters : array-like of shape (n,) or str, optional
            Cluster of each row, or the name of the column of ``X`` that holds it, which is then no
            feature.
        columns : str or sequence of str, optional
            Columns of ``X`` that hold the sensitive features.
        features : callable, optional
            Brings what is left of ``X`` into the form that the method works on. Rows of a Dask
            collection that it leaves on the workers keep those of weight 0.
        scheme, labels : optional
            Groups and labels that ``fit`` saw: later rows are coded by them.
        group : callable, optional
            Makes the groups of the sensitive features, where a method reads them its own way.
        positive_label : label, optional
            The favourable one of two.
        several_classes : bool, default=False
            Allow more than two.
        regression : bool, default=False
            ``y`` holds values.
        missing : {"error", "group"}, default="error"
            What to do with missing sensitive values.
        min_count : int, default=30
            Groups with fewer rows count as small.
        given : tuple of (str, tuple of float), default=()
            Columns that divide people into strata: sensitive ones, or else columns of ``X``, where
            they stay features. A ``scheme`` knows its own.

        Returns
        -------
        Rows

        Raises
        ------
        InvalidDataError
            If lengths or indexes differ, or values cannot be used.
        InvalidParameterError
            If the settings contradict each other.
        """
        if not inputs.is_lazy(X):
            X = inputs.as_features(X)
        X, clusters = take_clusters(X, clusters)
        X, sensitive = take_sensitive(X, columns, sensitive_features)
        y, sensitive, sample_weight = map(inputs.local, (y, sensitive, sample_weight))
        inputs.require_same_index(
            X=X,
            y=y,
            sensitive_features=sensitive,
            sample_weight=sample_weight,
            clusters=clusters,
        )
        sensitive = with_strata(X, sensitive, given if scheme is None else scheme.given)
        target: NDArray[Any]
        if regression:
            target = inputs.column_of_values(y)
        elif labels is not None:
            target = labels.encode(y)
        else:
            target, labels = LabelCoding.read(y, positive_label, several=several_classes)
        if group is not None:
            groups = group(sensitive)
        elif isinstance(sensitive, Groups):
            groups = sensitive.with_given(given)
        elif scheme is not None:
            groups = Groups(scheme, scheme.encode(sensitive))
        else:
            groups = Groups.from_sensitive(
                sensitive, missing=missing, min_count=min_count, given=given
            )
        if features is not None:
            X = features(X)
        lazy = inputs.is_lazy(X)
        n = len(target) if lazy else inputs.number_of_rows(X)
        inputs.check_lengths(n, y=target, sensitive_features=groups.codes)
        weight = inputs.as_sample_weight(sample_weight, n)
        rows = cls(
            X,
            np.asarray(target, dtype=np.float64),
            groups,
            weight,
            labels,
            clusters=inputs.as_clusters(clusters, n),
        )
        if weight is None or lazy or (weight > 0).all():
            return rows
        return rows.take(np.flatnonzero(weight > 0))

    @classmethod
    def judged(
        cls,
        y: Floats | None,
        decision: Floats,
        groups: Groups,
        weight: Floats | None = None,
        *,
        score: Floats | None = None,
        favourable: Any = None,
        clusters: NDArray[np.int64] | None = None,
    ) -> Self:
        """Rows that are numbers already, with what was decided about them and no features.

        Raises
        ------
        InvalidDataError
            If a number is NaN or infinite.
        """
        for numbers in (y, decision, score):
            if numbers is not None:
                finite_predictions(numbers)
        labels = None if favourable is None else LabelCoding.of(favourable)
        return cls(None, y, groups, weight, labels, None, decision, score, clusters=clusters)

    @classmethod
    def read_decided(
        cls,
        y_true: Any,
        y_pred: Any,
        sensitive_features: Any,
        *,
        y_score: Any = None,
        positive_label: Any = None,
        sample_weight: Any = None,
        clusters: Any = None,
        missing: Missing = "error",
        min_count: int = 30,
        name_required: bool = True,
        given: Given = (),
    ) -> Self:
        """Read people and what was decided about them, whoever decided: no features.

        Parameters
        ----------
        y_true : array-like of shape (n,) or None
            Labels, two of them.
        y_pred : array-like of shape (n,)
            Decisions as labels, or probabilities of favourable ones.
        sensitive_features : frame, series, mapping, array, list or Groups
            The sensitive features: which group each person belongs to.
        y_score : array-like of shape (n,), optional
            Probability of the favourable label.
        positive_label : label, optional
            The favourable one; may be left out for {0, 1}, {-1, 1} and booleans.
        sample_weight, clusters, missing, min_count
            As in :meth:`read`; rows of weight 0 stay, and count for nothing.
        name_required : bool, default=True
            Whether it matters which label is the favourable one.
        given : tuple of (str, tuple of float), default=()
            Sensitive columns that divide people into strata.

        Returns
        -------
        Rows

        Raises
        ------
        InvalidDataError
            If lengths or indexes differ, or values cannot be used.
        InvalidParameterError
            If it is not known which label is favourable.
        """
        inputs.require_same_index(
            y_true=y_true,
            y_pred=y_pred,
            y_score=y_score,
            sensitive_features=sensitive_features,
            sample_weight=sample_weight,
            clusters=clusters,
        )
        predicted = inputs.as_vector(y_pred, "y_pred")
        n = len(predicted)
        truth = None if y_true is None else inputs.as_vector(y_true, "y_true")
        groups = (
            sensitive_features.with_given(given)
            if isinstance(sensitive_features, Groups)
            else Groups.from_sensitive(
                with_strata(None, sensitive_features, given),
                missing=missing,
                min_count=min_count,
                given=given,
            )
        )
        score = None if y_score is None else inputs.as_float_column(y_score, "y_score")
        known = {"y_true": truth, "sensitive_features": groups.codes, "y_score": score}
        inputs.check_lengths(n, **{k: v for k, v in known.items() if v is not None})
        favourable, probabilities = read_decisions(
            truth, predicted, positive_label, name_required=name_required
        )
        if score is not None and len(score) and (score.min() < 0 or score.max() > 1):
            raise InvalidDataError("y_score must hold probabilities in [0, 1].")
        decision = predicted if probabilities else predicted == favourable
        return cls.judged(
            None if truth is None else (truth == favourable).astype(np.float64),
            decision.astype(np.float64),
            groups,
            inputs.as_sample_weight(sample_weight, n),
            score=score,
            favourable=favourable,
            clusters=inputs.as_clusters(clusters, n),
        )

    def __len__(self) -> int:
        return len(self.groups.codes)

    @property
    def favourable(self) -> Any:
        """The favourable label; None in regression."""
        return None if self.labels is None else self.labels.favourable

    @property
    def targets(self) -> NDArray[Any]:
        """Labels as a person passed them, or values."""
        assert self.y is not None
        return self.y if self.labels is None else self.labels.decode(self.y)

    @property
    def outcomes(self) -> Floats:
        """Class numbers or values, where it is known that there are some."""
        assert self.y is not None
        return self.y

    @property
    def scores(self) -> Floats:
        """Probabilities of the favourable label, where it is known that there are some."""
        assert self.score is not None
        return self.score

    @property
    def weights(self) -> Floats:
        """Sample weights; ones where there are none."""
        return np.ones(len(self)) if self.weight is None else self.weight

    @property
    def sensitive(self) -> inputs.Columns:
        """Sensitive columns by name, with their values."""
        return self.groups.scheme.decode(self.groups.codes)

    def take(self, rows: Any) -> Self:
        """Keep only some rows, given by position; the split goes."""
        at = np.asarray(rows)

        def picked(column: Any) -> Any:
            return None if column is None else column[at]

        position = np.arange(len(self)) if self.position is None else self.position
        return replace(
            self,
            X=None if self.X is None else inputs.take_rows(self.X, at),
            y=picked(self.y),
            groups=self.groups.take(at),
            weight=picked(self.weight),
            split=None,
            decision=picked(self.decision),
            score=picked(self.score),
            position=position[at],
            clusters=picked(self.clusters),
        )

    def divided(
        self,
        *,
        validation_fraction: float | None,
        certification_fraction: float | None,
        random_state: Random,
        strata: NDArray[Any] | None = None,
    ) -> Self:
        """Say which rows train, steer and certify.

        Parameters
        ----------
        validation_fraction, certification_fraction : float in [0, 1) or None
            Shares of the rows that steer and that certify.
        random_state : RandomState or Generator
            Source of chance.
        strata : ndarray of int, shape (n,), optional
            What is kept in proportion beside groups; class numbers by default.
        """
        kept = self.y if strata is None else strata
        assert kept is not None
        split = split_rows(
            self.groups.codes,
            kept,
            validation_fraction=validation_fraction,
            certification_fraction=certification_fraction,
            random_state=random_state,
            clusters=self.clusters,
        )
        return replace(self, split=split)

    def folds(self, cv: Any, random_state: Random) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """Positions of the rows outside and inside each fold, by group and class number.

        Parameters
        ----------
        cv : int, splitter or iterable of (training, held-out) positions
            Positions are those of the rows that were passed, some of which may be gone.
        random_state : RandomState or Generator
            Source of chance, where ``cv`` is a number.

        Raises
        ------
        InvalidParameterError
            If a row is held out never or twice, or a fold trains on its own rows or on none, or on
            others of a cluster that it holds out.
        """
        assert self.y is not None
        if isinstance(cv, int | np.integer):
            kept = self.y if self.labels is not None else value_strata(self.y)
            strata = (self.groups.codes, kept)
            return stratified_folds(strata, int(cv), random_state, self.clusters)
        if hasattr(cv, "split"):
            groups = () if self.clusters is None else (self.clusters,)
            pairs = cv.split(np.zeros((len(self), 1)), self.y, *groups)
            made = [tuple(map(np.asarray, pair)) for pair in pairs]
        else:
            at = np.arange(len(self)) if self.position is None else self.position
            made = [tuple(np.flatnonzero(np.isin(at, part)) for part in pair) for pair in cv]
        held = np.concatenate([np.empty(0, np.int64), *(held for _, held in made)])
        if (np.bincount(held, minlength=len(self)) != 1).any():
            raise InvalidParameterError(
                "cv must hold every row out exactly once, so that each has a score of its own."
            )
        for training, held in made:
            if not len(training) or np.isin(held, training).any():
                raise InvalidParameterError(
                    "cv must train on rows outside of each fold, and on no row that it holds out."
                )
            if self.clusters is not None and _share(self.clusters, training, held):
                raise InvalidParameterError(
                    "cv must hold out all rows of a cluster or none; pass a number of folds, or a "
                    "splitter that heeds groups, such as GroupKFold."
                )
        return [(training, held) for training, held in made]

    @property
    def roles(self) -> tuple[Role, ...]:
        """Those of training, steering and certification that have rows."""
        if self.split is None:
            return ("training",)
        parts: tuple[Role, ...] = ("training", "steering", "certification")
        return tuple(role for role in parts if len(getattr(self.split, role)))

    def part(self, role: Role) -> Self:
        """The rows that train, steer or certify; all of them train where nobody split."""
        return self if self.split is None else self.take(getattr(self.split, role))

    @property
    def decisions(self) -> Floats:
        """What was decided, where it is known that it was."""
        assert self.decision is not None
        return self.decision

    def decided(self, decision: Floats, score: Floats | None = None) -> Self:
        """Add what was decided about the rows.

        Raises
        ------
        FairtrainError
            If a decision or score is NaN or infinite: nothing is reported over such.
        """
        decision = finite_predictions(decision)
        return replace(
            self, decision=decision, score=None if score is None else finite_predictions(score)
        )


def _share(clusters: NDArray[np.int64], some: Any, others: Any) -> bool:
    return bool(np.isin(clusters[some], clusters[others]).any())


def finite_predictions(predictions: Floats) -> Floats:
    """Predictions as they came.

    Raises
    ------
    FairtrainError
        If one is NaN or infinite.
    """
    wrong = ~np.isfinite(predictions)
    if wrong.any():
        rows = np.flatnonzero(wrong.reshape(len(wrong), -1).any(axis=1))
        raise FairtrainError(
            f"predictions must be finite, got {predictions[wrong][0]} in row {rows[0]}: "
            f"{len(rows)} of {len(wrong)} predictions are NaN or infinite, so nothing is decided "
            "or reported; look for NaN in the model, or lower its learning rate."
        )
    return predictions


def take_clusters(X: Any, clusters: Any) -> tuple[Any, Any]:
    """Features, and clusters: those given, or from the column of ``X`` that is named."""
    if not isinstance(clusters, str):
        return X, clusters
    X, columns = inputs.drop_columns(X, clusters, "clusters")
    return X, columns[clusters]


def take_sensitive(
    X: Any, columns: str | Sequence[str] | None, sensitive_features: Any
) -> tuple[Any, Any]:
    """Sensitive features from the call, or from the columns of ``X`` the constructor named.

    Parameters
    ----------
    X : frame, array or sparse matrix
        Features.
    columns : str, list of str or None
        The constructor's ``sensitive_features``.
    sensitive_features : optional
        The call's.

    Returns
    -------
    X, sensitive_features
        Features without the sensitive columns, and these.

    Raises
    ------
    InvalidParameterError
        If they were given twice.
    """
    if columns is None:
        return X, sensitive_features
    if sensitive_features is not None:
        raise InvalidParameterError(
            "sensitive_features was given twice: to the constructor, as columns of X, and to "
            "the call. Leave one out."
        )
    return inputs.drop_columns(X, columns)


def with_strata(X: Any, sensitive: Any, given: Given) -> Any:
    """Sensitive features with the columns of strata that are still in ``X`` beside them."""
    if not given or isinstance(sensitive, Groups):
        return sensitive
    known = inputs.sensitive_columns(sensitive)
    absent = [name for name, _ in given if name not in known]
    if not absent:
        return sensitive
    try:
        taken = inputs.drop_columns(X, absent)[1]
    except InvalidDataError:
        where = "" if X is None else " nor one of X"
        raise InvalidDataError(
            f"given={absent[0]!r} is no sensitive column ({list(known)}){where}; pass it beside "
            "them in sensitive_features."
        ) from None
    return {**known, **taken}
